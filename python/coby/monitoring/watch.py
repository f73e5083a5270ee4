"""Watches a live engine: rates, lag, open gaps, and a log line for each change that a person would want to know."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coby.interfaces import Cut
from coby.utils.logging import get_logger

_WINDOW_SECONDS = 10.0
_GAP_LINES = 20
"""Lines about gaps in a window; more of them are only counted."""
_LAG_WEIGHT = 0.2
_GOOD = {"live"}
_WORSE = {"degraded", "disconnected", "refused", "closed"}

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VenueFigures:
    """One venue, now."""

    venue: str
    state: str
    reason: str
    """Why it is not live; empty if it is."""
    next_attempt: int | None
    """When it is dialled again, nanoseconds."""
    frames_per_second: float
    lag: float | None
    """Seconds from the venue's time to ours, lately; None where it sends none."""
    books: int
    live_books: int
    open_gaps: int
    gaps: int
    """Opened since the start."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything, now."""

    venues: tuple[VenueFigures, ...]
    frames: int
    frames_per_second: float
    rows: int
    rows_per_second: float
    gaps: int
    open_gaps: int
    untaped: str | None
    """Why the tape cannot be written, if so."""
    store_behind: float
    """Seconds since the store was last as far as the tape."""
    memory: int
    """Bytes of the process."""

    @property
    def live(self) -> int:
        """Venues that are live."""
        return sum(venue.state in _GOOD for venue in self.venues)

    def __str__(self) -> str:
        """One line."""
        books = sum(venue.books for venue in self.venues)
        live = sum(venue.live_books for venue in self.venues)
        tape = f" · NOT ON TAPE: {self.untaped}" if self.untaped else ""
        return (
            f"venues {self.live}/{len(self.venues)} live · books {live}/{books}"
            f" · {self.frames_per_second:,.0f} frames/s · {self.rows_per_second:,.0f} rows/s"
            f" · gaps {self.gaps} (open {self.open_gaps})"
            f" · store {self.store_behind:.0f} s behind · {self.memory / 2**20:,.0f} MiB{tape}"
        )


