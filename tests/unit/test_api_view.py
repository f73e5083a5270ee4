"""The newest rows in memory: bounded, per instrument, and never less than what the store lacks."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from coby.api.view import LiveView
from support.mishaps import MISHAPS, VENUE
from support.rows import MIDNIGHT, FakeCut
from support.serving import imported

RUN = 1 << 40


def cut(first: int, natives: list[str], kind: str = "trades") -> FakeCut:
    rows = pa.RecordBatch.from_pydict(
        {
            "pos": pa.array([RUN | (first + i) for i in range(len(natives))], pa.uint64()),
            "venue": pa.array(["v"] * len(natives)).dictionary_encode(),
            "native_symbol": pa.array(natives).dictionary_encode(),
            "ts_recv": pa.array([MIDNIGHT + first + i for i in range(len(natives))], pa.int64()),
        }
    )
    return FakeCut(RUN | first, RUN | (first + len(natives) - 1), {kind: rows})


def held(view: LiveView, kind: str = "trades") -> list[tuple[int, str]]:
    rows = [row for piece in view.pieces(kind) for row in piece.batch.to_pylist()]
    return [(row["pos"] - RUN, row["native_symbol"]) for row in rows]


def test_of_each_instrument_the_newest_rows_stay_however_busy_others_are() -> None:
    view = LiveView(kept={"trades": 5}, spare=50)
    random = Random(4)
    rows: list[tuple[int, str]] = []
    first = 1
    for _ in range(80):
        natives = [random.choice("AAAAAAAAAAB") if first > 30 else "C" for _ in range(random.randrange(1, 20))]
        view.take(cut(first, natives))
        rows += [(first + i, native) for i, native in enumerate(natives)]
        first += len(natives)
        kept = held(view)
        assert kept == sorted(kept)
        for native in "ABC":
            of_it = [row for row in rows if row[1] == native]
            shown = [row for row in kept if row[1] == native]
            assert shown[-5:] == of_it[-5:]
            assert shown == of_it[len(of_it) - len(shown) :], "no holes among those kept"
        assert len(kept) <= 15 + 50 + 20
    assert view.rows == len(rows)
    (hole,) = view.holes("trades")
    assert hole.last_pos == max(row[0] for row in rows if row not in held(view)) + RUN


def test_what_the_store_lacks_stays_until_it_is_too_much() -> None:
    watermark = 0
    view = LiveView(lambda: watermark, kept={"trades": 2}, spare=4, most_waiting=60)
    for i in range(5):
        view.take(cut(1 + 10 * i, ["A"] * 10))
    assert len(held(view)) == 50
    assert view.holes("trades") == ()
    watermark = RUN | 30
    for i in range(5, 9):
        view.take(cut(1 + 10 * i, ["A"] * 10))
    assert [pos for pos, _ in held(view)] == list(range(31, 91))
    assert view.holes("trades")[0].last_pos == RUN | 30
    for i in range(9, 13):
        view.take(cut(1 + 10 * i, ["A"] * 10))
    assert len(held(view)) < 60
    assert view.holes("trades")[0].last_pos > watermark, "readers are told that rows are missing"


def test_cuts_that_never_came_are_holes_and_new_runs_are_none() -> None:
    view = LiveView()
    view.take(cut(1, ["A", "A"]))
    view.take(cut(3, ["A"]))
    assert view.holes("trades") == ()
    later = cut(9, ["A"])
    view.take(later)
    (hole,) = view.holes("tops")
    assert (hole.last_pos, hole.first_ts, hole.last_ts) == (RUN | 8, MIDNIGHT + 3, MIDNIGHT + 9)
    other = cut(1, ["A"])
    view.take(FakeCut(2 * RUN | 1, 2 * RUN | 4, other.batches))
    assert len(view.holes("tops")) == 1
    view.take(FakeCut(3 * RUN | 2, 3 * RUN | 4, other.batches))
    assert len(view.holes("tops")) == 2


def test_untaped_rows_keep_their_mark_and_their_place() -> None:
    view = LiveView(kept={"trades": 30}, spare=5)
    for i in range(12):
        each = cut(1 + i, ["AB"[i % 2]])
        view.take(replace(each, untaped=i in {4, 5, 9}))
    marks = {row["pos"] - RUN: piece.untaped for piece in view.pieces("trades") for row in piece.batch.to_pylist()}
    assert marks == {pos: pos in {5, 6, 10} for pos in range(1, 13)}


@pytest.mark.parametrize("groups", [("heatmap_columns", 3), ("price_buckets", 3), ("candles", 4)])
def test_kinds_with_several_sizes_keep_each(tmp_path: Path, groups: tuple[str, int]) -> None:
    kind, count = groups
    view = LiveView(kept={kind: count}, spare=0)
    rows = []
    for each in imported(VENUE, tmp_path, 12.0, faults=MISHAPS):
        view.take(each)
        if kind in each.rows:
            rows += pa.record_batch(each.batch(kind)).to_pylist()
    names = {
        "heatmap_columns": ["bucket_size"],
        "price_buckets": ["bucket_size", "side"],
        "candles": ["interval", "source"],
    }
    keys = sorted({tuple(str(row[name]) for name in ("native_symbol", *names[kind])) for row in rows})
    kept = [row for piece in view.pieces(kind) for row in piece.batch.to_pylist()]
    for key in keys:
        of_key = [row for row in rows if tuple(str(row[name]) for name in ("native_symbol", *names[kind])) == key]
        # Where cuts end decides whether a little more than asked for is kept.
        assert [row for row in kept if row in of_key][-count:] == of_key[-count:]


def test_gaps_that_are_open_are_known(tmp_path: Path) -> None:
    view = LiveView()
    rows = []
    for each in imported(VENUE, tmp_path, 6.0, faults=MISHAPS):
        view.take(each)
        if "gaps" in each.rows:
            rows += pa.record_batch(each.batch("gaps")).to_pylist()
            closed = {row["id"] for row in rows if row["phase"] == "closed"}
            assert view.open_gaps.keys() == {row["id"] for row in rows} - closed
    assert view.open_gaps
    assert view.settled_ts(view.last_pos) == view.last_ts > view.settled_ts(view.last_pos // 2) == 0


def test_taking_a_cut_costs_no_time_per_row() -> None:
    import time

    natives = list(np.array(["A", "B", "C", "D"])[np.random.default_rng(1).integers(0, 4, 4096)])
    cuts = [cut(1 + i * 4096, natives) for i in range(40)]
    view = LiveView()
    began = time.process_time()
    for each in cuts:
        view.take(each)
    spent = time.process_time() - began
    began = time.process_time()
    for each in cuts[:4]:
        each.batch("trades").to_pylist()
    as_python = (time.process_time() - began) * 10
    assert spent < as_python / 2
