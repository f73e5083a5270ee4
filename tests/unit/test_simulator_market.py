"""The market model: it is deterministic, deep, never crossed, and its candles are its trades."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coby.simulator.exchange import SECOND, Exchange
from coby.simulator.fair import ASSETS, MINUTE_NS, FairPrice
from coby.simulator.feeds import Batch, Image, Window
from coby.simulator.market import Candle, Instrument, Market, Temper, Update
from coby.simulator.venues import VENUES
from support.simulated import START_NS

BTC = Instrument("BTCUSDT", "BTC", "USDT", 2, 10, 3, 1)
SEEDS = st.integers(0, 2**32)


def market(seed: int, *, activity: int = 100) -> Market:
    fair = FairPrice(ASSETS["BTC"], START_NS, f"{seed}/fair")
    return Market(BTC, fair, Temper(pace=activity), f"{seed}/market")


def run(market: Market, seconds: float) -> Iterator[Update]:
    """Updates one by one, each when the market has just changed."""
    now = market.wait(START_NS)
    while now < START_NS + seconds * SECOND:
        yield market.act(now)
        now = market.wait(now)


@settings(max_examples=8, deadline=None)
@given(SEEDS)
@example(11_513)
@example(665_029)
def test_a_market_is_deep_and_never_crossed(seed: int) -> None:
    market_ = market(seed)
    sides: tuple[dict[int, int], ...] = (dict(market_.bids.lots), dict(market_.asks.lots))
    last = market_.sequence
    for update in run(market_, 20):
        assert update.first == last + 1
        assert update.last - update.first + 1 == max(1, len(update.changes))
        last = update.last
        assert len({(side, ticks) for side, ticks, _ in update.changes}) == len(update.changes)
        for side, ticks, lots in update.changes:
            assert sides[side].get(ticks, 0) != lots
            sides[side][ticks] = lots
            if not lots:
                del sides[side][ticks]
        assert update.time_ns % 50_000_000 >= 1_000_000
        assert update.time_ns % 1_000 == 0
        assert all(fill.lots > 0 and fill.time_ns == update.time_ns for fill in update.fills)
    assert (market_.bids.lots, market_.asks.lots) == sides
    for levels in (market_.bids, market_.asks):
        assert levels.keys == sorted(levels.sign * ticks for ticks in levels.lots)
        assert len(levels.keys) >= 1_000
        assert min(levels.lots.values()) > 0
        assert max(levels.lots.values()) > 15 * sorted(levels.lots.values())[len(levels.lots) // 2], "no wall in sight"
    assert market_.bids.best < market_.asks.best
    assert all(a.number + 1 == b.number and a.last_id + 1 == b.first_id for a, b in pairwise(market_.fills))


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_trades_meet_the_book_on_the_right_side(seed: int) -> None:
    market_ = market(seed)
    best = (market_.bids.best, market_.asks.best)
    seen = met = 0
    for update in run(market_, 15):
        if update.fills:
            seen += 1
            met += update.fills[0].ticks == best[0 if update.fills[0].taker_sells else 1]
        best = (market_.bids.best, market_.asks.best)
    assert seen > 50
    assert met > 0.8 * seen, "only where two things happen at once may a trade meet an order that has just come"


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_candles_sum_up_the_trades(seed: int) -> None:
    market_ = market(seed, activity=20)
    fills = [fill for update in run(market_, 200) for fill in update.fills]
    candles = market_.candles(MINUTE_NS, START_NS, START_NS + 200 * SECOND)
    assert [candle.open_ns for candle in candles] == [START_NS + n * MINUTE_NS for n in range(4)]
    for candle in candles:
        inside = [f for f in fills if candle.open_ns <= f.time_ns < candle.open_ns + MINUTE_NS]
        expected = Candle(candle.open_ns, *(inside[0].ticks,) * 4)
        for fill in inside:
            expected.add(fill)
        assert candle == expected
        assert candle.lots == sum(fill.lots for fill in inside)
        assert candle.high == max(fill.ticks for fill in inside)
        assert candle.count == inside[-1].last_id - inside[0].first_id + 1
    whole = market_.candles(5 * MINUTE_NS, START_NS, START_NS + 1)
    assert [c.lots for c in whole] == [sum(f.lots for f in fills)]
    assert (whole[0].open, whole[0].close) == (fills[0].ticks, fills[-1].ticks)


def test_candles_reach_a_day_back_without_a_hole_and_end_where_the_market_begins() -> None:
    market_ = market(3)
    list(run(market_, 5))
    candles = market_.candles(MINUTE_NS, 0, 2**62)
    assert len(candles) == 24 * 60 + 1
    assert all(a.open_ns + MINUTE_NS == b.open_ns for a, b in pairwise(candles))
    assert all(c.low <= min(c.open, c.close) <= max(c.open, c.close) <= c.high for c in candles)
    assert all(a.close == b.open for a, b in pairwise(candles[:-1]))
    hours = market_.candles(60 * MINUTE_NS, 0, START_NS)
    assert len(hours) == 24
    assert sum(hour.lots for hour in hours) == sum(candle.lots for candle in candles[:-1])
    assert hours[3].high == max(candle.high for candle in candles[180:240])


def test_quiet_minutes_are_flat() -> None:
    market_ = market(3)
    list(run(market_, 5))
    market_.act(START_NS + 250 * SECOND + 2_000_000)
    quiet = market_.candles(MINUTE_NS, START_NS + 2 * MINUTE_NS, START_NS + 3 * MINUTE_NS)
    last = market_.minutes[START_NS].close
    assert [(c.open, c.high, c.low, c.close, c.lots, c.count) for c in quiet] == [(last,) * 4 + (0, 0)]


def test_a_seed_gives_the_same_markets_whatever_else_there_is() -> None:
    alone = Exchange([VENUES["kraken"]], symbols=["BTC-USD"], seed=5, start_ns=START_NS)
    together = Exchange(VENUES.values(), seed=5, start_ns=START_NS)
    other = Exchange([VENUES["kraken"]], symbols=["BTC-USD"], seed=6, start_ns=START_NS)
    tops = []
    for exchange in (alone, together, other):
        exchange.clock.advance(START_NS + 5 * SECOND)
        btc = exchange.venues["kraken"].markets["BTC/USD"]
        tops.append((btc.sequence, btc.bids.top(), btc.asks.top(), list(btc.fills)))
    assert tops[0] == tops[1]
    assert tops[0] != tops[2]


def test_venues_follow_one_price_each_in_its_own_way() -> None:
    exchange = Exchange(VENUES.values(), symbols=["BTC"], seed=2, start_ns=START_NS)
    exchange.clock.advance(START_NS + 30 * SECOND)
    fair = exchange.fair["BTC"].at(exchange.clock.now_ns) / 1e8
    tops = set()
    for venue in exchange.venues.values():
        for market_ in venue.markets.values():
            bid, ask = (float(market_.instrument.price(side.best)) for side in (market_.bids, market_.asks))
            assert abs(bid - fair) < 0.004 * fair
            assert abs(ask - fair) < 0.004 * fair
            tops.add((bid, ask))
    assert len(tops) > len(exchange.venues) // 2


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 5, 10, 100]))
def test_a_window_is_what_a_client_sees_that_cuts_by_itself(seed: int, depth: int) -> None:
    market_ = market(seed)
    window = Window(market_, depth)
    seen = [dict(market_.bids.top(depth)), dict(market_.asks.top(depth))]
    for update in run(market_, 4):
        for side, changes in enumerate(window.changes(update)):
            for ticks, lots in changes:
                seen[side][ticks] = lots
                if not lots:
                    del seen[side][ticks]
            kept = sorted(seen[side], reverse=side == 0)[:depth]
            seen[side] = {ticks: seen[side][ticks] for ticks in kept}
        assert seen == [dict(market_.bids.top(depth)), dict(market_.asks.top(depth))]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 5, 50]))
def test_batches_and_images_lead_to_the_same_book(seed: int, depth: int) -> None:
    market_ = market(seed)
    random = Random(seed)
    batch, image = Batch(market_), Image(market_, depth)
    whole = [dict(market_.bids.lots), dict(market_.asks.lots)]
    best = [dict(market_.bids.top(depth)), dict(market_.asks.top(depth))]
    last = market_.sequence
    for update in run(market_, 3):
        batch.add(update)
        if random.randrange(5):
            continue
        push = batch.take()
        assert push is not None
        assert (push.previous, push.last) == (last, market_.sequence)
        assert push.first == last + 1
        last = push.last
        assert batch.take() is None
        other = image.push()
        assert other is not None
        assert (other.previous, other.last) == (push.previous, push.last)
        for book, changes in ((whole, (push.bids, push.asks)), (best, (other.bids, other.asks))):
            for side, pairs in zip(book, changes, strict=True):
                side.update(pairs)
                for ticks in [ticks for ticks, lots in side.items() if not lots]:
                    del side[ticks]
        assert whole == [market_.bids.lots, market_.asks.lots]
        assert best == [dict(market_.bids.top(depth)), dict(market_.asks.top(depth))]
        assert (image.bids, image.asks) == (market_.bids.top(depth), market_.asks.top(depth))


def test_hours_of_prices_stay_near_home() -> None:
    fair = FairPrice(ASSETS["XRP"], START_NS, "7/XRP")
    prices = [fair.at(START_NS + n * 60 * SECOND) for n in range(3 * 60)]
    assert min(prices) / ASSETS["XRP"].price > 0.5
    assert max(prices) / ASSETS["XRP"].price < 2
    assert len(set(prices)) == len(prices)


@pytest.mark.parametrize(("mantissa", "digits", "text"), [(5, 0, "5"), (5, 2, "0.05"), (12345, 2, "123.45")])
def test_numbers_are_printed_with_all_their_digits(mantissa: int, digits: int, text: str) -> None:
    from coby.simulator.market import decimal

    assert decimal(mantissa, digits) == text
