"""Cuts of an engine, as a program without an event loop takes them."""

import select
from collections.abc import Iterator

from coby._core import Cut, Engine


def cuts_of(engine: Engine, *, may_fail: bool = False) -> Iterator[Cut]:
    """Every cut until the engine has finished; it sleeps until the descriptor says that there is something to do."""
    while not engine.finished:
        readable, _, _ = select.select([engine.fileno()], [], [], 60.0)
        assert readable, "a wake-up was lost"
        yield from engine.drain()
    assert may_fail or engine.status()["failed"] is None
