"""Recordings of simulated venues through COBY's decoders: the two share nothing but the venues' fact sheets."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

import coby
from coby._core import Event
from coby.simulator.exchange import Dial, Exchange, Plan, Request, Venue, compact
from coby.simulator.faults import KINDS, NAMED, Fault, Kind, load
from coby.simulator.market import Market
from coby.simulator.record import START_NS
from coby.simulator.venues import ALL_FEEDS, VENUES
from support.naive import NaiveBook, exact
from support.provable import PROVABLE, SEQUENCED
from support.readers import READERS
from support.recorded import BATCHES_NS, DEPTHS, GRIDS, SEEDED, Entries, recorded, text_of

# How long a frame may be on its way.
LATENESS_NS = 25_000_000


class Watch:
    """Books as COBY's events make them, compared with the truth while they are live."""

    def __init__(self, venue: str, truth: Entries, *, depth: int | None = None, seeded: bool, whole: bool) -> None:
        self.depth = depth
        self.seeded = seeded
        # Whether all messages are whole books, which stand for what was true until the next one.
        self.whole = whole
        self.images = venue in GRIDS
        self.books: dict[str, NaiveBook] = {}
        self.known: dict[str, tuple[Decimal, Decimal]] = {}
        self.live: set[str] = set()
        self.equal: Counter[str] = Counter()
        self.wrong: defaultdict[str, list[int]] = defaultdict(list)
        self._truth: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in truth:
            if entry["kind"] == "book":
                self._truth[entry["symbol"]].append(entry)

    def take(self, event: Event) -> None:
        symbol = event.native_symbol or ""
        if event.kind == "gap" and event.phase == "opened":
            self.live.discard(symbol)
        if event.kind != "book" or event.bids is None or event.asks is None:
            return
        if not self.images:
            self._compare(symbol, event)
        if event.snapshot:
            if not (self.whole and symbol in self.live):
                # A snapshot may be newer than the pictures that were taken before it came.
                self._truth[symbol] = [
                    entry for entry in self._truth[symbol] if entry["t"] >= event.ts_recv - 30_000_000 * self.images
                ]
            self.live.add(symbol)
            self.books[symbol] = NaiveBook()
            if self.seeded:
                self.known[symbol] = (exact(event.bids)[-1][0], exact(event.asks)[-1][0])
        if symbol in self.books:
            self.books[symbol].apply(event.bids, event.asks, snapshot=bool(event.snapshot), depth=event.depth)
        if self.images:
            # Each message is the truth of its own moment, not of what follows.
            waiting = [entry for entry in self._truth[symbol] if entry["t"] >= (event.ts_event or 0)]
            now = [entry for entry in waiting if entry["t"] == event.ts_event]
            self._truth[symbol] = waiting
            for entry in now:
                self._check(symbol, entry)

    def _compare(self, symbol: str, event: Event) -> None:
        waiting = self._truth[symbol]
        if event.ts_event is None:
            self._compare_untimed(symbol, event)
            return
        while waiting and waiting[0]["t"] < event.ts_event:
            entry = waiting.pop(0)
            later = bool(waiting) and waiting[0]["t"] < event.ts_event
            if symbol not in self.live or later or (event.snapshot and not self.whole):
                continue
            self._check(symbol, entry)

    def _compare_untimed(self, symbol: str, event: Event) -> None:
        """Without a time of the venue's, a book is true if it was so at some moment in which a picture could arrive."""
        waiting = self._truth[symbol]
        while waiting and waiting[0]["t"] < event.ts_recv:
            entry = waiting[0]
            if symbol in self.live and not self._same(symbol, entry) and event.ts_recv < entry["t"] + LATENESS_NS:
                return
            waiting.pop(0)
            if symbol in self.live:
                self._check(symbol, entry)

    def _same(self, symbol: str, entry: dict[str, Any]) -> bool:
        book = self.books[symbol]
        return self._cut(symbol, book.bids, book.asks) == self._cut(symbol, exact(entry["bids"]), exact(entry["asks"]))

    def _check(self, symbol: str, entry: dict[str, Any]) -> None:
        if self._same(symbol, entry):
            self.equal[symbol] += 1
        else:
            self.wrong[symbol].append(entry["t"])

    def _cut(self, symbol: str, bids: Iterable[Any], asks: Iterable[Any]) -> tuple[list[Any], list[Any]]:
        low, high = self.known.get(symbol, (Decimal(0), Decimal("Infinity")))
        return (
            [level for level in bids if level[0] >= low][: self.depth],
            [level for level in asks if level[0] <= high][: self.depth],
        )


