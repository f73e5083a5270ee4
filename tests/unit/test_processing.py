"""The usual processor and aggregation, against their own definitions computed another way."""

import math
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coby.engine.aggregation import Aggregation
from coby.engine.processing import ENOUGH_SPREADS, ENOUGH_TRADES, LARGE, SCHEMAS, STALE_NS, WIDE, Processor
from coby.interfaces import Part
from coby.models import OrderBookSnapshot, TradeEvent
from coby.storage import schema
from coby.utils.exceptions import ProcessingError

SECOND = 1_000_000_000
HEAD = {"n": 0, "venue": "kraken", "native_symbol": "BTC/USDT", "symbol": "BTC-USDT", "proof": "checksum"}

Levels = list[tuple[float, float]]


def snapshot(pos: int, bids: Levels, asks: Levels, *, state: str = "live", t: int | None = None) -> dict[str, Any]:
    time = pos * SECOND if t is None else t
    sides = {
        "bid_prices": [price for price, _ in bids],
        "bid_sizes": [size for _, size in bids],
        "ask_prices": [price for price, _ in asks],
        "ask_sizes": [size for _, size in asks],
    }
    return HEAD | {"pos": pos, "ts_event": time, "ts_recv": time, "rounded": False, "state": state, "t": time} | sides


def trade(pos: int, size: float, *, history: bool = False) -> dict[str, Any]:
    time = {"ts_event": pos, "ts_recv": pos}
    what = {"price": 100.0, "size": size, "side": "buy", "trade_id": str(pos), "history": history}
    return HEAD | {"pos": pos, "rounded": False} | time | what


def cut(**rows: list[dict[str, Any]]) -> Part:
    batches = {kind: pa.RecordBatch.from_pylist(of, schema=schema.schemas()[kind]) for kind, of in rows.items()}
    positions = [row["pos"] for of in rows.values() for row in of]
    return Part(min(positions), max(positions), batches)


