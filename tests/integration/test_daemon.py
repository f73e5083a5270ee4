"""The daemon as a person runs it, against simulated exchanges on loopback sockets."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from coby import _core
from coby.engine import drained
from coby.storage.tables import StoreReader
from support.running import COBY_RUN, VENUES, Running, environment, eventually, free_port

TESTS = Path(__file__).parents[1]
PATH = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
"""Where the daemon finds parts and connectors of the tests."""
READY_SECONDS = 5.0
BUSY_READY_SECONDS = 15.0
"""On a machine that does other things too."""
ADDED = {"metrics", "quality", "anomalies"}


WITH_PARTS = """
import dataclasses, sys
from coby import config, daemon
from coby.interfaces import Cut, Rows
from coby.engine.processing import Processor
from support.parts import {part}

flags = dict(zip(("simulate", "data_dir", "port", "venues"), (True, sys.argv[3], sys.argv[5], sys.argv[7])))
settings = config.load(flags)
parts = dataclasses.replace(daemon.Parts.of(settings), {name}={part}({argument}))
sys.exit(daemon.run(settings, parts))
"""


def with_part(name: str, part: str, argument: str = "") -> list[str]:
    return [sys.executable, "-c", WITH_PARTS.format(name=name, part=part, argument=argument)]


def rows_of(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    with StoreReader(data_dir) as store:
        return {kind: store.read(kind).to_pylist() for kind in sorted({file.kind for file in store.files()})}


def derived(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows that the tape gives."""

    async def replay() -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = {}
        engine = _core.Engine.replaying(str(data_dir / "tape"))
        async with aclosing(drained(engine)) as wakes:
            async for cuts in wakes:
                for cut in cuts:
                    for kind in cut.rows:
                        rows.setdefault(kind, []).extend(pa.record_batch(cut.batch(kind)).to_pylist())
        engine.stop()
        return rows

    return asyncio.run(replay())


def assert_stored_is_derived(data_dir: Path) -> None:
    """The law, for what is stored: the tables hold what the tape gives, each row once."""
    stored = rows_of(data_dir)
    expected = derived(data_dir)
    assert {kind: len(rows) for kind, rows in stored.items() if kind not in ADDED} == {
        kind: len(rows) for kind, rows in expected.items()
    }
    for kind, rows in expected.items():
        assert stored[kind] == rows, kind
    for kind in ADDED & stored.keys():
        places = [(row["pos"], row["n"]) for row in stored[kind]]
        assert len(places) == len(set(places))


def test_it_goes_live_seals_and_goes_on(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with Running(data_dir) as daemon:
        assert daemon.all_live() < 20
        eventually(lambda: daemon.get("/trades/binance/BTC-USDT?limit=1")["items"], 10, "a trade")
        book = daemon.get("/books/kraken/BTC?depth=5")
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])
        assert daemon.get("/health/ready")["ready"] is True
        eventually(lambda: int(daemon.get("/status")["pos"]) % (1 << 40) > 1500, 20, "some columns and candles")
        simulator = psutil.Process(daemon.process.pid).children()
        assert len(simulator) == 1
        assert daemon.stop() < 5
        assert daemon.process.returncode == 0
    assert not simulator[0].is_running()
    info = _core.tape_info(data_dir / "tape")
    assert all(segment["sealed"] for segment in info["segments"])
    assert_stored_is_derived(data_dir)
    first = rows_of(data_dir)
    assert {
        "trades",
        "tops",
        "book_snapshots",
        "price_buckets",
        "heatmap_columns",
        "candles",
        "metrics",
    } <= first.keys()
    assert {row["venue"] for row in first["tops"]} == set(VENUES.split(","))

    with Running(data_dir) as daemon:
        daemon.all_live()
        eventually(lambda: int(daemon.get("/status")["watermark"]) > 2 << 40, 20, "rows of the second run")
        assert daemon.stop(signal.SIGINT) < 5
        assert daemon.process.returncode == 0
    assert_stored_is_derived(data_dir)
    second = rows_of(data_dir)
    for kind, rows in first.items():
        assert second[kind][: len(rows)] == rows
    restarts = [row for row in second["gaps"] if row["cause"] == "restart"]
    assert restarts
    said = "\n".join(daemon.lines)
    assert "is live" in said
    assert "Traceback" not in said


