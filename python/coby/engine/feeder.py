"""From a live engine to everything that takes its cuts: the store, whole and in order; views, at once.

Views get every cut in the moment it is drained. The store may be slow, refuse, or be full; nothing waits for it but a
bounded queue. What overflows there is simply dropped, because it is on the tape: the next cut then lies behind a hole,
and what is missing is derived again from the tape before that cut is taken. The same rule heals what the engine
itself had to drop, what a store could not take while its disk was full, and what a tape lost when it failed.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import pyarrow as pa

from coby.engine.clip import checked, clipped
from coby.engine.drain import Drainable, drained
from coby.interfaces import Cut, Rows, StorageManager
from coby.utils.exceptions import CobyError, StoreError
from coby.utils.logging import get_logger

RUN_SHIFT = 40
"""A position is `run << 40 | n`; every start of an engine on a tape is a new run."""

_ROW_BYTES = 1024
_RETRY_SECONDS = 1.0
_HOLD_SECONDS = 0.2
_LOGGED_EACH = 1000
_MARKS = 4096

_log = get_logger(__name__)


class LiveCut(Cut, Protocol):
    """A cut of a live engine; `coby._core.Cut` is one."""

    @property
    def follows(self) -> int:
        """Last position of the cut before it; at a run's beginning, of the tape before it.

        What a consumer has seen beyond it is on no tape. What it has not seen up to it was dropped, and can be derived.
        """

    @property
    def untaped(self) -> bool:
        """Its records are on no tape: no store may take it."""


class Source(Drainable[LiveCut], Protocol):
    """What the feeder needs of an engine, live or replaying; `coby._core.Engine` is one."""

    @property
    def durable_pos(self) -> int:
        """The bound of what a store may commit."""

    def stop(self) -> None:
        """Ends it."""


class Stage(Protocol):
    """What adds rows to cuts: a `DataProcessor` or an `AggregationEngine`."""

    def process(self, cut: Cut) -> Rows:
        """Rows to add."""


class Feeder:
    """Takes the cuts of a live engine until it ends, and before them what the tape has behind the store's watermark.

    Args:
        engine: A live one.
        store: It is open.
        replaying: Makes an engine that derives from the tape what lies behind one position up to another one; called in
            a thread.
        stages: They see every cut that goes to the store, in order, and add rows to it.
        consumers: They are called with every cut at once, also with untaped ones.
        batch_rows: Rows that make a commit due.
        memory: Bytes that rows on their way into the store may take; past it they are left to the tape.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        engine: Source,
        store: StorageManager,
        replaying: Callable[[int, int], Source],
        *,
        stages: Sequence[Stage] = (),
        consumers: Sequence[Callable[[LiveCut], object]] = (),
        batch_rows: int = 1000,
        memory: int = 512 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._store = store
        self._replaying = replaying
        self._stages = tuple(stages)
        self._consumers = list(consumers)
        self._batch_rows = batch_rows
        self._memory = memory
        self._clock = clock
        self._pending: deque[LiveCut] = deque()
        self._pending_rows = 0
        self._woken = asyncio.Event()
        self._ended = False
        self._watermark = store.watermark
        self._durable: dict[int, int] = {}
        self._settled = (store.watermark >> RUN_SHIFT) + 1
        """What waits of runs before this one is on the tape for good."""
        self._left_until = 0
        self._commit_began = clock()
        self._retry_at = 0.0
        self._failing = False
        self._behind: str | None = None
        self._error: str | None = None
        self._marks: deque[tuple[float, int]] = deque()
        """When positions came, one a second."""
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def add_consumer(self, consumer: Callable[[LiveCut], object]) -> None:
        """Another one that is called with every cut from now on."""
        self._consumers.append(consumer)

    async def run(self) -> None:
        """Feeds until the engine has ended; what is durable then is committed.

        Raises:
            EngineError: The engine failed; what it had done before is in the store.
        """
        draining = asyncio.create_task(self._drain())
        try:
            await self._feed()
            await draining
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """How far it is.

        Positions `seen watermark`; what waits for the store, `pending_cuts pending_rows rows_waiting`; counts of
        `cuts`, `untaped` cuts, `holes`, rows `derived` for them, cuts `skipped` because they have to be derived later,
        `commits`, `commit_failures`; `failures` by stage or consumer; `seconds_behind`: the age of the oldest cut that
        is not in the store; `behind`: why the store is not fed now, or None; `last_error` of a commit, until one
        succeeds.
        """
        names = ("cuts", "untaped", "holes", "derived", "skipped", "commits", "commit_failures")
        return {
            "seen": self._store.seen,
            "watermark": self._store.watermark,
            "pending_cuts": len(self._pending),
            "pending_rows": self._pending_rows,
            "rows_waiting": self._store.rows_waiting,
            **{name: self._counts[name] for name in names},
            "failures": dict(self._failures),
            "seconds_behind": self._seconds_behind(),
            "behind": self._behind,
            "last_error": self._error,
        }

    def _seconds_behind(self) -> float:
        while self._marks and self._marks[0][1] <= self._store.watermark:
            self._marks.popleft()
        return self._clock() - self._marks[0][0] if self._marks else 0.0

    async def _drain(self) -> None:
        try:
            async with aclosing(drained(self._engine)) as wakes:
                async for cuts in wakes:
                    self._note_durable()
                    for cut in cuts:
                        self._counts["cuts"] += 1
                        self._show(cut)
                        self._queue(cut)
                    self._woken.set()
        finally:
            self._note_durable()
            self._ended = True
            self._woken.set()

    def _show(self, cut: LiveCut) -> None:
        for consumer in self._consumers:
            try:
                consumer(cut)
            except Exception as error:  # noqa: BLE001  a view that fails must not stop what is stored
                self._failed(consumer, error)

    def _queue(self, cut: LiveCut) -> None:
        rows, now = sum(cut.rows.values()), self._clock()
        if not cut.untaped and (not self._marks or now - self._marks[-1][0] >= 1.0):
            self._marks.append((now, cut.last_pos))
            if len(self._marks) > _MARKS:
                del self._marks[1]
        if self._pending_rows + rows > self._memory // _ROW_BYTES:
            self._counts["skipped"] += len(self._pending)
            self._pending.clear()
            self._pending_rows = 0
        self._pending.append(cut)
        self._pending_rows += rows

    async def _feed(self) -> None:
        while True:
            self._woken.clear()
            while self._pending:
                cut = self._pending.popleft()
                self._pending_rows -= sum(cut.rows.values())
                await self._take(cut)
            await self._catch_up()
            await self._commit_if_due()
            if self._ended and not self._pending:
                break
            await self._sleep(self._due_in())
        await self._commit()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), max(seconds, 0.01))
        except TimeoutError:
            return

    async def _take(self, cut: LiveCut) -> None:
        if cut.follows < self._watermark:
            raise StoreError(
                f"the tables hold rows up to position {self._watermark}, but the tape ended at {cut.follows}: they"
                " belong to different tapes; use another data directory",
                "store.ahead",
                {"watermark": self._watermark, "tape": cut.follows},
            )
        known = self._known_until(cut)
        if known < self._store.seen:
            await self._store.rewind(known)
        if cut.untaped:
            self._counts["untaped"] += 1
            return
        # What waits of earlier runs has come from the tape, or is behind what was just forgotten.
        self._settled = max(self._settled, cut.first_pos >> RUN_SHIFT)
        if await self._is_ready_for(cut):
            self._behind = None
            await self._append(cut)
        else:
            self._left_until = cut.last_pos
            self._counts["skipped"] += 1

    def _known_until(self, cut: LiveCut) -> int:
        """What of the appended cuts is on the tape, as far as a cut behind them can tell."""
        run = self._store.seen >> RUN_SHIFT
        if self._settled <= run < cut.follows >> RUN_SHIFT:
            # The cut that knew how far that run came was dropped.
            return self._durable.get(run, 0)
        return cut.follows

    async def _is_ready_for(self, cut: LiveCut) -> bool:
        """Whether a cut can follow what the store has, after deriving what lies between."""
        if not await self._has_room():
            return False
        return cut.follows <= self._store.seen or (self._may_retry() and await self._derive(cut.follows))

    async def _catch_up(self) -> None:
        """What was left to the tape is fetched from there also when nothing more comes."""
        until = self._left_until
        if until <= self._store.seen or self._ended or not self._may_retry():
            return
        if await self._has_room() and await self._derive(until):
            self._behind, self._left_until = None, 0

    def _may_retry(self) -> bool:
        return self._clock() >= self._retry_at

    async def _derive(self, until: int) -> bool:
        """Appends what the tape has behind `seen` up to `until`; False if that has to be tried again later."""
        await self._until_readable(until)
        self._counts["holes"] += 1
        try:
            replay = await asyncio.to_thread(self._replaying, self._store.seen, until)
            try:
                async with aclosing(drained(replay)) as wakes:
                    async for cuts in wakes:
                        for cut in cuts:
                            if not await self._has_room():
                                return False
                            self._counts["derived"] += sum(cut.rows.values())
                            await self._append(cut)
            finally:
                await asyncio.to_thread(replay.stop)
        except CobyError as error:
            self._hold_back(f"rows could not be derived from the tape: {error}")
            return False
        return True

    async def _until_readable(self, until: int) -> None:
        """Returns when the tape has all of a hole that it will ever have."""
        while not self._ended and self._engine.durable_pos < until:
            self._woken.clear()
            await self._commit_if_due()
            await self._sleep(_HOLD_SECONDS)

    async def _append(self, cut: Cut) -> None:
        part = clipped(cut, self._store.seen)
        if part.last_pos < part.first_pos:
            return
        await self._store.append(part, self._added(part))
        await self._commit_if_due()

    def _added(self, cut: Cut) -> dict[str, pa.RecordBatch]:
        added: dict[str, pa.RecordBatch] = {}
        for stage in self._stages:
            try:
                added |= checked(stage.process(cut), cut, added)
            except Exception as error:  # noqa: BLE001  the cut goes on without its rows
                self._failed(stage, error)
        return added

    def _failed(self, part: object, error: Exception) -> None:
        name = getattr(part, "__qualname__", None) or type(part).__name__
        if self._failures[name] % _LOGGED_EACH == 0:
            _log.error("%s failed: %s", name, error, extra={"failures": self._failures[name] + 1})
        self._failures[name] += 1

    async def _has_room(self) -> bool:
        if self._store.bytes_waiting < self._memory:
            return True
        await self._commit_if_due()
        if self._store.bytes_waiting < self._memory:
            return True
        self._hold_back("what waits for the store has reached its share of MAX_MEMORY_USAGE")
        return False

    def _hold_back(self, why: str) -> None:
        """Leaves what comes to the tape for a while."""
        if self._behind != why:
            self._behind = why
            _log.warning("the store is left behind: %s", why)
        self._retry_at = self._clock() + max(self._store.least_seconds, _RETRY_SECONDS)

    def _due_in(self) -> float:
        """Seconds until a commit is due."""
        least = max(self._store.least_seconds, _RETRY_SECONDS if self._failing else 0.0)
        enough = self._store.rows_waiting >= self._batch_rows
        wait = least if enough else max(least, self._store.flush_seconds)
        return self._commit_began + wait - self._clock()

    async def _commit_if_due(self) -> None:
        if self._due_in() <= 0:
            await self._commit()

    async def _commit(self) -> None:
        self._commit_began = self._clock()
        try:
            before = self._store.watermark
            self._counts["commits"] += await self._store.commit(self._committable()) > before
        except StoreError as error:
            self._counts["commit_failures"] += 1
            if not self._failing:
                _log.error("the store cannot be written, which is tried again: %s", error)
            self._failing, self._error = True, str(error)
            return
        if self._failing:
            _log.info("the store can be written again", extra={"watermark": self._store.watermark})
        self._failing, self._error = False, None

    def _note_durable(self) -> None:
        durable = self._engine.durable_pos
        run = durable >> RUN_SHIFT
        self._durable[run] = max(durable, self._durable.get(run, 0))
        for old in [known for known in self._durable if known < run - 8]:
            del self._durable[old]

    def _committable(self) -> int:
        """What of the appended cuts is on the tape for good.

        A durable position of a later run says nothing about the end of an earlier one: the tape failed in between.
        Not so where a later run's cuts were taken already: they say how far the earlier one came.
        """
        self._note_durable()
        run, durable = self._store.seen >> RUN_SHIFT, self._engine.durable_pos
        if self._settled <= run < durable >> RUN_SHIFT:
            return self._durable.get(run, 0)
        return durable
