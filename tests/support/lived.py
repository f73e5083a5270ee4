"""A live engine on simulated venues over loopback sockets, read by the daemon's own feeder."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from coby._core import Engine
from coby.engine.feeder import Feeder
from support.judge import joined
from support.law import Key
from support.live import MemoryStore
from support.loopback import Loopback


class Kept(MemoryStore):
    """Keeps batches as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, list[pa.RecordBatch]] = {}

    async def commit(self, durable_pos: int) -> int:
        while self.waiting and self.waiting[0][0] <= durable_pos:
            self._watermark, batches = self.waiting.pop(0)
            for kind, batch in batches.items():
                self.batches.setdefault(kind, []).append(batch)
        return self._watermark

    def tables(self) -> dict[str, pa.Table]:
        return {kind: joined(batches) for kind, batches in self.batches.items()}


async def until(condition: Callable[[], object], seconds: float, seen: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {seen()}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def engine_on(
    tape: Path,
    settings: Mapping[str, Any],
    loopback: Loopback,
    store: Kept,
) -> AsyncGenerator[tuple[Engine, Feeder]]:
    engine = await asyncio.to_thread(
        lambda: Engine.live(
            tape, settings, venues=loopback.venues, symbols=loopback.symbols, simulator=loopback.address
        )
    )
    feeder = Feeder(engine, store, lambda after, until: Engine.replaying(tape, after=after, until=until))
    feeding = asyncio.create_task(feeder.run())
    try:
        yield engine, feeder
    finally:
        await asyncio.to_thread(engine.stop)
        async with asyncio.timeout(20):
            await feeding


def venues_of(engine: Engine) -> list[dict[str, Any]]:
    live = engine.status().get("live")
    return live["venues"] if live else []


def not_live(engine: Engine) -> dict[str, Any]:
    return {venue["venue"]: venue for venue in venues_of(engine) if venue["state"] != "live"}


def subscribed(engine: Engine) -> list[Key]:
    return [(each["venue"], each["native"]) for each in engine.instruments() if each["subscribed"]]
