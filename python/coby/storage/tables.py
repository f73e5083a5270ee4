"""The embedded store's tables: Parquet files by kind and day, and an SQLite catalogue of those that count.

A commit writes its files beside their place, syncs them, renames them, syncs their directories, and then enters them
and the watermark in one transaction. A file that is not in the catalogue does not exist: it is what a crash left.
"""

import contextlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from itertools import pairwise
from operator import and_
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coby.interfaces import Cut, Rows
from coby.storage import schema
from coby.storage.files import Files
from coby.storage.lock import WriterLock
from coby.utils.exceptions import StoreError

_CATALOGUE = "catalogue.sqlite"
_LOCK = "store.lock"
_TEMPORARY = ".tmp"
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FILE = re.compile(r"\d+-\d+\.parquet(\.tmp)?")
_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS
_LARGEST_FILE = 16 << 20
"""A file is put together in memory before it is written."""
_BATCH_ROWS = 4096
_READ_BYTES = 1 << 16
"""How much of a file, and of its rows, is read at a time when files are merged."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A catalogued file: the rows of `kind` on `day` (UTC, of `ts_recv`) with positions `first_pos..=last_pos`.

    Their receive times lie in `first_ts..=last_ts`.
    """

    kind: str
    day: str
    first_pos: int
    last_pos: int
    rows: int
    bytes: int
    first_ts: int
    last_ts: int

    @property
    def path(self) -> Path:
        """Its place below the data directory."""
        return Path(self.kind, self.day, f"{self.first_pos}-{self.last_pos}.parquet")


@dataclass(frozen=True, slots=True)
class _Waiting:
    last_pos: int
    batches: dict[str, pa.RecordBatch]

    @property
    def rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches.values())

    @property
    def bytes(self) -> int:
        return sum(batch.nbytes for batch in self.batches.values())


