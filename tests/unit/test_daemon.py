"""The composition, with an engine of the test's: what settings become, and how it ends."""

import asyncio
import dataclasses
import json
import logging
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coby import config
from coby.daemon import Daemon, Parts
from coby.utils.exceptions import ConfigError, EngineError, UnknownVenueError
from support.live import RUN, LiveEngine, MemoryStore, Tape
from support.rows import Stream
from support.running import free_port
from support.venues import venue


class Rig:
    """A daemon whose engine is the test's; `given` is what the engine was started with."""

    def __init__(self, tmp_path: Path, **variables: str) -> None:
        self.port = free_port()
        self.tmp_path = tmp_path
        environ = {"COBY_DATA_DIR": str(tmp_path / "data"), "COBY_PORT": str(self.port), "COBY_VENUES": "kraken"}
        self.settings = config.load(environ=environ | variables)
        self.given: dict[str, Any] = {}
        positions = [RUN + n for n in range(1, 61)]
        self.engine = LiveEngine(Tape(Stream.seeded(Random(1), positions=positions), positions))
        self.engine.venues = [venue()]
        self.store = MemoryStore()
        self.store.flush_seconds = 600.0  # type: ignore[misc]
        parts = dataclasses.replace(Parts.of(self.settings), store=self.store, live=self.live)
        self.daemon = Daemon(self.settings, parts)

    def live(self, tape: str, settings: dict[str, Any], **named: Any) -> LiveEngine:
        self.given = {"tape": tape, "settings": settings} | named
        return self.engine

    async def until(self, condition: Any) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not within 10 s")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        task = asyncio.create_task(self.daemon.run())
        try:
            await self.until(lambda: self.given or task.done())
            yield
            self.daemon.stop()
            self.engine.end()
        finally:
            async with asyncio.timeout(10):
                assert await task == 0
            self.engine.close()

    async def get(self, path: str) -> Any:
        def ask() -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1{path}", timeout=5) as answer:
                return json.loads(answer.read())

        return await asyncio.to_thread(ask)


def started(tmp_path: Path, **variables: str) -> dict[str, Any]:
    """What an engine is started with under these settings."""

    rig: list[Rig] = []

    async def run() -> None:
        rig.append(Rig(tmp_path, **variables))
        async with rig[0].running():
            pass

    asyncio.run(run())
    return rig[0].given