class Oracle:
    """Notes from outside which rows were acknowledged: told by the daemon at positions that it told to be durable."""

    def __init__(self) -> None:
        self.trades: dict[tuple[int, str, str], dict[str, Any]] = {}
        self.durable = 0

    def look(self, daemon: Running) -> None:
        told: dict[tuple[int, str, str], dict[str, Any]] = {}
        for venue in ("binance", "kraken"):
            # The newest rows: between two looks there are fewer of them than are asked for.
            page = daemon.get(f"/trades/{venue}/BTC-USDT?limit=1000")
            for trade in page["items"] if page else []:
                told[int(trade["pos"]), venue, trade["trade_id"]] = trade
        status = daemon.get("/status")
        if status:
            self.durable = max(self.durable, int(status["durable_pos"]))
            self.trades |= {key: trade for key, trade in told.items() if key[0] <= self.durable}


def kill_again_and_again(data_dir: Path, kills: int, seed: int, ready_seconds: float) -> int:
    """Kills a daemon under load, lets it end well, and counts; returns how many rows had been acknowledged."""
    chance = random.Random(seed)
    oracle = Oracle()
    starts = []
    for _ in range(kills):
        with Running(data_dir, venues="binance,kraken") as daemon:
            eventually(lambda: (daemon.get("/health/ready") or {}).get("ready"), 20, "ready")
            starts.append(time.monotonic() - daemon.started)
            until = time.monotonic() + chance.uniform(0.5, 8)
            while time.monotonic() < until:
                oracle.look(daemon)
            daemon.kill()
    with Running(data_dir, venues="binance,kraken") as daemon:
        daemon.all_live(20)
        daemon.stop()
    assert_stored_is_derived(data_dir)
    stored = Counter((row["pos"], row["venue"], row["trade_id"]) for row in rows_of(data_dir)["trades"])
    assert max(stored.values()) == 1, "a row is there twice"
    lost = [key for key in oracle.trades if key not in stored]
    assert lost == []
    for row in rows_of(data_dir)["trades"]:
        told = oracle.trades.get((row["pos"], row["venue"], row["trade_id"]))
        if told:
            assert (float(told["price"]), float(told["size"]), told["side"]) == (row["price"], row["size"], row["side"])
    # A first start has nothing to read again.
    assert max(starts[1:]) < ready_seconds, starts
    return len(oracle.trades)


def test_kills_lose_and_double_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path / "data", 5, 1, BUSY_READY_SECONDS) > 20


@pytest.mark.prove
def test_a_hundred_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "0"))
    for part in range(10):
        kill_again_and_again(tmp_path / str(part), 10, seed + part, READY_SECONDS)


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 0)])
def test_a_second_signal_ends_at_once_and_without_one_nothing_waits_for_ever(
    tmp_path: Path, second: signal.Signals | None, code: int
) -> None:
    data_dir, hangs = tmp_path / "data", tmp_path / "hangs"
    program = with_part("store", "Hanging", f"settings.data_dir, {str(hangs)!r}")
    with Running(data_dir, venues="kraken", program=program, PYTHONPATH=PATH) as daemon:
        daemon.all_live()
        simulator = psutil.Process(daemon.process.pid).children()[0]
        hangs.touch()
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: any("ending" in line for line in daemon.lines), 5, "the end begins")
        if second is not None:
            assert daemon.stop(second) < 2
        else:
            assert daemon.stop(0) < 5.5
            assert any("was not complete in time" in line for line in daemon.lines)
    assert daemon.process.returncode == code
    eventually(lambda: not simulator.is_running() or simulator.status() == psutil.STATUS_ZOMBIE, 5, "no orphan")
    with Running(data_dir, venues="kraken") as daemon:
        daemon.all_live()
        daemon.stop()
    assert_stored_is_derived(data_dir)


