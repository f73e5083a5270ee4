"""Reading parts of the embedded store: only the files, row groups and columns that a question is about."""

import functools
import operator
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from coby.storage import schema
from coby.utils.exceptions import StoreError

_DAY_NS = 86_400 * 10**9
_REACH = {"ts_recv": (0, 0), "t": (0, 2 * 3600 * 10**9)}
"""By how much, at most, a time of a row lies ahead of, and behind, the time at which the row was released."""


_SMALL = 1 << 20
"""Files up to this size are read whole and kept; of larger ones only what is asked for is read."""


class File(Protocol):
    """A catalogued file."""

    @property
    def first_pos(self) -> int:
        """Position of its first row."""

    @property
    def last_pos(self) -> int:
        """Position of its last row."""

    @property
    def first_ts(self) -> int:
        """The least receive time of its rows."""

    @property
    def last_ts(self) -> int:
        """The greatest receive time of its rows."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def path(self) -> Path:
        """Its place below the data directory."""


class Catalogue(Protocol):
    """What is needed of a `StoreReader`."""

    directory: Path

    @property
    def watermark(self) -> int:
        """Every row of a position up to this one is in the store."""

    def files(self, kind: str | None = None) -> Sequence[File]:
        """The files that count, in the order of their positions."""


class Selection:
    """Questions to a store, also while it is written to; calls may come from several threads.

    Args:
        catalogue: A connection of its own: one that is also written through shows what is not committed.
        cached_bytes: How much of small files may be kept in memory: what was committed of late is asked for most.
    """

    def __init__(self, catalogue: Catalogue, *, cached_bytes: int = 16 << 20) -> None:
        self.catalogue = catalogue
        self._cache = _Cache(cached_bytes)

    @property
    def watermark(self) -> int:
        """Every row of a position up to this one is in the store, once; 0 where there is none yet."""
        return self.catalogue.watermark

    def select(
        self,
        kind: str,
        columns: Sequence[str] | None = None,
        *,
        where: Mapping[str, object] | None = None,
        by: str = "ts_recv",
        start: int | None = None,
        end: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> pa.Table:
        """The committed rows of a kind that fit, ordered by `(pos, n)`.

        Args:
            kind: As the core names it.
            columns: Only these columns, and `pos` and `n`.
            where: Values that columns must have.
            by: The column of times that `start` (inclusive) and `end` (exclusive) bound, nanoseconds.
            start: See `by`.
            end: See `by`.
            after: Only rows of later positions.
            limit: At most so many rows, the first ones.
            newest: The last `limit` rows instead.

        Raises:
            StoreError: There is no such kind, or a catalogued file is missing or damaged.
        """
        wanted = None if columns is None else list(dict.fromkeys([*columns, "pos", "n"]))
        fits = _Fitting(where or {}, by, start, end, after)
        while True:
            files = self.catalogue.files(kind)
            parts = [file for file in files if _may_hold(file, by, start, end, after)]
            # Files of neighbouring days interleave where an import went back in time inside one commit.
            interleaved = any(later.first_pos <= earlier.last_pos for earlier, later in pairwise(parts))
            enough = None if interleaved else limit
            try:
                table = self._rows(kind, parts[::-1] if newest else parts, wanted, fits, enough)
            except StoreError:
                # A compaction may have replaced files between the look at the catalogue and the reading.
                if self.catalogue.files(kind) == files:
                    raise
                continue
            if newest or interleaved:
                table = table.sort_by([("pos", "ascending"), ("n", "ascending")])
            if limit is None:
                return table
            return table.slice(max(0, table.num_rows - limit)) if newest else table.slice(0, limit)

    def _rows(
        self,
        kind: str,
        files: Sequence[File],
        columns: list[str] | None,
        fits: "_Fitting",
        enough: int | None,
    ) -> pa.Table:
        known = schema.schemas()
        if kind not in known:
            raise StoreError(f'there is no kind of row "{kind}"; there are {", ".join(known)}', "store.kind")
        empty = known[kind].empty_table()
        parts = [empty if columns is None else empty.select(columns)]
        found = 0
        for file in files:
            parts.append(self._load(file, columns, fits))
            found += parts[-1].num_rows
            if enough is not None and found >= enough:
                break
        return pa.concat_tables(parts, promote_options="default")

    def _load(self, file: File, columns: list[str] | None, fits: "_Fitting") -> pa.Table:
        path = self.catalogue.directory / file.path
        try:
            if file.bytes > _SMALL:
                return ds.dataset(path, format="parquet").to_table(columns, filter=fits.expression())
            needed = None if columns is None else tuple(dict.fromkeys([*columns, *fits.columns]))
            table = self._cache.get(path, needed)
            if table is None:
                table = pq.read_table(path, columns=None if needed is None else list(needed), partitioning=None)
                self._cache.put(path, needed, table)
            table = table.filter(fits.mask(table))
            return table if columns is None else table.select(columns)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{path}: {error}; restore it, or derive it again from the tape", "store.damaged", {"path": str(path)}
            ) from error


def _may_hold(file: File, by: str, start: int | None, end: int | None, after: int | None) -> bool:
    # Receive times bound the others: a grid time is at most an update interval older, all others may tell of times long
    # past, and none lies far ahead, whatever a venue's clock says.
    ahead, back = _REACH.get(by, (_DAY_NS, None))
    return (
        (start is None or file.last_ts >= start - ahead)
        and (end is None or back is None or file.first_ts < end + back)
        and (after is None or file.last_pos > after)
    )


class _Fitting:
    """Which rows are asked for."""

    def __init__(
        self, where: Mapping[str, object], by: str, start: int | None, end: int | None, after: int | None
    ) -> None:
        self._equal = where
        bounds = [(by, operator.ge, start), (by, operator.lt, end), ("pos", operator.gt, after)]
        self._bounds = [(column, test, value) for column, test, value in bounds if value is not None]

    @property
    def columns(self) -> list[str]:
        """Those that decide."""
        return [*self._equal, *(column for column, _, _ in self._bounds)]

    def expression(self) -> pc.Expression | None:
        """For a scan; None if all rows fit."""
        tests = [pc.field(column) == value for column, value in self._equal.items()]
        tests += [test(pc.field(column), value) for column, test, value in self._bounds]
        return functools.reduce(operator.and_, tests) if tests else None

    def mask(self, table: pa.Table) -> "pa.Array[Any]":
        """For a table in memory: which of its rows fit."""
        fits = np.ones(table.num_rows, dtype=np.bool_)
        for column, test, bound in self._bounds:
            fits &= test(table[column].to_numpy(), bound)
        for column, value in self._equal.items():
            # Where no row is of the right time, no text is compared.
            if not fits.any():
                break
            scalar: Any = pa.scalar(value, table.schema.field(column).type)
            equal: Any = pc.equal(table[column], scalar)
            fits &= pc.fill_null(equal, False).to_numpy()
        return pa.array(fits)


class _Cache:
    """Tables of files, which never change; those asked for least recently go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._tables: OrderedDict[tuple[Path, tuple[str, ...] | None], pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, columns: tuple[str, ...] | None) -> pa.Table | None:
        with self._lock:
            table = self._tables.get((path, columns))
            if table is not None:
                self._tables.move_to_end((path, columns))
            return table

    def put(self, path: Path, columns: tuple[str, ...] | None, table: pa.Table) -> None:
        with self._lock:
            if (path, columns) not in self._tables:
                self._tables[path, columns] = table
                self._bytes += table.nbytes
            while self._bytes > self._limit:
                _, gone = self._tables.popitem(last=False)
                self._bytes -= gone.nbytes
