"""Books, buckets and spreads: of one venue, or of all venues together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from coby.api import answers
from coby.api.consolidate import (
    BucketPart,
    Part,
    fraction_text,
    merge_buckets,
    merge_levels,
    middle,
    spread_matrix,
)
from coby.api.context import Api, Heard
from coby.api.errors import ApiError, BucketTooSmallError, NoDataError
from coby.api.gaps import gaps_of, until
from coby.api.history import Query as Rows
from coby.api.numbers import plain, text_of, texts_of
from coby.api.parameters import MARKET, At, BucketSize, bucket_size, moment, wrong
from coby.api.symbols import ALL, Instrument
from coby.utils.exceptions import ConfigError, UnknownSymbolError
from coby.utils.timing import format_time, now_ns
from coby.utils.validation import known_venue, plain_decimal

_SAFE = 2**52
_OLD = 2
"""Update intervals after which a stored snapshot says nothing any more."""

Told = dict[str, Any]
"""A book or buckets as the engine tells them."""


@dataclass(frozen=True, slots=True)
class _Views:
    """What venues told, those that can be used and those that cannot."""

    used: list[tuple[Instrument, Told]]
    excluded: list[dict[str, Any]]


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter(dependencies=list(MARKET), tags=["books"])

    @routes.get("/books/{venue}/{symbol}", response_model=answers.Book)
    async def book(
        request: Request,
        *,
        venue: str,
        symbol: str,
        depth: Annotated[int, Query(ge=1, le=5000, description="Levels a side")] = 50,
        at: At = None,
    ) -> Response:
        """The levels of a book, exact. `venue` `all` merges the live books of all venues that have the symbol."""
        time = moment(at, "at")
        chosen = await api.directory.chosen(venue, symbol)
        if venue != ALL:
            (instrument,) = chosen
            told = await _book(api, instrument, depth, time, api.heard())
            if told is None:
                raise _none(api, instrument, time)
            sides = {side: _levels(told, side, depth) for side in ("bids", "asks")}
            return answers.answer(request, _head(instrument, told, time) | sides | {"shares": None})
        heard = api.heard()
        tellings = [await _book(api, instrument, depth, time, heard) for instrument in chosen]
        views = await _views(api, chosen, tellings, time)
        merged = {}
        shares = {}
        for side in ("bids", "asks"):
            parts = [Part(instrument.venue, told[side], instrument.contract_size) for instrument, told in views.used]
            merged[side], shares[side] = merge_levels(parts, descending=side == "bids", depth=depth)
        crossed = bool(merged["bids"] and merged["asks"]) and (
            Decimal(merged["bids"][0][0]) >= Decimal(merged["asks"][0][0])
        )
        return answers.answer(request, _head_of_all(views, chosen, crossed, time) | merged | {"shares": shares})

    @routes.get("/buckets/{venue}/{symbol}", response_model=answers.Buckets)
    async def buckets(
        request: Request,
        *,
        venue: str,
        symbol: str,
        bucket: BucketSize = None,
        rows: Annotated[int, Query(ge=1, le=400, description="Buckets a side")] = 50,
        at: At = None,
    ) -> Response:
        """The buckets of a book that are not empty, exact; `all` as for books."""
        time = moment(at, "at")
        size = bucket_size(bucket)
        chosen = await api.directory.chosen(venue, symbol)
        heard = api.heard()
        if venue != ALL:
            (instrument,) = chosen
            told = await _buckets(api, instrument, size, rows, time, heard=heard)
            if told is None:
                raise _none(api, instrument, time)
            size = Decimal(plain(told["bucket_size"]))
            sides = {}
            for side in ("bids", "asks"):
                part = BucketPart(instrument.venue, told[side] if told["state"] == "live" else ())
                merged = merge_buckets([part], bucket_size=size, descending=side == "bids", rows=rows)
                sides[side] = [row | {"shares": None} for row in merged]
            return answers.answer(request, _head(instrument, told, time) | {"bucket_size": plain_decimal(size)} | sides)
        tellings: list[Told | None] = []
        for instrument in chosen:
            told = await _buckets(api, instrument, size, rows, time, heard=heard)
            # All must have one size: that of the first venue that has a book.
            if told is not None and size is None:
                size = Decimal(plain(told["bucket_size"]))
            tellings.append(told)
        views = await _views(api, chosen, tellings, time)
        assert size is not None
        sides = {
            side: merge_buckets(
                [BucketPart(instrument.venue, told[side], instrument.contract_size) for instrument, told in views.used],
                bucket_size=size,
                descending=side == "bids",
                rows=rows,
            )
            for side in ("bids", "asks")
        }
        head = _head_of_all(views, chosen, any(told["crossed"] for _, told in views.used), time)
        return answers.answer(request, head | {"bucket_size": plain_decimal(size)} | sides)

    _add_spreads(api, routes)
    return routes


def _add_spreads(api: Api, routes: APIRouter) -> None:
    @routes.get("/spreads/{symbol}", response_model=answers.Spreads)
    async def spreads(
        request: Request,
        *,
        symbol: str,
        venues: Annotated[str | None, Query(description="Venue ids with commas between them; by default all")] = None,
    ) -> Response:
        """The best prices of each venue, and the matrix of what crossing from one to another would earn before fees."""
        chosen = await api.directory.every(symbol)
        wanted = _wanted(chosen, venues)
        told = await api.books(wanted, 1)
        now = now_ns()
        best = [_best(instrument, book, now) for instrument, book in zip(wanted, told, strict=True)]
        live = [entry for entry in best if entry["state"] == "live"]
        mid = middle([entry["bid"] for entry in live if entry["bid"]], [entry["ask"] for entry in live if entry["ask"]])
        return answers.answer(
            request,
            {
                "symbol": chosen[0].name,
                "mid": None if mid is None else fraction_text(mid),
                "venues": live,
                "matrix": spread_matrix([(entry["bid"], entry["ask"]) for entry in live], mid),
                "excluded": [
                    api.told(instrument)
                    for instrument, entry in zip(wanted, best, strict=True)
                    if entry["state"] != "live"
                ],
            },
        )


def _wanted(chosen: Sequence[Instrument], venues: str | None) -> list[Instrument]:
    if venues is None:
        return list(chosen)
    known = [instrument.venue for instrument in chosen]
    names = {known_venue(name, known, "venues") for name in venues.split(",") if name.strip()}
    return [instrument for instrument in chosen if instrument.venue in names]


def _best(instrument: Instrument, told: Told | None, now: int) -> dict[str, Any]:
    best: dict[str, Any] = {"venue": instrument.venue, "native_symbol": instrument.native_symbol}
    live = told is not None and told["state"] == "live"
    for name, side in (("bid", "bids"), ("ask", "asks")):
        price, size = told[side][0] if told is not None and live and told[side] else (None, None)
        best |= {name: price and plain(price), f"{name}_size": size and plain(size)}
    return best | {
        "state": "empty" if told is None else told["state"],
        "ts_recv": None if told is None else str(told["ts_recv"]),
        "age": None if told is None else str(max(0, now - told["ts_recv"])),
    }


def _levels(told: Told, side: str, depth: int) -> list[tuple[str, str]]:
    if told["state"] != "live":
        return []
    return [(plain(price), plain(size)) for price, size in told[side][:depth]]


def _head(instrument: Instrument, told: Told, at: int | None) -> dict[str, Any]:
    return {
        "venue": instrument.venue,
        "native_symbol": instrument.native_symbol,
        "symbol": instrument.name,
        "contract_size": plain_decimal(instrument.contract_size),
        "inverse": instrument.inverse,
        "included": None,
        "excluded": None,
    } | _moment(told, at)


def _moment(told: Told, at: int | None) -> dict[str, Any]:
    return {
        "state": told["state"],
        "crossed": told["crossed"],
        "source": "live" if at is None else "stored",
        # A run's number and a record's number within it, cut to what every reader of JSON holds exactly.
        "seq": told["pos"] % _SAFE,
        "pos": str(told["pos"]),
        "ts_recv": str(told["ts_recv"]),
        "ts_event": None if told["ts_event"] is None else str(told["ts_event"]),
        "rounded": told.get("rounded", False),
    }


def _head_of_all(views: _Views, chosen: Sequence[Instrument], crossed: bool, at: int | None) -> dict[str, Any]:
    now = now_ns() if at is None else at
    newest = max((told for _, told in views.used), key=lambda told: int(told["pos"]))
    events = [told["ts_event"] for _, told in views.used if told["ts_event"] is not None]
    combined = newest | {
        "state": "live",
        "crossed": crossed,
        "ts_recv": max(told["ts_recv"] for _, told in views.used),
        "ts_event": max(events, default=None),
        "rounded": any(told.get("rounded", False) for _, told in views.used),
    }
    return {
        "venue": ALL,
        "native_symbol": None,
        "symbol": chosen[0].name,
        "contract_size": "1",
        "inverse": False,
        "included": [
            {
                "venue": instrument.venue,
                "native_symbol": instrument.native_symbol,
                "crossed": told["crossed"],
                "pos": str(told["pos"]),
                "ts_recv": str(told["ts_recv"]),
                "ts_event": None if told["ts_event"] is None else str(told["ts_event"]),
                "age": str(max(0, now - told["ts_recv"])),
            }
            for instrument, told in views.used
        ],
        "excluded": views.excluded,
    } | _moment(combined, at)


async def _views(api: Api, chosen: Sequence[Instrument], tellings: Sequence[Told | None], at: int | None) -> _Views:
    """Sorts what venues told into what can be merged and what cannot.

    Raises:
        NotLiveError: There is nothing to merge now.
        NoDataError: There was nothing to merge then.
    """
    used: list[tuple[Instrument, Told]] = []
    excluded = []
    for instrument, told in zip(chosen, tellings, strict=True):
        if told is not None and told["state"] == "live" and not instrument.inverse:
            used.append((instrument, told))
            continue
        reason = api.told(instrument) if at is None else _told_then(instrument, told)
        if instrument.inverse:
            reason |= {"cause": "inverse", "message": "its sizes count quote units, which no exact decimal converts"}
        excluded.append(reason)
    if used:
        return _Views(used, excluded)
    raise _none(api, chosen[0], at, excluded)


def _none(api: Api, instrument: Instrument, at: int | None, excluded: Sequence[Mapping[str, Any]] = ()) -> ApiError:
    if at is None:
        error: ApiError = api.no_book(instrument)
    else:
        error = NoDataError(
            f"no book of {instrument.name} is stored for {format_time(at)}",
            context={"symbol": instrument.name, "at": str(at)},
        )
    if excluded:
        error.context["excluded"] = list(excluded)
    return error


def _told_then(instrument: Instrument, told: Told | None) -> dict[str, Any]:
    return {
        "venue": instrument.venue,
        "native_symbol": instrument.native_symbol,
        "state": "empty" if told is None else told["state"],
        "cause": "no_book" if told is None else told["cause"],
        "since": None if told is None else str(told["since"]),
        "message": "no snapshot is stored" if told is None else told["message"],
    }


async def _book(api: Api, instrument: Instrument, depth: int, at: int | None, heard: Heard) -> Told | None:
    if at is None:
        return await api.book(instrument, depth, heard)
    columns = ("venue", "ts_recv", "ts_event", "rounded", "state", "t")
    lists = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    row = await _row_at(api, instrument, Rows("book_snapshots", (*columns, *lists), {}), at)
    if row is None or row["state"] == "gap":
        return row
    return row | {
        side: list(zip(texts_of(row[f"{name}_prices"]), texts_of(row[f"{name}_sizes"]), strict=True))
        for name, side in (("bid", "bids"), ("ask", "asks"))
    }


async def _buckets(
    api: Api, instrument: Instrument, size: Decimal | None, rows: int, at: int | None, *, heard: Heard
) -> Told | None:
    if at is None:
        try:
            return await api.buckets(instrument, None if size is None else plain_decimal(size), rows, heard)
        except UnknownSymbolError:
            raise
        except ConfigError as error:
            raise wrong("bucket", size, f"a size that fits this book ({error.message})") from error
    columns = ("venue", "ts_recv", "ts_event", "rounded", "t", "bucket_size")
    lists = ("side", "index", "quantity", "notional", "levels")
    where: dict[str, object] = {} if size is None else {"bucket_size": float(size)}
    side: dict[str, object] = {"side": "bid"}
    bid = await _row_at(api, instrument, Rows("price_buckets", (*columns, *lists), side | where), at)
    if bid is None:
        if (
            size is not None
            and (other := await _buckets(api, instrument, None, 1, at, heard=heard))
            and "bucket_size" in other
        ):
            raise BucketTooSmallError(
                f"bucket is {plain_decimal(size)}: of the past only buckets of {other['bucket_size']} are stored",
                context={"bucket": plain_decimal(size), "allowed": [other["bucket_size"]]},
            )
        return None
    if bid["state"] == "gap":
        return bid | {"bucket_size": "1" if size is None else plain_decimal(size)}
    where = {"bucket_size": bid["bucket_size"], "side": "ask"}
    ask = await _row_at(api, instrument, Rows("price_buckets", (*columns, *lists), where), at)
    told = bid | {"bucket_size": text_of(bid["bucket_size"])}
    for name, row in (("bids", bid), ("asks", ask)):
        told[name] = _bucket_list(row)[:rows] if row and row["t"] == bid["t"] else []
    return told


def _bucket_list(row: Mapping[str, Any]) -> list[tuple[int, str, str, int]]:
    quantities, notionals = texts_of(row["quantity"]), texts_of(row["notional"])
    return list(zip(row["index"], quantities, notionals, row["levels"], strict=True))


async def _row_at(api: Api, instrument: Instrument, wanted: Rows, at: int) -> Told | None:
    """The stored row that was valid at a moment; in a gap its cause in place of levels; None where nothing is known.

    Raises:
        NoDataError: The moment has not been yet.
    """
    newest = api.state.view.last_ts
    if newest and at > max(newest, now_ns()):
        raise NoDataError(f"{format_time(at)} has not been yet", context={"at": str(at), "newest": str(newest)})
    of_it: dict[str, object] = {"venue": instrument.venue, "native_symbol": instrument.native_symbol}
    gaps = [gap for gap in await gaps_of(api.history, of_it | {"channel": "book"}) if gap["from"] < at < until(gap)]
    if gaps:
        gap = gaps[-1]
        return {
            "state": "gap",
            "crossed": False,
            "pos": gap["pos"],
            "ts_recv": gap["ts_recv"],
            "ts_event": None,
            "cause": gap["cause"],
            "since": gap["from"],
            "message": gap["evidence"],
            "bids": [],
            "asks": [],
        }
    start = at - _OLD * api.interval
    where = of_it | dict(wanted.where)
    query = replace(wanted, where=where, by="t", start=start, end=at + 1, limit=1, newest=True)
    found = await api.history.rows(query)
    if not found:
        return None
    crossed = found[0].get("state") == "crossed"
    return found[0] | {"state": "live", "crossed": crossed, "cause": "", "since": found[0]["t"], "message": ""}
