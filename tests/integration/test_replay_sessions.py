"""Replay sessions over a real tape: the rows are those that an import gave, and time and position move them."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coby import _core, recording
from coby.daemon import _replayed
from coby.interfaces import Cut
from coby.replay import TapeReplay
from coby.replay.tape import SESSIONS
from coby.simulator.generate import Generator
from coby.utils.exceptions import ReplayError, SessionNotFoundError
from support.cuts import cuts_of

SECOND = 1_000_000_000
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("replay")
    file = directory / "binance_futures.jsonl.gz"
    recording.write(file, Generator(4, seconds=20))
    engine = _core.Engine.importing("binance_futures", [file], directory / "tape", {})
    assert list(cuts_of(engine))
    engine.stop()
    return directory / "tape"


def add(rows: Rows, cut: Cut) -> None:
    for kind in cut.rows:
        rows.setdefault(kind, []).extend(pa.record_batch(cut.batch(kind)).to_pylist())


@pytest.fixture(scope="module")
def everything(tape: Path) -> Rows:
    async def replay() -> Rows:
        rows: Rows = {}
        async with aclosing(_replayed(tape, 0)) as wakes:
            async for cuts in wakes:
                for cut in cuts:
                    add(rows, cut)
        return rows

    return asyncio.run(replay())


def span(tape: Path) -> tuple[int, int]:
    segments = _core.tape_info(tape)["segments"]
    return int(segments[0]["first_recv"]), int(segments[-1]["last_recv"]) + 1


def chosen(rows: Rows, keep: Callable[[dict[str, Any]], bool]) -> Rows:
    return {kind: kept for kind, of in rows.items() if (kept := [row for row in of if keep(row)])}


async def played(replay: TapeReplay, session_id: str, speed: float = math.inf) -> Rows:
    rows: Rows = {}
    await replay.set_speed(session_id, speed)
    await replay.play(session_id)
    async for cut in replay.cuts(session_id):
        add(rows, cut)
    return rows


def run(tape: Path, script: Callable[[TapeReplay], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(script(TapeReplay(tape, partial(_replayed, tape))), 60))


def test_a_session_over_everything_gives_every_row(tape: Path, everything: Rows) -> None:
    async def script(replay: TapeReplay) -> Rows:
        session = await replay.create_session(*span(tape))
        assert session.state == "paused"
        rows = await played(replay, session.session_id)
        ended = await replay.get_session(session.session_id)
        assert (ended.state, ended.progress) == ("ended", 1.0)
        return rows

    assert run(tape, script) == everything


def test_a_session_has_the_rows_of_its_time_and_symbols(tape: Path, everything: Rows) -> None:
    start, end = span(tape)
    start, end = start + 5 * SECOND, end - 5 * SECOND

    async def script(replay: TapeReplay) -> Rows:
        session = await replay.create_session(start, end, ["BTC-USDT-PERP"])
        return await played(replay, session.session_id)

    expected = chosen(everything, lambda row: start <= row["ts_recv"] < end and row["symbol"] == "BTC-USDT-PERP")
    assert run(tape, script) == expected
    assert len(expected["trades"]) > 10


def test_a_seek_goes_on_from_there(tape: Path, everything: Rows) -> None:
    start, end = span(tape)
    middle = start + 10 * SECOND
    pos = everything["trades"][len(everything["trades"]) // 2]["pos"]

    async def script(replay: TapeReplay) -> None:
        session = await replay.create_session(start, end)
        await replay.seek(session.session_id, time=middle)
        rows = await played(replay, session.session_id)
        assert rows == chosen(everything, lambda row: row["ts_recv"] >= middle)

        session = await replay.create_session(start, end)
        await replay.seek(session.session_id, pos=pos)
        assert await played(replay, session.session_id) == chosen(everything, lambda row: row["pos"] > pos)

        session = await replay.create_session(start, end, speed=math.inf)
        await replay.play(session.session_id)
        again: Rows = {}
        moved = False
        async for cut in replay.cuts(session.session_id):
            if not moved and cut.last_pos > pos:
                moved = True
                await replay.seek(session.session_id, time=start)
                continue
            if moved:
                add(again, cut)
        assert again == everything

    run(tape, script)


def test_a_pace_takes_its_time_and_a_pause_stops_it(tape: Path) -> None:
    start, _ = span(tape)

    async def script(replay: TapeReplay) -> None:
        session = (await replay.create_session(start, start + 10 * SECOND)).session_id
        began = time.monotonic()
        await played(replay, session, speed=20)
        assert 0.4 < time.monotonic() - began < 5

        session = (await replay.create_session(start, start + 10 * SECOND, speed=5)).session_id
        await replay.play(session)
        took = asyncio.create_task(played(replay, session, speed=5))
        await asyncio.sleep(0.3)
        await replay.pause(session)
        await asyncio.sleep(0.1)
        position = (await replay.get_session(session)).position
        await asyncio.sleep(0.3)
        paused = await replay.get_session(session)
        assert (paused.state, paused.position) == ("paused", position)
        await replay.set_speed(session, math.inf)
        await replay.play(session)
        await took

    run(tape, script)


def test_a_deleted_session_ends(tape: Path) -> None:
    async def script(replay: TapeReplay) -> None:
        session = (await replay.create_session(*span(tape))).session_id
        took = asyncio.create_task(anext(aiter(replay.cuts(session)), None))
        await asyncio.sleep(0.1)
        await replay.delete_session(session)
        assert await took is None
        assert await replay.list_sessions() == []
        with pytest.raises(SessionNotFoundError):
            await replay.play(session)

    run(tape, script)


def test_what_cannot_be_replayed_is_told(tape: Path, tmp_path: Path) -> None:
    start, end = span(tape)

    async def script(replay: TapeReplay) -> None:
        with pytest.raises(ReplayError, match="there is no tape from"):
            await replay.create_session(end + 1, end + 2)
        with pytest.raises(ReplayError, match="must be before end"):
            await replay.create_session(end, start)
        with pytest.raises(ReplayError, match="speed is 0"):
            await replay.create_session(start, end, speed=0)
        session = (await replay.create_session(start, end)).session_id
        with pytest.raises(ReplayError, match="a time or a position"):
            await replay.seek(session)
        with pytest.raises(ReplayError, match="outside the session"):
            await replay.seek(session, time=end + 1)
        with pytest.raises(ReplayError, match="outside the tape"):
            await replay.seek(session, pos=1 << 60)
        for _ in range(SESSIONS - 1):
            await replay.create_session(start, end)
        with pytest.raises(ReplayError, match="delete one"):
            await replay.create_session(start, end)

    run(tape, script)

    async def nothing(replay: TapeReplay) -> None:
        with pytest.raises(ReplayError, match="no tape to replay"):
            await replay.create_session(start, end)

    run(tmp_path / "tape", nothing)