def watched(
    venue: str, seconds: float, faults: Iterable[Fault] = (), **more: Any
) -> tuple[Watch, list[Event], Entries]:
    frames, truth = recorded(venue, seconds, faults, **more)
    events = list(coby.decode(ALL_FEEDS[venue].name, frames))
    watch = Watch(venue, truth, depth=DEPTHS.get(venue), seeded=venue in SEEDED, whole=False)
    for event in events:
        watch.take(event)
    return watch, events, truth


@pytest.mark.parametrize("venue", ALL_FEEDS)
def test_without_faults_books_and_trades_are_true_and_there_is_no_gap(venue: str) -> None:
    slow = venue in GRIDS
    watch, events, truth = watched(venue, 12 if slow else 8)
    assert [event.to_dict() for event in events if event.kind == "gap"] == []
    assert all(event.ok for event in events if event.kind == "checksum")
    assert watch.wrong == {}
    markets = {market["symbol"]: market["canonical"] for market in truth[0]["venues"][ALL_FEEDS[venue].name]}
    for symbol, canonical in markets.items():
        assert watch.equal[symbol] >= (2 if slow else 6)
        mine = [event for event in events if event.native_symbol == symbol and event.kind != "status"]
        assert {event.symbol for event in mine} == {canonical}
        trades = [event for event in mine if event.kind == "trade" and not event.history]
        true = [e for e in truth if e["kind"] == "trade" and e["symbol"] == symbol]
        seen = [(Decimal(t.price or ""), Decimal(t.size or ""), t.side) for t in trades]
        all_ = [(Decimal(t["price"]), Decimal(t["size"]), t["side"]) for t in true]
        assert len(seen) > 3
        start = next(i for i in range(len(all_)) if all_[i : i + len(seen)] == seen)
        late = events[-1].ts_recv - 50_000_000 - BATCHES_NS.get(venue, 0)
        assert all(entry["t"] > late for entry in true[start + len(seen) :]), "only the last may be on their way"


@pytest.mark.parametrize(("venue", "kind"), [(venue, kind) for venue, kinds in PROVABLE.items() for kind in kinds])
def test_a_provable_fault_is_a_gap_and_the_book_is_true_outside(venue: str, kind: Kind) -> None:
    slow = venue in GRIDS
    # Checksums that come seldom prove what is wrong then: a level that changes again before is right again.
    seldom = venue == "bitfinex" and kind == "corrupt"
    fault = Fault(kind, at=4.8 if seldom else 3.0, within=10, seconds=0)
    watch, events, truth = watched(venue, 30 if slow else 11 if kind == "freeze" or seldom else 8, [fault])
    (happened,) = [entry for entry in truth if entry["kind"] == "fault"]
    gaps = [event for event in events if event.kind == "gap" and event.phase == "opened"]
    assert gaps, "the fault went unnoticed"
    assert all(gap.ts_recv >= happened["t"] for gap in gaps)
    assert any(gap.native_symbol == happened["symbol"] for gap in gaps)
    noticed = gaps[0].ts_recv
    assert noticed - happened["t"] < (4.5e9 if kind == "freeze" else 1e9)
    wrong = [t for times in watch.wrong.values() for t in times]
    assert all(happened["t"] <= t <= noticed for t in wrong)
    closed = [event for event in events if event.kind == "gap" and event.phase == "closed"]
    for_books = [Counter(gap.native_symbol for gap in of if gap.channel == "book") for of in (gaps, closed)]
    assert for_books[0] == for_books[1]
    assert happened["symbol"] in watch.live, "the book did not come back"
    assert watch.equal[happened["symbol"]] > (0 if slow else 4)


