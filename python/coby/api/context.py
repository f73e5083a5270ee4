"""What routes share: the state, its rows, its instruments."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from coby.api.errors import NotLiveError
from coby.api.history import History
from coby.api.state import State
from coby.api.symbols import Directory, Instrument
from coby.models.gap import GapCause
from coby.utils.timing import SECOND_NS

Heard = Mapping[tuple[str, str], int]
"""Receive times by venue and native symbol."""


@dataclass(frozen=True)
class Api:
    """Made once for a server."""

    state: State
    history: History = field(init=False)
    directory: Directory = field(init=False)

    def __post_init__(self) -> None:
        history = History(self.state.store, self.state.view)
        object.__setattr__(self, "history", history)
        object.__setattr__(self, "directory", Directory(self.state, history))

    @property
    def causes(self) -> tuple[str, ...]:
        """Every cause that a gap may have."""
        return get_args(GapCause)

    @property
    def interval(self) -> int:
        """Nanoseconds between two heatmap columns."""
        return round(self.state.settings.update_frequency * 1000) * (SECOND_NS // 1000)

    @property
    def watermark(self) -> int | None:
        """The store's; None without a store."""
        return None if self.state.store is None else self.state.store.watermark

    def closed(self, end: int | None, slack: int = 0) -> bool:
        """Whether rows before a time can no longer change: they are in the store, and later ones are too."""
        if end is None or self.state.store is None:
            return False
        return end + slack <= self.state.view.settled_ts(self.state.store.watermark)

    def heard(self) -> Heard:
        """When the last good message of each book came: the engine's own time of a book is that of being asked."""
        live = self.state.engine.status().get("live") or {}
        return {
            (told["venue"], book["native"]): book["last"]
            for told in live.get("venues", ())
            for book in told["books"]
            if book["last"]
        }

    async def book(self, instrument: Instrument, levels: int, heard: Heard) -> dict[str, Any] | None:
        """The engine's book; None where it keeps none. `heard` was asked for before: no book looks newer than it is."""
        ask = self.state.engine.book
        told = await asyncio.to_thread(ask, instrument.venue, instrument.native_symbol, levels)
        return _kept(instrument, told, heard)

    async def buckets(
        self, instrument: Instrument, bucket_size: str | None, rows: int, heard: Heard
    ) -> dict[str, Any] | None:
        """The engine's buckets; as `book`."""
        ask = self.state.engine.buckets
        told = await asyncio.to_thread(ask, instrument.venue, instrument.native_symbol, bucket_size, rows)
        return _kept(instrument, told, heard)

    async def books(self, instruments: Sequence[Instrument], levels: int) -> list[dict[str, Any] | None]:
        """The engine's books of several instruments, asked for together."""
        heard = self.heard()
        return list(await asyncio.gather(*(self.book(instrument, levels, heard) for instrument in instruments)))

    def no_book(self, instrument: Instrument) -> NotLiveError:
        """What is raised where the engine keeps no book."""
        told = self.told(instrument)
        why = "it is not subscribed" if not instrument.subscribed else told["message"]
        return NotLiveError(
            f"there is no live book of {instrument.name} on {instrument.venue}: {why}",
            context={"venue": instrument.venue, "symbol": instrument.name, "state": told["state"]},
        )

    def told(self, instrument: Instrument) -> dict[str, Any]:
        """What engine and gaps say about a book that is not live: `state cause since message`."""
        venue = self.venue_status(instrument.venue)
        books = venue.get("books", ()) if venue else ()
        book = next((book for book in books if book["native"] == instrument.native_symbol), None)
        gap = next(
            (
                gap
                for gap in list(self.state.view.open_gaps.values())
                if gap["channel"] == "book"
                and gap["venue"] == instrument.venue
                and gap["native_symbol"] == instrument.native_symbol
            ),
            None,
        )
        if not instrument.subscribed:
            cause, message = "not_subscribed", "it is not subscribed"
        elif gap is not None:
            cause, message = gap["cause"], gap["evidence"]
        elif venue and venue["error"]:
            cause, message = venue["state"], venue["error"]
        else:
            cause, message = "no_book", "its first snapshot has not come yet"
        since = gap["from"] if gap else book["since"] if book else None
        return {
            "venue": instrument.venue,
            "native_symbol": instrument.native_symbol,
            "state": book["state"] if book else "empty",
            "cause": cause,
            "since": None if since is None else str(since),
            "message": message,
        }

    def venue_status(self, venue: str) -> Mapping[str, Any] | None:
        """What the engine says about a venue; None where it has nothing to do with it."""
        live = self.state.engine.status().get("live") or {}
        found: Sequence[Mapping[str, Any]] = live.get("venues", ())
        return next((told for told in found if told["venue"] == venue), None)


def _kept(instrument: Instrument, told: dict[str, Any] | None, heard: Heard) -> dict[str, Any] | None:
    """A book that will never be anything but empty is none."""
    if told is None or (told["state"] == "empty" and not instrument.subscribed):
        return None
    return told | {"ts_recv": heard.get((instrument.venue, instrument.native_symbol), told["ts_recv"])}
