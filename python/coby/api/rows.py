"""Trades and gaps: rows of the past and of now, page by page."""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from coby.api import answers, cursors
from coby.api.context import Api
from coby.api.errors import CursorExpiredError
from coby.api.gaps import Gap, gaps_of, overlapping
from coby.api.history import UNTAPED
from coby.api.history import Query as Rows
from coby.api.numbers import text_of
from coby.api.parameters import MARKET, Cursor, From, Limit, To, moments
from coby.api.symbols import ALL, where_of
from coby.utils.validation import known_venue, one_of

_TRADE = ("venue", "native_symbol", "symbol", "ts_event", "ts_recv", "price", "size", "side", "trade_id", "history")
_TRADE_TOO = ("proof", "rounded")


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
        where = where_of(venue, await api.directory.chosen(venue, symbol))
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
            where |= where_of(venue or ALL, await api.directory.chosen(venue or ALL, symbol))
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

    return routes


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
        rows = await api.history.rows(query)
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
    rows = [row for row in await api.history.rows(query) if (row["pos"], row["n"]) > after]
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
