import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coby.storage import schema, tables
from coby.storage.files import Files
from coby.storage.tables import StoreReader, StoreWriter
from coby.utils.exceptions import StoreError, StoreLockedError
from support.rows import HOUR_NS, MIDNIGHT, SCHEMAS, FakeCut, Stream

STREAM = Stream.seeded(Random(3))


def filled(directory: Path) -> None:
    with StoreWriter(directory) as store:
        for first in range(1, STREAM.last_pos + 1, 10):
            store.append(STREAM.cut(first, first + 9))
            store.commit(first + 9)


def trades(*records: tuple[int, int]) -> dict[str, pa.RecordBatch]:
    """A trade for each (pos, ts_recv)."""
    rows = [{"pos": pos, "n": 0, "ts_recv": ts_recv, "venue": "x", "price": 1.5} for pos, ts_recv in records]
    return {"trades": pa.RecordBatch.from_pylist(rows, schema=SCHEMAS["trades"])}


def test_rows_wait_until_they_are_durable_on_the_tape(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        store.append(STREAM.cut(1, 30))
        store.append(STREAM.cut(31, 60))
        assert store.commit(29) == 0
        assert store.files() == []
        assert store.commit(59) == 30
        assert store.read("trades").to_pylist() == STREAM.until("trades", 30)
        assert store.rows_waiting == sum(STREAM.cut(31, 60).rows.values())
        assert store.commit(60) == 60
        assert store.rows_waiting == 0
    with StoreReader(tmp_path) as reader:
        assert reader.watermark == 60
        for kind in SCHEMAS:
            assert reader.read(kind).to_pylist() == STREAM.rows[kind]
            plain = [pa.string() if pa.types.is_dictionary(t) else t for t in SCHEMAS[kind].types]
            assert reader.read(kind).schema.types == plain
            assert reader.read(kind).column_names == SCHEMAS[kind].names


def test_what_did_not_wait_long_enough_comes_again_and_is_stored_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        store.append(STREAM.cut(1, 40))
        store.append(STREAM.cut(41, 60))
        store.commit(50)
    with StoreWriter(tmp_path) as store:
        store.append(STREAM.cut(1, 20))  # all of it is there
        store.append(STREAM.cut(21, 50))  # some of it is there
        store.append(STREAM.cut(45, 60))  # some of it waits
        store.commit(60)
        assert store.read("trades").to_pylist() == STREAM.rows["trades"]


def test_a_cut_without_rows_moves_the_watermark(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        store.append(FakeCut(1, 5, {}))
        assert store.commit(5) == 5
    with StoreReader(tmp_path) as reader:
        assert reader.watermark == 5


def test_files_are_laid_out_by_kind_day_and_position(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        store.append(FakeCut(7, 9, trades((7, MIDNIGHT - 1), (8, MIDNIGHT))))
        store.append(FakeCut(10, 10, trades((10, -1))))
        store.commit(10)
        paths = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*/*"))
    assert paths == [
        "trades/1969-12-31/10-10.parquet",
        "trades/2024-10-03/7-7.parquet",
        "trades/2024-10-04/8-8.parquet",
    ]


def test_rows_come_in_order_though_an_import_went_back_in_time(tmp_path: Path) -> None:
    batches = trades((1, MIDNIGHT), (2, MIDNIGHT - 1), (3, MIDNIGHT))
    with StoreWriter(tmp_path) as store:
        store.append(FakeCut(1, 3, batches))
        store.commit(3)
        assert store.read("trades")["pos"].to_pylist() == [1, 2, 3]
        assert store.read("trades", ["ts_recv"])["ts_recv"].to_pylist() == [MIDNIGHT, MIDNIGHT - 1, MIDNIGHT]
        assert store.read("trades", ["ts_recv"]).column_names == ["ts_recv"]


def test_compaction_keeps_every_row_and_one_file_a_day(tmp_path: Path) -> None:
    filled(tmp_path)
    with StoreWriter(tmp_path) as store, StoreReader(tmp_path) as reader:
        before = {kind: store.read(kind).to_pylist() for kind in SCHEMAS}
        days = sorted({file.day for file in store.files()})
        assert len(days) == 2
        assert store.compact(MIDNIGHT) > 1
        assert len([f for f in store.files("trades") if f.day == days[0]]) == 1
        assert len([f for f in store.files("trades") if f.day == days[1]]) > 1
        assert store.compact(MIDNIGHT) == 0
        assert store.compact(MIDNIGHT + HOUR_NS) > 1
        assert len(store.files("trades")) == 2
        for kind, rows in before.items():
            assert reader.read(kind).to_pylist() == rows
            stored = {tmp_path / file.path for file in reader.files(kind)}
            assert stored == set(tmp_path.glob(f"{kind}/*/*"))


def test_hours_are_merged_when_they_are_over_and_days_when_they_are(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        for pos, hour in enumerate((0, 0, 1, 1, 2, 2), 1):
            store.append(FakeCut(pos, pos, trades((pos, MIDNIGHT + hour * HOUR_NS + pos))))
            store.commit(pos)
        spans = []
        for now in (1, 2, 3, 24):
            store.compact(MIDNIGHT + now * HOUR_NS)
            spans.append([(file.first_pos, file.last_pos, file.rows) for file in store.files("trades")])
        assert spans == [
            [(1, 2, 2), (3, 3, 1), (4, 4, 1), (5, 5, 1), (6, 6, 1)],
            [(1, 2, 2), (3, 4, 2), (5, 5, 1), (6, 6, 1)],
            [(1, 2, 2), (3, 4, 2), (5, 6, 2)],
            [(1, 6, 6)],
        ]
        assert store.read("trades")["pos"].to_pylist() == [1, 2, 3, 4, 5, 6]


def test_no_file_grows_beyond_what_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    with StoreWriter(tmp_path) as store:
        before = store.files("trades")
        monkeypatch.setattr(tables, "_LARGEST_FILE", 2 * max(file.bytes for file in before))
        store.compact(1 << 62)
        after = store.files("trades")
        assert len(before) // 2 <= len(after) < len(before)
        assert store.read("trades").to_pylist() == STREAM.rows["trades"]


def test_what_is_merged_is_in_memory_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "ROW_GROUP_BYTES", 20_000)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 10)
    filled(tmp_path)
    with StoreWriter(tmp_path) as store:
        before = {kind: store.read(kind) for kind in SCHEMAS}
        assert store.compact(1 << 62) > 1
        for file in store.files():
            with pq.ParquetFile(tmp_path / file.path) as parquet:
                assert parquet.num_row_groups > 1 or file.bytes < 20_000
                for group in range(parquet.num_row_groups):
                    assert parquet.read_row_group(group).nbytes < 40_000
        assert {kind: store.read(kind) for kind in SCHEMAS} == before


def test_a_compaction_can_be_stopped_and_loses_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    with StoreWriter(tmp_path) as store:
        before = store.files()
        store.stopping.set()
        assert store.compact(1 << 62) == 0
        assert store.files() == before


def test_commits_and_compactions_go_on_side_by_side(tmp_path: Path) -> None:
    stream = Stream.seeded(Random(5), records=400)
    with StoreWriter(tmp_path) as store, ThreadPoolExecutor(1) as other:
        for first in range(1, stream.last_pos + 1, 10):
            compacting = other.submit(store.compact, 1 << 62)
            store.append(stream.cut(first, first + 9))
            assert store.commit(first + 9) == first + 9
            compacting.result()
        assert store.watermark == stream.last_pos
        for kind in SCHEMAS:
            assert store.read(kind).to_pylist() == stream.rows[kind]


@pytest.mark.parametrize("durable", [0, 9, 10, 15, 29, 30, 60])
def test_a_rewound_store_goes_on_where_it_was_whole(tmp_path: Path, durable: int) -> None:
    with StoreWriter(tmp_path) as store:
        store.append(STREAM.cut(1, 10))
        store.commit(10)
        store.append(STREAM.cut(11, 20))
        store.append(STREAM.cut(21, 30))
        store.rewind(durable)
        assert store.seen == (30 if durable >= 30 else 20 if durable >= 20 else 10)
        assert store.rows_waiting == sum(STREAM.cut(11, store.seen).rows.values())
        assert (store.bytes_waiting > 0) == (store.rows_waiting > 0)
        store.append(STREAM.cut(store.seen + 1, 60))
        store.commit(60)
        assert store.read("trades").to_pylist() == STREAM.rows["trades"]


def test_added_rows_are_committed_with_their_cut_and_only_then(tmp_path: Path) -> None:
    added = {"metrics": trades((3, MIDNIGHT), (14, MIDNIGHT))["trades"]}
    with StoreWriter(tmp_path) as store:
        assert store.read("metrics").num_rows == 0
        store.append(FakeCut(1, 10, {}), {"metrics": added["metrics"].slice(0, 1)})
        store.append(FakeCut(8, 20, {}), added)  # what was seen is left out here too
        assert store.commit(10) == 10
        assert store.read("metrics")["pos"].to_pylist() == [3]
        store.commit(20)
        assert store.read("metrics")["pos"].to_pylist() == [3, 14]


@pytest.mark.parametrize("kind", ["trades", "../metrics", "Metrics", ""])
def test_added_rows_cannot_go_where_the_core_s_are_or_elsewhere(tmp_path: Path, kind: str) -> None:
    with StoreWriter(tmp_path) as store:
        with pytest.raises(StoreError, match="cannot be added"):
            store.append(FakeCut(1, 10, {}), {kind: trades((3, MIDNIGHT))["trades"]})
        assert store.seen == 0


def test_a_part_of_the_rows_is_what_a_filter_of_all_of_them_would_be(tmp_path: Path) -> None:
    filled(tmp_path)
    rows = STREAM.rows["trades"]
    middle = int(str(rows[len(rows) // 2]["ts_recv"]))
    with StoreReader(tmp_path) as reader:
        for venue in (None, "a", "zz"):
            for start in (None, 0, middle):
                for end in (None, middle, 1 << 62):
                    chosen = [
                        row
                        for row in rows
                        if venue in (None, row["venue"])
                        and (start is None or int(str(row["ts_recv"])) >= start)
                        and (end is None or int(str(row["ts_recv"])) < end)
                    ]
                    read = reader.read("trades", venue=venue, start=start, end=end)
                    assert read.to_pylist() == chosen
                    first = reader.read("trades", ["price"], venue=venue, start=start, end=end, limit=3)
                    assert first.to_pylist() == [{"price": row["price"]} for row in chosen[:3]]


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as catalogue:
        catalogue.executescript(
            "ALTER TABLE files DROP COLUMN first_ts; ALTER TABLE files DROP COLUMN last_ts; PRAGMA user_version = 1"
        )
    with StoreWriter(tmp_path) as store:
        assert store.read("trades", start=0, end=1 << 62).to_pylist() == STREAM.rows["trades"]
        assert {(file.last_ts + 1 - file.first_ts) // HOUR_NS for file in store.files()} == {24}
        assert {file.day for file in store.files() if file.first_ts == MIDNIGHT} == {"2024-10-04"}


def test_a_reader_follows_a_compaction_under_its_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    with StoreWriter(tmp_path) as store, StoreReader(tmp_path) as reader:
        wanted = reader.read("trades").to_pylist()
        listed = reader.files

        def look_then_compact(kind: str | None = None) -> object:
            files = listed(kind)
            store.compact(1 << 62)
            return files

        monkeypatch.setattr(reader, "files", look_then_compact)
        assert reader.read("trades").to_pylist() == wanted


def test_a_crash_s_files_go_and_files_of_others_stay(tmp_path: Path) -> None:
    filled(tmp_path)
    day = next(tmp_path.glob("trades/*"))
    left = [day / "61-70.parquet", day / "61-70.parquet.tmp"]
    others = [day / "notes.txt", tmp_path / "tape" / "000" / "1-2.parquet", tmp_path / "tape" / "1.seg"]
    for path in left + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"?")
    with StoreWriter(tmp_path) as store:
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in others)
        assert store.read("trades").to_pylist() == STREAM.rows["trades"]


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with StoreWriter(tmp_path):
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()} writes to this store"):
            StoreWriter(tmp_path)
        with StoreReader(tmp_path) as reader:
            assert reader.watermark == 0
    with StoreWriter(tmp_path):
        pass


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from coby.storage.tables import StoreWriter;"
        "store = StoreWriter(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        with pytest.raises(StoreLockedError, match=f"process {writer.pid} "):
            StoreWriter(tmp_path)
        writer.send_signal(signal.SIGKILL)
    with StoreWriter(tmp_path):
        pass


class FullDisk(Files):
    """Fails at the chosen call of the chosen step, then works."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __getattribute__(self, name: str) -> object:
        if name == object.__getattribute__(self, "_step"):
            object.__setattr__(self, "_step", "")

            def fail(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            return fail
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("step", ["make_directory", "write", "sync", "rename", "sync_directory", "commit"])
def test_after_a_failed_commit_the_rows_still_wait(tmp_path: Path, step: str) -> None:
    with StoreWriter(tmp_path) as store:
        store.close()
    with StoreWriter(tmp_path, files=FullDisk(step)) as store:
        store.append(STREAM.cut(1, 60))
        with pytest.raises(StoreError, match="No space left on device"):
            store.commit(60)
        assert store.watermark == 0
        assert store.files() == []
        assert list(tmp_path.glob("*/*/*")) == [], "what was written before it failed"
        assert store.commit(60) == 60
        assert store.read("trades").to_pylist() == STREAM.rows["trades"]


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-20])])
def test_a_lost_or_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: object) -> None:
    filled(tmp_path)
    with StoreReader(tmp_path) as reader:
        path = tmp_path / reader.files("trades")[1].path
        assert callable(damage)
        damage(path)
        with pytest.raises(StoreError, match=f"{path.name}.*import again") as caught:
            reader.read("trades")
        assert caught.value.code == "store.damaged"


def test_a_file_with_other_rows_than_catalogued_is_damaged(tmp_path: Path) -> None:
    filled(tmp_path)
    with StoreReader(tmp_path) as reader:
        path = tmp_path / reader.files("trades")[0].path
        pq.write_table(pq.read_table(path).slice(1), path)
        with pytest.raises(StoreError, match="the catalogue says"):
            reader.read("trades")


def test_what_is_no_store_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        StoreReader(tmp_path)
    (tmp_path / "catalogue.sqlite").write_bytes(b"not a database" * 100)
    for kind in (StoreReader, StoreWriter):
        with pytest.raises(StoreError, match="not a database"):
            kind(tmp_path)


def test_a_newer_catalogue_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as catalogue:
        catalogue.execute("PRAGMA user_version = 99")
    catalogue.close()
    stray = tmp_path / "trades" / "2024-10-04" / "99-99.parquet"
    stray.write_bytes(b"")
    for kind in (StoreReader, StoreWriter):
        with pytest.raises(StoreError, match="newer COBY"):
            kind(tmp_path)
    assert stray.exists()


def test_the_catalogue_survives_power_cuts_by_its_settings(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as store:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2)):
            assert store._catalogue.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_a_kind_that_does_not_exist_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    with (
        StoreReader(tmp_path) as reader,
        pytest.raises(StoreError, match=r'no kind of row "trade"; there are .*trades'),
    ):
        reader.read("trade")
