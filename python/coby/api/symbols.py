"""Which instrument is meant: every spelling, on every venue that the process knows."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from coby import _core
from coby.api.errors import NotLiveError
from coby.api.history import History, Query
from coby.api.numbers import decimal_scale, text_of
from coby.api.state import State
from coby.utils.exceptions import AmbiguousSymbolError, CobyError, EngineError, StoreError, UnknownSymbolError
from coby.utils.redaction import printable
from coby.utils.validation import DOLLARS, known_symbol, known_venue, nearest, symbol_key

ALL = "all"
"""Stands for every venue of a symbol, consolidated."""

_FRESH_SECONDS = 60.0
"""Lists of instruments change hourly, and at once where the figures of a venue say so."""
_EARLY_SECONDS = 5.0
"""The same while a venue is not live: at a start its list and what is subscribed of it come within seconds."""
_NEAREST = 3
_STORED = ("venue", "native_symbol", "symbol", "base", "quote", "kind", "tick_size", "lot_size", "contract_size")
_STORED_TOO = ("inverse", "expiry", "status")


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a venue lists."""

    venue: str
    native_symbol: str
    symbol: str | None
    base: str
    quote: str
    kind: str
    tick_size: Decimal | None
    lot_size: Decimal | None
    contract_size: Decimal
    """Base (quote, when inverse) per unit of size."""
    inverse: bool
    expiry: int | None
    status: str
    subscribed: bool

    @property
    def name(self) -> str:
        """Canonical symbol, else the venue's own."""
        return self.symbol or self.native_symbol

    @property
    def where(self) -> dict[str, object]:
        """What its rows have in common; a symbol they may lack: it is known once a list of instruments has come."""
        return {"venue": self.venue, "native_symbol": self.native_symbol}

    @property
    def price_scale(self) -> int | None:
        """Decimals of prices; None where the venue does not say."""
        return None if self.tick_size is None else decimal_scale(self.tick_size)

    @property
    def size_scale(self) -> int | None:
        """Decimals of sizes; None where the venue does not say."""
        return None if self.lot_size is None else decimal_scale(self.lot_size)


def where_of(venue: str, chosen: Sequence[Instrument]) -> dict[str, object]:
    """What the rows of the chosen instruments have in common."""
    return {"symbol": chosen[0].name} if venue == ALL else chosen[0].where


def _decimal(value: object) -> Decimal | None:
    if value is None:
        return None
    return Decimal(value if isinstance(value, str) else text_of(float(str(value))) or "0")


def _instrument(row: Mapping[str, Any], subscribed: bool) -> Instrument:
    return Instrument(
        venue=row["venue"],
        native_symbol=row.get("native") or row["native_symbol"],
        symbol=row["symbol"],
        base=row["base"],
        quote=row["quote"],
        kind=row["kind"],
        tick_size=_decimal(row["tick_size"]),
        lot_size=_decimal(row["lot_size"]),
        contract_size=_decimal(row["contract_size"]) or Decimal(1),
        inverse=bool(row["inverse"]),
        expiry=row["expiry"],
        status=row["status"],
        subscribed=subscribed,
    )


@dataclass(frozen=True)
class _Listing:
    """All that is listed, by what it is looked for by: there may be tens of thousands."""

    by_venue: Mapping[str, Sequence[Instrument]] = field(default_factory=dict)
    everything: Sequence[Instrument] = ()
    """By venue and native symbol."""
    subscribed: Sequence[Instrument] = ()
    by_name: Mapping[str, Sequence[Instrument]] = field(default_factory=dict)

    @classmethod
    def of(cls, by_venue: Mapping[str, Sequence[Instrument]]) -> Self:
        """The listing of what each venue lists."""
        everything = [instrument for venue in sorted(by_venue) for instrument in by_venue[venue]]
        by_name: dict[str, list[Instrument]] = {}
        for instrument in everything:
            by_name.setdefault(instrument.name, []).append(instrument)
        return cls(by_venue, everything, [instrument for instrument in everything if instrument.subscribed], by_name)


