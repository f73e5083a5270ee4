"""Candles and coverage: what was traded, and what is known, interval by interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from coby.api import answers, arrow, cursors
from coby.api.candles import (
    INTERVALS,
    MADE_DELAY,
    MINUTE,
    SECOND,
    Builder,
    Frame,
    Known,
    base_of,
    coarser,
    last_revisions,
)
from coby.api.context import Api
from coby.api.errors import NoDataError, RangeTooLargeError
from coby.api.gaps import gaps_of, until
from coby.api.history import Query as Rows
from coby.api.numbers import text_of
from coby.api.parameters import MARKET, Cursor, From, Limit, To, duration, moments, wrong
from coby.api.symbols import ALL, Instrument, where_of
from coby.utils.timing import now_ns
from coby.utils.validation import known_venue

_TRADE = ("venue", "native_symbol", "symbol", "ts_event", "ts_recv", "price", "size", "side", "trade_id", "history")
_TRADE_TOO = ("proof", "rounded")
_CANDLE = ("open_time", "open", "high", "low", "close", "volume", "notional", "count", "taker_buy", "revision")
_CANDLE_TOO = ("source", "rounded")
_SETTLED = 120 * SECOND
"""Candles and gaps may tell of what was so long ago."""
_MOST_TRADES = 200_000
"""Trades that one page of consolidated candles is made of, at most."""
_MOST_STEPS = 5_000


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter(dependencies=list(MARKET), tags=["rows"])
    _add_candles(api, routes)
    _add_coverage(api, routes)
    return routes


class _Beginnings:
    """Since when instruments are known: what was found once never changes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._trades: dict[tuple[str, str], int] = {}
        self._candles: dict[tuple[str, str, int], int] = {}

    async def known(self, instrument: Instrument, interval: int) -> Known:
        """What is known of its trades and its candles of an interval."""
        key = (instrument.venue, instrument.native_symbol)
        history, where = self._api.history, instrument.where
        if key not in self._trades:
            for row in await history.rows(Rows("trades", ("ts_recv",), where | {"history": False}, limit=1)):
                self._trades[key] = row["ts_recv"]
        if (*key, interval) not in self._candles:
            for row in await history.rows(Rows("candles", ("open_time",), where | {"interval": interval}, limit=1)):
                self._candles[*key, interval] = row["open_time"]
        gaps = await gaps_of(history, where | {"channel": "trades"})
        return Known(interval, self._trades.get(key, 0), self._candles.get((*key, interval), 0), gaps)