class Watch:
    """Gets every cut (`take`) and looks at the status now and then (`look`).

    Args:
        status: The engine's.
        feeder: Status of what takes rows to the store.
        resources: Of the process: `memory_bytes memory_limit_bytes`.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        feeder: Callable[[], Mapping[str, Any]],
        resources: Callable[[], Mapping[str, Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._feeder = feeder
        self._resources = resources
        self._clock = clock
        self._states: dict[str, tuple[str, str]] = {}
        self._unresolved: set[tuple[str, str]] = set()
        self._untaped: str | None = None
        self._over = False
        self._quiet = False
        self._rows: Counter[str] = Counter()
        self._lags: dict[str, float] = {}
        self._gaps: Counter[str] = Counter()
        self._open: dict[int, str] = {}
        self._gap_lines = 0
        self._gap_window = clock()
        self._samples: deque[tuple[float, int, int, dict[str, int]]] = deque()

    def take(self, cut: Cut) -> None:
        """A cut, in the moment in which it leaves the engine."""
        rows = cut.rows
        self._rows.update(rows)
        if "tops" in rows:
            self._note_lag(pa.record_batch(cut.batch("tops")))
        if "gaps" in rows:
            for row in pa.record_batch(cut.batch("gaps")).to_pylist():
                self._note_gap(row)

    def end(self) -> None:
        """From now on nothing is logged: that everything ends is no news."""
        self._quiet = True

    def look(self) -> Figures:
        """The figures now; what has changed since the last look is logged."""
        status = self._status()
        live: Mapping[str, Any] = status.get("live") or {}
        now = self._clock()
        venues = live.get("venues", ())
        self._sample(now, int(status.get("frames", 0)), {v["venue"]: int(v["frames"]) for v in venues})
        self._note_states(venues)
        self._note_tape(live.get("untaped"))
        resources = self._resources()
        memory = int(resources["memory_bytes"])
        self._note_memory(memory, int(resources["memory_limit_bytes"]))
        frames_rate, rows_rate, by_venue = self._rates()
        open_gaps = Counter(self._open.values())
        return Figures(
            venues=tuple(
                VenueFigures(
                    venue=v["venue"],
                    state=v["state"],
                    reason=str(v.get("error") or ""),
                    next_attempt=v.get("next_attempt"),
                    frames_per_second=by_venue.get(v["venue"], 0.0),
                    lag=self._lags.get(v["venue"]),
                    books=len(v.get("books", ())),
                    live_books=sum(book["state"] == "live" for book in v.get("books", ())),
                    open_gaps=open_gaps[v["venue"]],
                    gaps=self._gaps[v["venue"]],
                )
                for v in venues
            ),
            frames=int(status.get("frames", 0)),
            frames_per_second=frames_rate,
            rows=self._rows.total(),
            rows_per_second=rows_rate,
            gaps=self._gaps.total(),
            open_gaps=len(self._open),
            untaped=live.get("untaped"),
            store_behind=float(self._feeder()["seconds_behind"]),
            memory=memory,
        )

    def _note_lag(self, tops: pa.RecordBatch) -> None:
        # The last row of each cut is sample enough.
        row = tops.slice(tops.num_rows - 1).select(["venue", "ts_event", "ts_recv"]).to_pylist()[0]
        if row["ts_event"] is not None:
            lag = (row["ts_recv"] - row["ts_event"]) / 1e9
            self._lags[row["venue"]] = lag * _LAG_WEIGHT + self._lags.get(row["venue"], lag) * (1 - _LAG_WEIGHT)

    def _note_gap(self, row: Mapping[str, Any]) -> None:
        what = f"{row['venue']} {row['symbol'] or row['native_symbol'] or 'connection'} {row['channel']}"
        if row["phase"] == "opened":
            self._open[row["id"]] = row["venue"]
            self._gaps[row["venue"]] += 1
            self._gap_line(f"gap: {what}: {row['cause']}, {row['evidence']}")
        elif self._open.pop(row["id"], None) is not None and row["to"] is not None:
            self._gap_line(f"gap closed: {what} after {(row['to'] - row['from']) / 1e9:.3f} s")

    def _gap_line(self, line: str) -> None:
        if self._quiet:
            return
        now = self._clock()
        if now - self._gap_window >= _WINDOW_SECONDS:
            if self._gap_lines > _GAP_LINES:
                _log.warning("%d more lines about gaps were left out", self._gap_lines - _GAP_LINES)
            self._gap_window, self._gap_lines = now, 0
        self._gap_lines += 1
        if self._gap_lines <= _GAP_LINES:
            _log.warning(line)

    def _note_states(self, venues: Any) -> None:
        for venue in () if self._quiet else venues:
            name, told = venue["venue"], (venue["state"], str(venue.get("error") or ""))
            if self._states.get(name) != told:
                self._states[name] = told
                state, why = told
                level = _log.warning if state in _WORSE else _log.info
                level("%s is %s%s", name, state, f": {why}{_next(venue.get('next_attempt'))}" if why else "")
            for unresolved in venue.get("unresolved", ()):
                if (name, unresolved["symbol"]) not in self._unresolved:
                    self._unresolved.add((name, unresolved["symbol"]))
                    near = unresolved.get("nearest") or ()
                    hint = f"; did you mean {' or '.join(near)}?" if near else ""
                    _log.warning(
                        "%s: %s%s", name, unresolved["message"], hint if hint not in unresolved["message"] else ""
                    )

    def _note_tape(self, untaped: str | None) -> None:
        if untaped and not self._untaped:
            _log.error("the tape cannot be written, nothing is stored until it can: %s", untaped)
        if self._untaped and not untaped:
            _log.info("the tape can be written again")
        self._untaped = untaped

    def _note_memory(self, memory: int, limit: int) -> None:
        over = memory > limit
        if over and not self._over:
            _log.warning("the process takes %d MiB, above MAX_MEMORY_USAGE (%d MiB)", memory >> 20, limit >> 20)
        self._over = over

    def _sample(self, now: float, frames: int, by_venue: dict[str, int]) -> None:
        self._samples.append((now, frames, self._rows.total(), by_venue))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW_SECONDS:
            self._samples.popleft()

    def _rates(self) -> tuple[float, float, dict[str, float]]:
        first, last = self._samples[0], self._samples[-1]
        seconds = last[0] - first[0]
        if seconds <= 0:
            return 0.0, 0.0, {}
        by_venue = {venue: (count - first[3].get(venue, 0)) / seconds for venue, count in last[3].items()}
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds, by_venue


def _next(next_attempt: int | None) -> str:
    if next_attempt is None:
        return ""
    return f"; next attempt in {max(0.0, (next_attempt - time.time_ns()) / 1e9):.1f} s"
