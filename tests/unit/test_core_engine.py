"""The engine through Python: woken by a descriptor, stopped at any time, with typed errors."""

import asyncio
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coby import _core
from coby._core import Cut, Engine
from coby.utils.exceptions import CobyError, ConfigError, RecordingError, TapeError, UnknownVenueError
from support.cuts import cuts_of
from support.mishaps import VENUE, write


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("engine") / "recording.jsonl", 10.0)


def collected(engine: Engine) -> list[Cut]:
    return list(cuts_of(engine))


def rows(cuts: list[Cut]) -> dict[str, pa.Table]:
    return {
        kind: pa.Table.from_batches([pa.record_batch(cut.batch(kind)) for cut in cuts]).unify_dictionaries()
        for kind in _core.schema()
    }


def test_import_then_replay_give_the_same_rows_and_no_wake_up_is_lost(recorded: Path, tmp_path: Path) -> None:
    engine = Engine.importing(VENUE, [str(recorded)], str(tmp_path), {})
    cuts = collected(engine)
    status = engine.status()
    assert status["ended"]
    assert status["failed"] is None
    assert not status["broken"]
    assert engine.durable_pos == status["durable_pos"] == status["pos"] == cuts[-1].last_pos
    assert status["frames"] == len(recorded.read_text().splitlines())
    assert status["rows"] == sum(sum(cut.rows.values()) for cut in cuts)
    for _ in range(5):
        again = Engine.replaying(tmp_path)
        replayed = collected(again)
        assert again.status()["row_hashes"] == status["row_hashes"]
        assert {kind: table.to_pylist() for kind, table in rows(replayed).items()} == {
            kind: table.to_pylist() for kind, table in rows(cuts).items()
        }