def _add_candles(api: Api, routes: APIRouter) -> None:
    beginnings = _Beginnings(api)

    @routes.get("/candles/{venue}/{symbol}", response_model=answers.Candles)
    async def candles(
        request: Request,
        *,
        venue: str,
        symbol: str,
        interval: Annotated[str, Query(description=f"One of {', '.join(INTERVALS)}, or its nanoseconds")] = "1m",
        start: From = None,
        end: To = None,
        cursor: Cursor = None,
        limit: Limit = 500,
    ) -> Response:
        """Candles by open time; without `from` the newest ones. `all` makes them of all trades, in base units."""
        length = duration(interval, "interval", ", ".join(INTERVALS))
        if length not in INTERVALS.values():
            raise wrong("interval", interval, f"one of {', '.join(INTERVALS)}")
        first, last = moments(start, end)
        chosen = await api.directory.chosen(venue, symbol)
        filters = {"of": "candles", "interval": length, "from": first, "to": last, **where_of(venue, chosen)}
        newest = first is None and cursor is None
        if cursor is not None:
            (key,) = cursors.decode(cursor, filters, int)
            first = int(str(key)) + length
        # A candle belongs to the range by its open; a coarse one needs all of its parts.
        first = None if first is None else -(-first // length) * length
        last = None if last is None else -(-last // length) * length
        known = [await beginnings.known(instrument, base_of(length)) for instrument in chosen]
        find = _candles_of_all if venue == ALL else _candles_of_one
        rows, more = await find(api, _Ask(chosen, length, first, last, limit, newest, known))
        frame = Frame(
            venue if venue == ALL else chosen[0].venue,
            None if venue == ALL else chosen[0].native_symbol,
            chosen[0].name,
            length,
            api.state.view.last_ts or now_ns(),
            MADE_DELAY if venue == ALL or length != base_of(length) else 0,
            [gap for of_one in known for gap in of_one.gaps],
        )
        return answers.answer(
            request,
            {
                "items": [frame.item(row) for row in rows],
                "next_cursor": cursors.encode([rows[-1]["open_time"]], filters) if more and rows else None,
            },
            closed=not newest and api.closed(last, _SETTLED),
        )


def _add_coverage(api: Api, routes: APIRouter) -> None:
    @routes.get("/coverage/{symbol}", response_model=answers.Coverage)
    async def coverage(
        request: Request,
        *,
        symbol: str,
        venues: Annotated[str | None, Query(description="Venue ids with commas between them; by default all")] = None,
        start: From = None,
        end: To = None,
        step: Annotated[str | None, Query(description="Length of a step, such as `1m`; at least 1 s")] = None,
    ) -> Response:
        """For each venue and step of time: how long there was a valid book, how long a gap, and what was traded.

        By default the last hour in steps of a minute; a range without `step` in up to 600 steps.
        """
        first, last = moments(start, end)
        newest = api.state.view.last_ts or now_ns()
        last = newest if last is None else last
        first = last - 60 * MINUTE if first is None else first
        length = max(SECOND, -(-(last - first) // 600)) if step is None else duration(step, "step", "like 1s or 1m")
        if length < SECOND:
            raise wrong("step", step, "1s or more")
        if last <= first:
            raise wrong("from", start, "before the newest data")
        length = -(-length // SECOND) * SECOND
        low, high = first // length * length, -(-last // length) * length
        if (high - low) // length > _MOST_STEPS:
            raise RangeTooLargeError(
                f"{(high - low) // length} steps: at most {_MOST_STEPS}; ask for a longer step",
                context={"limit": "steps", "value": _MOST_STEPS, "steps": (high - low) // length},
            )
        chosen = await api.directory.every(symbol)
        if venues is not None:
            known = [instrument.venue for instrument in chosen]
            names = {known_venue(name, known, "venues") for name in venues.split(",") if name.strip()}
            chosen = [instrument for instrument in chosen if instrument.venue in names]
        lanes = [
            {
                "venue": instrument.venue,
                "native_symbol": instrument.native_symbol,
                "steps": await _steps(api, instrument, low, high, length),
            }
            for instrument in chosen
        ]
        return answers.answer(
            request,
            {
                "symbol": chosen[0].name,
                "from": str(low),
                "to": str(high),
                "step": str(length),
                "venues": lanes,
            },
            closed=start is not None and end is not None and api.closed(high, _SETTLED),
        )


@dataclass(frozen=True, slots=True)
class _Ask:
    """A question about candles, checked."""

    chosen: Sequence[Instrument]
    length: int
    first: int | None
    last: int | None
    limit: int
    newest: bool
    """The last `limit` ones."""
    known: Sequence[Known]
    """Of each that is chosen."""


async def _candles_of_one(api: Api, ask: _Ask) -> tuple[list[Mapping[str, Any]], bool]:
    length, first, last, limit = ask.length, ask.first, ask.last, ask.limit
    base = base_of(length)
    where = ask.chosen[0].where | {"interval": base}
    columns = (*_CANDLE, *_CANDLE_TOO)
    if ask.newest:
        # Later revisions repeat candles, and coarser candles need several: ask for more until there are enough.
        wanted = (limit + 1) * (length // base)
        while True:
            query = Rows("candles", columns, where, by="open_time", end=last, limit=wanted, newest=True)
            table = await api.history.read(query)
            rows = coarsened(table, length, ask.known[0])
            if len(rows) > limit or table.num_rows < wanted:
                return rows[-limit:], False
            wanted *= 2
    end = _bound(first, last, length * (limit + 1))
    while True:
        query = Rows("candles", columns, where, by="open_time", start=first, end=end)
        rows = coarsened(await api.history.read(query), length, ask.known[0])
        if len(rows) > limit or end is None or (last is not None and end >= last):
            return rows[:limit], len(rows) > limit
        # Intervals without trades are left out: look further, faster and faster.
        reached = end - (first or 0)
        end = _bound(first, last, min(8 * reached, 2**62))
        if end is not None and end > (api.state.view.last_ts or now_ns()) + length:
            end = last


def coarsened(table: pa.Table, interval: int, known: Known | None = None) -> list[Mapping[str, Any]]:
    """Candles of an interval from rows of its base."""
    rows = last_revisions(table.to_pylist(), known)
    return rows if interval == base_of(interval) else coarser(rows, interval, known)


def _bound(first: int | None, last: int | None, length: int) -> int | None:
    if first is None:
        return last
    end = min(first + length, 2**63 - 1)
    return end if last is None else min(end, last)


async def _candles_of_all(api: Api, ask: _Ask) -> tuple[list[Mapping[str, Any]], bool]:
    chosen, length, first, last, limit = ask.chosen, ask.length, ask.first, ask.last, ask.limit
    sizes = {(instrument.venue, instrument.native_symbol): instrument.contract_size for instrument in chosen}
    if any(instrument.inverse for instrument in chosen):
        raise NoDataError(
            f"{chosen[0].name} has inverse contracts, whose sizes no exact decimal converts to base units"
        )
    # Received a little after it happened, or, by a clock that is ahead, before: the rest is told apart below.
    query = Rows(
        "trades",
        ("venue", "native_symbol", "ts_event", "ts_recv", "price", "size", "side", "history", "rounded"),
        {"symbol": chosen[0].name},
        start=None if first is None else first - MINUTE,
        end=None if last is None else last + MINUTE,
        limit=_MOST_TRADES,
        newest=ask.newest,
    )
    table = await api.history.read(query)
    trades = []
    for row in table.to_pylist():
        time = row["ts_recv"] if row["ts_event"] is None else row["ts_event"]
        fits = (first is None or time >= first) and (last is None or time < last)
        key = (row["venue"], row["native_symbol"])
        if fits and key in sizes and not row["history"]:
            trades.append(row | {"time": time, "contract_size": sizes[key]})
    rows = Builder(length, min(known.first_trade for known in ask.known)).of(trades)
    cut_off = table.num_rows == _MOST_TRADES
    if ask.newest:
        # The first may lack trades that were not read.
        return rows[1:][-limit:] if cut_off else rows[-limit:], False
    if cut_off:
        # The last two may lack trades that were not read.
        rows = rows[:-2]
    return rows[:limit], cut_off or len(rows) > limit


async def _steps(api: Api, instrument: Instrument, low: int, high: int, length: int) -> list[dict[str, Any]]:
    interval = api.interval
    count = (high - low) // length
    covered, missing = [0] * count, [0] * count
    columns = await api.history.read(
        # A column shows the close of an interval.
        Rows("heatmap_columns", ("t",), instrument.where, by="t", start=low + 1, end=high + 1)
    )
    for t in set(arrow.whole_numbers(columns["t"])):
        covered[(t - 1 - low) // length] += min(interval, t - low)
    for gap in await gaps_of(api.history, instrument.where | {"channel": "book"}):
        start, end = max(low, gap["from"]), min(high, until(gap), api.state.view.last_ts or high)
        while start < end:
            step = (start - low) // length
            edge = min(end, low + (step + 1) * length)
            missing[step] += edge - start
            start = edge
    base = MINUTE if length % MINUTE == 0 else SECOND
    where = instrument.where | {"interval": base}
    query = Rows("candles", (*_CANDLE, *_CANDLE_TOO), where, by="open_time", start=low, end=high)
    candles = {row["open_time"]: row for row in coarser(coarsened(await api.history.read(query), base), length)}
    steps = []
    for step in range(count):
        start = low + step * length
        candle = candles.get(start)
        steps.append(
            {
                "start": str(start),
                "covered": str(max(0, min(covered[step], length - missing[step]))),
                "gap": str(min(missing[step], length)),
                "low": text_of(candle["low"]) if candle else None,
                "high": text_of(candle["high"]) if candle else None,
                "volume": text_of(candle["volume"]) if candle else "0",
            }
        )
    return steps
