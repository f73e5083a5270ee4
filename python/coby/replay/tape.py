"""Sessions that replay a tape: as fast as it goes or at a pace, paused, and moved by time or by position."""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from coby import _core
from coby.interfaces import Cut, Part, ReplayManager
from coby.models import ReplaySession
from coby.utils.exceptions import ReplayError, SessionNotFoundError, TapeError

_PIECE_SECONDS = 0.05
"""Paced cuts hold so much of wall time, as live ones do."""
SESSIONS = 8
"""Sessions at a time: each may have an engine of its own."""

Replayed = Callable[[int], AsyncGenerator[Sequence[Cut], None]]
"""The cuts of the tape behind a position."""


@dataclass
class _Session:
    """A session, and what moves it."""

    told: ReplaySession
    after: int
    """Rows of positions up to here have been handed out, or are skipped."""
    playing: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Something else than time decides what is next: a seek, a pause, another speed, the end."""
    moves: int = 0
    taken: bool = False
    deleted: bool = False

    def tell(self, **changes: Any) -> ReplaySession:
        self.told = ReplaySession.model_validate(self.told.model_dump() | changes)
        return self.told


class TapeReplay(ReplayManager):
    """Replays the tape of a directory.

    Args:
        tape: Its directory.
        replayed: Makes the cuts behind a position.
    """

    def __init__(self, tape: Path, replayed: Replayed) -> None:
        self._tape = tape
        self._replayed = replayed
        self._sessions: dict[str, _Session] = {}

    async def create_session(
        self, start: int, end: int, symbols: Sequence[str] = (), speed: float = 1.0
    ) -> ReplaySession:
        """As the interface says; there are at most `SESSIONS`."""
        if len(self._sessions) >= SESSIONS:
            raise ReplayError(f"there are {SESSIONS} replay sessions already; delete one", "replay.sessions")
        if start >= end:
            raise ReplayError(f"start {start} must be before end {end}")
        _check_speed(speed)
        after = await self._before(start, end)
        told = ReplaySession(secrets.token_hex(8), tuple(symbols), start, end, speed=speed)
        self._sessions[told.session_id] = _Session(told, after)
        return told

    async def get_session(self, session_id: str) -> ReplaySession:
        """As the interface says."""
        return self._session(session_id).told

    async def list_sessions(self) -> Sequence[ReplaySession]:
        """As the interface says."""
        return [session.told for session in self._sessions.values()]

    async def play(self, session_id: str) -> ReplaySession:
        """As the interface says."""
        session = self._session(session_id)
        if session.told.state == "paused":
            session.tell(state="playing")
            session.playing.set()
        return session.told

    async def pause(self, session_id: str) -> ReplaySession:
        """As the interface says."""
        session = self._session(session_id)
        if session.told.state == "playing":
            session.tell(state="paused")
            session.playing.clear()
            session.changed.set()
        return session.told

    async def set_speed(self, session_id: str, speed: float) -> ReplaySession:
        """As the interface says; every speed above 0 is offered."""
        session = self._session(session_id)
        _check_speed(speed)
        session.changed.set()
        return session.tell(speed=speed)

    async def seek(self, session_id: str, *, time: int | None = None, pos: int | None = None) -> ReplaySession:
        """As the interface says."""
        session = self._session(session_id)
        told = session.told
        if (time is None) == (pos is None):
            raise ReplayError("a time or a position is needed, and not both")
        if time is not None:
            if not told.start <= time < told.end:
                raise ReplayError(f"time {time} lies outside the session, {told.start} to {told.end}")
            session.after, position = await self._before(time, told.end), time
        else:
            assert pos is not None
            segments = await self._segments()
            if not segments[0]["first_pos"] - 1 <= pos <= segments[-1]["last_pos"]:
                raise ReplayError(f"position {pos} lies outside the tape")
            session.after, position = pos, told.start
        session.moves += 1
        session.changed.set()
        return session.tell(position=position, state="playing" if session.playing.is_set() else "paused")

    async def cuts(self, session_id: str) -> AsyncIterator[Cut]:
        """As the interface says."""
        session = self._session(session_id)
        if session.taken:
            raise ReplayError(f"the cuts of session {session_id} are being taken already", "replay.taken")
        session.taken = True
        try:
            while not session.deleted:
                moves = session.moves
                async with aclosing(self._from(session)) as parts:
                    async for part in parts:
                        yield part
                if session.moves == moves:
                    session.tell(state="ended", position=session.told.end)
                    return
        except TapeError as error:
            session.tell(state="failed", reason=str(error))
            raise
        finally:
            session.taken = False

    async def delete_session(self, session_id: str) -> None:
        """As the interface says."""
        session = self._session(session_id)
        session.deleted = True
        session.playing.set()
        session.changed.set()
        del self._sessions[session_id]

    async def _from(self, session: _Session) -> AsyncGenerator[Cut, None]:
        """The cuts from where a session is; it ends early when the session is moved or deleted."""
        moves = session.moves
        since = session.told.position or session.told.start
        pace = _Pace(session)
        async with aclosing(self._replayed(session.after)) as wakes:
            async for cuts in wakes:
                for cut in cuts:
                    part, times = _within(cut, since, session.told.end, session.told.symbols)
                    if times is not None and times[0] >= session.told.end:
                        return
                    for piece, last in _pieces(part, session.told.speed):
                        await pace.until(last)
                        if session.moves != moves or session.deleted:
                            return
                        session.tell(position=last)
                        session.after = piece.last_pos
                        yield piece
                        # Whoever takes cuts may have moved it.
                        if session.moves != moves or session.deleted:
                            return
                    session.after = cut.last_pos

    def _session(self, session_id: str) -> _Session:
        if session_id not in self._sessions:
            raise SessionNotFoundError(f"there is no replay session {session_id}", context={"session_id": session_id})
        return self._sessions[session_id]

    async def _segments(self) -> list[dict[str, Any]]:
        try:
            info = await asyncio.to_thread(_core.tape_info, str(self._tape))
        except TapeError as error:
            raise ReplayError(f"there is no tape to replay: {error}") from error
        segments = [segment for segment in info["segments"] if segment["records"]]
        if not segments:
            raise ReplayError(f"{self._tape}: nothing is on the tape yet")
        return segments

    async def _before(self, time: int, end: int) -> int:
        """A position before everything of a time and later."""
        segments = await self._segments()
        if segments[-1]["last_recv"] < time or segments[0]["first_recv"] >= end:
            raise ReplayError(
                f"there is no tape from {time} to {end}; it has {segments[0]['first_recv']} to"
                f" {segments[-1]['last_recv']}"
            )
        first = next(segment for segment in segments if segment["last_recv"] >= time)
        return int(first["first_pos"]) - 1


class _Pace:
    """Lets data time pass at a session's speed; a pause stops it."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._began: tuple[float, int, float] | None = None

    async def until(self, ts: int) -> None:
        session, moves = self._session, self._session.moves
        while not session.deleted and session.moves == moves:
            if not session.playing.is_set():
                await session.playing.wait()
                self._began = None
                continue
            speed = session.told.speed
            if math.isinf(speed):
                # Others get their turn however fast it goes.
                await asyncio.sleep(0)
                return
            now = self._loop.time()
            if self._began is None or self._began[2] != speed:
                self._began = (now, ts if self._began is None else session.told.position or ts, speed)
            wait = self._began[0] + (ts - self._began[1]) / 1e9 / speed - now
            if wait <= 0:
                return
            session.changed.clear()
            try:
                await asyncio.wait_for(session.changed.wait(), wait)
            except TimeoutError:
                continue


