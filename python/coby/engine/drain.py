"""Cuts of an engine in an asyncio loop: one wake-up, one drain."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol, TypeVar

from coby.utils.exceptions import EngineError

CutT_co = TypeVar("CutT_co", covariant=True)


class Drainable(Protocol[CutT_co]):
    """What `drained` needs of an engine; `coby._core.Engine` is one."""

    def fileno(self) -> int:
        """Readable when there is something to do."""

    def drain(self) -> Sequence[CutT_co]:
        """What waits; clears the wake-up first."""

    @property
    def finished(self) -> bool:
        """Nothing will come any more."""

    def status(self) -> dict[str, Any]:
        """How far it is, and whether it failed."""


async def drained(engine: Drainable[CutT_co]) -> AsyncGenerator[Sequence[CutT_co], None]:
    """Yields what waits at each wake-up until the engine has finished.

    A list may be empty: the durable position has moved, or the engine has ended. Close the iterator (`aclosing`) if
    it is left early.

    Raises:
        EngineError: The engine failed; what it had finished before was yielded.
    """
    loop = asyncio.get_running_loop()
    descriptor = engine.fileno()
    try:
        while not engine.finished:
            woken = asyncio.Event()
            loop.add_reader(descriptor, woken.set)
            await woken.wait()
            # Not watched while the rows are handled: the loop would spin on a descriptor that stays readable.
            loop.remove_reader(descriptor)
            yield engine.drain()
    finally:
        loop.remove_reader(descriptor)
    failed = engine.status()["failed"]
    if failed is not None:
        raise EngineError(str(failed))