# Feeds whose snapshots come in the socket and are taken whether COBY has asked for them or not.
SCRIPTED = ["bitfinex", "coinbase_advanced", "deribit", "dydx", "gemini", "upbit"]


@pytest.mark.parametrize("venue", SCRIPTED)
def test_after_every_kind_of_fault_one_after_another_books_are_true(venue: str) -> None:
    feed = ALL_FEEDS[venue]
    script = load("all", Exchange([feed], symbols=("BTC",), start_ns=START_NS))
    # A clock that jumps makes the truth of a moment that of another.
    faults = [fault for fault in script if fault.kind != "time_jump"]
    watch, events, truth = watched(venue, 84, faults, symbols=("BTC",))
    happened = [entry for entry in truth if entry["kind"] == "fault"]
    # Nothing is asked for over HTTP while it is out of order, and where there are no numbers there are none to skip.
    never = {"time_jump", "http"} | (set() if feed.sequenced else {"skip"})
    assert {entry["fault"] for entry in happened} == set(KINDS) - never
    healed_ns = feed.notice_ns + 2_000_000_000
    for times in watch.wrong.values():
        assert all(any(entry["t"] <= t <= entry["t"] + healed_ns for entry in happened) for t in times)
    assert watch.live == {market["symbol"] for market in truth[0]["venues"][feed.name]}
    gaps = Counter((gap.native_symbol, gap.phase) for gap in events if gap.kind == "gap" and gap.channel == "book")
    for symbol in watch.live:
        assert gaps[symbol, "opened"] == gaps[symbol, "closed"] >= 6
        assert watch.equal[symbol] > 70