def _check_speed(speed: float) -> None:
    if not speed > 0:
        raise ReplayError(f"speed is {speed}: it must be above 0")


def _pieces(part: Part, speed: float) -> Iterator[tuple[Part, int]]:
    """A cut in pieces that are due one after the other, and the time of the last row of each."""
    if not part.rows:
        return
    times = {kind: batch["ts_recv"].to_numpy() for kind, batch in part.batches.items()}
    first = min(int(stamps[0]) for stamps in times.values())
    last = max(int(stamps[-1]) for stamps in times.values())
    step = last - first + 1 if math.isinf(speed) else max(1, round(_PIECE_SECONDS * speed * 1e9))
    first_pos = part.first_pos
    for until in range(first + step, last + step + 1, step):
        # Rows of a record have one time: none is split. Times never decrease.
        spans = {kind: stamps.searchsorted([until - step, until]) for kind, stamps in times.items()}
        batches = {kind: part.batches[kind].slice(a, b - a) for kind, (a, b) in spans.items() if a < b}
        if batches:
            at = max(int(times[kind][spans[kind][1] - 1]) for kind in batches)
            last_pos = max(batch["pos"][-1].as_py() for batch in batches.values())
            yield Part(first_pos, last_pos if at < last else part.last_pos, batches), at
            first_pos = last_pos + 1


def _within(cut: Cut, start: int, end: int, symbols: Sequence[str]) -> tuple[Part, tuple[int, int] | None]:
    """The rows of a cut in a range of time and of some symbols, and the first and last time of all its rows."""
    batches: dict[str, pa.RecordBatch] = {}
    times: list[int] = []
    fits = (pc.field("ts_recv") >= start) & (pc.field("ts_recv") < end)
    if symbols:
        fits &= pc.field("symbol").cast(pa.string()).isin(list(symbols))
    for kind in cut.rows:
        batch = pa.record_batch(cut.batch(kind))
        stamps = batch["ts_recv"]
        times += [pc.min(stamps).as_py(), pc.max(stamps).as_py()]
        kept = batch.filter(fits)
        if kept.num_rows:
            batches[kind] = kept
    return Part(cut.first_pos, cut.last_pos, batches), (min(times), max(times)) if times else None