def test_an_engine_is_started_with_what_the_settings_say(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("")
    given = started(
        tmp_path,
        COBY_VENUES="kraken,okx",
        COBY_SYMBOLS="BTC,ETH-USDT",
        DATA_BUFFER_SIZE="123",
        COBY_PROXIES="kraken=socks5://u:p@127.0.0.1:1080,http://127.0.0.1:3128",
        COBY_ROOT_CERTIFICATES=str(roots),
        UPDATE_FREQUENCY="0.2",
        HEATMAP_DEPTH="7",
        COBY_SNAPSHOT_LEVELS="9",
        SOL_BUCKET_SIZE="0.5",
    )
    sizes = given["settings"].pop("bucket_sizes")
    assert given == {
        "tape": str(tmp_path / "data" / "tape"),
        "settings": {"update_interval_ms": 200, "heatmap_depth": 7, "snapshot_levels": 9},
        "venues": ["kraken", "okx"],
        "symbols": ["BTC", "ETH-USDT"],
        "simulator": None,
        "proxies": {"kraken": "socks5://u:p@127.0.0.1:1080", "all": "http://127.0.0.1:3128"},
        "root_certificates": str(roots),
        "places": 123,
    }
    assert {"base": "SOL", "sizes": ["0.5"]} in sizes
    assert {"base": "BTC", "sizes": ["10"]} in sizes


def test_with_no_venue_named_all_that_exist_are_connected_to(tmp_path: Path) -> None:
    venues = started(tmp_path, COBY_VENUES="")["venues"]
    assert "kraken" in venues
    assert "bitmex" not in venues, "it has closed"


@pytest.mark.parametrize(("batch", "stored"), [("10", True), ("10000", False)])
def test_so_many_rows_as_batch_write_size_says_are_committed(tmp_path: Path, batch: str, stored: bool) -> None:
    async def run() -> bool:
        rig = Rig(tmp_path, BATCH_WRITE_SIZE=batch)
        async with rig.running():
            rig.engine.emit(RUN + 1, RUN + 40)
            rig.engine.sync(RUN + 40)
            await rig.until(lambda: rig.store.seen == RUN + 40)
            rig.engine.wake()
            await asyncio.sleep(0.1)
            before = rig.store.watermark
        assert rig.store.watermark == RUN + 40, "the rest goes when it ends"
        return before > 0

    assert asyncio.run(run()) is stored


def test_memory_is_watched_against_max_memory_usage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> int:
        rig = Rig(tmp_path, MAX_MEMORY_USAGE="64")
        async with rig.running():
            status = await rig.get("/status")
            return int(status["resources"]["memory_limit_bytes"])

    assert asyncio.run(run()) == 64 << 20
    assert "above MAX_MEMORY_USAGE (64 MiB)" in caplog.text


def test_it_serves_where_host_and_port_say(tmp_path: Path) -> None:
    async def run() -> Any:
        rig = Rig(tmp_path, COBY_HOST="127.0.0.1")
        async with rig.running():
            return await rig.get("/health/live")

    assert asyncio.run(run())


def test_a_symbol_that_no_venue_has_is_a_wrong_setting(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, COBY_SYMBOLS="BTCC")
        rig.engine.venues = [venue(state="refused", error="no instrument is BTCC; did you mean BTC?", books=[])]
        try:
            rig.engine.stop = rig.engine.end  # type: ignore[method-assign]
            await asyncio.wait_for(rig.daemon.run(), 10)
        finally:
            rig.engine.close()

    with pytest.raises(ConfigError, match=r'symbols is "BTCC": no venue has any of them; .*did you mean BTC'):
        asyncio.run(run())


def test_with_connectors_it_runs_though_no_venue_has_the_symbols(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, COBY_SYMBOLS="BTCC", COBY_CONNECTORS="examples.connector:RandomWalk")
        rig.engine.venues = [venue(state="refused", error="no instrument is BTCC", books=[])]
        async with rig.running():
            await asyncio.sleep(1)

    asyncio.run(run())


def test_an_engine_that_fails_ends_the_daemon_with_its_words(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path)
        rig.engine.failed = "the tape's disk is gone"
        rig.engine.end()
        try:
            await asyncio.wait_for(rig.daemon.run(), 10)
        finally:
            rig.engine.close()

    with pytest.raises(EngineError, match="the tape's disk is gone"):
        asyncio.run(run())


def test_an_engine_that_does_not_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path)

        def refuse(*_: Any, **__: Any) -> LiveEngine:
            raise EngineError("no")

        daemon = Daemon(rig.settings, dataclasses.replace(Parts.of(rig.settings), live=refuse))
        with pytest.raises(EngineError, match="no"):
            await daemon.run()
        await rig.daemon._parts.store.open()
        rig.engine.close()

    asyncio.run(run())


def test_an_unknown_venue_is_told_before_anything_is_made(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, COBY_VENUES="krakn")
        try:
            await rig.daemon.run()
        finally:
            rig.engine.close()

    with pytest.raises(UnknownVenueError, match=r'COBY_VENUES is "krakn".*did you mean kraken'):
        asyncio.run(run())
    assert not (tmp_path / "data").exists()


def test_a_database_that_is_not_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(tmp_path, DB_HOST="db.example")
    assert "DB_HOST is set" in caplog.text


def test_a_redis_server_that_is_not_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(tmp_path, REDIS_HOST="redis.example")
    assert "REDIS_HOST is set" in caplog.text


def test_busy_threads_do_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coby.daemon.STOP_SECONDS", 0.5)

    async def run() -> None:
        rig = Rig(tmp_path)
        busy = threading.Event()
        async with rig.running():
            rig.engine.emit(RUN + 1, RUN + 40)
            rig.engine.sync(RUN + 40)
            waiting = [asyncio.create_task(asyncio.to_thread(busy.wait)) for _ in range(64)]
            await asyncio.sleep(0.1)
            asyncio.get_running_loop().call_later(2, busy.set)
            rig.daemon.stop()
            await rig.until(lambda: rig.engine.stopped or busy.is_set())
            assert not busy.is_set(), "the engine was told to stop only when others were done"
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_store_that_takes_too_long_does_not_hold_up_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coby.daemon.STOP_SECONDS", 0.3)

    async def run() -> None:
        rig = Rig(tmp_path)
        async with rig.running():
            rig.engine.emit(RUN + 1, RUN + 40)
            rig.engine.sync(RUN + 40)
            await rig.until(lambda: rig.store.seen == RUN + 40)
            rig.store.opened.clear()

    asyncio.run(run())
    assert "was not complete in time" in caplog.text


def test_what_only_simulated_venues_need_is_not_loaded() -> None:
    program = "import sys, coby.cli; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
