import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from coby.models import (
    Candle,
    ConnectionStatus,
    Gap,
    HeatmapData,
    OrderBookSnapshot,
    PriceBucket,
    PriceBuckets,
    PriceLevel,
    ReplaySession,
    TradeEvent,
)

NOW = datetime(2026, 11, 20, 14, 3, 12, 250_000, tzinfo=UTC)
NS = 1_795_183_392_250_000_123
HEAD = {
    "pos": 7,
    "n": 0,
    "venue": "kraken",
    "native_symbol": "XBT/USD",
    "symbol": "BTC-USD",
    "ts_event": NS,
    "ts_recv": NS + 5,
    "proof": "checksum",
    "rounded": False,
}


def test_the_printed_example() -> None:
    book = OrderBookSnapshot(
        symbol="BTCUSDT",
        exchange="binance",
        timestamp=NOW,
        bids=[PriceLevel(50000.0, 1.5)],
        asks=[PriceLevel(50100.0, 2.0)],
    )
    assert (book.mid_price, book.spread) == (50050.0, 100.0)
    assert book.imbalance == pytest.approx((1.5 - 2.0) / 3.5)
    assert (book.exchange, book.venue, book.timestamp) == ("binance", "binance", NOW)
    assert isinstance(book.bids[0].price, float)


def test_lists_and_pairs_are_levels_too() -> None:
    given: dict[str, Any] = {"bids": [[1, "2"], PriceLevel(3, 4)], "asks": [("5.5", 6)]}
    book = OrderBookSnapshot.model_validate({"symbol": "X", "venue": "v", "timestamp": str(NS), **given})
    assert book.bids == (PriceLevel(3, 4), PriceLevel(1, 2))
    assert book.best_ask == PriceLevel(5.5, 6)


def test_one_sided_and_empty_books_have_no_middle() -> None:
    assert OrderBookSnapshot("X", "v", NOW).imbalance is None
    bids = OrderBookSnapshot("X", "v", NOW, (PriceLevel(1, 1),))
    assert (bids.mid_price, bids.spread, bids.spread_bps, bids.imbalance) == (None, None, None, 1.0)


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (NOW, NS - 123),
        (NS, NS),
        (str(NS), NS),
        ("2026-11-20T14:03:12.250Z", NS - 123),
        (NOW.replace(tzinfo=None), NS - 123),
    ],
)
def test_every_form_of_a_time(given: Any, exact: int) -> None:
    trade = TradeEvent("X", "v", given, 1.0, 2.0, "buy")
    assert trade.timestamp == NOW
    assert trade.timestamp.tzinfo is UTC
    assert trade.timestamp_ns == exact


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    trade = TradeEvent("X", "v", NOW.astimezone(timezone(timedelta(hours=5, minutes=30))), 1.0, 2.0, "buy")
    assert trade.timestamp_ns == NS - 123


def test_a_clock_alone_is_enough_and_the_venue_s_comes_first() -> None:
    given = {"symbol": "X", "exchange": "v", "price": 1, "size": 1, "side": "sell"}
    received = TradeEvent.model_validate(given | {"ts_recv": NS})
    assert (received.timestamp, received.ts_event, received.timestamp_ns) == (NOW, None, NS)
    assert TradeEvent.model_validate(given | {"ts_recv": NS, "ts_event": "5"}).timestamp_ns == 5


