"""Simulated exchanges on a loopback port, in a thread of this process: what is true of them can be looked at."""

import asyncio
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from coby.simulator.exchange import SECOND, Exchange
from coby.simulator.faults import Fault, Script
from coby.simulator.server import Server
from coby.simulator.venues import VENUES
from support.law import Ledger


class Loopback:
    """Serves venues in real time; their clock and that of this machine are the same but for what serving costs."""

    def __init__(self, venues: Iterable[str], *, symbols: Iterable[str], seed: int = 1) -> None:
        self.venues, self.symbols = list(venues), list(symbols)
        start_ns = time.time_ns()
        self.exchange = Exchange(
            [VENUES[name] for name in self.venues], symbols=self.symbols, seed=seed, start_ns=start_ns
        )
        self.ledger = Ledger(self.exchange, time.time_ns)
        self._script = Script(self.exchange, (), self.ledger.log)
        self.exchange.faults = self._script
        self._server: Server | None = None
        self._loop = asyncio.new_event_loop()
        self.address = ""
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    async def _start(self) -> None:
        self._server = Server(self.exchange, self._script)
        await self._server.start("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def seconds(self) -> float:
        """How much time has passed at the exchanges."""
        clock = self.exchange.clock
        return (clock.now_ns - clock.start_ns) / SECOND

    @property
    def waiting(self) -> int:
        """How many faults have not found what they were to befall yet."""
        return self._script.waiting

    def add(self, faults: Iterable[Fault]) -> None:
        """Lets things go wrong; `at` counts from now."""

        async def add() -> None:
            now = self.seconds
            for fault in faults:
                self._script.add(fault.later(now))

        asyncio.run_coroutine_threadsafe(add(), self._loop).result(10)
