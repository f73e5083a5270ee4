"""From engine to store: whatever is dropped, lost or refused on the way, what is on the tape is stored once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from coby.engine.feeder import Feeder
from coby.interfaces import Cut, Rows
from coby.utils.exceptions import EngineError, ProcessingError, StoreError
from support.live import RUN, LiveEngine, MemoryStore, Tape
from support.rows import Stream

LAST = 60


def tape(runs: Sequence[int] = (LAST,), seed: int = 1) -> Tape:
    """A tape whose run `i + 1` has `runs[i]` positions; nothing of it is written yet."""
    positions = [(run << 40) + n for run, count in enumerate(runs, 1) for n in range(1, count + 1)]
    return Tape(Stream.seeded(Random(seed), positions=positions), positions)


def stored(tape: Tape, kind: str = "trades") -> list[dict[str, object]]:
    """What a store has to have: the rows of all that is on the tape."""
    return [row for row in tape.stream.rows[kind] if row["pos"] in tape.written]


class Rig:
    """A feeder between an engine and a store, and a clock that only a test moves."""

    def __init__(self, tape: Tape, *, watermark: int = 0, **options: Any) -> None:
        self.tape = tape
        self.engine = LiveEngine(tape)
        self.store = MemoryStore(watermark)
        self.now = 0.0
        self.feeder = Feeder(
            self.engine, self.store, tape.replaying, clock=lambda: self.now, **({"batch_rows": 1} | options)
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.now += 1.0
                self.engine.wake()
                await asyncio.sleep(0.001)

    async def taken(self, pos: int) -> None:
        await self.until(lambda: self.store.seen >= pos)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Rig", None]:
        task = asyncio.create_task(self.feeder.run())
        try:
            yield self
            self.engine.end()
            async with asyncio.timeout(10):
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.engine.close()

    def emit(self, first: int, last: int, *, run: int = 1, untaped: bool = False, dropped: bool = False) -> None:
        self.engine.emit((run << 40) + first, (run << 40) + last, untaped=untaped, dropped=dropped)

    def sync(self, last: int, *, run: int = 1) -> None:
        self.engine.sync((run << 40) + last)


def ran(rig: Rig, script: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def run() -> None:
        async with rig.running():
            await script(rig)

    asyncio.run(run())
    return rig


def test_rows_are_stored_when_they_are_durable_and_shown_at_once() -> None:
    shown: list[Cut] = []

    async def script(rig: Rig) -> None:
        rig.emit(1, 20)
        rig.emit(21, LAST)
        await rig.until(lambda: len(shown) == 2)
        await rig.taken(RUN + LAST)
        assert rig.store.rows == {}
        rig.sync(20)
        await rig.until(lambda: rig.store.watermark == RUN + 20)
        rig.sync(LAST)

    rig = ran(Rig(tape(), consumers=[shown.append]), script)
    assert rig.store.rows["trades"] == stored(rig.tape)
    assert rig.store.watermark == RUN + LAST
    assert rig.tape.replays == 0


def test_what_the_engine_dropped_is_derived_from_the_tape() -> None:
    async def script(rig: Rig) -> None:
        rig.emit(1, 10)
        rig.emit(11, 30, dropped=True)
        rig.emit(31, 45)
        rig.emit(46, LAST)
        await rig.until(lambda: rig.feeder.status()["cuts"] == 3)
        rig.sync(29)
        assert rig.tape.replays == 0, "nothing is derived before it can be read"
        rig.sync(LAST)
        await rig.taken(RUN + LAST)

    rig = ran(Rig(tape()), script)
    assert rig.store.rows["trades"] == stored(rig.tape)
    assert rig.feeder.status()["holes"] == 1


@pytest.mark.parametrize(("watermark", "replays"), [(0, 1), (4, 1), (29, 1), (30, 0)])
def test_what_the_tape_has_behind_the_watermark_comes_first(watermark: int, replays: int) -> None:
    async def script(rig: Rig) -> None:
        rig.tape.written = {pos for pos in rig.tape.positions if pos < 2 * RUN}
        rig.sync(1, run=2)
        rig.emit(1, 10, run=2)
        rig.emit(11, 20, run=2)
        rig.sync(20, run=2)
        await rig.taken(2 * RUN + 20)

    behind = RUN + watermark if watermark else 0
    rig = ran(Rig(tape([30, 20]), watermark=behind), script)
    assert rig.store.rows["trades"] == [row for row in stored(rig.tape) if int(str(row["pos"])) > behind]
    assert rig.tape.replays == replays


def test_tables_of_another_tape_are_refused() -> None:
    async def script(rig: Rig) -> None:
        rig.emit(1, 10)
        rig.sync(10)
        await asyncio.sleep(0.1)

    with pytest.raises(StoreError, match="different tapes; use another data directory"):
        ran(Rig(tape(), watermark=5 * RUN), script)


def test_rows_that_a_failed_tape_has_lost_are_not_stored() -> None:
    async def script(rig: Rig) -> None:
        rig.emit(1, 20)
        rig.emit(21, 40)  # only 30 of them will ever be on the tape
        rig.sync(30)
        await rig.taken(RUN + 40)
        rig.emit(41, 60, untaped=True)
        await rig.until(lambda: rig.feeder.status()["untaped"] == 1)
        rig.sync(1, run=2)
        rig.emit(1, 30, run=2)
        rig.sync(30, run=2)
        await rig.taken(2 * RUN + 30)

    rig = ran(Rig(tape([60, 30])), script)
    assert rig.store.rows["trades"] == stored(rig.tape)
    assert max(int(str(r["pos"])) for r in rig.store.rows["trades"] if int(str(r["pos"])) < 2 * RUN) <= RUN + 30


def test_a_new_run_says_nothing_about_what_the_old_one_had_not_synced() -> None:
    async def script(rig: Rig) -> None:
        rig.emit(1, 40)
        rig.sync(30)
        await rig.taken(RUN + 40)
        # No untaped cut came out; the first that is seen of the failure is a durable position of the next run.
        rig.sync(1, run=2)
        await rig.until(lambda: rig.now > 50)
        assert rig.store.rows == {}
        rig.emit(1, 30, run=2)
        rig.sync(30, run=2)
        await rig.taken(2 * RUN + 30)

    rig = ran(Rig(tape([60, 30])), script)
    assert rig.store.rows["trades"] == stored(rig.tape)


def test_a_full_store_keeps_what_it_can_and_gets_the_rest_from_the_tape() -> None:
    async def script(rig: Rig) -> None:
        rig.store.full = True
        for first in range(1, LAST, 5):
            rig.emit(first, first + 4)
            rig.sync(first + 4)
            await rig.until(lambda first=first: rig.feeder.status()["cuts"] == (first + 4) // 5)  # type: ignore[misc]
        await rig.until(lambda: rig.feeder.status()["skipped"] > 0)
        assert rig.store.bytes_waiting < 40_000
        assert "MAX_MEMORY_USAGE" in rig.feeder.status()["behind"]
        rig.store.full = False
        await rig.taken(RUN + LAST)

    rig = ran(Rig(tape(), memory=15_000), script)
    assert rig.store.rows["trades"] == stored(rig.tape)
    assert rig.feeder.status()["behind"] is None
    assert rig.feeder.status()["commit_failures"] > 0


def test_a_store_that_hangs_makes_nobody_wait_and_no_queue_grow() -> None:
    shown: list[Cut] = []

    async def script(rig: Rig) -> None:
        rig.emit(1, 5)
        rig.sync(5)
        rig.store.opened.clear()
        for first in range(6, LAST, 5):
            rig.emit(first, first + 4)
            await rig.until(lambda first=first: len(shown) == (first + 4) // 5)  # type: ignore[misc]
            assert rig.feeder.status()["pending_rows"] <= 20
        assert rig.feeder.status()["skipped"] > 0
        rig.sync(LAST)
        rig.store.opened.set()
        rig.emit(LAST + 1, LAST + 5)
        rig.sync(LAST + 5)
        await rig.taken(RUN + LAST + 5)

    rig = ran(Rig(tape([LAST + 5]), memory=20 * 1024, consumers=[shown.append]), script)
    assert rig.store.rows["trades"] == stored(rig.tape)


def test_a_tape_that_cannot_be_read_is_tried_again() -> None:
    async def script(rig: Rig) -> None:
        rig.tape.broken = True
        rig.emit(1, 5)
        rig.emit(6, 10, dropped=True)
        rig.emit(11, 15)
        rig.sync(15)
        await rig.until(lambda: "cannot be read" in str(rig.feeder.status()["behind"]))
        rig.tape.broken = False
        await rig.taken(RUN + 15)

    rig = ran(Rig(tape([15])), script)
    assert rig.store.rows["trades"] == stored(rig.tape)


def test_commits_wait_for_enough_rows_or_long_enough() -> None:
    async def script(rig: Rig) -> None:
        rig.store.flush_seconds = 7.0  # type: ignore[misc]
        rig.store.least_seconds = 3.0  # type: ignore[misc]
        for first in range(1, LAST, 2):
            rig.emit(first, first + 1)
            rig.sync(first + 1)
            await rig.taken(RUN + first + 1)
            for _ in range(20):
                rig.now += 0.1
                rig.engine.wake()
                await asyncio.sleep(0)
                times.setdefault(rig.store.watermark, rig.now)

    times: dict[int, float] = {}
    rig = ran(Rig(tape(), batch_rows=1_000_000), script)
    rare = list(times.values())
    assert all(later - earlier >= 6.9 for earlier, later in pairwise(rare[1:]))
    times = {}
    rig = ran(Rig(tape(), batch_rows=1), script)
    often = list(times.values())
    assert all(later - earlier >= 2.9 for earlier, later in pairwise(often[1:]))
    assert len(often) > len(rare)
    assert rig.store.rows["trades"] == stored(rig.tape)


class Doubling:
    """Adds a row for every trade, and refuses some cuts."""

    def __init__(self, kind: str = "metrics", refused: int = 0) -> None:
        self.kind = kind
        self.refused = refused
        self.seen: list[int] = []

    def process(self, cut: Cut) -> Rows:
        self.seen += [cut.first_pos, cut.last_pos]
        if cut.first_pos <= self.refused <= cut.last_pos:
            raise ProcessingError("no")
        return {self.kind: cut.batch("trades")} if "trades" in cut.rows else {}


@pytest.mark.parametrize("dropped", [False, True])
def test_processors_see_every_position_once_and_in_order(dropped: bool) -> None:
    stage = Doubling()

    async def script(rig: Rig) -> None:
        rig.emit(1, 10)
        rig.emit(11, 40, dropped=dropped)
        rig.emit(41, LAST)
        rig.sync(LAST)
        await rig.taken(RUN + LAST)

    rig = ran(Rig(tape(), stages=[stage]), script)
    assert rig.store.rows["metrics"] == stored(rig.tape)
    assert stage.seen[0] == RUN + 1
    assert stage.seen[-1] == RUN + LAST
    assert all(after == before + 1 for before, after in zip(stage.seen[1:-1:2], stage.seen[2::2], strict=True))


def test_processors_and_views_that_fail_stop_nothing() -> None:
    def broken(_: Cut) -> None:
        raise RuntimeError("out of order")

    async def script(rig: Rig) -> None:
        for first in range(1, LAST, 10):
            rig.emit(first, first + 9)
        rig.sync(LAST)
        await rig.taken(RUN + LAST)

    stages = [Doubling(refused=RUN + 12), Doubling("trades"), Doubling("metrics"), Doubling("quality")]
    rig = ran(Rig(tape(), stages=stages, consumers=[broken]), script)
    trades = stored(rig.tape)
    assert rig.store.rows["trades"] == trades
    refused = [row for row in trades if not RUN + 10 < int(str(row["pos"])) <= RUN + 20]
    assert [row for row in rig.store.rows["metrics"] if row in refused] == refused
    assert rig.store.rows["quality"] == trades
    failures = rig.feeder.status()["failures"]
    assert sum(failures.values()) > 6
    assert any("broken" in name for name in failures)


def test_rows_outside_their_cut_are_refused() -> None:
    class Late:
        def process(self, cut: Cut) -> Rows:
            batch = pa.record_batch(cut.batch("trades"))
            moved = pa.array([RUN * 9] * batch.num_rows, pa.uint64())
            return {"metrics": batch.set_column(0, "pos", moved)}

    class Headless:
        def process(self, cut: Cut) -> Rows:
            return {"quality": pa.record_batch({"a": [1]})}

    async def script(rig: Rig) -> None:
        rig.emit(1, LAST)
        rig.sync(LAST)
        await rig.taken(RUN + LAST)

    rig = ran(Rig(tape(), stages=[Late(), Headless()]), script)
    assert rig.store.rows.keys() == rig.tape.stream.rows.keys()
    assert rig.feeder.status()["failures"] == {"Late": 1, "Headless": 1}


def test_a_failed_engine_is_told_after_its_rows_are_stored() -> None:
    async def script(rig: Rig) -> None:
        rig.emit(1, LAST)
        rig.sync(LAST)
        rig.engine.failed = "no memory"

    rig = Rig(tape())
    with pytest.raises(EngineError, match="no memory"):
        ran(rig, script)
    assert rig.store.rows["trades"] == stored(rig.tape)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_goes_wrong_what_is_on_the_tape_is_stored_once(seed: int) -> None:
    """Some runs, with drops, a store that is full at times, and tapes that fail: the tape is the oracle."""
    random = Random(seed)
    runs = [random.randint(20, 60) for _ in range(random.randint(1, 4))]

    async def script(rig: Rig) -> None:
        for run, count in enumerate(runs, 1):
            end = count if run == len(runs) else random.randint(count // 2, count)
            pos, durable = 1, 0
            while pos <= end:
                last = min(end, pos + random.randrange(9))
                rig.emit(pos, last, run=run, dropped=last < end and random.random() < 0.2)
                pos = last + 1
                if random.random() < 0.6:
                    durable = random.randint(durable, last)
                    if durable:
                        rig.sync(durable, run=run)
                if random.random() < 0.5:
                    for _ in range(random.randrange(8)):
                        rig.now += random.random() * 2
                        await asyncio.sleep(0)
                rig.store.full = random.random() < 0.3
            if run == len(runs):
                rig.store.full = False
                rig.sync(end, run=run)
            elif random.random() < 0.5 and end < count:
                rig.emit(end + 1, count, run=run, untaped=True)
        rig.now += 60
        await rig.taken((len(runs) << 40) + runs[-1])

    options = {"memory": random.choice([20_000, 1 << 20]), "batch_rows": random.choice([1, 10])}
    rig = ran(Rig(tape(runs, seed), **options), script)
    for kind in rig.tape.stream.rows:
        assert rig.store.rows.get(kind, []) == stored(rig.tape, kind)
