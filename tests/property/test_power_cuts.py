"""The embedded store on a disk that loses its power: what was acknowledged is there, once, and nothing else is."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from coby.storage.tables import StoreReader, StoreWriter
from support.power import PowerCut, PowerCutDisk
from support.rows import Stream

LIVES = 5


@pytest.fixture
def directory() -> Iterator[Path]:
    # Syncs are simulated; a memory disk makes the real ones cost nothing.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


def check(store: StoreReader, stream: Stream) -> None:
    for kind in stream.rows:
        if store.files(kind):
            assert store.read(kind).to_pylist() == stream.until(kind, store.watermark)
        else:
            assert stream.until(kind, store.watermark) == []


def live(store: StoreWriter, stream: Stream, random: Random, acknowledged: list[int]) -> None:
    """Feeds the store from its watermark, or somewhat before, to the end, in cuts unlike those of other lives."""
    pos = random.randint(max(1, store.watermark - 5), store.watermark + 1)
    while pos <= stream.last_pos:
        last = min(stream.last_pos, pos + random.randrange(12))
        store.append(stream.cut(pos, last))
        pos = last + 1
        if random.random() < 0.6:
            durable = random.randint(max(0, last - 6), last)
            limit = max(durable, store.watermark)
            acknowledged.append(store.commit(durable))
            assert acknowledged[-1] <= limit
        if random.random() < 0.1:
            store.compact(1 << 62)
    acknowledged.append(store.commit(stream.last_pos))


def campaign(root: Path, seed: int, disk_type: type[PowerCutDisk] = PowerCutDisk) -> int:
    """Some lives, each but the last ended by a power cut or a kill; returns how many by a power cut."""
    random = Random(seed)
    stream = Stream.seeded(random)
    disk = disk_type(root, random)
    acknowledged = [0]
    cuts = 0
    for attempt in range(LIVES):
        disk.start(random.randrange(80) if attempt < LIVES - 1 else None)
        store: StoreWriter | None = None
        try:
            store = StoreWriter(root, files=disk)
            assert store.watermark >= acknowledged[-1]
            check(store, stream)
            assert_no_strangers(store)
            live(store, stream, random, acknowledged)
            assert store.watermark == stream.last_pos
            check(store, stream)
            assert_no_strangers(store)
            break
        except PowerCut:
            pass
        finally:
            if store is not None:
                store.close()
        if random.random() < 0.7:
            disk.restore()
            cuts += 1
    shutil.rmtree(root)
    return cuts


def assert_no_strangers(store: StoreReader) -> None:
    on_disk = {path.relative_to(store.directory) for path in store.directory.glob("*/*/*")}
    assert on_disk == {file.path for file in store.files()}


def fresh(directory: Path, seed: int) -> Path:
    root = directory / str(seed)
    root.mkdir()
    return root


@pytest.mark.parametrize("part", range(10))
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(directory: Path, part: int) -> None:
    cuts = sum(campaign(fresh(directory, seed), seed) for seed in range(part * 50, part * 50 + 50))
    assert cuts >= 50, "the campaign has to cut the power at least once a seed on average"


@pytest.mark.prove
def test_a_long_campaign(directory: Path) -> None:
    first, count = int(os.environ.get("SEED", "0")), int(os.environ.get("POWER_CUTS", "10000"))
    seed = first
    cuts = 0
    while cuts < count:
        cuts += campaign(fresh(directory, seed), seed)
        seed += 1


class ForgetsContents(PowerCutDisk):
    def sync(self, path: Path) -> None:
        pass


class ForgetsNames(PowerCutDisk):
    def sync_directory(self, path: Path) -> None:
        pass


@pytest.mark.parametrize("disk_type", [ForgetsContents, ForgetsNames])
def test_the_disk_would_catch_a_store_that_forgets_to_sync(directory: Path, disk_type: type[PowerCutDisk]) -> None:
    def caught() -> Iterator[bool]:
        for seed in range(20):
            try:
                campaign(fresh(directory, seed), seed, disk_type)
            except Exception:  # noqa: BLE001  any complaint will do: missing file, torn file, wrong rows
                yield True

    assert any(caught())