class Directory:
    """The instruments of all venues: those that the engine has, and for venues that it has not, those of the store."""

    def __init__(self, state: State, history: History) -> None:
        self._engine = state.engine
        self._history = history
        self.venues = tuple(sorted(venue["id"] for venue in _core.venues()))
        """Ids of all venues that COBY can speak with."""
        self._lock = asyncio.Lock()
        self._listing = _Listing()
        self._marks: dict[str, object] = {}
        """What the engine said of each venue when its list was read."""
        self._stored: dict[str, list[Instrument]] | None = None

    async def all(self) -> list[Instrument]:
        """Every instrument, by venue and native symbol."""
        return list((await self._fresh()).everything)

    async def one(self, venue: str, symbol: str) -> Instrument:
        """The instrument that a venue and any spelling of a symbol mean.

        Raises:
            UnknownVenueError: There is no such venue.
            UnknownSymbolError: The venue has no such symbol; the nearest ones are named.
            AmbiguousSymbolError: It may be several.
            NotLiveError: The venue has told no instruments, now or in what is stored.
        """
        venue = known_venue(venue, self.venues)
        by_venue = (await self._fresh()).by_venue
        listed = by_venue.get(venue, ())
        if not listed:
            raise NotLiveError(
                f"nothing is known of {venue} yet: it has told no instruments",
                context={"venue": venue, "live": sorted(by_venue)},
            )
        for instrument in listed:
            if symbol in {instrument.symbol, instrument.native_symbol}:
                return instrument
        native = await asyncio.to_thread(self._core_s_choice, venue, symbol)
        for instrument in listed:
            if instrument.native_symbol == native:
                return instrument
        return await asyncio.to_thread(_find, listed, symbol)

    def _core_s_choice(self, venue: str, symbol: str) -> str | None:
        """The native symbol that the core reads in a spelling, where it has a book of it: it knows more spellings."""
        try:
            told = self._engine.book(venue, symbol, 1)
        except AmbiguousSymbolError:
            raise
        except CobyError:
            return None
        return None if told is None else told["native"]

    async def every(self, symbol: str) -> list[Instrument]:
        """The instruments of one canonical symbol on every venue that has it, subscribed ones only if there are any.

        Raises:
            UnknownSymbolError: No venue has it.
            AmbiguousSymbolError: It may be several.
            NotLiveError: No venue has told its instruments.
        """
        listing = await self._fresh()
        if not listing.everything:
            raise NotLiveError("nothing is known yet: no venue has told its instruments")
        try:
            name = _named(symbol, listing.subscribed)
        except UnknownSymbolError:
            name = await asyncio.to_thread(_named, symbol, listing.everything)
        found = listing.by_name[name]
        return [instrument for instrument in found if instrument.subscribed] or list(found)

    async def chosen(self, venue: str, symbol: str) -> list[Instrument]:
        """`every` for `all`, else `one` alone."""
        return await self.every(symbol) if venue == ALL else [await self.one(venue, symbol)]

    async def _fresh(self) -> _Listing:
        async with self._lock:
            marks = self._marks_now()
            due = [venue for venue, mark in marks.items() if mark != self._marks.get(venue)]
            if not due and self._stored is not None:
                return self._listing
            # Elsewhere than in the event loop: the lists of many venues take their time.
            found = await asyncio.to_thread(self._lists, due)
            if self._stored is None:
                self._stored = await self._from_store()
            known = self._stored | dict(self._listing.by_venue) | {venue: new for venue, new in found.items() if new}
            self._listing = await asyncio.to_thread(_Listing.of, known)
            self._marks |= {venue: marks[venue] for venue in found}
            return self._listing

    def _marks_now(self) -> dict[str, object]:
        live = self._engine.status().get("live") or {}
        now = time.monotonic()
        return {
            told["venue"]: (
                told["instruments"],
                len(told["books"]),
                told["state"],
                now // (_FRESH_SECONDS if told["state"] == "live" else _EARLY_SECONDS),
            )
            for told in live.get("venues", ())
        }

    def _lists(self, venues: Sequence[str]) -> dict[str, list[Instrument]]:
        found: dict[str, list[Instrument]] = {}
        for venue in venues:
            # One venue after the other: while the core makes rows of a list, no other Python runs.
            try:
                rows = self._engine.instruments(venue)
            except EngineError:
                # It has ended, or is too busy: what is stored can be asked for all the same.
                return found
            found[venue] = sorted(
                (_instrument(row, bool(row["subscribed"])) for row in rows),
                key=lambda instrument: instrument.native_symbol,
            )
        return found

    async def _from_store(self) -> dict[str, list[Instrument]]:
        try:
            table = await self._history.read(Query("instruments", (*_STORED, *_STORED_TOO), {}))
        except StoreError:
            return {}
        newest = {(row["venue"], row["native_symbol"]): row for row in table.to_pylist()}
        stored: dict[str, list[Instrument]] = {}
        for key in sorted(newest):
            stored.setdefault(key[0], []).append(_instrument(newest[key], False))
        return stored


def _named(value: str, listed: Sequence[Instrument]) -> str:
    """The name that any spelling means, of those listed.

    A bare asset means its first spot pair in dollars, or where there is none, its first perpetual.

    Raises:
        UnknownSymbolError: There is none; the nearest ones are named.
        AmbiguousSymbolError: It may be several.
    """
    names = [instrument.name for instrument in listed]
    try:
        return known_symbol(value, names)
    except AmbiguousSymbolError:
        raise
    except UnknownSymbolError as unknown:
        key = symbol_key(value)
        for quote in DOLLARS:
            if f"{key}-{quote}-PERP" in names:
                return f"{key}-{quote}-PERP"
        near: list[str] = list(unknown.context.get("nearest") or ())  # type: ignore[call-overload]
        if not near:
            bases = nearest(key, dict.fromkeys(instrument.base for instrument in listed))
            near = [instrument.name for instrument in listed if instrument.base in bases][:_NEAREST]
        near = list(dict.fromkeys(near))
        hint = f"did you mean {' or '.join(near)}?" if near else f"{len(set(names))} symbols are known"
        raise UnknownSymbolError(
            f'symbol is "{printable(value)}", which is not known; {hint}',
            context={"symbol": printable(value), "nearest": near},
        ) from None


def _find(listed: Sequence[Instrument], symbol: str) -> Instrument:
    for instrument in listed:
        if symbol in {instrument.symbol, instrument.native_symbol}:
            return instrument
    try:
        name = _named(symbol, listed)
    except UnknownSymbolError as unknown:
        try:
            native = known_symbol(symbol, (instrument.native_symbol for instrument in listed))
        except UnknownSymbolError:
            raise unknown from None
        return next(instrument for instrument in listed if instrument.native_symbol == native)
    named = [instrument for instrument in listed if instrument.name == name]
    return max(named, key=lambda instrument: instrument.subscribed)