def processed(processor: Processor, **rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {kind: pa.record_batch(batch).to_pylist() for kind, batch in processor.process(cut(**rows)).items()}


def codes(rows: dict[str, list[dict[str, Any]]]) -> list[tuple[int, str]]:
    return [(row["pos"], row["code"]) for row in rows.get("anomalies", [])]


GOOD = ([(99.0, 1.0), (98.0, 3.0)], [(101.0, 2.0)])


def test_its_rows_begin_with_what_every_row_has() -> None:
    for added in SCHEMAS.values():
        assert added.names[: len(schema.HEAD)] == list(schema.HEAD)
        assert added.types[: len(schema.HEAD)] == schema.head().types


def test_figures_of_a_snapshot() -> None:
    (row,) = processed(Processor(), book_snapshots=[snapshot(5, *GOOD)])["metrics"]
    figures = {name: row[name] for name in SCHEMAS["metrics"].names[len(schema.HEAD) :]}
    assert figures == {
        "mid_price": 100.0,
        "spread": 2.0,
        "spread_bps": 200.0,
        "bid_volume": 4.0,
        "ask_volume": 2.0,
        "imbalance": pytest.approx(1 / 3),
        "bid_levels": 2,
        "ask_levels": 1,
    }
    assert (row["pos"], row["venue"], row["symbol"], row["ts_recv"]) == (5, "kraken", "BTC-USDT", 5 * SECOND)


sizes = st.floats(0.001, 1e6)
books = st.tuples(
    st.dictionaries(st.integers(1, 1000), sizes, max_size=30),
    st.dictionaries(st.integers(1001, 2000), sizes, max_size=30),
)


@given(books)
def test_figures_of_rows_and_of_models_are_the_same(sides: tuple[dict[int, float], dict[int, float]]) -> None:
    bids = sorted(((price / 10, size) for price, size in sides[0].items()), reverse=True)
    asks = sorted((price / 10, size) for price, size in sides[1].items())
    row = snapshot(1, bids, asks)
    (figures,) = processed(Processor(), book_snapshots=[row])["metrics"]
    told = Processor().calculate_metrics(OrderBookSnapshot.from_row(row)).model_dump()
    book = OrderBookSnapshot.from_row(row)
    for name in SCHEMAS["metrics"].names[len(schema.HEAD) :]:
        assert figures[name] == told[name]
    assert figures["mid_price"] == book.mid_price
    assert figures["spread"] == book.spread
    assert figures["bid_volume"] == book.bid_volume
    if book.imbalance is not None:
        assert figures["imbalance"] == pytest.approx(book.imbalance, abs=1e-9)


def test_issues_are_told_when_they_change() -> None:
    processor = Processor()
    rows = processed(
        processor,
        book_snapshots=[
            snapshot(1, *GOOD),
            snapshot(2, [], []),
            snapshot(3, [], []),
            snapshot(4, *GOOD, state="gap"),
            snapshot(5, [(99.0, 1.0)], []),
            snapshot(6, *GOOD),
        ],
    )["quality"]
    assert [(row["pos"], row["issues"], row["score"]) for row in rows] == [
        (2, ["book.empty"], 0.0),
        (4, ["book.gap"], 0.0),
        (5, ["book.one_sided"], 50.0),
        (6, [], 100.0),
    ]
    assert "quality" not in processed(processor, book_snapshots=[snapshot(7, *GOOD)])


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"ts_recv": 7 * SECOND + 1}, ["time.late"]),
        ({"ts_event": 3 * SECOND + 1}, ["time.ahead"]),
        ({"proof": "none", "rounded": True}, ["data.unproved", "data.rounded"]),
        ({"state": "gap"}, ["book.gap"]),
        ({"ask_prices": [99.0]}, ["book.crossed"]),
    ],
)
def test_issues_of_a_book(changes: dict[str, Any], found: list[str]) -> None:
    book = OrderBookSnapshot.from_row(snapshot(2, *GOOD) | changes)
    report = Processor().validate_data(book)
    assert [issue.code for issue in report.issues] == found
    assert report.exchange == "kraken"


def test_issues_of_a_trade() -> None:
    assert Processor().validate_data(TradeEvent.from_row(trade(1, 2.0))).score == 100
    report = Processor().validate_data(TradeEvent.from_row(trade(1, 0.0)))
    assert [issue.code for issue in report.issues] == ["trade.empty"]


def test_a_crossed_book_is_told_once_each_time() -> None:
    crossed = ([(101.0, 1.0)], [(101.0, 2.0)])
    books = [snapshot(1, *crossed), snapshot(2, *crossed), snapshot(3, *GOOD), snapshot(4, *crossed)]
    assert codes(processed(Processor(), book_snapshots=books)) == [(1, "book.crossed"), (4, "book.crossed")]


def test_a_spread_is_wide_when_it_leaves_what_is_usual() -> None:
    usual = [snapshot(pos, [(99.0, pos)], [(100.0, 1.0)]) for pos in range(1, ENOUGH_SPREADS + 1)]
    wide = snapshot(100, [(99.0, 1.0)], [(99.0 + WIDE + 0.5, 1.0)])
    just = snapshot(100, [(99.0, 1.0)], [(99.0 + WIDE, 1.0)])
    assert codes(processed(Processor(), book_snapshots=[*usual, wide])) == [(100, "book.wide")]
    assert codes(processed(Processor(), book_snapshots=[*usual, just])) == []
    assert codes(processed(Processor(), book_snapshots=[*usual[1:], wide])) == []


def test_a_book_is_stale_when_nothing_changes() -> None:
    still = [snapshot(pos, *GOOD, t=pos * 20 * SECOND) for pos in (1, 2, 3, 4)]
    assert codes(processed(Processor(), book_snapshots=still)) == [(3, "book.stale")]
    assert STALE_NS == 30 * SECOND
    gap = [snapshot(pos, *GOOD, t=pos * 20 * SECOND, state="gap") for pos in (1, 2, 3, 4)]
    assert codes(processed(Processor(), book_snapshots=gap)) == []


