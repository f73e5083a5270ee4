"""Memory that crosses the boundary is given back."""

import gc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from coby._core import Decoder, Engine, OrderBook
from support import mishaps
from support.cuts import cuts_of
from support.mishaps import VENUE

STATM = Path("/proc/self/statm")
PAGE = 4096
pytestmark = pytest.mark.skipif(not STATM.exists(), reason="needs /proc")


def resident() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * PAGE


def growth(work: Callable[[], None], times: int) -> int:
    """How much the process grows over `times` rounds, after as many that let caches and arenas fill."""
    for _ in range(times):
        work()
    before = resident()
    for _ in range(times):
        work()
    return resident() - before


def test_decoding_200_000_events_does_not_grow() -> None:
    frames = mishaps.frames(20.0)
    counts: list[int] = []

    def work() -> None:
        decoder = Decoder(VENUE)
        events = decoder.feed(frames)
        for event in events[::7]:
            event.to_dict()
        counts.append(len(events))

    work()
    rounds = 100_000 // counts[0] + 1
    held = len(frames) * 300
    # One leaked string in ten events would be megabytes.
    assert growth(work, rounds) < max(2_000_000, held // 2)
    assert sum(counts) > 200_000


def test_exporting_batches_does_not_grow(tmp_path: Path) -> None:
    mishaps.write(tmp_path / "recording.jsonl", 10.0)
    engine = Engine.importing(VENUE, [tmp_path / "recording.jsonl"], tmp_path / "tape", {}, check=False)
    cuts = list(cuts_of(engine))
    widest = max(cuts, key=lambda cut: len(cut.rows))
    size = sum(pa.record_batch(widest.batch(kind)).nbytes for kind in widest.rows)

    def work() -> None:
        for kind in widest.rows:
            pa.record_batch(widest.batch(kind))
            widest.batch(kind).__arrow_c_array__()

    assert size > 1_000
    assert growth(work, 3_000) < 1_500 * min(size, 1_000)


def test_books_and_engines_do_not_grow(tmp_path: Path) -> None:
    mishaps.write(tmp_path / "recording.jsonl", 2.0)
    engine = Engine.importing(VENUE, [tmp_path / "recording.jsonl"], tmp_path / "tape", {}, check=False)
    assert list(cuts_of(engine))
    levels = [(str(price), "1.5") for price in range(1, 2_000)]

    def work() -> None:
        book = OrderBook()
        book.apply(levels, levels)
        book.bids()
        replay = Engine.replaying(tmp_path / "tape")
        replay.drain()

    assert growth(work, 60) < 4_000_000
