import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from random import Random

import pytest

from coby.engine import drained
from coby.utils.exceptions import EngineError
from support.engine import FakeEngine
from support.rows import FakeCut, Stream

STREAM = Stream.seeded(Random(1))
CUTS = [STREAM.cut(first, first + 4) for first in range(1, 61, 5)]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    engine = FakeEngine(CUTS, **request.param)
    yield engine
    engine.stop()


async def take_all(engine: FakeEngine) -> list[FakeCut]:
    return [cut async for cuts in drained(engine) for cut in cuts]


@pytest.mark.parametrize("engine", [{}, {"pause": 0.002}], indirect=True)
def test_every_cut_comes_once_in_order(engine: FakeEngine) -> None:
    assert asyncio.run(take_all(engine)) == CUTS
    assert engine.drains <= len(CUTS) + 1


@pytest.mark.parametrize("engine", [{"failed": "disk full"}], indirect=True)
def test_a_failure_comes_after_the_rows_before_it(engine: FakeEngine) -> None:
    taken: list[FakeCut] = []

    async def take() -> None:
        async for cuts in drained(engine):
            taken.extend(cuts)

    with pytest.raises(EngineError, match="disk full"):
        asyncio.run(take())
    assert taken == CUTS


@pytest.mark.parametrize("engine", [{"pause": 0.002}], indirect=True)
def test_leaving_early_gives_the_descriptor_back(engine: FakeEngine) -> None:
    async def leave() -> bool:
        async with aclosing(drained(engine)) as wakes:
            async for _ in wakes:
                break
        return asyncio.get_running_loop().remove_reader(engine.fileno())

    assert asyncio.run(leave()) is False
