"""Which instrument is meant: every spelling, on every venue that the process knows."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

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

_FRESH_SECONDS = 5.0
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


class Directory:
    """The instruments of all venues: those that the engine has, and for venues that it has not, those of the store."""

    def __init__(self, state: State, history: History) -> None:
        self._engine = state.engine
        self._history = history
        self.venues = tuple(sorted(venue["id"] for venue in _core.venues()))
        """Ids of all venues that COBY can speak with."""
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._listed: dict[str, list[Instrument]] = {}
        self._stored: dict[str, list[Instrument]] | None = None

    async def all(self) -> list[Instrument]:
        """Every instrument, by venue and native symbol."""
        listed = await self._fresh()
        return [instrument for venue in sorted(listed) for instrument in listed[venue]]

    async def one(self, venue: str, symbol: str) -> Instrument:
        """The instrument that a venue and any spelling of a symbol mean.

        Raises:
            UnknownVenueError: There is no such venue.
            UnknownSymbolError: The venue has no such symbol; the nearest ones are named.
            AmbiguousSymbolError: It may be several.
            NotLiveError: The venue has told no instruments, now or in what is stored.
        """
        venue = known_venue(venue, self.venues)
        listed = (await self._fresh()).get(venue, [])
        if not listed:
            raise NotLiveError(
                f"nothing is known of {venue} yet: it has told no instruments",
                context={"venue": venue, "live": sorted(self._listed)},
            )
        for instrument in listed:
            if symbol in {instrument.symbol, instrument.native_symbol}:
                return instrument
        native = await asyncio.to_thread(self._core_s_choice, venue, symbol)
        for instrument in listed:
            if instrument.native_symbol == native:
                return instrument
        return _find(listed, symbol)

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
        instruments = await self.all()
        if not instruments:
            raise NotLiveError("nothing is known yet: no venue has told its instruments")
        subscribed = [instrument for instrument in instruments if instrument.subscribed]
        for known in (subscribed, instruments):
            try:
                name = _named(symbol, known)
            except UnknownSymbolError:
                if known is instruments:
                    raise
            else:
                found = [instrument for instrument in instruments if instrument.name == name]
                return [instrument for instrument in found if instrument.subscribed] or found
        raise AssertionError

    async def chosen(self, venue: str, symbol: str) -> list[Instrument]:
        """`every` for `all`, else `one` alone."""
        return await self.every(symbol) if venue == ALL else [await self.one(venue, symbol)]

    async def _fresh(self) -> dict[str, list[Instrument]]:
        async with self._lock:
            if time.monotonic() - self._read_at < _FRESH_SECONDS:
                return self._listed
            rows = await asyncio.to_thread(self._instruments)
            listed: dict[str, list[Instrument]] = {}
            for row in rows:
                listed.setdefault(row["venue"], []).append(_instrument(row, bool(row["subscribed"])))
            if self._stored is None:
                self._stored = await self._from_store()
            self._listed = (
                self._stored
                | self._listed
                | {
                    venue: sorted(found, key=lambda instrument: instrument.native_symbol)
                    for venue, found in listed.items()
                }
            )
            # What a venue lists changes hourly, but at a start it comes within seconds.
            self._read_at = time.monotonic() if listed else float("-inf")
            return self._listed

    def _instruments(self) -> list[dict[str, Any]]:
        try:
            return self._engine.instruments()
        except EngineError:
            # It has ended, or is too busy: what is stored can be asked for all the same.
            return []

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
