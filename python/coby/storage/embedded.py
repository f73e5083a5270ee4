"""The embedded store: Parquet files by kind and day, and an SQLite catalogue that says which of them count.

A commit writes its files beside their place, syncs them, renames them, syncs their directories, and then enters them
and the watermark in one transaction. A file that is not in the catalogue does not exist: it is what a crash left.
"""

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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


class SupportsArrow(Protocol):
    """What hands over a record batch through the Arrow PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: object | None = None, /) -> tuple[object, object]: ...


class Cut(Protocol):
    """Rows of the positions `first_pos..=last_pos`; `coby._core.Cut` is one."""

    @property
    def first_pos(self) -> int:
        """First position covered."""

    @property
    def last_pos(self) -> int:
        """Last position covered."""

    @property
    def rows(self) -> Mapping[str, int]:
        """Row count by kind."""

    def batch(self, kind: str, /) -> SupportsArrow:
        """The rows of a kind, ordered by `(pos, n)`."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A catalogued file: the rows of `kind` on `day` (UTC, of `ts_recv`) with positions `first_pos..=last_pos`."""

    kind: str
    day: str
    first_pos: int
    last_pos: int
    rows: int
    bytes: int

    @property
    def path(self) -> Path:
        """Its place below the data directory."""
        return Path(self.kind, self.day, f"{self.first_pos}-{self.last_pos}.parquet")


