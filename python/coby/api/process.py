"""The process itself: health, status, what it offers, its venues and their instruments."""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from coby import _core
from coby.api import answers, cursors
from coby.api.candles import INTERVALS
from coby.api.context import Api
from coby.api.parameters import COMMON, Cursor, Limit
from coby.api.symbols import Instrument
from coby.utils.exceptions import ConfigError
from coby.utils.redaction import redact
from coby.utils.timing import now_ns
from coby.utils.validation import known_venue, plain_decimal, symbol_key

PROTOCOL = "coby.v1"
_TIMES = frozenset({"started", "next_attempt", "last_frame", "since", "last", "last_commit_ns"})
_POSITIONS = frozenset({"pos", "durable_pos", "watermark"})
_PROOFS = ("none", "heartbeat", "checksum", "sequence")


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter(dependencies=list(COMMON), tags=["process"])
    state = api.state

    @routes.get("/health/live", response_model=answers.Alive)
    async def health_live(request: Request) -> Response:
        """Whether the process answers at all."""
        return answers.answer(request, {"live": True})

    @routes.get("/health/ready", response_model=answers.Ready, responses={503: {"model": answers.Ready}})
    async def health_ready(request: Request) -> Response:
        """Whether it does what it is for: some venue is live, the tape is written, the store keeps up; else why not."""
        told = state.monitor.readiness()
        response = answers.answer(request, {"ready": told["ready"], "reasons": list(told["reasons"])})
        if not told["ready"]:
            response.status_code = 503
            response.headers["Retry-After"] = "5"
        return response

    @routes.get("/status", response_model=answers.Status)
    async def status(request: Request) -> Response:
        """The state of engine, tape, venues, connections, books, store and memory."""
        engine = dict(state.engine.status())
        live = engine.get("live") or {}
        readiness = state.monitor.readiness()
        watermark = api.watermark
        view = state.view
        return answers.answer(
            request,
            {
                "epoch": state.epoch,
                "started": str(state.started),
                "now": str(now_ns()),
                "ready": readiness["ready"],
                "reasons": list(readiness["reasons"]),
                "pos": str(engine.get("pos", 0)),
                "durable_pos": str(state.engine.durable_pos),
                "watermark": None if watermark is None else str(watermark),
                "untaped": live.get("untaped"),
                "engine": told_of(engine),
                "feeder": None if state.feeder is None else told_of(state.feeder.status()),
                "view": {
                    "rows": view.rows,
                    "bytes": view.nbytes,
                    "last_pos": str(view.last_pos),
                    "last_ts": str(view.last_ts),
                    "open_gaps": len(view.open_gaps),
                },
                "resources": told_of(state.monitor.resources()),
            },
        )

    @routes.get("/meta", response_model=answers.Meta)
    async def meta(request: Request) -> Response:
        """Version, protocol, limits and what this server offers."""
        return answers.answer(
            request,
            {
                "name": "coby",
                "version": state.version,
                "protocol": PROTOCOL,
                "epoch": state.epoch,
                "limits": {
                    **asdict(state.limits),
                    "page_items": 5000,
                    "heatmap_columns": 2048,
                    "heatmap_bytes": 8 << 20,
                    "book_depth": 5000,
                    "bucket_rows": 400,
                    "coverage_steps": 5000,
                },
                "features": {"replay": False, "redis": False, "store": state.store is not None} | dict(state.features),
                "venues": [venue["venue"] for venue in (state.engine.status().get("live") or {}).get("venues", ())],
                "heatmap": {"interval": str(api.interval), "rows": state.settings.heatmap_depth},
                "candle_intervals": list(INTERVALS),
            },
        )

    @routes.get("/venues", response_model=answers.Venues)
    async def venues(
        request: Request,
        *,
        q: Annotated[str | None, Query(description="Part of an id or name")] = None,
        cursor: Cursor = None,
        limit: Limit = 500,
    ) -> Response:
        """Every venue that COBY can speak with, and the state of those that this process was asked for."""
        told = {venue["venue"]: venue for venue in (state.engine.status().get("live") or {}).get("venues", ())}
        found = [
            _venue(spec, told.get(spec["id"]))
            for spec in sorted(_core.venues(), key=lambda spec: str(spec["id"]))
            if q is None or q.lower() in spec["id"].lower() or q.lower() in spec["name"].lower()
        ]
        filters = {"of": "venues", "q": q}
        after = None if cursor is None else cursors.decode(cursor, filters, str)
        rest = [venue for venue in found if after is None or (venue["venue"],) > after]
        return answers.answer(
            request,
            {
                "items": rest[:limit],
                "next_cursor": cursors.encode([rest[limit - 1]["venue"]], filters) if len(rest) > limit else None,
            },
        )

    @routes.get("/instruments", response_model=answers.Instruments)
    async def instruments(
        request: Request,
        *,
        venue: str | None = None,
        base: str | None = None,
        quote: str | None = None,
        kind: Annotated[str | None, Query(description="`spot`, `perpetual` or `future`")] = None,
        q: Annotated[str | None, Query(description="Part of a symbol in any spelling")] = None,
        subscribed: bool | None = None,
        cursor: Cursor = None,
        limit: Limit = 500,
    ) -> Response:
        """What venues list, by venue and native symbol."""
        name = None if venue is None else known_venue(venue, api.directory.venues)
        filters = {
            "of": "instruments",
            "venue": name,
            "base": base,
            "quote": quote,
            "kind": kind,
            "q": q,
            "subscribed": subscribed,
        }
        after = None if cursor is None else cursors.decode(cursor, filters, str, str)
        part = None if q is None else symbol_key(q)
        rest = [
            instrument
            for instrument in await api.directory.all()
            if (name is None or instrument.venue == name)
            and (base is None or instrument.base.upper() == base.upper())
            and (quote is None or instrument.quote.upper() == quote.upper())
            and (kind is None or instrument.kind == kind)
            and (subscribed is None or instrument.subscribed == subscribed)
            and (part is None or part in symbol_key(instrument.name) or part in symbol_key(instrument.native_symbol))
            and (after is None or (instrument.venue, instrument.native_symbol) > after)
        ]
        page = rest[:limit]
        more = len(rest) > limit
        return answers.answer(
            request,
            {
                "items": [_instrument(api, instrument) for instrument in page],
                "next_cursor": cursors.encode([page[-1].venue, page[-1].native_symbol], filters) if more else None,
            },
        )

    return routes


