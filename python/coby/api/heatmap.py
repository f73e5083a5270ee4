"""Heatmap columns of one venue or of all, as JSON, as an Arrow stream, or in the layout of the live socket."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request, Response

from coby.api import answers, arrow, cursors, wire
from coby.api.columns import (
    LEVEL_FACTOR,
    NONE,
    Column,
    Flag,
    Scales,
    added,
    columns_of,
    nearest_rows,
    reduced,
    regrouped,
    scales_of,
    traded,
)
from coby.api.consolidate import BucketPart, merge_buckets
from coby.api.context import Api
from coby.api.errors import BucketTooSmallError, NoDataError, ScaleOverflowError
from coby.api.gaps import Gap, gaps_of, overlapping, until
from coby.api.history import Query as Rows
from coby.api.numbers import decimal_scale, mantissa_text, mantissas_of, text_of, texts_of
from coby.api.parameters import MARKET, BucketSize, Cursor, From, To, bucket_size, duration, moment, moments, wrong
from coby.api.symbols import ALL, Instrument, where_of
from coby.utils.timing import SECOND_NS, now_ns
from coby.utils.validation import plain_decimal

ARROW = "application/vnd.apache.arrow.stream"
GRID_HEADER = "X-Coby-Grid"
CURSOR_HEADER = "X-Next-Cursor"

_HEAT = ("venue", "t", "mid_index", "bid_quantity", "ask_quantity", "rounded")
_MOST_BASE_COLUMNS = 16_384
"""Stored columns that one page is made of, at most."""
_MOST_BYTES = 8 << 20
_SETTLED = 120 * SECOND_NS
"""A gap may be noticed so much later than it began."""
_INT32 = 2**31


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A question about columns, checked."""

    chosen: Sequence[Instrument]
    venue: str
    stored: Decimal
    """The bucket size that is stored."""
    bucket: Decimal
    level: int
    rows: int
    interval: int
    """Of stored columns."""

    @property
    def factor(self) -> int:
        """Stored buckets in one that is asked for."""
        return int(self.bucket // self.stored)

    @property
    def length(self) -> int:
        """Of a column, nanoseconds."""
        return self.interval * int(LEVEL_FACTOR**self.level)

    @property
    def consolidated(self) -> bool:
        """Whether several venues are added up."""
        return self.venue == ALL


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter(dependencies=list(MARKET), tags=["heatmap"])

    @routes.get(
        "/heatmap/{venue}/{symbol}",
        response_model=answers.Heatmap,
        responses={200: {"content": {wire.MEDIA_TYPE: {}, ARROW: {}}}},
    )
    async def heatmap(
        request: Request,
        *,
        venue: str,
        symbol: str,
        interval: Annotated[str | None, Query(description="Of a stored column; there is one")] = None,
        bucket: BucketSize = None,
        level: Annotated[int, Query(ge=0, le=2, description="Each level holds the maximum of 8 of the one below")] = 0,
        start: From = None,
        end: To = None,
        rows: Annotated[int | None, Query(ge=1, le=1024, description="Buckets a side")] = None,
        cursor: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=2048, description="Columns of a page, at most")] = 500,
    ) -> Response:
        """Columns by open time; without `from` the newest ones. Gaps are columns too.

        As JSON; as `application/vnd.coby.heatmap`, the layout of the live socket, whose grid is in the header
        `X-Coby-Grid` as JSON; or as an Arrow stream, whose grid is in its schema; by `Accept`. For the latter two
        `X-Next-Cursor` continues.
        """
        first, last = moments(start, end)
        wanted = await _wanted(api, venue, symbol, bucket=bucket, level=level, interval=interval, rows=rows)
        length = wanted.length
        filters = {
            "of": "heatmap",
            "from": first,
            "to": last,
            "venue": venue,
            "symbol": wanted.chosen[0].name,
            "bucket": plain_decimal(wanted.bucket),
            "level": level,
            "rows": rows,
        }
        newest = first is None and cursor is None
        now = api.state.view.last_ts or now_ns()
        ended = now // length * length
        bound = ended if last is None else min(-(-last // length) * length, ended)
        count = min(limit, max(1, _MOST_BASE_COLUMNS // (LEVEL_FACTOR**level * len(wanted.chosen))))
        if cursor is not None:
            (key,) = cursors.decode(cursor, filters, int)
            low = int(str(key))
        elif first is None:
            low = bound - count * length
        else:
            low = await _first_column(api, wanted, -(-first // length) * length, bound)
        high = min(bound, low + count * length)
        scales, columns = await _columns(api, wanted, low, high)
        shown, high = _within_bytes(columns, high)
        next_cursor = cursors.encode([high], filters) if high < bound and not newest else None
        closed = not newest and api.closed(high, _SETTLED)
        page = _Page(wanted, scales, shown, next_cursor, closed)
        return await asyncio.to_thread(_answer, request, page)

    @routes.get("/heatmap/{venue}/{symbol}/cell", response_model=answers.Cell)
    async def cell(
        request: Request,
        *,
        venue: str,
        symbol: str,
        t: Annotated[str, Query(description="Open time of the column")],
        index: Annotated[int, Query(description="Number of the bucket", ge=-(2**31), lt=2**31)],
        side: Literal["bid", "ask"],
        bucket: BucketSize = None,
        level: Annotated[int, Query(ge=0, le=2)] = 0,
    ) -> Response:
        """What makes up one cell: quantity, notional, number of levels, and each venue's share; they add up."""
        wanted = await _wanted(api, venue, symbol, bucket=bucket, level=level)
        open_time = moment(t, "t")
        assert open_time is not None
        low = open_time // wanted.length * wanted.length
        found: dict[int, list[BucketPart]] = {}
        for instrument in wanted.chosen:
            for close, part in (await _bucket_rows(api, wanted, instrument, low, side)).items():
                found.setdefault(close, []).append(part)
        if not found:
            raise NoDataError(
                f"no column of {wanted.chosen[0].name} begins at {low}", context={"t": str(low), "venue": venue}
            )
        best: dict[str, Any] | None = None
        chosen: tuple[int, list[BucketPart]] | None = None
        for close in sorted(found):
            merged = {row["index"]: row for row in _regrouped_rows(found[close], wanted, side)}
            row = merged.get(index)
            if best is None or (row is not None and Decimal(row["quantity"]) >= Decimal(best["quantity"])):
                best = row or {"quantity": "0", "notional": "0", "levels": 0}
                chosen = (close, found[close])
        assert best is not None
        assert chosen is not None
        shares = {}
        for part in chosen[1]:
            for row in _regrouped_rows([part], wanted, side):
                if row["index"] == index:
                    shares[part.venue] = {name: row[name] for name in ("quantity", "notional", "levels")}
        return answers.answer(
            request,
            {
                "venue": wanted.venue,
                "symbol": wanted.chosen[0].name,
                "side": side,
                "bucket": plain_decimal(wanted.bucket),
                "index": index,
                "open_time": str(low),
                "level": level,
                "t": str(chosen[0]),
                **{name: best[name] for name in ("quantity", "notional", "levels")},
                "unit": "base" if wanted.consolidated else "venue",
                "shares": shares,
            },
            closed=api.closed(low + wanted.length, _SETTLED),
        )

    return routes


async def _wanted(
    api: Api,
    venue: str,
    symbol: str,
    *,
    bucket: str | None,
    level: int,
    interval: str | None = None,
    rows: int | None = None,
) -> _Wanted:
    chosen = await api.directory.chosen(venue, symbol)
    if venue == ALL:
        chosen = [instrument for instrument in chosen if not instrument.inverse]
        if not chosen:
            raise NoDataError(f"{symbol} has only inverse contracts, whose sizes cannot be added up exactly")
    allowed = f"{api.interval // 1_000_000}ms"
    if interval is not None and duration(interval, "interval", allowed) != api.interval:
        raise wrong("interval", interval, allowed)
    size = bucket_size(bucket)
    stored = await _stored_size(api, chosen, size)
    size = stored if size is None else size
    if size < stored:
        raise BucketTooSmallError(
            f"bucket is {plain_decimal(size)}: the heatmap has buckets of {plain_decimal(stored)} or a multiple",
            context={"bucket": plain_decimal(size), "allowed": plain_decimal(stored)},
        )
    if size % stored:
        raise wrong("bucket", plain_decimal(size), f"a multiple of {plain_decimal(stored)}")
    name = venue if venue == ALL else chosen[0].venue
    rows = api.state.settings.heatmap_depth if rows is None else rows
    return _Wanted(chosen, name, stored, size, level, rows, api.interval)


async def _stored_size(api: Api, chosen: Sequence[Instrument], size: Decimal | None) -> Decimal:
    """The largest stored bucket size of which `size` is a multiple; by default the first one that is kept."""
    # The newest rows of a venue are of one moment, and so of every size that is kept.
    where = where_of(ALL if len(chosen) > 1 else chosen[0].venue, chosen)
    query = Rows("heatmap_columns", ("bucket_size",), where, limit=8 * len(chosen), newest=True)
    found = set((await api.history.read(query))["bucket_size"].to_pylist())
    known = [Decimal(text_of(number) or "0") for number in found]
    if not known:
        raise NoDataError(f"no heatmap of {chosen[0].name} is known yet", context={"symbol": chosen[0].name})
    configured = api.state.settings.pipeline_settings()["bucket_sizes"]
    first = next((sizes["sizes"][0] for sizes in configured if sizes["base"] == chosen[0].base), None)
    if size is None:
        return Decimal(first) if first is not None and Decimal(first) in known else min(known)
    fitting = [number for number in known if size % number == 0]
    return max(fitting) if fitting else min(known)


async def _first_column(api: Api, wanted: _Wanted, low: int, bound: int) -> int:
    """Where to begin: not in the empty time before the first column that there is, or the first gap."""
    firsts = []
    for instrument in wanted.chosen:
        query = Rows("heatmap_columns", ("t",), instrument.where, by="t", start=low + 1, end=bound + 1, limit=1)
        firsts += [t - wanted.interval for t in arrow.whole_numbers((await api.history.read(query))["t"])]
        gaps = await gaps_of(api.history, instrument.where | {"channel": "book"})
        firsts += [max(low, gap["from"]) for gap in overlapping(gaps, low, max(bound, low + 1))]
    first = min(firsts, default=bound)
    return max(low, min(first // wanted.length * wanted.length, max(bound, low)))


async def _columns(api: Api, wanted: _Wanted, low: int, high: int) -> tuple[Scales, list[Column]]:
    """The columns whose open times are in `[low, high)`, gaps as empty ones."""
    where = where_of(wanted.venue, wanted.chosen)
    of_heat = where | {"bucket_size": float(wanted.stored)}
    of_top = ("venue", "t", "bid_prices", "ask_prices")
    of_trade = ("venue", "ts_recv", "size", "side", "history")
    # All venues at once: looking for rows takes longer than telling them apart.
    heat, snapshots, trades, gaps = await asyncio.gather(
        # A column shows the close of its interval.
        api.history.read(Rows("heatmap_columns", _HEAT, of_heat, by="t", start=low + 1, end=high + 1)),
        api.history.read(Rows("book_snapshots", of_top, where, by="t", start=low + 1, end=high + 1)),
        api.history.read(Rows("trades", of_trade, where, start=low, end=high)),
        gaps_of(api.history, where | {"channel": "book"}),
    )

    def build() -> tuple[Scales, list[Column]]:
        told = trades.filter(pc.invert(trades["history"]))
        sources = [
            _Source(
                instrument,
                instrument.contract_size if wanted.consolidated else Decimal(1),
                _of_venue(heat, instrument.venue),
                _tops(_of_venue(snapshots, instrument.venue)),
                _of_venue(told, instrument.venue),
                [gap for gap in gaps if gap["venue"] == instrument.venue],
            )
            for instrument in wanted.chosen
        ]
        return _built(wanted, sources, low, high)

    return await asyncio.to_thread(build)


def _of_venue(table: pa.Table, venue: str) -> pa.Table:
    return table.filter(pc.equal(table["venue"], pa.scalar(venue)))


@dataclass(frozen=True, slots=True)
class _Source:
    """What one venue gives."""

    instrument: Instrument
    contract_size: Decimal
    """What its sizes are multiplied by."""
    heat: pa.Table
    tops: Mapping[int, tuple[float | None, float | None]]
    trades: pa.Table
    gaps: Sequence[Gap]

    @property
    def digits(self) -> int:
        """Decimals that the multiplication adds."""
        return decimal_scale(self.contract_size)


def _built(wanted: _Wanted, sources: Sequence[_Source], low: int, high: int) -> tuple[Scales, list[Column]]:
    scales = Scales(
        max(source.instrument.price_scale or 0 for source in sources),
        max((source.instrument.size_scale or 0) + source.digits for source in sources),
    )
    for source in sources:
        least = Scales(scales.price, max(0, scales.size - source.digits))
        found = scales_of(source.heat, source.tops, source.trades["size"].to_numpy(), least)
        scales = Scales(found.price, max(scales.size, found.size + source.digits))
    parts = []
    flows = []
    for source in sources:
        parts.append(
            columns_of(
                source.heat,
                source.tops,
                interval=wanted.interval,
                scales=scales,
                contract_size=source.contract_size,
            )
        )
        sizes = mantissas_of(source.trades["size"].to_numpy(), scales.size - source.digits)
        sizes = sizes * int(source.contract_size.scaleb(source.digits))
        buys = np.array([side == "buy" for side in source.trades["side"].to_pylist()], dtype=np.bool_)
        flows.append((source.trades["ts_recv"].to_numpy(), sizes, buys))
    gaps = [source.gaps for source in sources]
    base: dict[int, Column] = {}
    for open_time in range(low, high, wanted.interval):
        present = [part[open_time] for part in parts if open_time in part]
        column = _with_gaps(present, gaps, open_time, wanted)
        if column is not None:
            base[open_time] = column
    base = traded(base, flows, wanted.interval)
    return scales, _leveled([_fitted(column, wanted) for column in base.values()], wanted)


def _fitted(column: Column, wanted: _Wanted) -> Column:
    column = nearest_rows(regrouped(column, wanted.factor), wanted.rows)
    edges = (column.bid_low, column.bid_low + len(column.bids), column.ask_low, column.ask_low + len(column.asks))
    if any(not -_INT32 <= edge < _INT32 for edge in edges):
        raise ScaleOverflowError(
            f"buckets of {plain_decimal(wanted.bucket)} have numbers of more than 32 bits; ask for larger ones",
            context={"bucket": plain_decimal(wanted.bucket)},
        )
    return column


def _with_gaps(
    present: Sequence[Column], gaps: Sequence[Sequence[Gap]], open_time: int, wanted: _Wanted
) -> Column | None:
    """The column of an interval; None where nothing is known of it, not even a gap."""
    close = open_time + wanted.interval
    reaching = [gap for of_one in gaps for gap in overlapping(of_one, open_time, close)]
    if not present:
        if not reaching:
            return None
        nothing = np.zeros(0, dtype=np.int64)
        return Column(
            open_time, Flag.GAP, 0, nothing, 0, nothing, gap_id=reaching[0]["id"], included=0, selected=len(gaps)
        )
    selected = len(gaps)
    column = added(present, selected) if wanted.consolidated else present[0]
    if not reaching:
        return column
    reset = Flag.RESET if any(open_time < until(gap) <= close for gap in reaching) else 0
    # A whole gap of one venue of several is told by their number.
    part = Flag.GAP_PART if len(present) == selected else 0
    return replace(column, flags=column.flags | part | reset, gap_id=reaching[0]["id"])


def _leveled(columns: Sequence[Column], wanted: _Wanted) -> list[Column]:
    if wanted.level == 0:
        return list(columns)
    groups: dict[int, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.open_time // wanted.length * wanted.length, []).append(column)
    return [reduced(parts, time, LEVEL_FACTOR**wanted.level) for time, parts in groups.items()]


def _tops(snapshots: pa.Table) -> dict[int, tuple[float | None, float | None]]:
    sides = [_firsts(snapshots[name]) for name in ("bid_prices", "ask_prices")]
    return dict(zip(arrow.whole_numbers(snapshots["t"]), zip(*sides, strict=True), strict=True))


def _firsts(column: "pa.ChunkedArray[Any]") -> list[float | None]:
    """The first value of each list."""
    offsets, values = arrow.lists(column)
    return [float(values[start]) if start < end else None for start, end in pairwise(offsets.tolist())]


def _within_bytes(columns: Sequence[Column], high: int) -> tuple[Sequence[Column], int]:
    total = 0
    for i, column in enumerate(columns):
        total += wire.HEADER_BYTES + 8 * (len(column.bids) + len(column.asks))
        if total > _MOST_BYTES and i:
            return columns[:i], column.open_time
    return columns, high


def _grid(wanted: _Wanted, scales: Scales) -> dict[str, Any]:
    grid = {
        "symbol": wanted.chosen[0].name,
        "venue": wanted.venue,
        "bucket": plain_decimal(wanted.bucket),
        "price_scale": scales.price,
        "size_scale": scales.size,
        "interval": str(wanted.length),
        "level": wanted.level,
        "rows": wanted.rows,
        "value": "base",
        "unit": "base" if wanted.consolidated else "venue",
        "contract_size": "1" if wanted.consolidated else plain_decimal(wanted.chosen[0].contract_size),
    }
    # Equal grids have equal numbers, whoever asks and whenever.
    return {"number": zlib.crc32(orjson.dumps(grid))} | grid


@dataclass(frozen=True, slots=True)
class _Page:
    wanted: _Wanted
    scales: Scales
    columns: Sequence[Column]
    next_cursor: str | None
    closed: bool


def _answer(request: Request, page: _Page) -> Response:
    grid = _grid(page.wanted, page.scales)
    accepted = request.headers.get("accept", "")
    headers = {GRID_HEADER: orjson.dumps(grid).decode()}
    if page.next_cursor:
        headers[CURSOR_HEADER] = page.next_cursor
    if wire.MEDIA_TYPE in accepted:
        body = wire.encoded(page.columns, grid=grid["number"], interval=page.wanted.length)
        return answers.sent(request, body, wire.MEDIA_TYPE, closed=page.closed, headers=headers)
    if ARROW in accepted:
        body = _arrow(page.columns, page.wanted, grid)
        return answers.sent(request, body, ARROW, closed=page.closed, headers=headers)
    items = [_item(column, page.wanted, page.scales) for column in page.columns]
    content = {"grid": grid, "items": items, "next_cursor": page.next_cursor}
    return answers.answer(request, content, closed=page.closed)


def _item(column: Column, wanted: _Wanted, scales: Scales) -> dict[str, Any]:
    size = scales.size
    return {
        "number": column.open_time // wanted.length,
        "open_time": str(column.open_time),
        "flags": [str(flag.name).lower() for flag in Flag if column.flags & flag],
        "gap_id": column.gap_id or None,
        "venues_included": column.included,
        "venues_selected": column.selected,
        "best_bid": None if column.best_bid == NONE else mantissa_text(column.best_bid, scales.price),
        "best_ask": None if column.best_ask == NONE else mantissa_text(column.best_ask, scales.price),
        "taker_buy": mantissa_text(column.buy, size),
        "taker_sell": mantissa_text(column.sell, size),
        "bid_low": column.bid_low,
        "bids": [mantissa_text(value, size) for value in column.bids.tolist()],
        "ask_low": column.ask_low,
        "asks": [mantissa_text(value, size) for value in column.asks.tolist()],
    }


def _arrow(columns: Sequence[Column], wanted: _Wanted, grid: Mapping[str, Any]) -> bytes:
    def price(values: list[int]) -> "pa.Array[Any]":
        return pa.array([None if value == NONE else value for value in values], pa.int64())

    table = pa.table(
        {
            "number": pa.array([column.open_time // wanted.length for column in columns], pa.int64()),
            "open_time": pa.array([column.open_time for column in columns], pa.int64()),
            "flags": pa.array([int(column.flags) for column in columns], pa.uint16()),
            "gap_id": pa.array([column.gap_id for column in columns], pa.uint64()),
            "venues_included": pa.array([column.included for column in columns], pa.uint16()),
            "venues_selected": pa.array([column.selected for column in columns], pa.uint16()),
            "best_bid": price([column.best_bid for column in columns]),
            "best_ask": price([column.best_ask for column in columns]),
            "taker_buy": pa.array([column.buy for column in columns], pa.int64()),
            "taker_sell": pa.array([column.sell for column in columns], pa.int64()),
            "bid_low": pa.array([column.bid_low for column in columns], pa.int32()),
            "bids": pa.array([column.bids for column in columns], pa.list_(pa.int64())),
            "ask_low": pa.array([column.ask_low for column in columns], pa.int32()),
            "asks": pa.array([column.asks for column in columns], pa.list_(pa.int64())),
        }
    ).replace_schema_metadata({"grid": orjson.dumps(grid)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


async def _bucket_rows(api: Api, wanted: _Wanted, instrument: Instrument, low: int, side: str) -> dict[int, BucketPart]:
    """A venue's stored buckets by close, in the unit of the answer."""
    where = instrument.where | {"bucket_size": float(wanted.stored), "side": side}
    query = Rows(
        "price_buckets",
        ("t", "index", "quantity", "notional", "levels"),
        where,
        by="t",
        start=low + 1,
        end=low + wanted.length + 1,
    )
    size = instrument.contract_size if wanted.consolidated else Decimal(1)
    found = {}
    for row in await api.history.rows(query):
        lists = (row["index"], texts_of(row["quantity"]), texts_of(row["notional"]), row["levels"])
        found[row["t"]] = BucketPart(instrument.venue, list(zip(*lists, strict=True)), size)
    return found


def _regrouped_rows(parts: Sequence[BucketPart], wanted: _Wanted, side: str) -> list[dict[str, Any]]:
    factor = wanted.factor
    split = [
        # One part for each stored bucket: those that fall into one bucket are added up like those of venues.
        BucketPart(f"{part.venue} {i}", [(_index(bucket[0], factor, side), *bucket[1:])], part.contract_size)
        for part in parts
        for i, bucket in enumerate(part.buckets)
    ]
    return merge_buckets(split, bucket_size=wanted.bucket, descending=side == "bid", rows=len(split))


def _index(index: int, factor: int, side: str) -> int:
    return index // factor if side == "bid" else -(-index // factor)