def test_rows_up_to_a_position_are_not_handed_out(recorded: Path, tmp_path: Path) -> None:
    cuts = collected(Engine.importing(VENUE, [recorded], tmp_path, {}))
    middle = cuts[len(cuts) // 2].last_pos
    replayed = collected(Engine.replaying(tmp_path, after=middle, hash=False))
    assert min(cut.first_pos for cut in replayed) > middle
    expected = {k: [r for r in t.to_pylist() if r["pos"] > middle] for k, t in rows(cuts).items()}
    assert {kind: table.to_pylist() for kind, table in rows(replayed).items()} == expected


def test_other_settings_give_other_rows(recorded: Path, tmp_path: Path) -> None:
    cuts = collected(Engine.importing(VENUE, [recorded], tmp_path, {"update_interval_ms": 1000}))
    settings = {"update_interval_ms": 500, "bucket_sizes": [{"base": "BTC", "sizes": ["25", "2.5"]}]}
    finer = collected(Engine.replaying(tmp_path, settings=settings))
    before, after = rows(cuts), rows(finer)
    assert after["heatmap_columns"].num_rows > before["heatmap_columns"].num_rows
    assert {25.0, 2.5} <= set(after["price_buckets"]["bucket_size"].to_pylist())


def test_an_event_loop_is_woken(recorded: Path, tmp_path: Path) -> None:
    async def consume() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        engine = Engine.importing(VENUE, [recorded], tmp_path, {})
        done = asyncio.Event()
        counts = [0, 0]

        def ready() -> None:
            counts[0] += 1
            counts[1] += sum(sum(cut.rows.values()) for cut in engine.drain())
            if engine.finished:
                done.set()

        loop.add_reader(engine.fileno(), ready)
        await asyncio.wait_for(done.wait(), 60)
        loop.remove_reader(engine.fileno())
        assert counts[1] == engine.status()["rows"]
        return counts[0], counts[1]

    calls, found = asyncio.run(consume())
    assert 0 < calls < found


def test_the_engine_runs_on_while_python_is_busy(recorded: Path, tmp_path: Path) -> None:
    engine = Engine.importing(VENUE, [recorded], tmp_path, {})
    # One long call that never gives the GIL up: the engine fills its queue of cuts meanwhile.
    before = engine.status()["records"]
    sum(range(20_000_000))
    assert engine.status()["records"] > before
    collected(engine)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_stopped_import_is_continued_with_the_same_rows(recorded: Path, tmp_path: Path, delay: float) -> None:
    whole = Engine.importing(VENUE, [recorded], tmp_path / "whole", {})
    collected(whole)
    engine = Engine.importing(VENUE, [recorded], tmp_path / "parts", {})
    time.sleep(delay)
    engine.stop()
    engine.stop()
    del engine
    for _ in range(2):
        again = Engine.importing(VENUE, [recorded], tmp_path / "parts", {})
        collected(again)
        assert again.status()["row_hashes"] == whole.status()["row_hashes"]


def test_an_engine_that_is_let_go_ends(recorded: Path, tmp_path: Path) -> None:
    engine = Engine.importing(VENUE, [recorded], tmp_path, {})
    del engine
    # Its lock on the tape is gone with it.
    collected(Engine.importing(VENUE, [recorded], tmp_path, {}))


def test_threads_may_share_an_engine(recorded: Path, tmp_path: Path) -> None:
    engine = Engine.importing(VENUE, [recorded], tmp_path, {})
    counts: list[int] = []

    def work() -> None:
        while not engine.finished:
            counts.append(sum(sum(cut.rows.values()) for cut in engine.drain()))
            engine.status()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(counts) == engine.status()["rows"]


def test_what_cannot_start_says_why(recorded: Path, tmp_path: Path) -> None:
    cases: list[tuple[type[CobyError], str, Any]] = [
        (UnknownVenueError, "nowhere", lambda: Engine.importing("nowhere", [recorded], tmp_path / "a", {})),
        (RecordingError, "absent", lambda: Engine.importing(VENUE, [tmp_path / "absent"], tmp_path / "a", {})),
        (ConfigError, "nonsense", lambda: Engine.importing(VENUE, [recorded], tmp_path / "a", {"nonsense": 1})),
        (ConfigError, "150", lambda: Engine.importing(VENUE, [recorded], tmp_path / "a", {"update_interval_ms": 150})),
        (ConfigError, "settings", lambda: Engine.importing(VENUE, [recorded], tmp_path / "a", {"heatmap_depth": {1}})),
        (TapeError, "holds no tape", lambda: Engine.replaying(tmp_path / "absent")),
        (TapeError, "holds no tape", lambda: Engine.replaying(tmp_path)),
        (ConfigError, "update_interval_ms", lambda: Engine.replaying(tmp_path, settings={"update_interval_ms": 1})),
        (TapeError, "holds no tape", lambda: _core.tape_info(tmp_path)),
        (TapeError, "holds no tape", lambda: _core.tape_verify(tmp_path / "absent")),
        (TapeError, "holds no tape", lambda: _core.tape_repair(tmp_path)),
    ]
    for error, text, call in cases:
        with pytest.raises(error, match=text) as caught:
            call()
        assert caught.value.code
        assert caught.value.context
    assert not (tmp_path / "a").exists()


def test_a_tape_in_use_is_not_opened_twice(tmp_path: Path) -> None:
    # Far more than the queue of cuts holds, so that the engine waits for a drain and keeps its lock.
    write(tmp_path / "long.jsonl", 60.0)
    engine = Engine.importing(VENUE, [tmp_path / "long.jsonl"], tmp_path / "tape", {})
    while not engine.durable_pos:
        time.sleep(0.001)
    for call in (
        lambda: Engine.importing(VENUE, [tmp_path / "long.jsonl"], tmp_path / "tape", {}),
        lambda: _core.tape_repair(tmp_path / "tape"),
    ):
        with pytest.raises(TapeError, match="in use") as caught:
            call()
        assert caught.value.code == "tape.locked"
        assert caught.value.context == {"path": str(tmp_path / "tape")}
    collected(engine)


def test_what_fails_later_is_in_the_status(tmp_path: Path) -> None:
    path = write(tmp_path / "recording.jsonl", 2.0)
    path.write_bytes(path.read_bytes() + b'{"recv_ns": 1}\n')
    engine = Engine.importing(VENUE, [path], tmp_path / "tape", {})
    assert list(cuts_of(engine, may_fail=True))
    assert engine.finished
    failed = engine.status()["failed"]
    assert str(path) in failed
    assert "line" in failed


def crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_a_newer_tape_is_refused_by_name(recorded: Path, tmp_path: Path) -> None:
    collected(Engine.importing(VENUE, [recorded], tmp_path, {}))
    [manifest], [segment] = tmp_path.glob("*.manifest"), tmp_path.glob("*.tape")
    manifest.unlink()
    data = bytearray(segment.read_bytes())
    assert struct.unpack_from("<I", data, 20) == (crc32c(bytes(data[:20])),)
    data[8] += 1
    struct.pack_into("<I", data, 20, crc32c(bytes(data[:20])))
    segment.write_bytes(data)
    for call in (lambda: _core.tape_info(tmp_path), lambda: Engine.replaying(tmp_path)):
        with pytest.raises(TapeError, match="newer") as caught:
            call()
        assert caught.value.code == "tape.newer"
        assert caught.value.context == {"path": str(segment)}


def test_tape_tools_tell_a_whole_tape_from_a_damaged_one(recorded: Path, tmp_path: Path) -> None:
    collected(Engine.importing(VENUE, [recorded], tmp_path, {}))
    info = _core.tape_info(str(tmp_path))
    assert info["records"] == sum(segment["records"] for segment in info["segments"])
    report = _core.tape_verify(tmp_path)
    assert report["ok"]
    assert report["records"] == info["records"]
    assert not any(_core.tape_repair(tmp_path)[done] for done in ("cut", "sealed", "put_aside", "repaired"))
    [segment] = tmp_path.glob("*.tape")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    report = _core.tape_verify(tmp_path)
    assert not report["ok"]
    [hole] = report["holes"]
    assert hole["from_pos"] <= hole["to_pos"]
    [repaired] = _core.tape_repair(tmp_path)["repaired"]
    assert (tmp_path / repaired["kept_as"]).exists()
    engine = Engine.replaying(tmp_path)
    gaps = rows(collected(engine))["gaps"].to_pylist()
    assert engine.status()["holes"] == 1
    assert any(gap["cause"] == "damage" for gap in gaps)