def test_a_seldom_checksum_proves_what_is_still_wrong_when_it_comes_and_nothing_else() -> None:
    outcomes = []
    for at in (3.0, 3.4, 4.2, 4.4, 4.8, 5.0):
        frames, truth = recorded("bitfinex", at + 3, [Fault("corrupt", at=at, within=10)], symbols=("BTC",))
        reader = READERS["bitfinex"]()
        for text in filter(None, map(text_of, frames)):
            reader.text(text)
        events = list(coby.decode("bitfinex", frames))
        (happened,) = [entry for entry in truth if entry["kind"] == "fault"]
        gaps = [event for event in events if event.kind == "gap" and event.phase == "opened"]
        assert [gap.native_symbol for gap in gaps] == reader.breaks
        assert {gap.cause for gap in gaps} <= {"checksum"}
        watch = Watch("bitfinex", truth, depth=DEPTHS["bitfinex"], seeded=False, whole=False)
        for event in events:
            watch.take(event)
        checked = (happened["t"] // 2_500_000_000 + 1) * 2_500_000_000
        wrong = [t for times in watch.wrong.values() for t in times]
        assert all(happened["t"] <= t <= checked for t in wrong)
        outcomes.append(len(gaps))
    assert set(outcomes) == {0, 1}


@pytest.mark.parametrize("venue", [venue for venue in PROVABLE if set(SEQUENCED) <= set(PROVABLE[venue])])
def test_a_bad_line_shows_no_book_that_is_not_true(venue: str) -> None:
    script = NAMED["flaky"](Exchange([ALL_FEEDS[venue]], start_ns=START_NS))
    # A fault that is not yet noticed may show; what happens to frames of books is noticed with the next one.
    watch, events, truth = watched(venue, 25, script)
    faults = [entry for entry in truth if entry["kind"] == "fault"]
    assert len(faults) > 7
    opened = [event for event in events if event.kind == "gap" and event.phase == "opened"]
    assert len(opened) > 3
    for symbol, times in watch.wrong.items():
        noticed = [gap.ts_recv for gap in opened if gap.native_symbol == symbol]
        for time in times:
            assert any(0 <= time - fault["t"] < 1e9 for fault in faults)
            assert any(0 <= at - time < 1e9 for at in noticed)
    for market in truth[0]["venues"][ALL_FEEDS[venue].name]:
        assert watch.equal[market["symbol"]] > 8


def test_what_no_rule_can_prove_is_healed_by_the_next_snapshot() -> None:
    watch, _, truth = watched("coinbase", 7, [Fault("drop", at=3.0, within=10)])
    (happened,) = [entry for entry in truth if entry["kind"] == "fault"]
    wrong = watch.wrong[happened["symbol"]]
    assert wrong, "the lost frame made no difference"
    assert all(happened["t"] <= t < happened["t"] + 2_000_000_000 for t in wrong)
    assert watch.equal[happened["symbol"]] > 4


def test_what_no_rule_can_prove_is_healed_by_a_refresh() -> None:
    faults = [Fault("corrupt", at=3.0, count=40)]
    watch, events, truth = watched("bitstamp", 720, faults, symbols=("btcusd",), every=10.0)
    happened = next(entry for entry in truth if entry["kind"] == "fault")
    wrong = watch.wrong["btcusd"]
    assert wrong, "the lost frame made no difference"
    drifts = [event for event in events if event.kind == "gap" and event.cause == "drift"]
    assert all(happened["t"] < t <= drifts[0].ts_recv for t in wrong)
    assert watch.equal["btcusd"] >= 3, "it is true again"


@pytest.mark.parametrize("venue", ALL_FEEDS)
def test_a_duplicate_changes_nothing(venue: str) -> None:
    watch, events, _ = watched(venue, 5, [Fault("duplicate", at=3.0)])
    assert watch.wrong == {}
    assert [event.cause for event in events if event.kind == "gap"] == []
    assert events[-1].ts_recv > START_NS


@dataclass(frozen=True)
class Feed:
    """A feed of books that a client may choose instead of a venue's usual one."""

    venue: str
    message: object
    snapshot: str = ""
    depth: int | None = None
    whole: bool = False
    path: str = ""


UPDATES = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 100}
FEEDS = {
    "obu 50": Feed(
        "gateio",
        {"time": 1, "channel": "spot.obu", "event": "subscribe", "payload": ["ob.BTC_USDT.50"]},
        depth=50,
    ),
    "order_book_update": Feed(
        "gateio",
        {"time": 1, "channel": "spot.order_book_update", "event": "subscribe", "payload": ["BTC_USDT", "100ms"]},
        "/api/v4/spot/order_book?currency_pair=BTC_USDT&limit=100&with_id=true",
    ),
    "order_book": Feed(
        "gateio",
        {"time": 1, "channel": "spot.order_book", "event": "subscribe", "payload": ["BTC_USDT", "20", "100ms"]},
        depth=20,
        whole=True,
    ),
    "books of V2": Feed(
        "bitget",
        {"op": "subscribe", "args": [{"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}]},
        depth=400,
        path="/v2/ws/public",
    ),
    "books50": Feed(
        "bitget",
        {"op": "subscribe", "args": [{"instType": "spot", "topic": "books50", "symbol": "BTCUSDT"}]},
        depth=50,
        whole=True,
    ),
    "aggre.depth@10ms": Feed(
        "mexc",
        {"method": "SUBSCRIPTION", "params": ["spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT"]},
        "/api/v3/depth?symbol=BTCUSDT&limit=5000",
    ),
    "limit.depth": Feed(
        "mexc",
        {"method": "SUBSCRIPTION", "params": ["spot@public.limit.depth.v3.api.pb@BTCUSDT@20"]},
        depth=20,
        whole=True,
    ),
    "book 10": Feed(
        "cryptocom",
        {"id": 1, "method": "subscribe", "params": {"channels": ["book.BTC_USDT.10"], **UPDATES}},
        depth=10,
    ),
    "SNAPSHOT": Feed(
        "cryptocom",
        {"id": 1, "method": "subscribe", "params": {"channels": ["book.BTC_USDT.50"]}},
        depth=50,
        whole=True,
    ),
}


@pytest.mark.parametrize("name", FEEDS)
def test_books_of_other_feeds_are_true(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = FEEDS[name]
    venue = VENUES[feed.venue]
    usual = venue.plan

    def plan(self: Venue, markets: list[Market]) -> Plan:
        found = usual(self, markets)
        host = found.dials[0].url.split("/")[2]
        url = f"wss://{host}{feed.path}" if feed.path else found.dials[0].url
        dial = Dial(url, [compact(feed.message)], [Request.get(feed.snapshot)] if feed.snapshot else [])
        return Plan(found.rest, found.listings, [dial])

    monkeypatch.setattr(venue, "plan", plan)
    symbol = venue.instruments[0].symbol
    frames, truth = recorded(feed.venue, 8, symbols=(symbol,))
    watch = Watch(feed.venue, truth, depth=feed.depth, seeded=bool(feed.snapshot), whole=feed.whole)
    events = list(coby.decode(feed.venue, frames))
    for event in events:
        watch.take(event)
    assert [event.to_dict() for event in events if event.kind == "gap"] == []
    assert watch.wrong == {}
    assert watch.equal[symbol] >= 6


# Venues that have no candles in their sockets, or that are silent about what has ended.
WITHOUT_LAST_WORD = {"bitstamp", "coinbase", "gemini"}
# Venues that print amounts as doubles, which are not exact.
DOUBLES = {"deribit", "upbit"}


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue not in WITHOUT_LAST_WORD | DOUBLES])
def test_the_last_word_on_a_minute_is_the_sum_of_its_trades(venue: str) -> None:
    minute_ns = 60_000_000_000
    frames, truth = recorded(venue, 64, symbols=("BTC",), every=minute_ns / 1e9)
    candles = [event for event in coby.decode(venue, frames) if event.kind == "candle" and event.open_time == START_NS]
    last = {candle.native_symbol: candle for candle in candles}
    assert set(last) == {market["symbol"] for market in truth[0]["venues"][venue]}
    for symbol, candle in last.items():
        trades = [e for e in truth if e["kind"] == "trade" and e["symbol"] == symbol and e["t"] < START_NS + minute_ns]
        prices = [Decimal(trade["price"]) for trade in trades]
        found = [Decimal(text or "") for text in (candle.open, candle.high, candle.low, candle.close, candle.volume)]
        volume = sum(Decimal(trade["size"]) for trade in trades)
        assert found == [prices[0], max(prices), min(prices), prices[-1], volume]
        if candle.notional is not None:
            paid = sum(Decimal(trade["size"]) * Decimal(trade["price"]) for trade in trades)
            assert Decimal(candle.notional) == paid


@pytest.mark.parametrize("venue", sorted(DOUBLES))
def test_the_last_candle_of_a_minute_sums_up_its_trades_to_what_a_double_can_hold(venue: str) -> None:
    frames, truth = recorded(venue, 64, symbols=("BTC",), every=60.0)
    candles = [event for event in coby.decode(venue, frames) if event.kind == "candle" and event.open_time == START_NS]
    last = {candle.native_symbol: candle for candle in candles}
    assert set(last) == {market["symbol"] for market in truth[0]["venues"][venue]}
    for symbol, candle in last.items():
        trades = [e for e in truth if e["kind"] == "trade" and e["symbol"] == symbol and e["t"] < START_NS + 60 * 10**9]
        prices, sizes = ([float(trade[name]) for trade in trades] for name in ("price", "size"))
        found = [float(text or "nan") for text in (candle.open, candle.high, candle.low, candle.close)]
        assert found == [prices[0], max(prices), min(prices), prices[-1]]
        paid = sum(price * size for price, size in zip(prices, sizes, strict=True))
        if symbol == "BTC-PERPETUAL":
            # Sizes are dollars: they are what was paid, and the mean price says for how much.
            assert float(candle.notional or "nan") == sum(sizes)
            assert float(candle.volume or "nan") == pytest.approx(sum(sizes) / (paid / sum(sizes)), rel=1e-4)
        else:
            assert float(candle.notional or "nan") == pytest.approx(paid, rel=1e-12)
            assert float(candle.volume or "nan") == pytest.approx(sum(sizes), rel=1e-12)