def test_a_trade_is_large_when_it_leaves_what_is_usual() -> None:
    processor = Processor()
    usual = [trade(pos, 1.0 + pos % 3) for pos in range(1, ENOUGH_TRADES + 1)]
    rest = [trade(100, 2 * LARGE), trade(101, 2 * LARGE + 0.1), trade(102, 1e9, history=True), trade(103, 50.0)]
    rows = processed(processor, trades=[*usual, *rest])
    assert codes(rows) == [(101, "trade.size"), (103, "trade.size")]
    assert rows["anomalies"][0]["value"] == 2 * LARGE + 0.1
    (odd,) = processor.detect_anomalies(TradeEvent.from_row(trade(104, 1000.0)))
    assert (odd.code, odd.limit) == ("trade.size", 2 * LARGE)


def test_rows_of_a_record_are_numbered() -> None:
    usual = [trade(1, 1.0) for _ in range(ENOUGH_TRADES)]
    rows = processed(Processor(), trades=[*usual, trade(2, 100.0), trade(2, 101.0), trade(3, 99.0)])
    assert [(row["pos"], row["n"]) for row in rows["anomalies"]] == [(2, 0), (2, 1), (3, 0)]


@given(st.lists(st.tuples(st.floats(0.1, 10), st.booleans()), min_size=2, max_size=80), st.data())
def test_where_cuts_end_changes_nothing(trades: list[tuple[float, bool]], data: st.DataObject) -> None:
    rows = [trade(pos, size * (100 if large else 1)) for pos, (size, large) in enumerate(trades, 1)]
    middle = data.draw(st.integers(1, len(rows) - 1))
    parts = Processor()
    split = codes(processed(parts, trades=rows[:middle])) + codes(processed(parts, trades=rows[middle:]))
    assert split == codes(processed(Processor(), trades=rows))


def test_frames_in_coby_s_form_become_models() -> None:
    processor = Processor()
    book = processor.normalize_orderbook(
        {"symbol": "BTC-USDT", "bids": [["99.5", "1"]], "asks": [["100", "2"]], "ts_event": "5", "more": 1}, "mine"
    )
    assert (book.exchange, book.best_bid and book.best_bid.price, book.ts_event) == ("mine", 99.5, 5)
    event = processor.normalize_trade(
        {"symbol": "BTC-USDT", "price": "1.5", "size": "2", "side": "sell", "trade_id": 7, "ts_recv": 1}, "mine"
    )
    assert (event.price, event.side, event.trade_id) == (1.5, "sell", "7")
    with pytest.raises(ProcessingError, match=r"mine: no TradeEvent: price"):
        processor.normalize_trade({"symbol": "A", "price": "-1", "size": "2", "side": "sell", "ts_recv": 1}, "mine")
    with pytest.raises(ProcessingError, match=r"mine: no OrderBookSnapshot: bids"):
        processor.normalize_orderbook({"symbol": "A", "bids": [["x", "1"]], "ts_recv": 1}, "mine")


# --- aggregation -------------------------------------------------------------------------------------------------


def exact(number: float) -> Fraction:
    return Fraction(repr(number))


def book_of(
    sides: tuple[dict[int, float], dict[int, float]], exchange: str = "kraken", **facts: Any
) -> OrderBookSnapshot:
    bids, asks = ([(price / 10, size) for price, size in side.items()] for side in sides)
    return OrderBookSnapshot.model_validate(
        {"symbol": "BTC-USDT", "exchange": exchange, "timestamp": 0, "bids": bids, "asks": asks} | facts
    )