def test_a_disk_that_never_answers_does_not_hold_up_the_end(tmp_path: Path) -> None:
    data_dir, stuck = tmp_path / "data", tmp_path / "stuck"
    program = with_part("store", "Stuck", f"settings.data_dir, {str(stuck)!r}")
    with Running(data_dir, venues="kraken", program=program, PYTHONPATH=PATH) as daemon:
        daemon.all_live()
        eventually(lambda: int(daemon.get("/status")["pos"]) > (1 << 40) + 100, 20, "something to store")
        stuck.touch()
        assert daemon.stop() < 6
        assert daemon.process.returncode == 1
        assert any("did not end in time" in line for line in daemon.lines)
    stuck.unlink()
    with Running(data_dir, venues="kraken") as daemon:
        daemon.all_live()
        daemon.stop()
    assert_stored_is_derived(data_dir)


def test_a_killed_daemon_leaves_no_simulator(tmp_path: Path) -> None:
    with Running(tmp_path / "data", venues="kraken") as daemon:
        daemon.all_live()
        simulator = psutil.Process(daemon.process.pid).children()[0]
        daemon.kill()
    eventually(lambda: not simulator.is_running() or simulator.status() == psutil.STATUS_ZOMBIE, 5, "no orphan")


def refused(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COBY_RUN, "--data-dir", str(tmp_path / "data"), "--port", str(free_port()), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment(**variables),
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("coby-run: ")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ((), {"COBY_PORT": "many"}, ""),
        ((), {"UPDATE_FREQUENCY": "0.25"}, 'UPDATE_FREQUENCY is "0.25": it must be a multiple of 0.1'),
        ((), {"HEATMAP_DEPTH": "0"}, 'HEATMAP_DEPTH is "0": it must be a whole number from 1 to 10000'),
        ((), {"BTC_BUCKET_SIZE": "-1"}, 'BTC_BUCKET_SIZE is "-1": it must be a decimal number above 0'),
        (("--venues", "krakn"), {}, '--venues is "krakn", which is no venue; did you mean kraken?'),
        (("--simulate", "--venues", "deribitt"), {}, '--venues is "deribitt", which is no venue'),
        (("--simulate", "--venues", "kraken", "--symbols", "BTCC-USDT"), {}, 'BTCC-USDT"'),
        (("--host", "no.such.host.invalid"), {}, '"no.such.host.invalid"'),
        (("--config", "nowhere.toml"), {}, '--config is "nowhere.toml"'),
    ],
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    if variables.get("COBY_PORT"):
        done = subprocess.run(
            COBY_RUN,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=tmp_path,
            env=environment(**variables),
        )
        says = 'COBY_PORT is "many": it must be a port from 1 to 65535'
    else:
        done = refused(tmp_path, *arguments, **variables)
    assert_one_line(done, 2, says)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = refused(tmp_path, "--simulate", "--venues", "kraken", "--port", port)
    assert_one_line(done, 1, f"http://127.0.0.1:{port}: the port is in use; ")


def test_a_data_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = refused(tmp_path, "--simulate", "--venues", "kraken", "--data-dir", str(tmp_path / "file"))
    assert_one_line(done, 1, f"{tmp_path / 'file'}: File exists")
    done = refused(tmp_path, "--simulate", "--venues", "kraken", "--data-dir", "/proc/coby")
    assert_one_line(done, 1, "/proc/coby: ")


def test_a_data_directory_in_use_is_one_line_with_its_holder(tmp_path: Path) -> None:
    with Running(tmp_path / "data", venues="kraken") as daemon:
        eventually(lambda: daemon.get("/health/live"), 10, "it serves")
        done = refused(tmp_path, "--simulate", "--venues", "kraken")
        assert_one_line(done, 1, f"process {daemon.process.pid} writes to this store")


