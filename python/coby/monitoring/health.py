"""Whether the process does what it is for, and if not, why not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_ROWS_BEHIND = 200_000
"""Rows that may wait for the store."""
MOST_SECONDS_BEHIND = 60.0
"""Seconds that its newest row may be older than the newest one on the tape."""
LEAST_DISK_FREE = 256 << 20


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it is not ready."""

    code: str
    """`starting failed untaped no_venue_live store_behind store_failed disk_full`."""
    message: str

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Health:
    """The rules of readiness.

    Args:
        status: The engine's.
        feeder: The store feeder's status; None where there is no store.
        resources: Of the process.
    """

    status: Callable[[], Mapping[str, Any]]
    feeder: Callable[[], Mapping[str, Any]] | None
    resources: Callable[[], Mapping[str, Any]]

    def reasons(self) -> list[Reason]:
        """Everything that is in the way, the worst first; nothing if it is ready."""
        status = self.status()
        live = status.get("live")
        if status.get("failed"):
            return [Reason("failed", f"the engine has stopped: {status['failed']}")]
        if live is None or status.get("ended"):
            return [Reason("starting", "the engine is not running")]
        return [*_tape(live), *_venues(live.get("venues", ())), *self._store(), *self._disk()]

    def _store(self) -> list[Reason]:
        if self.feeder is None:
            return []
        told = self.feeder()
        reasons = []
        if why := told.get("last_error") or told.get("behind"):
            reasons.append(Reason("store_failed", f"the store does not take rows: {why}"))
        rows = (told.get("rows_waiting") or 0) + (told.get("pending_rows") or 0)
        seconds = told.get("seconds_behind") or 0.0
        if rows > MOST_ROWS_BEHIND:
            reasons.append(Reason("store_behind", f"{rows} rows wait for the store"))
        elif seconds > MOST_SECONDS_BEHIND:
            reasons.append(Reason("store_behind", f"the store is {seconds:.0f} s behind the tape"))
        return reasons

    def _disk(self) -> list[Reason]:
        free = self.resources().get("disk_free_bytes")
        if free is None or free >= LEAST_DISK_FREE:
            return []
        return [Reason("disk_full", f"only {free >> 20} MiB are free where data is written")]


def _tape(live: Mapping[str, Any]) -> list[Reason]:
    why = live.get("untaped")
    return [Reason("untaped", f"the tape cannot be written: {why}")] if why else []


def _venues(venues: Sequence[Mapping[str, Any]]) -> list[Reason]:
    # One live book is enough: a venue that waits for one of many is at work.
    if any(venue["state"] == "live" or _some_live(venue) for venue in venues):
        return []
    if not venues:
        return [Reason("no_venue_live", "no venue was asked for")]
    told = ", ".join(f"{venue['venue']} is {venue['state']}" + _why(venue) for venue in venues)
    return [Reason("no_venue_live", f"no book is live: {told}")]


def _some_live(venue: Mapping[str, Any]) -> bool:
    return any(book["state"] == "live" for book in venue.get("books", ()))


def _why(venue: Mapping[str, Any]) -> str:
    return f" ({venue['error']})" if venue.get("error") else ""
