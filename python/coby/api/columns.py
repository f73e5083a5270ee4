"""Heatmap columns as exact integers: made of stored rows, regrouped, added up over venues, reduced over time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import IntFlag
from typing import Any

import numpy as np
import pyarrow as pa

from coby.api import arrow
from coby.api.history import UNTAPED
from coby.api.numbers import Floats, Integers, decimal_scale, mantissas_of, overflow, scale_of, sums_fit

NONE = -(2**63)
"""Stands for "no price"."""
LEVEL_FACTOR = 8
"""Columns of a level that one of the next is made of."""
_NOTHING: Integers = np.zeros(0, dtype=np.int64)


class Flag(IntFlag):
    """What is to be known about a column."""

    GAP = 1
    GAP_PART = 2
    STALE = 4
    VENUES = 8
    RESET = 16
    UNTAPED = 32
    ROUNDED = 64


@dataclass(frozen=True, slots=True)
class Scales:
    """Digits behind the point of the integers of a grid."""

    price: int
    size: int


@dataclass(frozen=True, slots=True)
class Column:
    """Sizes at the close of an interval (at higher levels their maximum), by ascending bucket."""

    open_time: int
    flags: int
    bid_low: int
    bids: Integers
    ask_low: int
    asks: Integers
    best_bid: int = NONE
    best_ask: int = NONE
    buy: int = 0
    sell: int = 0
    gap_id: int = 0
    included: int = 1
    selected: int = 1


def scales_of(
    heat: pa.Table, tops: Mapping[int, tuple[float | None, float | None]], sizes: Floats, at_least: Scales
) -> Scales:
    """Scales at which every number of these rows is an integer; never less than the instrument's own."""
    prices = np.array([price for top in tops.values() for price in top if price is not None], dtype=np.float64)
    quantities = [arrow.lists(heat[name])[1] for name in ("bid_quantity", "ask_quantity")]
    price, _ = scale_of(prices, at_least.price)
    size, _ = scale_of(np.unique(np.concatenate([*quantities, sizes])), at_least.size)
    return Scales(price, size)


def columns_of(
    heat: pa.Table,
    tops: Mapping[int, tuple[float | None, float | None]],
    *,
    interval: int,
    scales: Scales,
    contract_size: Decimal = Decimal(1),
) -> dict[int, Column]:
    """Columns by open time, of rows of `heatmap_columns` of one instrument and bucket size.

    Args:
        heat: The rows.
        tops: Best bid and ask by the time of the row.
        interval: Nanoseconds between two rows.
        scales: Of the result.
        contract_size: What sizes are multiplied by; the size scale must have room for its digits.
    """
    digits = decimal_scale(contract_size)
    factor = int(contract_size.scaleb(digits))
    sides = []
    for name in ("bid_quantity", "ask_quantity"):
        offsets, values = arrow.lists(heat[name])
        mantissas = mantissas_of(values, scales.size - digits)
        if factor != 1:
            if mantissas.size and float(np.abs(mantissas).max()) * factor >= 2**63:
                raise overflow(scales.size)
            mantissas = mantissas * factor
        sides.append((offsets, mantissas))
    (bid_offsets, bid_values), (ask_offsets, ask_values) = sides
    found = {}
    rows = zip(
        arrow.whole_numbers(heat["t"]),
        arrow.whole_numbers(heat["mid_index"]),
        heat["rounded"].to_pylist(),
        heat[UNTAPED].to_pylist(),
        strict=True,
    )
    for i, (t, mid, rounded, untaped) in enumerate(rows):
        bids = bid_values[bid_offsets[i] : bid_offsets[i + 1]][::-1]
        asks = ask_values[ask_offsets[i] : ask_offsets[i + 1]]
        bid, ask = tops.get(t, (None, None))
        found[t - interval] = Column(
            open_time=t - interval,
            flags=(Flag.ROUNDED if rounded else 0) | (Flag.UNTAPED if untaped else 0),
            bid_low=mid - len(bids) + 1,
            bids=bids,
            ask_low=mid + 1,
            asks=asks,
            best_bid=_mantissa(bid, scales.price),
            best_ask=_mantissa(ask, scales.price),
        )
    return found


def _mantissa(price: float | None, scale: int) -> int:
    return NONE if price is None else int(mantissas_of(np.array([price]), scale)[0])


def regrouped(column: Column, factor: int) -> Column:
    """The column in buckets of `factor` times the size, exactly; buckets that are not held whole are left out."""
    if factor == 1:
        return column
    bid_low, bids = _grouped(column.bid_low, column.bids, factor)
    # An ask bucket is named by its upper edge: seen from above it is a bid bucket.
    high = column.ask_low + len(column.asks) - 1
    ask_high, asks = _grouped(-high, column.asks[::-1], factor)
    return replace(column, bid_low=bid_low, bids=bids, ask_low=-(ask_high + len(asks) - 1), asks=asks[::-1])