@pytest.mark.parametrize(
    ("model", "values", "word"),
    [
        (PriceLevel, (0, 1), "price"),
        (PriceLevel, (-1, 1), "price"),
        (PriceLevel, (1, -1), "size"),
        (PriceLevel, (math.nan, 1), "price"),
        (PriceLevel, (1, math.inf), "size"),
        (OrderBookSnapshot, ("X", "v", NOW, [(1, 1), (1, 2)]), "twice"),
        (OrderBookSnapshot, ("X", "v", NOW, [(1, 1, 1)]), "bids"),
        (OrderBookSnapshot, ("", "v", NOW), "symbol"),
        (OrderBookSnapshot, ("X", "v", "yesterday"), "timestamp"),
        (OrderBookSnapshot, ("X", "v", 10**30), "timestamp"),
        (OrderBookSnapshot, ("X", "v"), "timestamp"),
        (TradeEvent, ("X", "v", NOW, 1, 1, "Buy"), "side"),
        (PriceBuckets, ("X", "v", NOW, 0), "bucket_size"),
        (PriceBuckets, ("X", "v", NOW, 1, [PriceBucket(1, 1), PriceBucket(1, 2)]), "twice"),
        (HeatmapData, ("X", "v", NOW, 1, 5, (-1.0,)), "bid_quantity"),
        (Candle, ("X", "v", NOW, 60, 0, 5, 4, 3, 4, 1), "high"),
        (Candle, ("X", "v", NOW, 60, 0, 5, 6, 5.5, 5.6, 1), "low"),
        (Candle, ("X", "v", NOW, 0, 0, 5, 5, 5, 5, 1), "interval"),
        (Gap, ("X", "v", NOW, 1, "book", "bad luck", 0), "cause"),
        (Gap, ("X", "v", NOW, 1, "book", "sequence", 5, 4), "before"),
        (ConnectionStatus, ("v", "failed", NS), "reason"),
        (ConnectionStatus, ("v", "fine", NS), "state"),
        (ReplaySession, ("s", ("X",), 5, 5), "before"),
        (ReplaySession, ("s", ("X",), 5, 9, 10), "position"),
        (ReplaySession, ("s", ("X",), 5, 9, 5, 0), "speed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(model: type[Any], values: tuple[Any, ...], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        model(*values)


def test_unknown_and_surplus_and_repeated_values_are_refused() -> None:
    with pytest.raises(ValidationError, match="volume"):
        PriceLevel.model_validate({"price": 1, "size": 1, "volume": 2})
    with pytest.raises(TypeError, match="takes 2 values in order, 3 were given"):
        PriceLevel(1.0, 2.0, 3.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="several values for price"):
        PriceLevel(1.0, price=2.0)  # type: ignore[misc, call-arg]


def test_models_do_not_change() -> None:
    level = PriceLevel(1.0, 2.0)
    with pytest.raises(ValidationError, match="frozen"):
        level.price = 3.0
    assert level == PriceLevel(1.0, 2.0)
    assert len({level, PriceLevel(1.0, 2.0)}) == 1


def test_rows_of_the_core_become_models() -> None:
    lists = {"bid_prices": [10.0, 9.0], "bid_sizes": [1.0, 2.0], "ask_prices": [11.0], "ask_sizes": [4.0]}
    book = OrderBookSnapshot.from_row(HEAD | lists | {"state": "live", "t": NS})
    assert (book.symbol, book.native_symbol, book.venue, book.pos, book.proof) == (
        "BTC-USD",
        "XBT/USD",
        "kraken",
        7,
        "checksum",
    )
    assert (book.mid_price, book.imbalance, book.imbalance_of(1)) == (10.5, -1 / 7, -3 / 5)
    trade = TradeEvent.from_row(
        HEAD | {"price": 5.0, "size": 2.0, "side": "sell", "trade_id": "x1", "history": True, "symbol": None}
    )
    assert (trade.symbol, trade.trade_id, trade.history, trade.notional) == ("XBT/USD", "x1", True, 10.0)
    gap = Gap.from_row(
        HEAD
        | {"id": 3, "phase": "closed", "channel": "book", "cause": "sequence", "from": 5, "to": 9, "evidence": "hole"}
    )
    assert (gap.from_, gap.to, gap.duration, gap.is_open) == (5, 9, 4, False)
    assert gap.model_dump(by_alias=True)["from"] == 5
    candle = Candle.from_row(
        HEAD
        | {"interval": 60, "open_time": 120, "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 5.0}
        | {"notional": None, "count": None, "taker_buy": None, "revision": 1, "source": "venue"}
    )
    assert (candle.close_time, candle.revision, candle.source, candle.count) == (180, 1, "venue", None)


def test_buckets_of_two_rows_are_one_model() -> None:
    one = HEAD | {"t": NS, "bucket_size": 0.1}
    bids = one | {"side": "bid", "index": [3, 2], "quantity": [1.0, 2.0], "notional": [0.3, 0.4], "levels": [1, 2]}
    asks = one | {"side": "ask", "index": [6], "quantity": [5.0], "notional": [3.0], "levels": [1]}
    buckets = PriceBuckets.from_rows([asks, bids])
    assert buckets.bid_buckets == {0.3: 1.0, 0.2: 2.0}
    assert buckets.ask_buckets == {0.6: 5.0}
    assert buckets.bids[1].levels == 2
    with pytest.raises(ValueError, match="different"):
        PriceBuckets.from_rows([bids, asks | {"t": NS + 1}])
    with pytest.raises(ValueError, match="no rows"):
        PriceBuckets.from_rows([])


def test_the_cells_of_a_heatmap_column() -> None:
    row = {"t": NS, "bucket_size": 0.1, "mid_index": 3, "bid_quantity": [1.0, 0.0, 4.0], "ask_quantity": [2.0, 0.0]}
    column = HeatmapData.from_row(HEAD | row)
    assert [(cell.price, cell.volume, cell.intensity, cell.side) for cell in column.points] == [
        (0.1, 4.0, 1.0, "bid"),
        (0.3, 1.0, 0.25, "bid"),
        (0.4, 2.0, 0.5, "ask"),
    ]
    assert HeatmapData("X", "v", NOW, 1, 5, (0.0,), (0.0,)).points == []


def test_a_replay_session_begins_at_its_start() -> None:
    session = ReplaySession("s", ("BTC-USDT",), -10, 10, speed=math.inf)
    assert (session.position, session.progress) == (-10, 0.0)
    assert ReplaySession("s", (), -10, 10, 0).progress == 0.5
    assert ReplaySession.model_validate_json(session.model_dump_json()) == session
    assert '"speed":"max"' in session.model_dump_json()


def test_only_a_venue_that_sends_good_data_is_healthy() -> None:
    assert ConnectionStatus("kraken", "degraded", NS).is_healthy
    down = ConnectionStatus("kraken", "disconnected", NS, attempt=3, next_attempt=NS + 5)
    assert (down.venue, down.is_connected, down.is_healthy) == ("kraken", False, False)
    assert ConnectionStatus("kraken", "gap", NS).is_connected
