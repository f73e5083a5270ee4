"""Trades, candles, gaps and coverage: rows of the past and of now, page by page."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from coby.api import answers, cursors
from coby.api.candles import INTERVALS, MINUTE, SECOND, Builder, Frame, base_of, coarser, last_revisions
from coby.api.context import Api
from coby.api.errors import CursorExpiredError, NoDataError, RangeTooLargeError
from coby.api.gaps import Gap, gaps_of, overlapping, until
from coby.api.history import UNTAPED
from coby.api.history import Query as Rows
from coby.api.numbers import text_of
from coby.api.parameters import MARKET, Cursor, From, Limit, To, duration, moments, wrong
from coby.api.symbols import ALL, Instrument
from coby.utils.timing import now_ns
from coby.utils.validation import known_venue, one_of

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

    @routes.get("/trades/{venue}/{symbol}", response_model=answers.Trades)
    async def trades(
        request: Request,
        *,
        venue: str,
        symbol: str,
        start: From = None,
        end: To = None,
        cursor: Cursor = None,
        limit: Limit = 500,
    ) -> Response:
        """Trades in the order in which they were received; `from` and `to` are about that time too.

        Without `from` these are the newest ones.
        """
        first, last = moments(start, end)
        where = _where(venue, await api.directory.chosen(venue, symbol))
        filters = {"of": "trades", "from": first, "to": last, **where}
        after = _row_key(cursor, filters)
        if after and api.history.expired("trades", after[0]):
            raise _expired()
        query = Rows(
            "trades",
            (*_TRADE, *_TRADE_TOO),
            where,
            start=first,
            end=last,
            # The row that the page ended at may have neighbours of the same record.
            after=after[0] - 1 if after else None,
            limit=None if after else limit + 1,
            newest=first is None and not after,
        )
        items, more = await _page(api, query, after, limit)
        next_cursor = None
        if more and items:
            next_cursor = cursors.encode([items[-1]["pos"], items[-1]["n"]], filters)
        return answers.answer(
            request,
            {"items": [_trade(row) for row in items], "next_cursor": next_cursor},
            closed=first is not None and api.closed(last),
        )

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
        """Candles by open time; without `from` the newest ones. Those of `all` are made of all trades, in base units."""
        length = duration(interval, "interval", ", ".join(INTERVALS))
        if length not in INTERVALS.values():
            raise wrong("interval", interval, f"one of {', '.join(INTERVALS)}")
        first, last = moments(start, end)
        chosen = await api.directory.chosen(venue, symbol)
        filters = {"of": "candles", "interval": length, "from": first, "to": last, **_where(venue, chosen)}
        newest = first is None and cursor is None
        if cursor is not None:
            (key,) = cursors.decode(cursor, filters, int)
            first = int(str(key)) + length
        # A candle belongs to the range by its open; a coarse one needs all of its parts.
        first = None if first is None else -(-first // length) * length
        last = None if last is None else -(-last // length) * length
        gaps = [
            gap for instrument in chosen for gap in await gaps_of(api.history, _of(instrument) | {"channel": "trades"})
        ]
        find = _candles_of_all if venue == ALL else _candles_of_one
        rows, more = await find(api, chosen, length, first, last, limit, newest)
        frame = Frame(
            venue if venue == ALL else chosen[0].venue,
            None if venue == ALL else chosen[0].native_symbol,
            chosen[0].name,
            length,
            api.state.view.last_ts or now_ns(),
            gaps,
        )
        return answers.answer(
            request,
            {
                "items": [frame.item(row) for row in rows],
                "next_cursor": cursors.encode([rows[-1]["open_time"]], filters) if more and rows else None,
            },
            closed=not newest and api.closed(last, _SETTLED),
        )

    @routes.get("/gaps", response_model=answers.Gaps)
    async def gaps(
        request: Request,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        channel: Literal["book", "trades", "candles"] | None = None,
        cause: str | None = None,
        start: From = None,
        end: To = None,
        cursor: Cursor = None,
        limit: Limit = 500,
    ) -> Response:
        """Gaps that reach into the range, in the order in which they were noticed; open ones have no `to`."""
        first, last = moments(start, end)
        where: dict[str, object] = {}
        if symbol is not None:
            where |= _where(venue or ALL, await api.directory.chosen(venue or ALL, symbol))
        elif venue not in {None, ALL}:
            where["venue"] = known_venue(str(venue), api.directory.venues)
        if channel is not None:
            where["channel"] = channel
        if cause is not None:
            where["cause"] = one_of(cause, "cause", api.causes)
        filters = {"of": "gaps", "from": first, "to": last, **where}
        after = _row_key(cursor, filters)
        found = await gaps_of(api.history, where)
        low, high = (-(2**63) if first is None else first), (2**63 - 1 if last is None else last)
        fit = [gap for gap in overlapping(found, low, high) if not after or (gap["pos"], gap["n"]) > after]
        items = fit[:limit]
        more = len(fit) > limit
        return answers.answer(
            request,
            {
                "items": [_gap(gap) for gap in items],
                "next_cursor": cursors.encode([items[-1]["pos"], items[-1]["n"]], filters) if more else None,
            },
        )

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

    return routes


def _of(instrument: Instrument) -> dict[str, object]:
    return {"venue": instrument.venue, "native_symbol": instrument.native_symbol}


def _where(venue: str, chosen: Sequence[Instrument]) -> dict[str, object]:
    return {"symbol": chosen[0].name} if venue == ALL else _of(chosen[0])


def _row_key(cursor: str | None, filters: Mapping[str, object]) -> tuple[int, int] | None:
    if cursor is None:
        return None
    pos, n = cursors.decode(cursor, filters, int, int)
    return int(str(pos)), int(str(n))


def _expired() -> CursorExpiredError:
    return CursorExpiredError("the rows behind the cursor are no longer kept; ask again with a later from")


async def _page(api: Api, query: Rows, after: tuple[int, int] | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a page, and whether there are more behind it."""
    if after is None:
        rows = (await api.history.read(query)).to_pylist()
        if query.newest:
            return rows[-limit:], False
        return rows[:limit], len(rows) > limit
    # Rows of the record that the last page ended in come first, and are as few as a record has.
    extra = after[1] + 1
    query = Rows(
        query.kind,
        query.columns,
        query.where,
        start=query.start,
        end=query.end,
        after=query.after,
        limit=limit + 1 + extra,
    )
    rows = [row for row in (await api.history.read(query)).to_pylist() if (row["pos"], row["n"]) > after]
    return rows[:limit], len(rows) > limit


