"""Candles of rows: the last revision, coarser ones, and those of several venues together."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from coby.api.gaps import Gap, overlapping
from coby.api.numbers import text_of

SECOND = 10**9
MINUTE = 60 * SECOND
MADE_DELAY = 5 * SECOND // 2
"""A stored candle closes two seconds after its end; what is made here of several is complete a moment later."""
INTERVALS: Mapping[str, int] = {
    "1s": SECOND,
    "1m": MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "1h": 60 * MINUTE,
    "4h": 240 * MINUTE,
    "1d": 1440 * MINUTE,
}
"""Those that are served: 1 s and 1 m as stored, the others made of 1 m."""

Row = Mapping[str, Any]

# Wide enough that no sum or product of stored numbers is rounded.
_WIDE = Context(prec=100)


def base_of(interval: int) -> int:
    """The stored interval that candles of an interval are made of."""
    return SECOND if interval == SECOND else MINUTE


def last_revisions(rows: Iterable[Row], known: "Known | None" = None) -> list[Row]:
    """Of each open time the row of the highest revision, of equals the later; ascending in time.

    Where a venue sends candles and trades make them as well, those of trades count: they fit the stored trades. Not so
    where trades are missing.
    """
    found: dict[int, Row] = {}
    for row in rows:
        judged = dict(row) | {"partial": known is not None and known.is_partial(row)}
        before = found.get(row["open_time"])
        if before is None or _rank(judged) >= _rank(before):
            found[row["open_time"]] = judged
    return [found[time] for time in sorted(found)]


def _rank(row: Row) -> tuple[bool, int]:
    return row["source"] == "trades" and not row["partial"], row["revision"]


@dataclass(frozen=True, slots=True)
class Known:
    """Since when an instrument is known, and where its trades are not."""

    interval: int
    """Of the stored candles."""
    first_trade: int
    """When the first trade came."""
    first_candle: int
    """Open time of the first stored candle."""
    gaps: Sequence[Gap]
    """Of its trades."""

    def is_partial(self, row: Row) -> bool:
        """Whether a candle was made of trades of which some are missing."""
        start, end = row["open_time"], row["open_time"] + self.interval
        return row["source"] == "trades" and (start < self.first_trade or bool(overlapping(self.gaps, start, end)))


def coarser(rows: Sequence[Row], interval: int, known: Known | None = None) -> list[Row]:
    """Candles of an interval made of ascending finer ones; sums are exact, a sum with an unknown part is unknown."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["open_time"] // interval * interval, []).append(row)
    return [
        _joined(open_time, group, begun=known is not None and open_time < known.first_candle)
        for open_time, group in groups.items()
    ]


def _joined(open_time: int, rows: Sequence[Row], *, begun: bool) -> Row:
    counts = [row["count"] for row in rows]
    return {
        "open_time": open_time,
        "open": rows[0]["open"],
        "high": max(row["high"] for row in rows),
        "low": min(row["low"] for row in rows),
        "close": rows[-1]["close"],
        "volume": _sum(row["volume"] for row in rows),
        "notional": _sum(row["notional"] for row in rows),
        "count": None if None in counts else sum(counts),
        "taker_buy": _sum(row["taker_buy"] for row in rows),
        "revision": max(row["revision"] for row in rows),
        "source": "trades" if all(row["source"] == "trades" for row in rows) else "venue",
        "rounded": any(row["rounded"] for row in rows),
        "partial": begun or any(row["partial"] for row in rows),
    }


def _added(numbers: Iterable[Decimal]) -> Decimal:
    return functools.reduce(_WIDE.add, numbers, Decimal(0))


def _sum(values: Iterable[float | None]) -> float | None:
    total = Decimal(0)
    for value in values:
        if value is None:
            return None
        total = _WIDE.add(total, _exact(value))
    return float(total)


def _exact(value: float) -> Decimal:
    # The shortest text of a stored float is the exact value; its binary value is not.
    return Decimal(repr(value))


@dataclass(slots=True)
class Builder:
    """Candles made of trades that come in order: those of several venues have no stored ones together."""

    interval: int
    first_trade: int = 0
    """Before it nothing is known."""

    def of(self, trades: Iterable[Row]) -> list[Row]:
        """By the venue's time, where it sends one; first and last in the order of that time, then as received."""
        groups: dict[int, list[Row]] = {}
        for trade in trades:
            groups.setdefault(trade["time"] // self.interval * self.interval, []).append(trade)
        return [self._candle(open_time, groups[open_time]) for open_time in sorted(groups)]

    def _candle(self, open_time: int, trades: Sequence[Row]) -> Row:
        ordered = sorted(trades, key=lambda trade: int(trade["time"]))
        prices = [trade["price"] for trade in trades]
        exact = [_WIDE.multiply(_exact(trade["size"]), trade["contract_size"]) for trade in trades]
        values = [_WIDE.multiply(_exact(price), size) for price, size in zip(prices, exact, strict=True)]
        bought = [size for size, trade in zip(exact, trades, strict=True) if trade["side"] == "buy"]
        return {
            "open_time": open_time,
            "open": ordered[0]["price"],
            "high": max(prices),
            "low": min(prices),
            "close": ordered[-1]["price"],
            "volume": float(_added(exact)),
            "notional": float(_added(values)),
            "count": len(trades),
            "taker_buy": float(_added(bought)),
            "revision": 0,
            "source": "trades",
            "rounded": any(trade["rounded"] for trade in trades),
            "partial": open_time < self.first_trade,
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """What all candles of an answer have in common."""

    venue: str
    native_symbol: str | None
    symbol: str
    interval: int
    now: int
    """Data time: a candle whose interval is not over by then is not closed."""
    delay: int
    """After its end a candle may still lack what is on its way, for so long."""
    gaps: Sequence[Gap]
    """Of its trades."""

    def item(self, row: Row) -> dict[str, Any]:
        """A candle in the shape of the answer."""
        open_time, close_time = row["open_time"], row["open_time"] + self.interval
        return {
            "venue": self.venue,
            "native_symbol": self.native_symbol,
            "symbol": self.symbol,
            "interval": str(self.interval),
            "open_time": str(open_time),
            "close_time": str(close_time),
            "open": text_of(row["open"]),
            "high": text_of(row["high"]),
            "low": text_of(row["low"]),
            "close": text_of(row["close"]),
            "volume": text_of(row["volume"]),
            "notional": text_of(row["notional"]),
            "count": row["count"],
            "taker_buy": text_of(row["taker_buy"]),
            "revision": row["revision"],
            "source": row["source"],
            "closed": close_time + self.delay <= self.now,
            "gap": row["partial"] or bool(overlapping(self.gaps, open_time, close_time)),
            "rounded": row["rounded"],
        }
