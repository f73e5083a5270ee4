"""Heatmap columns as bytes: a fixed layout, little-endian; a frame is one column after another."""

import struct
from collections.abc import Iterable

from coby.api.columns import Column

MEDIA_TYPE = "application/vnd.coby.heatmap"
MAGIC = 0x31484243
"""`CBH1` as it stands in the bytes."""
HEADER_BYTES = 96

_HEADER = struct.Struct("<IHHIIQqIiIiIHHqqqqII")
assert _HEADER.size == HEADER_BYTES


def encoded(columns: Iterable[Column], *, grid: int, interval: int, subscription: int = 0) -> bytes:
    """The bytes of columns of one grid; `interval` in nanoseconds is their length."""
    return b"".join(_encoded(column, grid, interval, subscription) for column in columns)


def _encoded(column: Column, grid: int, interval: int, subscription: int) -> bytes:
    bids, asks = column.bids.astype("<i8").tobytes(), column.asks.astype("<i8").tobytes()
    header = _HEADER.pack(
        MAGIC,
        HEADER_BYTES,
        column.flags,
        subscription,
        grid,
        column.open_time // interval,
        column.open_time,
        interval // 1000,
        column.bid_low,
        len(column.bids),
        column.ask_low,
        len(column.asks),
        column.included,
        column.selected,
        column.best_bid,
        column.best_ask,
        column.buy,
        column.sell,
        HEADER_BYTES + len(bids) + len(asks),
        column.gap_id & 0xFFFFFFFF,
    )
    return header + bids + asks