def _trade(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pos": str(row["pos"]),
        "venue": row["venue"],
        "native_symbol": row["native_symbol"],
        "symbol": row["symbol"],
        "ts_event": None if row["ts_event"] is None else str(row["ts_event"]),
        "ts_recv": str(row["ts_recv"]),
        "price": text_of(row["price"]),
        "size": text_of(row["size"]),
        "side": row["side"],
        "trade_id": row["trade_id"],
        "history": row["history"],
        "proof": row["proof"],
        "rounded": row["rounded"],
        "untaped": row[UNTAPED],
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "id": gap["id"],
        "venue": gap["venue"],
        "native_symbol": gap["native_symbol"],
        "symbol": gap["symbol"],
        "channel": gap["channel"],
        "cause": gap["cause"],
        "from": str(gap["from"]),
        "to": None if gap["to"] is None else str(gap["to"]),
        "proof": gap["proof"],
        "evidence": gap["evidence"],
        "pos": str(gap["pos"]),
        "ts_recv": str(gap["ts_recv"]),
    }


async def _candles_of_one(
    api: Api,
    chosen: Sequence[Instrument],
    length: int,
    first: int | None,
    last: int | None,
    limit: int,
    newest: bool,
) -> tuple[list[Mapping[str, Any]], bool]:
    base = base_of(length)
    where = _of(chosen[0]) | {"interval": base}
    columns = (*_CANDLE, *_CANDLE_TOO)
    if newest:
        # Later revisions repeat candles, and coarser candles need several: ask for more until there are enough.
        wanted = (limit + 1) * (length // base)
        while True:
            query = Rows("candles", columns, where, by="open_time", end=last, limit=wanted, newest=True)
            table = await api.history.read(query)
            rows = coarsened(table, length)
            if len(rows) > limit or table.num_rows < wanted:
                return rows[-limit:], False
            wanted *= 2
    end = _bound(first, last, length * (limit + 1))
    while True:
        query = Rows("candles", columns, where, by="open_time", start=first, end=end)
        rows = coarsened(await api.history.read(query), length)
        if len(rows) > limit or end is None or (last is not None and end >= last):
            return rows[:limit], len(rows) > limit
        # Intervals without trades are left out: look further, faster and faster.
        reached = end - (first or 0)
        end = _bound(first, last, min(8 * reached, 2**62))
        if end is not None and end > (api.state.view.last_ts or now_ns()) + length:
            end = last


def coarsened(table: pa.Table, interval: int) -> list[Mapping[str, Any]]:
    """Candles of an interval from rows of its base."""
    rows = last_revisions(table.to_pylist())
    return rows if interval == base_of(interval) else coarser(rows, interval)


def _bound(first: int | None, last: int | None, length: int) -> int | None:
    if first is None:
        return last
    end = min(first + length, 2**63 - 1)
    return end if last is None else min(end, last)


async def _candles_of_all(
    api: Api,
    chosen: Sequence[Instrument],
    length: int,
    first: int | None,
    last: int | None,
    limit: int,
    newest: bool,
) -> tuple[list[Mapping[str, Any]], bool]:
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
        newest=newest,
    )
    table = await api.history.read(query)
    trades = []
    for row in table.to_pylist():
        time = row["ts_recv"] if row["ts_event"] is None else row["ts_event"]
        fits = (first is None or time >= first) and (last is None or time < last)
        key = (row["venue"], row["native_symbol"])
        if fits and key in sizes and not row["history"]:
            trades.append(row | {"time": time, "contract_size": sizes[key]})
    rows = Builder(length).of(trades)
    cut_off = table.num_rows == _MOST_TRADES
    if newest:
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
        Rows("heatmap_columns", ("t",), _of(instrument), by="t", start=low + 1, end=high + 1)
    )
    for t in set(columns["t"].to_pylist()):
        covered[(t - 1 - low) // length] += min(interval, t - low)
    for gap in await gaps_of(api.history, _of(instrument) | {"channel": "book"}):
        start, end = max(low, gap["from"]), min(high, until(gap), api.state.view.last_ts or high)
        while start < end:
            step = (start - low) // length
            edge = min(end, low + (step + 1) * length)
            missing[step] += edge - start
            start = edge
    base = MINUTE if length % MINUTE == 0 else SECOND
    where = _of(instrument) | {"interval": base}
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