class StoreReader:
    """Reads a store, also while another process writes to it.

    Args:
        directory: The data directory.

    Raises:
        StoreError: There is no store, or one of a newer version.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not (self.directory / _CATALOGUE).exists():
            raise StoreError(f"{directory}: there is no store here", "store.missing", {"path": str(directory)})
        self._turn = threading.RLock()
        self._catalogue = self._open()
        self._catalogue.execute("PRAGMA query_only = ON")

    def _open(self) -> sqlite3.Connection:
        path = self.directory / _CATALOGUE
        catalogue = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            (version,) = catalogue.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            catalogue.close()
            raise StoreError(f"{path}: {error}", "store.catalogue", {"path": str(path)}) from error
        if version > schema.CATALOGUE_VERSION:
            catalogue.close()
            raise StoreError(
                f"{path}: written by a newer COBY (version {version}, this one reads {schema.CATALOGUE_VERSION})",
                "store.newer",
                {"path": str(path), "version": version},
            )
        return catalogue

    @property
    def watermark(self) -> int:
        """Every row of a position up to this one is in the store, once; 0 where there is none yet."""
        with self._turn:
            (last_pos,) = self._catalogue.execute("SELECT last_pos FROM watermark").fetchone()
        return int(last_pos)

    def files(self, kind: str | None = None) -> list[StoredFile]:
        """The catalogued files, of one kind or all, in the order of their positions."""
        query = (
            "SELECT kind, day, first_pos, last_pos, rows, bytes, first_ts, last_ts FROM files"
            " WHERE ?1 IS NULL OR kind = ?1 ORDER BY first_pos, last_pos, day, kind"
        )
        with self._turn:
            return [StoredFile(*row) for row in self._catalogue.execute(query, (kind,))]

    def read(
        self,
        kind: str,
        columns: Sequence[str] | None = None,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The rows of a kind, ordered by `(pos, n)`; all columns, or those named.

        Args:
            kind: Kind of rows.
            columns: Only these.
            venue: Only of this venue.
            symbol: Only of this symbol, canonical or the venue's own.
            start: Only received at or after this time, nanoseconds.
            end: Only received before this time, nanoseconds.
            limit: At most so many rows, the first ones.

        Raises:
            StoreError: There is no such kind, or a catalogued file is missing or damaged.
        """
        wanted = _filter(venue, symbol, start, end)

        def read(files: list[StoredFile]) -> pa.Table:
            chosen = [
                file
                for file in files
                if (start is None or file.last_ts >= start) and (end is None or file.first_ts < end)
            ]
            return self._read(kind, chosen, columns, wanted, limit)

        return self._consistently(kind, read)

    def latest(self, kind: str, venue: str, symbol: str, at: int | None = None) -> dict[str, Any] | None:
        """The last row of a symbol, canonical or the venue's own, received at or before a time; None without one.

        Raises:
            StoreError: As for `read`.
        """
        wanted = _filter(venue, symbol, None, None if at is None else at + 1)

        def search(files: list[StoredFile]) -> dict[str, Any] | None:
            for file in reversed(files):
                if at is None or file.first_ts <= at:
                    rows = self._load(file, None, wanted)
                    if rows.num_rows:
                        row: dict[str, Any] = rows.slice(rows.num_rows - 1).to_pylist()[0]
                        return row
            return None

        return self._consistently(kind, search)

    def _consistently(self, kind: str, read: Callable[[list[StoredFile]], T]) -> T:
        while True:
            files = self.files(kind)
            try:
                return read(files)
            except StoreError:
                # A compaction may have replaced files between the look at the catalogue and the reading.
                if self.files(kind) == files:
                    raise

    def _read(
        self,
        kind: str,
        files: list[StoredFile],
        columns: Sequence[str] | None,
        wanted: pc.Expression | None,
        limit: int | None,
    ) -> pa.Table:
        if not files:
            return self._empty(kind, columns)
        # Files of neighbouring days interleave where an import went back in time inside one commit.
        interleaved = any(after.first_pos <= before.last_pos for before, after in pairwise(files))
        names = list(columns) if columns is not None else None
        loaded = [*names, *({"pos", "n"} - set(names))] if names is not None and interleaved else names
        tables: list[pa.Table] = []
        for file in files:
            tables.append(self._load(file, loaded, wanted))
            if limit is not None and not interleaved and sum(table.num_rows for table in tables) >= limit:
                break
        table = pa.concat_tables(tables, promote_options="default")
        if interleaved:
            table = _sorted(table)
        if limit is not None:
            table = table.slice(0, limit)
        return table.select(names) if names is not None else table

    def _empty(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        known = schema.schemas() | dict.fromkeys(schema.ADDED, schema.head())
        if kind not in known:
            raise StoreError(f'there is no kind of row "{kind}"; there are {", ".join(known)}', "store.kind")
        table = known[kind].empty_table()
        return table.select(list(columns)) if columns is not None else table

    def _load(self, file: StoredFile, columns: list[str] | None, wanted: pc.Expression | None = None) -> pa.Table:
        path = self.directory / file.path
        try:
            with pq.ParquetFile(path) as parquet:
                self._check_rows(path, parquet, file)
                table = parquet.read(columns) if wanted is None else None
            if table is None:
                table = pq.read_table(path, columns=columns, filters=wanted, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(path, str(error)) from error
        return table

    def _check_rows(self, path: Path, parquet: pq.ParquetFile, file: StoredFile) -> None:
        rows = parquet.metadata.num_rows
        if rows != file.rows:
            raise self._damaged(path, f"has {rows} rows, the catalogue says {file.rows}")

    def _damaged(self, path: Path, what: str) -> StoreError:
        return StoreError(
            f"{path}: {what}; restore it, or remove {self.directory / _CATALOGUE} and import again from the tape",
            "store.damaged",
            {"path": str(path)},
        )

    def close(self) -> None:
        """Ends it; again is harmless."""
        self._catalogue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StoreWriter(StoreReader):
    """The writer of a store. Rows wait in memory from `append` until a `commit` that may take them.

    Opening it removes what a crash left: files that no transaction has entered. One thread appends and commits; another
    one may compact or read meanwhile.

    Args:
        directory: The data directory; made if it is not there.
        files: The file layer.

    Raises:
        StoreLockedError: Another writer is at work.
        StoreError: The store cannot be opened, or is of a newer version.
    """

    def __init__(self, directory: str | Path, *, files: Files | None = None) -> None:
        self.directory = Path(directory)
        self._files = files or Files()
        self._synced: set[Path] = set()
        self._waiting: list[_Waiting] = []
        self._turn = threading.RLock()
        self.rows_waiting = 0
        self.bytes_waiting = 0
        self.stopping = threading.Event()
        """Set, it ends a compaction after the file that is being written."""
        with store_errors(self.directory), contextlib.ExitStack() as undo:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = undo.enter_context(WriterLock(self.directory / _LOCK))
            self._catalogue = undo.enter_context(contextlib.closing(self._open()))
            self._prepare()
            self.seen = self.watermark
            self._remove_uncatalogued()
            undo.pop_all()

    def _prepare(self) -> None:
        self._catalogue.execute("PRAGMA journal_mode = WAL")
        self._catalogue.execute("PRAGMA synchronous = FULL")
        (version,) = self._catalogue.execute("PRAGMA user_version").fetchone()
        scripts = schema.CATALOGUE[version:]
        if scripts:
            self._catalogue.execute("BEGIN IMMEDIATE")
            for statement in ";".join(scripts).split(";"):
                self._catalogue.execute(statement)
            self._files.commit(self._catalogue)
            self._files.sync_directory(self.directory)

    def _remove_uncatalogued(self) -> None:
        catalogued = {self.directory / file.path for file in self.files()}
        for path in self.directory.glob("*/*/*"):
            ours = _KIND.fullmatch(path.parts[-3]) and _DAY.fullmatch(path.parts[-2]) and _FILE.fullmatch(path.name)
            if ours and path not in catalogued:
                self._files.remove(path)

    def append(self, cut: Cut, extra: Rows | None = None) -> None:
        """Takes a cut, and rows that were added to it. Rows that the store has, by their position, are left out.

        Cuts come in the order of their positions; after a restart they may overlap what the store has.

        Raises:
            StoreError: The added rows are of a kind of the cut, or of none that could be a table; nothing was taken.
        """
        if cut.last_pos <= self.seen:
            return
        kinds = cut.rows
        for kind in extra or {}:
            if kind in schema.schemas() or not _KIND.fullmatch(kind):
                raise StoreError(f'rows of the kind "{kind}" cannot be added to a cut', "store.kind", {"kind": kind})
        offered = {kind: cut.batch(kind) for kind in kinds} | dict(extra or {})
        batches = {}
        for kind, rows in offered.items():
            batch = pa.record_batch(rows)
            if cut.first_pos <= self.seen:
                batch = batch.filter(pc.greater(batch["pos"], pa.scalar(self.seen, pa.uint64())))
            if batch.num_rows:
                batches[kind] = batch
        waiting = _Waiting(cut.last_pos, batches)
        self._waiting.append(waiting)
        self.rows_waiting += waiting.rows
        self.bytes_waiting += waiting.bytes
        self.seen = cut.last_pos

    def commit(self, durable_pos: int) -> int:
        """Makes the waiting cuts durable that end at or before `durable_pos`, all at once, and returns the watermark.

        Raises:
            StoreError: Nothing was committed; the cuts still wait, and committing again may succeed.
        """
        ready = [waiting for waiting in self._waiting if waiting.last_pos <= durable_pos]
        if not ready:
            return self.watermark
        written: list[StoredFile] = []
        with store_errors(self.directory), self._undone(written):
            for kind in sorted({kind for waiting in ready for kind in waiting.batches}):
                for day, rows in _by_day(_joined([w.batches[kind] for w in ready if kind in w.batches])):
                    written.append(self._put(kind, day, [rows]))
            for directory in sorted({(self.directory / file.path).parent for file in written}):
                self._files.sync_directory(directory)
            self._enter(written, [], ready[-1].last_pos)
        self._keep(self._waiting[len(ready) :])
        return ready[-1].last_pos

    def rewind(self, durable_pos: int) -> None:
        """Forgets the waiting cuts that end behind `durable_pos`; `seen` is then where cuts have to go on from."""
        self._keep([waiting for waiting in self._waiting if waiting.last_pos <= durable_pos])
        self.seen = self._waiting[-1].last_pos if self._waiting else self.watermark

    def _keep(self, waiting: list[_Waiting]) -> None:
        self._waiting = waiting
        self.rows_waiting = sum(cut.rows for cut in waiting)
        self.bytes_waiting = sum(cut.bytes for cut in waiting)

    def compact(self, now: int) -> int:
        """Merges the files of each hour that is over, and those of each day that is over; returns how many went.

        No file becomes larger than 16 MiB by it, and no more rows than a row group are in memory at a time.

        Args:
            now: The time, nanoseconds.

        Raises:
            StoreError: A file is damaged, or the disk failed; every row is there nevertheless.
        """
        groups: dict[tuple[str, str, int], list[StoredFile]] = {}
        for file in self.files():
            day_is_over = (file.last_ts // _DAY_NS + 1) * _DAY_NS <= now
            hour = file.last_ts // _HOUR_NS
            if day_is_over or (hour + 1) * _HOUR_NS <= now:
                groups.setdefault((file.kind, file.day, 0 if day_is_over else hour), []).append(file)
        gone = 0
        for files in groups.values():
            for parts in _portions(files):
                if self.stopping.is_set():
                    return gone
                with store_errors(self.directory):
                    gone += self._merge(parts)
        return gone

    def _merge(self, parts: list[StoredFile]) -> int:
        if len(parts) == 1:
            return 0
        written: list[StoredFile] = []
        with self._undone(written):
            # Parts of one day follow each other: no commit has two files of one kind and day.
            written.append(self._put(parts[0].kind, parts[0].day, self._in_portions(parts)))
            self._files.sync_directory((self.directory / written[0].path).parent)
            self._enter(written, parts, None)
        for part in parts:
            self._files.remove(self.directory / part.path)
        return len(parts)

    def _in_portions(self, parts: list[StoredFile]) -> Iterator[pa.Table]:
        """The rows of all parts, in tables that are worth a row group each."""
        paths = [self.directory / part.path for part in parts]
        nothing = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="default").empty_table()
        gathered: list[pa.Table] = []
        for part in parts:
            for rows in self._in_batches(part):
                gathered.append(rows)
                if sum(table.nbytes for table in gathered) >= schema.ROW_GROUP_BYTES:
                    yield pa.concat_tables([nothing, *gathered], promote_options="default")
                    gathered = []
        if gathered:
            yield pa.concat_tables([nothing, *gathered], promote_options="default")

    def _in_batches(self, file: StoredFile) -> Iterator[pa.Table]:
        path = self.directory / file.path
        try:
            with pq.ParquetFile(path, buffer_size=_READ_BYTES) as parquet:
                self._check_rows(path, parquet, file)
                for batch in parquet.iter_batches(_BATCH_ROWS, use_threads=False):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(path, str(error)) from error

    @contextlib.contextmanager
    def _undone(self, written: list[StoredFile]) -> Iterator[None]:
        """After a failure the files that no transaction has entered go: a full disk has better use for their bytes."""
        try:
            yield
        except Exception:
            for file in written:
                with contextlib.suppress(OSError):
                    self._files.remove(self.directory / file.path)
            raise

    def _put(self, kind: str, day: str, tables: Iterable[pa.Table]) -> StoredFile:
        sink = pa.BufferOutputStream()
        writer: pq.ParquetWriter | None = None
        spans: list[tuple[int, int]] = []
        times: list[tuple[int, int]] = []
        count = 0
        for rows in tables:
            if writer is None:
                writer = pq.ParquetWriter(sink, rows.schema, **schema.parquet_options(rows.schema))
            writer.write_table(rows, row_group_size=schema.ROW_GROUP)
            spans.append(_bounds(rows["pos"]))
            times.append(_bounds(rows["ts_recv"].cast(pa.int64())))
            count += rows.num_rows
        if writer is None:
            raise StoreError("a file needs rows", "store.empty")
        writer.close()
        data = memoryview(sink.getvalue())
        file = StoredFile(kind, day, *_around(spans), count, data.nbytes, *_around(times))
        path = self.directory / file.path
        temporary = path.with_name(path.name + _TEMPORARY)
        self._durable_directory(path.parent)
        try:
            self._files.write(temporary, data)
            self._files.sync(temporary)
            self._files.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.remove(temporary)
            raise
        return file

    def _durable_directory(self, path: Path) -> None:
        # A directory that is there need not be durable: its maker may have died before it synced. Once per process.
        if path == self.directory or path in self._synced:
            return
        self._durable_directory(path.parent)
        self._files.make_directory(path)
        self._files.sync_directory(path.parent)
        self._synced.add(path)

    def _enter(self, new: list[StoredFile], old: list[StoredFile], watermark: int | None) -> None:
        run = self._catalogue.execute
        with self._turn:
            run("BEGIN IMMEDIATE")
            try:
                for file in old:
                    run(
                        "DELETE FROM files WHERE kind = ? AND day = ? AND first_pos = ? AND last_pos = ?",
                        (file.kind, file.day, file.first_pos, file.last_pos),
                    )
                for file in new:
                    run("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(file))
                if watermark is not None:
                    run("UPDATE watermark SET last_pos = ?", (watermark,))
                self._files.commit(self._catalogue)
            except BaseException:
                if self._catalogue.in_transaction:
                    run("ROLLBACK")
                raise

    def close(self) -> None:
        """Ends it without committing what waits; again is harmless."""
        super().close()
        self._lock.close()


def _filter(venue: str | None, symbol: str | None, start: int | None, end: int | None) -> pc.Expression | None:
    parts: list[pc.Expression] = []
    if venue is not None:
        parts.append(pc.field("venue") == venue)
    if symbol is not None:
        parts.append((pc.field("symbol") == symbol) | (pc.field("native_symbol") == symbol))
    if start is not None:
        parts.append(pc.field("ts_recv") >= start)
    if end is not None:
        parts.append(pc.field("ts_recv") < end)
    return reduce(and_, parts) if parts else None


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    # Processors may be others than before a restart, and with them the columns that they add.
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="default")


def _portions(files: list[StoredFile]) -> Iterator[list[StoredFile]]:
    portion: list[StoredFile] = []
    for file in files:
        if portion and sum(part.bytes for part in portion) + file.bytes > _LARGEST_FILE:
            yield portion
            portion = []
        portion.append(file)
    yield portion


def _bounds(column: "pa.ChunkedArray[Any]") -> tuple[int, int]:
    return pc.min(column).as_py(), pc.max(column).as_py()


def _around(bounds: list[tuple[int, int]]) -> tuple[int, int]:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _sorted(rows: pa.Table) -> pa.Table:
    return rows.sort_by([("pos", "ascending"), ("n", "ascending")])


def _by_day(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    days = rows["ts_recv"].cast(pa.int64()).cast(pa.timestamp("ns")).cast(pa.date32())
    names = days.unique()
    for day in names:
        yield day.as_py().isoformat(), rows if len(names) == 1 else rows.filter(pc.equal(days, day))


@contextlib.contextmanager
def store_errors(directory: Path) -> Iterator[None]:
    """Makes what disk, catalogue and files complain about errors of the store."""
    try:
        yield
    except (OSError, sqlite3.Error, pa.ArrowException) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StoreError(f"{directory}: {what}", "store.write", {"path": str(directory)}) from error