def _grouped(low: int, values: Integers, factor: int) -> tuple[int, Integers]:
    """Sums of the buckets `floor(k / factor)`; the lowest must be whole, above the highest there is nothing."""
    first = -(-low // factor)
    values = values[first * factor - low :]
    if not values.size:
        return first, _NOTHING
    if float(np.abs(values).max()) * factor >= 2**63:
        raise overflow(0)
    return first, np.add.reduceat(values, np.arange(0, values.size, factor))


def nearest_rows(column: Column, rows: int) -> Column:
    """Only the `rows` buckets a side that are nearest to the mid price."""
    cut = max(0, len(column.bids) - rows)
    return replace(column, bid_low=column.bid_low + cut, bids=column.bids[cut:], asks=column.asks[:rows])


def added(parts: Sequence[Column], selected: int) -> Column:
    """The columns of several venues at one time as one, without buckets so deep that not all of them hold them.

    Nearer to the mid price than its buckets a venue has nothing.
    """
    lowest = max(part.bid_low for part in parts)
    highest = min(part.ask_low + len(part.asks) for part in parts)
    bid_low, bids = _aligned(
        [(max(part.bid_low, lowest), part.bids[max(0, lowest - part.bid_low) :]) for part in parts], np.add.reduce
    )
    ask_low, asks = _aligned(
        [(part.ask_low, part.asks[: max(0, highest - part.ask_low)]) for part in parts], np.add.reduce
    )
    flags = 0
    for part in parts:
        flags |= part.flags
    return Column(
        open_time=parts[0].open_time,
        flags=flags | (Flag.VENUES if len(parts) < selected else 0),
        bid_low=bid_low,
        bids=bids,
        ask_low=ask_low,
        asks=asks,
        best_bid=max(part.best_bid for part in parts),
        best_ask=min((part.best_ask for part in parts if part.best_ask != NONE), default=NONE),
        included=len(parts),
        selected=selected,
    )


def reduced(parts: Sequence[Column], open_time: int, expected: int) -> Column:
    """One column of a higher level: the maximum of each bucket, the prices at its close, the sum of what was traded.

    It is a gap only if all of its parts are; with some, or with parts that are missing, a part of it is.
    """
    whole = [part for part in parts if not part.flags & Flag.GAP]
    flags = 0
    for part in parts:
        flags |= part.flags & ~(Flag.GAP | Flag.GAP_PART)
    if not whole:
        flags |= Flag.GAP
    elif len(whole) < expected or any(part.flags & Flag.GAP_PART for part in parts):
        flags |= Flag.GAP_PART
    bid_low, bids = _aligned([(part.bid_low, part.bids) for part in whole], np.maximum.reduce)
    ask_low, asks = _aligned([(part.ask_low, part.asks) for part in whole], np.maximum.reduce)
    last = (whole or list(parts))[-1]
    return Column(
        open_time=open_time,
        flags=flags,
        bid_low=bid_low,
        bids=bids,
        ask_low=ask_low,
        asks=asks,
        best_bid=last.best_bid,
        best_ask=last.best_ask,
        buy=sum(part.buy for part in parts),
        sell=sum(part.sell for part in parts),
        gap_id=next((part.gap_id for part in parts if part.gap_id), 0),
        included=min((part.included for part in whole), default=0),
        selected=last.selected,
    )


def _aligned(sides: Sequence[tuple[int, Integers]], combine: Any) -> tuple[int, Integers]:
    """Combines runs of buckets that begin at different ones; what a run does not hold is 0."""
    sides = [(low, values) for low, values in sides if values.size]
    if not sides:
        return 0, _NOTHING
    if len(sides) == 1:
        return sides[0]
    if not sums_fit([values for _, values in sides]):
        raise overflow(0)
    low = min(low for low, _ in sides)
    high = max(low + values.size for low, values in sides)
    grid = np.zeros((len(sides), high - low), dtype=np.int64)
    for row, (start, values) in enumerate(sides):
        grid[row, start - low : start - low + values.size] = values
    return low, combine(grid, axis=0)


def traded(
    columns: Mapping[int, Column],
    trades: Iterable[tuple["Integers", "Integers", "np.ndarray[Any, Any]"]],
    interval: int,
) -> dict[int, Column]:
    """The columns with what was traded in them: of each venue times, size mantissas, and whether takers bought."""
    totals: dict[int, list[int]] = {}
    for times, sizes, buys in trades:
        opens = times // interval * interval
        for side, chosen in enumerate((buys, ~buys)):
            keys, where = np.unique(opens[chosen], return_inverse=True)
            if not keys.size:
                continue
            if not float(np.abs(sizes).max()) * sizes.size < 2**63:
                raise overflow(0)
            sums = np.zeros(keys.size, dtype=np.int64)
            np.add.at(sums, where, sizes[chosen])
            for key, total in zip(keys.tolist(), sums.tolist(), strict=True):
                totals.setdefault(key, [0, 0])[side] += total
    return {
        time: replace(column, buy=totals[time][0], sell=totals[time][1]) if time in totals else column
        for time, column in columns.items()
    }
