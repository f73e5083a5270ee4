"""The five seams: what an implementation must have, and what the connector does for it."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from coby import interfaces
from coby.interfaces import (
    AggregationEngine,
    Channel,
    Cut,
    DataProcessor,
    ExchangeConnector,
    Frame,
    ReplayManager,
    StorageManager,
)
from coby.models import ConnectionStatus, OrderBookSnapshot
from support.rows import Stream

SEAMS: list[type] = [ExchangeConnector, DataProcessor, AggregationEngine, StorageManager, ReplayManager]


class Scripted(ExchangeConnector):
    """Does what a script says at each attempt: an error to raise, or frames to send before the connection ends."""

    def __init__(self, script: Sequence[Exception | list[Frame] | None]) -> None:
        super().__init__()
        self.script = list(script)
        self.log: list[str] = []
        self.closed = asyncio.Event()
        self.noted = asyncio.Event()
        self.frames: list[Frame] | None = None

    def note(self, line: str) -> None:
        self.log.append(line)
        self.noted.set()

    async def until(self, lines: int) -> None:
        while len(self.log) < lines:
            self.noted.clear()
            await self.noted.wait()

    @property
    def exchange(self) -> str:
        return "scripted"

    async def connect(self) -> None:
        self.note("connect")
        step = self.script.pop(0)
        await asyncio.sleep(0)
        if isinstance(step, Exception):
            raise step
        self.frames = step
        self.closed.clear()

    async def disconnect(self) -> None:
        self.closed.set()

    async def wait_closed(self) -> None:
        for frame in self.frames or []:
            await self.notify(frame)
        if self.frames is None:
            await self.closed.wait()

    async def subscribe(self, symbol: str, channel: Channel) -> None:
        await asyncio.sleep(0)
        self.note(f"+{symbol}.{channel}")

    async def unsubscribe(self, symbol: str, channel: Channel) -> None:
        self.note(f"-{symbol}.{channel}")

    async def get_supported_symbols(self) -> Sequence[str]:
        return ["BTC-USDT"]

    def normalize_symbol(self, symbol: str) -> str:
        return symbol.replace("-", "")

    async def get_orderbook_snapshot(self, symbol: str, depth: int = 50) -> OrderBookSnapshot:
        return OrderBookSnapshot.model_validate({"symbol": symbol, "exchange": self.exchange, "timestamp": 0})

    def get_connection_status(self) -> ConnectionStatus:
        return ConnectionStatus(self.exchange, "connecting" if self.attempt else "live", 0, attempt=self.attempt)


async def ran(connector: Scripted) -> list[float]:
    """Runs a connector until its script is at its end; gives the waits."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if not connector.script:
            await connector.stop()

    await asyncio.wait_for(connector.run(sleep=sleep, jitter=lambda: 0.5), 10)
    return waits


def test_waits_double_up_to_the_limit_and_start_anew_after_a_success() -> None:
    refused = ConnectionRefusedError("no")
    connector = Scripted([refused] * 9 + [[]] + [refused, TimeoutError()])
    waits = asyncio.run(ran(connector))
    assert waits == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5, 0.375, 0.375, 0.75]


def test_jitter_never_waits_longer_than_the_limit() -> None:
    async def waited() -> list[float]:
        connector, waits = Scripted([OSError()] * 2000), []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2000:
                await connector.stop()

        await connector.run(sleep=sleep)
        return waits

    waits = asyncio.run(waited())
    assert all(15 <= wait <= 30 for wait in waits[7:])
    assert len(set(waits)) > 1000


def test_what_is_wanted_is_subscribed_again_and_what_is_not_is_not() -> None:
    async def log() -> list[str]:
        connector = Scripted([[{"a": 1}], [{"a": 2}], [{"a": 3}]])
        await connector.subscribe_orderbook("BTC-USDT")
        await connector.subscribe_trades("BTC-USDT")
        await connector.subscribe_trades("BTC-USDT")

        async def changed(frame: Frame) -> None:
            connector.log.append(f"frame {frame['a']}")
            if frame["a"] == 1:
                await connector.unsubscribe_trades("BTC-USDT")
                await connector.subscribe_orderbook("ETH-USDT")
            if frame["a"] == 2:
                connector.remove_data_callback(changed)

        connector.add_data_callback(changed)
        connector.add_data_callback(changed)
        await ran(connector)
        return connector.log

    first = ["connect", "+BTC-USDT.book", "+BTC-USDT.trades", "frame 1", "-BTC-USDT.trades", "+ETH-USDT.book"]
    later = ["connect", "+BTC-USDT.book", "+ETH-USDT.book"]
    assert asyncio.run(log()) == [*first, *later, "frame 2", *later]


def test_what_is_wanted_during_a_subscription_is_subscribed_once() -> None:
    async def log() -> list[str]:
        connector = Scripted([None])
        await connector.subscribe_orderbook("A")
        running = asyncio.create_task(connector.run())
        await connector.until(1)
        await asyncio.sleep(0)
        await connector.subscribe_orderbook("B")
        await connector.until(3)
        await connector.stop()
        await running
        return connector.log

    assert asyncio.run(asyncio.wait_for(log(), 10)) == ["connect", "+A.book", "+B.book"]


def test_stopping_while_it_connects_leaves_no_connection() -> None:
    async def stopped() -> Scripted:
        connector = Scripted([None])
        running = asyncio.create_task(connector.run())
        await connector.until(1)
        await connector.stop()
        await asyncio.wait_for(running, 10)
        return connector

    assert asyncio.run(stopped()).closed.is_set()


def test_stopping_does_not_wait_for_the_next_attempt() -> None:
    async def stopped() -> None:
        connector = Scripted([OSError()])
        connector.first_delay = 25.0  # type: ignore[misc]
        running = asyncio.create_task(connector.run())
        await asyncio.sleep(0.01)
        await connector.stop()
        await asyncio.wait_for(running, 5)

    asyncio.run(stopped())


def test_a_failure_that_no_attempt_heals_ends_it_with_the_connection_closed() -> None:
    async def failed() -> Scripted:
        connector = Scripted([[{"a": 1}]])

        async def broken(_: Frame) -> None:
            raise ValueError("broken")

        connector.add_data_callback(broken)
        with pytest.raises(ValueError, match="broken"):
            await connector.run()
        return connector

    assert asyncio.run(failed()).closed.is_set()


def test_health_follows_the_status() -> None:
    connector = Scripted([])
    assert asyncio.run(connector.health_check())
    connector.attempt = 1
    assert not asyncio.run(connector.health_check())


@pytest.mark.parametrize("seam", SEAMS)
def test_an_implementation_must_have_every_method(seam: type) -> None:
    assert inspect.isabstract(seam)
    assert seam.__name__ in interfaces.__all__
    required = set(seam.__abstractmethods__)  # type: ignore[attr-defined]
    for name in required:
        partial = type("Partial", (seam,), dict.fromkeys(required - {name}))
        with pytest.raises(TypeError, match=name):
            partial()


@pytest.mark.parametrize("seam", SEAMS)
def test_every_method_says_what_it_does(seam: type) -> None:
    for name, member in vars(seam).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{seam.__name__}.{name}"


def test_the_core_s_cuts_and_those_of_tests_are_cuts() -> None:
    from random import Random

    cut: Cut = Stream.seeded(Random(1)).cut(1, 5)
    assert cut.last_pos == 5
    core: Any = pytest.importorskip("coby._core")
    for name in ("first_pos", "last_pos", "rows", "batch"):
        assert hasattr(core.Cut, name)