@dataclass(frozen=True, slots=True)
class _Waiting:
    last_pos: int
    batches: dict[str, pa.RecordBatch]


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
        (last_pos,) = self._catalogue.execute("SELECT last_pos FROM watermark").fetchone()
        return int(last_pos)

    def files(self, kind: str | None = None) -> list[StoredFile]:
        """The catalogued files, of one kind or all, in the order of their positions."""
        query = (
            "SELECT kind, day, first_pos, last_pos, rows, bytes FROM files WHERE ?1 IS NULL OR kind = ?1"
            " ORDER BY first_pos, last_pos, day, kind"
        )
        return [StoredFile(*row) for row in self._catalogue.execute(query, (kind,))]

    def read(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a kind, ordered by `(pos, n)`; all columns, or those named.

        Raises:
            StoreError: There is no such kind, or a catalogued file is missing or damaged.
        """
        while True:
            files = self.files(kind)
            try:
                return self._read(kind, files, columns)
            except StoreError:
                # A compaction may have replaced files between the look at the catalogue and the reading.
                if self.files(kind) == files:
                    raise

    def _read(self, kind: str, files: list[StoredFile], columns: Sequence[str] | None) -> pa.Table:
        if not files:
            return self._empty(kind, columns)
        # Files of neighbouring days interleave where an import went back in time inside one commit.
        interleaved = any(after.first_pos <= before.last_pos for before, after in pairwise(files))
        wanted = list(columns) if columns is not None else None
        loaded = [*columns, "pos", "n"] if columns is not None and interleaved else wanted
        table = pa.concat_tables([self._load(file, loaded) for file in files], promote_options="default")
        if interleaved:
            table = _sorted(table)
        return table.select(wanted) if wanted is not None else table

    def _empty(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        known = schema.schemas()
        if kind not in known:
            raise StoreError(f'there is no kind of row "{kind}"; there are {", ".join(known)}', "store.kind")
        table = known[kind].empty_table()
        return table.select(list(columns)) if columns is not None else table

    def _load(self, file: StoredFile, columns: list[str] | None) -> pa.Table:
        path = self.directory / file.path
        try:
            with pq.ParquetFile(path) as parquet:
                table = parquet.read(columns)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(path, str(error)) from error
        if table.num_rows != file.rows:
            raise self._damaged(path, f"has {table.num_rows} rows, the catalogue says {file.rows}")
        return table

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


class EmbeddedStore(StoreReader):
    """The writer of a store. Rows wait in memory from `append` until a `commit` that may take them.

    Opening it removes what a crash left: files that no transaction has entered.

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
        self.rows_waiting = 0
        with _store_errors(self.directory), contextlib.ExitStack() as undo:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = undo.enter_context(WriterLock(self.directory / _LOCK))
            self._catalogue = undo.enter_context(contextlib.closing(self._open()))
            self._prepare()
            self._seen = self.watermark
            self._remove_uncatalogued()
            undo.pop_all()

    def _prepare(self) -> None:
        self._catalogue.execute("PRAGMA journal_mode = WAL")
        self._catalogue.execute("PRAGMA synchronous = FULL")
        (version,) = self._catalogue.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._catalogue.execute("BEGIN IMMEDIATE")
            for statement in schema.CATALOGUE.split(";"):
                self._catalogue.execute(statement)
            self._files.commit(self._catalogue)
            self._files.sync_directory(self.directory)

    def _remove_uncatalogued(self) -> None:
        catalogued = {self.directory / file.path for file in self.files()}
        for path in self.directory.glob("*/*/*"):
            ours = _KIND.fullmatch(path.parts[-3]) and _DAY.fullmatch(path.parts[-2]) and _FILE.fullmatch(path.name)
            if ours and path not in catalogued:
                self._files.remove(path)

    def append(self, cut: Cut) -> None:
        """Takes a cut. Rows that the store has, by their position, are left out.

        Cuts come in the order of their positions; after a restart they may overlap what the store has.
        """
        if cut.last_pos <= self._seen:
            return
        batches = {}
        for kind in cut.rows:
            batch = pa.record_batch(cut.batch(kind))
            if cut.first_pos <= self._seen:
                batch = batch.filter(pc.greater(batch["pos"], pa.scalar(self._seen, pa.uint64())))
            if batch.num_rows:
                batches[kind] = batch
                self.rows_waiting += batch.num_rows
        self._waiting.append(_Waiting(cut.last_pos, batches))
        self._seen = cut.last_pos

    def commit(self, durable_pos: int) -> int:
        """Makes the waiting cuts durable that end at or before `durable_pos`, all at once, and returns the watermark.

        Raises:
            StoreError: Nothing was committed; the cuts still wait, and committing again may succeed.
        """
        ready = [waiting for waiting in self._waiting if waiting.last_pos <= durable_pos]
        if not ready:
            return self.watermark
        with _store_errors(self.directory):
            written = [
                self._write(kind, day, rows)
                for kind in sorted({kind for waiting in ready for kind in waiting.batches})
                for day, rows in _by_day(pa.Table.from_batches([w.batches[kind] for w in ready if kind in w.batches]))
            ]
            for directory in sorted({(self.directory / file.path).parent for file in written}):
                self._files.sync_directory(directory)
            self._enter(written, [], ready[-1].last_pos)
        del self._waiting[: len(ready)]
        self.rows_waiting -= sum(file.rows for file in written)
        return ready[-1].last_pos

    def compact(self, before: str) -> int:
        """Merges the files of each kind and day earlier than `before` (a day) into one; returns how many went.

        Raises:
            StoreError: A file is damaged, or the disk failed; the store is as it was.
        """
        merged: dict[tuple[str, str], list[StoredFile]] = {}
        for file in self.files():
            if file.day < before:
                merged.setdefault((file.kind, file.day), []).append(file)
        gone = 0
        for (kind, day), parts in merged.items():
            if len(parts) == 1:
                continue
            with _store_errors(self.directory):
                rows = pa.concat_tables([self._load(part, None) for part in parts], promote_options="default")
                whole = self._write(kind, day, _sorted(rows))
                self._files.sync_directory((self.directory / whole.path).parent)
                self._enter([whole], parts, self.watermark)
                for part in parts:
                    self._files.remove(self.directory / part.path)
            gone += len(parts)
        return gone

    def _write(self, kind: str, day: str, rows: pa.Table) -> StoredFile:
        first_pos, last_pos = pc.min(rows["pos"]).as_py(), pc.max(rows["pos"]).as_py()
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, **schema.parquet_options(rows.schema))
        data = memoryview(sink.getvalue())
        file = StoredFile(kind, day, first_pos, last_pos, rows.num_rows, data.nbytes)
        path = self.directory / file.path
        temporary = path.with_name(path.name + _TEMPORARY)
        self._durable_directory(path.parent)
        self._files.write(temporary, data)
        self._files.sync(temporary)
        self._files.rename(temporary, path)
        return file

    def _durable_directory(self, path: Path) -> None:
        # A directory that is there need not be durable: its maker may have died before it synced. Once per process.
        if path == self.directory or path in self._synced:
            return
        self._durable_directory(path.parent)
        self._files.make_directory(path)
        self._files.sync_directory(path.parent)
        self._synced.add(path)

    def _enter(self, new: list[StoredFile], old: list[StoredFile], watermark: int) -> None:
        run = self._catalogue.execute
        run("BEGIN IMMEDIATE")
        try:
            for file in old:
                run(
                    "DELETE FROM files WHERE kind = ? AND day = ? AND first_pos = ? AND last_pos = ?",
                    (file.kind, file.day, file.first_pos, file.last_pos),
                )
            for file in new:
                run(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)",
                    (file.kind, file.day, file.first_pos, file.last_pos, file.rows, file.bytes),
                )
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


def _sorted(rows: pa.Table) -> pa.Table:
    return rows.sort_by([("pos", "ascending"), ("n", "ascending")])


def _by_day(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    days = rows["ts_recv"].cast(pa.int64()).cast(pa.timestamp("ns")).cast(pa.date32())
    names = days.unique()
    for day in names:
        yield day.as_py().isoformat(), rows if len(names) == 1 else rows.filter(pc.equal(days, day))


@contextlib.contextmanager
def _store_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, pa.ArrowException) as error:
        raise StoreError(f"{directory}: {error}", "store.write", {"path": str(directory)}) from error