@given(books, st.sampled_from([0.1, 0.25, 0.3, 1.0, 7.0, 1000.0]))
def test_sums_over_buckets_are_sums_over_levels(
    sides: tuple[dict[int, float], dict[int, float]], bucket_size: float
) -> None:
    book = book_of(sides)
    buckets = Aggregation().create_price_buckets(book, bucket_size)
    for levels, found, rounded in ((book.bids, buckets.bids, math.floor), (book.asks, buckets.asks, math.ceil)):
        expected: dict[int, list[Fraction]] = {}
        for level in levels:
            index = rounded(exact(level.price) / exact(bucket_size))
            expected.setdefault(index, []).append(exact(level.size))
        assert {bucket.index: bucket.quantity for bucket in found} == {i: float(sum(q)) for i, q in expected.items()}
        assert {bucket.index: bucket.levels for bucket in found} == {i: len(q) for i, q in expected.items()}
        notional = sum(exact(level.price) * exact(level.size) for level in levels)
        assert math.fsum(bucket.notional for bucket in found) == pytest.approx(float(notional))


@given(books, st.sampled_from([0.1, 0.3, 1.0, 7.0]), st.integers(1, 40))
def test_a_heatmap_column_is_the_buckets_around_the_mid_price(
    sides: tuple[dict[int, float], dict[int, float]], bucket_size: float, depth: int
) -> None:
    book = book_of(sides)
    column = Aggregation().create_heatmap(book, bucket_size, depth)
    if not book.bids or not book.asks:
        assert column is None
        return
    assert column is not None
    mid = (exact(book.bids[0].price) + exact(book.asks[0].price)) / 2
    assert column.mid_index == math.floor(mid / exact(bucket_size))
    buckets = Aggregation().create_price_buckets(book, bucket_size)
    bids = {bucket.index: bucket.quantity for bucket in buckets.bids}
    asks = {bucket.index: bucket.quantity for bucket in buckets.asks}
    assert list(column.bid_quantity) == [bids.get(column.mid_index - row, 0.0) for row in range(depth)]
    assert list(column.ask_quantity) == [asks.get(column.mid_index + 1 + row, 0.0) for row in range(depth)]


@given(st.lists(books, min_size=1, max_size=4))
def test_consolidated_sizes_are_the_sums_of_the_venues(many: list[tuple[dict[int, float], dict[int, float]]]) -> None:
    live = [book_of(sides, f"v{i}") for i, sides in enumerate(many)]
    gapped = book_of(({1: 5.0}, {}), "gapped", state="gap")
    whole = Aggregation().consolidate([*live, gapped])
    for side in ("bids", "asks"):
        expected: dict[float, Fraction] = {}
        for book in live:
            for level in getattr(book, side):
                expected[level.price] = expected.get(level.price, Fraction(0)) + exact(level.size)
        assert {level.price: level.size for level in getattr(whole, side)} == {p: float(s) for p, s in expected.items()}
    assert whole.exchange == "all"
    shares = Aggregation().venue_shares([*live, gapped], 1.0)
    assert shares.keys() == {book.exchange for book in live}


def test_what_cannot_be_consolidated_is_told() -> None:
    aggregation = Aggregation()
    with pytest.raises(ProcessingError, match="none of them is live"):
        aggregation.consolidate([book_of(({1: 1.0}, {}), state="gap")])
    with pytest.raises(ProcessingError, match="they are of BTC-USDT, ETH-USDT"):
        aggregation.consolidate([book_of(({1: 1.0}, {})), book_of(({1: 1.0}, {}), symbol="ETH-USDT")])
    with pytest.raises(ProcessingError, match="bucket size is 0"):
        aggregation.create_price_buckets(book_of(({1: 1.0}, {})), 0)


def test_venues_that_cross_each_other_make_a_crossed_book() -> None:
    whole = Aggregation().consolidate([book_of(({10: 1.0}, {20: 1.0}), "a"), book_of(({25: 1.0}, {30: 1.0}), "b")])
    assert whole.state == "crossed"
    assert Aggregation().calculate_imbalance(whole) == 0.0
    assert Aggregation().calculate_imbalance(book_of(({10: 3.0, 9: 9.0}, {20: 1.0})), 1) == pytest.approx(0.5)