def test_a_picture_of_the_terminal_view(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    with Running(tmp_path / "data", "--picture", str(picture), venues="kraken,binance") as daemon:
        daemon.all_live()
        eventually(lambda: int(daemon.get("/status")["pos"]) > (1 << 40) + 1000, 20, "something to see")
        daemon.stop()
    drawn = picture.read_text()
    assert "kraken" in drawn
    assert "font-face" not in drawn


def test_a_processor_of_one_s_own_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    program = with_part("processor", "CountingProcessor")
    with Running(data_dir, venues="kraken,binance", program=program, PYTHONPATH=PATH) as daemon:
        daemon.all_live()
        eventually(lambda: int(daemon.get("/status")["watermark"]) > 1 << 40, 20, "something stored")
        daemon.stop()
    assert_stored_is_derived(data_dir)
    rows = rows_of(data_dir)
    assert ADDED & rows.keys() == {"metrics"}
    assert {row["seen"] for row in rows["metrics"]} == set(range(1, len(rows["trades"]) + 1))


def test_a_connector_of_one_s_own_runs_beside_the_venues(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    connector = "examples.connector:RandomWalk"
    with Running(data_dir, venues="kraken", COBY_CONNECTORS=connector, PYTHONPATH=PATH) as daemon:
        daemon.all_live()
        book = eventually(lambda: daemon.get("/books/external/random_walk|BTC-USDT"), 10, "the connector's book")
        assert book["state"] == "live"
        assert len(book["bids"]) == len(book["asks"]) == 10
        eventually(lambda: daemon.get("/trades/external/random_walk|BTC-USDT?limit=1")["items"], 10, "a trade")
        assert daemon.stop() < 5
        assert daemon.process.returncode == 0
    assert_stored_is_derived(data_dir)
    assert {row["venue"] for row in rows_of(data_dir)["tops"]} == {"kraken", "external"}
    assert "Traceback" not in "\n".join(daemon.lines)


def test_a_connector_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    done = refused(tmp_path, "--simulate", "--venues", "kraken", COBY_CONNECTORS="no_such_module:Connector")
    assert_one_line(done, 2, 'connectors: "no_such_module:Connector" cannot be used: ModuleNotFoundError')


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    data_dir, full = tmp_path / "data", tmp_path / "full"
    program = with_part("store", "FullWhile", f"settings.data_dir, {str(full)!r}")
    full.touch()
    with Running(data_dir, venues="kraken,binance", program=program, PYTHONPATH=PATH) as daemon:
        daemon.all_live()
        eventually(lambda: "No space left" in str(daemon.get("/status")["feeder"]["last_error"]), 20, "it says so")
        assert int(daemon.get("/status")["watermark"]) == 0
        assert daemon.get("/books/kraken/BTC")["state"] == "live"
        full.unlink()
        eventually(lambda: int(daemon.get("/status")["watermark"]) > 1 << 40, 20, "it recovers")
        assert daemon.get("/status")["feeder"]["last_error"] is None
        full.touch()
        eventually(lambda: daemon.get("/status")["feeder"]["last_error"], 20, "it is full again")
        assert daemon.stop() < 5
        assert daemon.process.returncode == 0
    said = "\n".join(daemon.lines)
    assert "the store cannot be written, which is tried again" in said
    assert "the store can be written again" in said
    assert "Traceback" not in said
    full.unlink()
    with Running(data_dir, venues="kraken,binance") as daemon:
        daemon.all_live()
        daemon.stop()
    assert_stored_is_derived(data_dir)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_on_a_terminal_it_draws_and_gives_the_screen_back(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*COBY_RUN, "--simulate", "--venues", "kraken", "--data-dir", str(tmp_path), "--port", str(free_port())]
    environ = environment(TERM="xterm-256color")
    seen = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environ) as process:
        os.close(theirs)
        os.set_blocking(ours, False)

        def read() -> bytes:
            nonlocal seen
            # Nothing is there now, or the other end is closed.
            with suppress(OSError):
                seen += os.read(ours, 1 << 16)
            return seen

        try:
            eventually(lambda: b"kraken is live" in read(), 20, "it draws the log")
            eventually(lambda: "▀▀".encode() in read(), 20, "it draws the heatmap")
            process.send_signal(signal.SIGINT)
            eventually(lambda: read() and process.poll() is not None, 10, "it ends")
        finally:
            process.kill()
    read()
    os.close(ours)
    assert process.returncode == 0
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
    assert b"Traceback" not in seen