def metrics(api: Api) -> APIRouter:
    """The route of Prometheus."""
    routes = APIRouter(dependencies=list(COMMON), tags=["process"])

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def exposition() -> Response:
        """All figures in Prometheus' text format."""
        body, media_type = api.state.monitor.exposition()
        return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return routes


def told_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts ready for JSON: times and positions as texts, nothing secret."""
    return {str(name): _told(str(name), value) for name, value in facts.items()}


def _told(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return told_of(value)
    if isinstance(value, list | tuple):
        return [_told(name, item) for item in value]
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    wide = name in _TIMES or name in _POSITIONS or name.endswith(("_pos", "_ns")) or abs(value) >= 2**53
    return str(value) if wide else value


def _venue(spec: Mapping[str, Any], told: Mapping[str, Any] | None) -> dict[str, Any]:
    books = told["books"] if told else ()
    state = told["state"] if told else "closed" if spec["closed"] else "off"
    error = told["error"] if told else spec["closed"]
    times = {name: told[name] if told else None for name in ("next_attempt", "last_frame")}
    return {
        "venue": spec["id"],
        "name": spec["name"],
        "state": state,
        "error": None if error is None else redact(error),
        **{name: None if value is None else str(value) for name, value in times.items()},
        **{name: told[name] if told else 0 for name in ("attempts", "instruments", "frames")},
        "books": len(books),
        "books_live": sum(book["state"] == "live" for book in books),
        "protocol": spec["protocol"],
        "proof": max((book["proof"] for book in spec["books"]), key=_PROOFS.index, default="none"),
    }


def _instrument(api: Api, instrument: Instrument) -> dict[str, Any]:
    return {
        "venue": instrument.venue,
        "native_symbol": instrument.native_symbol,
        "symbol": instrument.symbol,
        "base": instrument.base,
        "quote": instrument.quote,
        "kind": instrument.kind,
        "tick_size": None if instrument.tick_size is None else plain_decimal(instrument.tick_size),
        "lot_size": None if instrument.lot_size is None else plain_decimal(instrument.lot_size),
        "price_scale": instrument.price_scale,
        "size_scale": instrument.size_scale,
        "contract_size": plain_decimal(instrument.contract_size),
        "inverse": instrument.inverse,
        "expiry": None if instrument.expiry is None else str(instrument.expiry),
        "status": instrument.status,
        "subscribed": instrument.subscribed,
        "default_bucket": _default_bucket(api, instrument),
    }


def _default_bucket(api: Api, instrument: Instrument) -> str | None:
    if instrument.symbol is None:
        return None
    try:
        return plain_decimal(Decimal(repr(api.state.settings.get_bucket_size(instrument.symbol))))
    except ConfigError:
        return None
