"""Connectors against a real engine: taped, ended and begun again, replayed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coby import _core
from coby.connectors import Host, hosted
from coby.engine import drained
from coby.utils.exceptions import ConfigError, EngineError
from examples.connector import RandomWalk

ROOT = Path(__file__).parents[2]
PATIENCE = 30
NATIVE = "random_walk|BTC-USDT"

Rows = dict[str, list[dict[str, Any]]]


class Quick(RandomWalk):
    first_delay = 0.05


class Live:
    """A live engine without venues, and the rows that it has given."""

    def __init__(self, engine: _core.Engine) -> None:
        self.engine = engine
        self.rows: Rows = {}
        self.came = asyncio.Condition()

    async def take(self) -> None:
        async with contextlib.aclosing(drained(self.engine)) as wakes:
            async for cuts in wakes:
                add(self.rows, cuts)
                async with self.came:
                    self.came.notify_all()

    async def until(self, reached: Callable[[Rows], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self.came:
            await self.came.wait_for(lambda: reached(self.rows))

    def gaps(self, channel: str) -> list[tuple[str, str]]:
        return [(row["phase"], row["cause"]) for row in self.rows.get("gaps", []) if row["channel"] == channel]


def add(rows: Rows, cuts: Sequence[_core.Cut]) -> None:
    for cut in cuts:
        for kind in cut.rows:
            rows.setdefault(kind, []).extend(pa.record_batch(cut.batch(kind)).to_pylist())


def count(kind: str, number: int) -> Callable[[Rows], bool]:
    return lambda rows: len(rows.get(kind, [])) >= number


@contextlib.asynccontextmanager
async def live(tape: Path) -> AsyncIterator[Live]:
    engine = await asyncio.to_thread(lambda: _core.Engine.live(tape, {}, venues=[], symbols=["BTC"]))
    running = Live(engine)
    taking = asyncio.create_task(running.take())
    try:
        yield running
    finally:
        await asyncio.to_thread(engine.stop)
        await taking


def replayed(tape: Path) -> Rows:
    engine = _core.Engine.replaying(tape)
    rows: Rows = {}
    while not engine.finished:
        add(rows, engine.drain())
    assert engine.status()["failed"] is None
    return rows


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_what_a_connector_brings_is_taped_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    async def run() -> Rows:
        async with live(tmp_path) as running:
            # Ether is nothing that it has.
            hosting = asyncio.create_task(hosted(running.engine, ["examples.connector:RandomWalk"], ["BTC", "ETH"]))
            await running.until(count("trades", 20))
            book = await asyncio.to_thread(running.engine.book, "external", NATIVE)
            assert book is not None
            assert (book["state"], len(book["bids"]), len(book["asks"])) == ("live", 10, 10)
            status = running.engine.status()["live"]["venues"]
            assert [(venue["venue"], venue["state"]) for venue in status] == [("external", "live")]
            assert status[0]["links"][0]["state"] == "connected"
            listed = await asyncio.to_thread(running.engine.instruments, "external")
            assert [(row["native"], row["symbol"], row["kind"]) for row in listed] == [(NATIVE, "BTC-USDT", "spot")]
            await ended(hosting)
        return running.rows

    rows = asyncio.run(run())
    assert {row["native_symbol"] for row in rows["trades"]} == {NATIVE}
    assert {row["proof"] for row in rows["trades"]} == {"sequence"}
    assert {(row["state"], row["proof"]) for row in rows["tops"]} == {("live", "sequence"), ("gap", "none")}
    assert [row["ts_event"] for row in rows["trades"]] == sorted(row["ts_event"] for row in rows["trades"])
    assert replayed(tmp_path) == rows


def test_a_lost_message_and_a_lost_connection_are_gaps_that_heal(tmp_path: Path) -> None:
    async def run() -> Rows:
        connector = Quick()
        async with live(tmp_path) as running:
            hosting = asyncio.create_task(Host(running.engine, connector, ["btcusdt"]).run())
            await running.until(count("tops", 5))
            connector.sequence += 5
            await running.until(lambda _: running.gaps("book") == [("opened", "sequence"), ("closed", "sequence")])
            await connector.disconnect()
            await running.until(lambda _: running.gaps("book")[2:] == [("opened", "closed"), ("closed", "closed")])
            trades = len(running.rows["trades"])
            await running.until(count("trades", trades + 5))
            opened = [row for row in running.rows["connection_events"] if row["event"] == "opened"]
            assert len(opened) == 3
            await connector.stop()
            await asyncio.wait_for(hosting, PATIENCE)
        assert running.gaps("book")[4:] == [("opened", "closed")]
        return running.rows

    rows = asyncio.run(run())
    assert replayed(tmp_path) == rows


def test_the_end_of_the_engine_ends_a_connector(tmp_path: Path) -> None:
    async def run() -> None:
        async with live(tmp_path) as running:
            hosting = asyncio.create_task(Host(running.engine, Quick(), ["BTC"]).run())
            await running.until(count("trades", 1))
        with pytest.raises(EngineError, match="has ended"):
            await asyncio.wait_for(hosting, PATIENCE)

    asyncio.run(run())


def test_only_a_live_engine_takes_frames(tmp_path: Path) -> None:
    async def run() -> None:
        async with live(tmp_path) as running:
            feed = await asyncio.to_thread(running.engine.external, "demo")
            assert feed.push('{"kind":"heartbeat"}')
            before = feed.ended
            feed.close()
            feed.close()
            assert (before, feed.ended) == (False, True)
            assert not feed.push("{}")
            assert not feed.instruments("[]")
            with pytest.raises(ConfigError, match="No name"):
                running.engine.external("No name")
            last = await asyncio.to_thread(running.engine.external, "demo")
            with pytest.raises(ConfigError, match="bytes"):
                last.push(" " * (64 << 20 | 1))
        assert last.ended

    asyncio.run(run())
    with pytest.raises(EngineError, match="not a live one"):
        _core.Engine.replaying(tmp_path).external("demo")
