"""The usual data processor: figures of every stored snapshot, what is wrong with books, and what is odd.

Its rows follow from the rows it is given and from nothing else. It remembers per instrument what the rules below need:

| anomaly | when |
|---|---|
| `book.crossed` | a book begins to stand crossed |
| `book.wide` | the spread becomes more than 5 times the median of the last 120 snapshots, of which there are 20 |
| `book.stale` | a live book has not changed for 30 seconds |
| `trade.size` | a trade is more than 20 times the median of the last 200, of which there are 50 |

| issue | weight | when |
|---|---|---|
| `book.gap` | 100 | the book is not valid |
| `book.empty` | 100 | nothing rests on either side |
| `book.crossed` | 100 | the best bid is at or above the best ask |
| `book.one_sided` | 50 | nothing rests on one side |
| `trade.empty` | 100 | a trade of size 0 |
| `time.late` | 20 | it came more than 5 seconds after the venue's time |
| `time.ahead` | 10 | the venue's time is more than 1 second ahead of ours |
| `data.unproved` | 10 | the feed can prove nothing about what it did not lose |
| `data.rounded` | 1 | a value has more digits than a float carries |
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import ValidationError

from coby import _core
from coby.interfaces import Cut, DataProcessor, Rows
from coby.models import Anomaly, BookMetrics, OrderBookSnapshot, QualityIssue, QualityReport, TradeEvent
from coby.utils.exceptions import ProcessingError

SPREADS, ENOUGH_SPREADS, WIDE = 120, 20, 5.0
TRADES, ENOUGH_TRADES, LARGE = 200, 50, 20.0
STALE_NS = 30_000_000_000
LATE_NS, AHEAD_NS = 5_000_000_000, 1_000_000_000

_HEAD = ("pos", "n", "venue", "native_symbol", "symbol", "ts_event", "ts_recv", "proof", "rounded")
_TYPES = {"uint64": pa.uint64(), "uint32": pa.uint32(), "int64": pa.int64(), "string": pa.string(), "bool": pa.bool_()}

DataT = TypeVar("DataT", OrderBookSnapshot, TradeEvent)
Row = Mapping[str, Any]
Levels = Sequence[tuple[float, float]]


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    known = {column["name"]: column for column in _core.schema()["trades"]}
    head = [pa.field(name, _TYPES[known[name]["type"]], known[name]["nullable"]) for name in _HEAD]
    return pa.schema([*head, *(pa.field(name, kind) for name, kind in columns)])


SCHEMAS = {
    "metrics": _schema(
        ("mid_price", pa.float64()),
        ("spread", pa.float64()),
        ("spread_bps", pa.float64()),
        ("bid_volume", pa.float64()),
        ("ask_volume", pa.float64()),
        ("imbalance", pa.float64()),
        ("bid_levels", pa.uint32()),
        ("ask_levels", pa.uint32()),
    ),
    "quality": _schema(("score", pa.float64()), ("issues", pa.list_(pa.string()))),
    "anomalies": _schema(
        ("code", pa.string()),
        ("severity", pa.string()),
        ("message", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
    ),
}
"""The columns of the kinds that it adds: those of every row, then its own."""


@dataclass
class _Memory:
    """What is remembered of one instrument."""

    spreads: deque[float] = field(default_factory=lambda: deque(maxlen=SPREADS))
    sizes: deque[float] = field(default_factory=lambda: deque(maxlen=TRADES))
    standing: set[str] = field(default_factory=set)
    """Anomalies that last: they are told when they begin."""
    levels: tuple[Levels, Levels] | None = None
    changed: int = 0
    issues: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Odd:
    code: str
    severity: str
    message: str
    value: float | None = None
    limit: float | None = None


class Processor(DataProcessor):
    """The usual data processor.

    It adds `metrics` for each snapshot, a row of `quality` when the issues of a book change, and `anomalies`.
    """

    def __init__(self) -> None:
        self._memories: dict[tuple[str, str], _Memory] = {}

    def process(self, cut: Cut) -> Rows:
        """As the interface says."""
        metrics: list[Row] = []
        quality: list[Row] = []
        odd: list[tuple[Row, _Odd]] = []
        for row in _rows(cut, "book_snapshots"):
            bids = tuple(zip(row["bid_prices"], row["bid_sizes"], strict=True))
            asks = tuple(zip(row["ask_prices"], row["ask_sizes"], strict=True))
            memory = self._memory(row["venue"], row["native_symbol"])
            metrics.append(_head(row, row["n"]) | _figures(bids, asks))
            issues = tuple(_book_issues(bids, asks, row["state"], row))
            if issues != memory.issues:
                memory.issues = issues
                score = max(0.0, 100.0 - sum(ISSUES[code] for code in issues))
                quality.append(_head(row, row["n"]) | {"score": score, "issues": list(issues)})
            odd += [(row, one) for one in _odd_book(memory, bids, asks, row["state"], row["t"])]
        for row in _rows(cut, "trades"):
            if not row["history"]:
                memory = self._memory(row["venue"], row["native_symbol"])
                odd += [(row, one) for one in _odd_trade(memory, row["size"])]
        odd.sort(key=lambda found: int(found[0]["pos"]))
        added = {"metrics": metrics, "quality": quality, "anomalies": list(_numbered(odd))}
        return {
            kind: pa.RecordBatch.from_pylist(list(rows), schema=SCHEMAS[kind]) for kind, rows in added.items() if rows
        }

    def normalize_orderbook(self, raw: Mapping[str, Any], exchange: str) -> OrderBookSnapshot:
        """As the interface says: `symbol bids asks`, and where known `native_symbol ts_event ts_recv`."""
        return _normalized(OrderBookSnapshot, raw, exchange, ("bids", "asks", "state"))

    def normalize_trade(self, raw: Mapping[str, Any], exchange: str) -> TradeEvent:
        """As the interface says: `symbol price size side`, where known `trade_id native_symbol ts_event ts_recv`."""
        return _normalized(TradeEvent, raw, exchange, ("price", "size", "side", "trade_id", "history"))

    def validate_data(self, data: OrderBookSnapshot | TradeEvent) -> QualityReport:
        """As the interface says; the table above names the issues."""
        clocks = {"ts_event": data.ts_event, "ts_recv": data.ts_recv, "proof": data.proof, "rounded": data.rounded}
        if isinstance(data, OrderBookSnapshot):
            codes = _book_issues(_levels(data.bids), _levels(data.asks), data.state, clocks)
        else:
            codes = (code for code in (*(("trade.empty",) if data.size == 0 else ()), *_data_issues(clocks)))
        issues = tuple(QualityIssue(code, ISSUES[code]) for code in codes)
        return QualityReport.model_validate(_about(data) | {"issues": issues})

    def calculate_metrics(self, book: OrderBookSnapshot) -> BookMetrics:
        """As the interface says."""
        return BookMetrics.model_validate(_about(book) | _figures(_levels(book.bids), _levels(book.asks)))

    def detect_anomalies(self, data: OrderBookSnapshot | TradeEvent) -> Sequence[Anomaly]:
        """As the interface says; the table above names them."""
        memory = self._memory(data.exchange, data.native_symbol or data.symbol)
        if isinstance(data, OrderBookSnapshot):
            found = _odd_book(memory, _levels(data.bids), _levels(data.asks), data.state, data.timestamp_ns)
        else:
            found = _odd_trade(memory, data.size)
        return [Anomaly.model_validate(_about(data) | _told(one)) for one in found]

    def _memory(self, venue: str, native: str) -> _Memory:
        return self._memories.setdefault((venue, native), _Memory())


ISSUES = {
    "book.gap": 100.0,
    "book.empty": 100.0,
    "book.crossed": 100.0,
    "book.one_sided": 50.0,
    "trade.empty": 100.0,
    "time.late": 20.0,
    "time.ahead": 10.0,
    "data.unproved": 10.0,
    "data.rounded": 1.0,
}
"""Points that an issue takes off the score."""


def _rows(cut: Cut, kind: str) -> list[dict[str, Any]]:
    return pa.record_batch(cut.batch(kind)).to_pylist() if kind in cut.rows else []


def _head(row: Row, n: int) -> dict[str, Any]:
    return {name: row[name] for name in _HEAD} | {"n": n}


def _numbered(odd: Sequence[tuple[Row, _Odd]]) -> Iterator[Row]:
    last, n = -1, 0
    for row, one in odd:
        n = n + 1 if row["pos"] == last else 0
        last = row["pos"]
        yield _head(row, n) | _told(one)


def _told(one: _Odd) -> dict[str, Any]:
    return {
        "code": one.code,
        "severity": one.severity,
        "message": one.message,
        "value": one.value,
        "limit": one.limit,
    }


def _figures(bids: Levels, asks: Levels) -> dict[str, Any]:
    bid_volume, ask_volume = (math.fsum(size for _, size in side) for side in (bids, asks))
    both = bid_volume + ask_volume
    mid = bids[0][0] / 2 + asks[0][0] / 2 if bids and asks else None
    spread = asks[0][0] - bids[0][0] if bids and asks else None
    return {
        "mid_price": mid,
        "spread": spread,
        "spread_bps": spread / mid * 1e4 if spread is not None and mid else None,
        "bid_volume": bid_volume,
        "ask_volume": ask_volume,
        "imbalance": (bid_volume - ask_volume) / both if both else None,
        "bid_levels": len(bids),
        "ask_levels": len(asks),
    }


def _book_issues(bids: Levels, asks: Levels, state: str, row: Row) -> Iterator[str]:
    if state == "gap":
        yield "book.gap"
    if not bids and not asks:
        yield "book.empty"
    elif not bids or not asks:
        yield "book.one_sided"
    elif bids[0][0] >= asks[0][0]:
        yield "book.crossed"
    yield from _data_issues(row)


def _data_issues(row: Row) -> Iterator[str]:
    if row["ts_event"] is not None and row["ts_recv"] is not None:
        if row["ts_recv"] - row["ts_event"] > LATE_NS:
            yield "time.late"
        if row["ts_event"] - row["ts_recv"] > AHEAD_NS:
            yield "time.ahead"
    if row["proof"] == "none":
        yield "data.unproved"
    if row["rounded"]:
        yield "data.rounded"


def _odd_book(memory: _Memory, bids: Levels, asks: Levels, state: str, now: int) -> list[_Odd]:
    found = []
    if (bids, asks) != memory.levels:
        memory.levels, memory.changed = (bids, asks), now
    quiet = now - memory.changed
    crossed = bool(bids and asks and bids[0][0] >= asks[0][0])
    if _begins(memory, "book.crossed", crossed):
        text = f"bid {bids[0][0]!r} at or above ask {asks[0][0]!r}"
        found.append(_Odd("book.crossed", "warning", text, bids[0][0] - asks[0][0], 0.0))
    if _begins(memory, "book.stale", state != "gap" and quiet > STALE_NS):
        text = f"unchanged for {quiet / 1e9:.1f} s"
        found.append(_Odd("book.stale", "warning", text, quiet / 1e9, STALE_NS / 1e9))
    if bids and asks and not crossed:
        spread = asks[0][0] - bids[0][0]
        usual = median(memory.spreads) if len(memory.spreads) >= ENOUGH_SPREADS else math.inf
        if _begins(memory, "book.wide", spread > WIDE * usual):
            text = f"spread {spread:g}, usually {usual:g}"
            found.append(_Odd("book.wide", "info", text, spread, WIDE * usual))
        memory.spreads.append(spread)
    return found


def _odd_trade(memory: _Memory, size: float) -> list[_Odd]:
    usual = median(memory.sizes) if len(memory.sizes) >= ENOUGH_TRADES else math.inf
    memory.sizes.append(size)
    if size <= LARGE * usual:
        return []
    return [_Odd("trade.size", "info", f"size {size:g}, usually {usual:g}", size, LARGE * usual)]


def _begins(memory: _Memory, code: str, stands: bool) -> bool:
    began = stands and code not in memory.standing
    (memory.standing.add if stands else memory.standing.discard)(code)
    return began


def _levels(levels: Any) -> Levels:
    return tuple((level.price, level.size) for level in levels)


def _about(data: OrderBookSnapshot | TradeEvent) -> dict[str, Any]:
    names = ("symbol", "exchange", "timestamp", "native_symbol", "ts_event", "ts_recv", "proof", "rounded", "pos")
    return {name: getattr(data, name) for name in names}


def _normalized(model: type[DataT], raw: Mapping[str, Any], exchange: str, names: Sequence[str]) -> DataT:
    wanted = (*names, "symbol", "native_symbol", "timestamp", "ts_event", "ts_recv", "proof")
    try:
        return model.model_validate({name: raw[name] for name in wanted if name in raw} | {"exchange": exchange})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "frame"
        raise ProcessingError(
            f"{exchange}: no {model.__name__}: {where}: {problem['msg']}",
            context={"exchange": exchange, "field": where},
        ) from None
