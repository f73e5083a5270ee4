"""Stored rows and newer ones as one: ordered, complete, each once."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coby import _core
from coby.api.state import Store
from coby.api.view import Hole, LiveView, Piece
from coby.utils.arrow import arrow_type
from coby.utils.exceptions import StoreError

UNTAPED = "untaped"
"""A column that every answer has: the row's record is on no tape, and no store will ever have it."""


@dataclass(frozen=True)
class Query:
    """Which rows. `start`, `end` bound the column of times `by`, half-open; `after` is a position."""

    kind: str
    columns: tuple[str, ...]
    where: Mapping[str, object]
    by: str = "ts_recv"
    start: int | None = None
    end: int | None = None
    after: int | None = None
    limit: int | None = None
    newest: bool = False
    """The last `limit` rows instead of the first ones."""


class History:
    """The rows of the store up to its watermark, then those of the view behind it.

    The view is looked at before the watermark is read: it holds everything behind the watermark of that moment, and
    what is committed meanwhile is left to the store's part.
    """

    def __init__(self, store: Store | None, view: LiveView) -> None:
        self._store = store
        self._view = view
        known = _core.schema()
        self._columns = {kind: [column["name"] for column in columns] for kind, columns in known.items()}

    async def read(self, query: Query) -> pa.Table:
        """The rows that fit, ordered by `(pos, n)`, with the columns asked for, `pos`, `n` and `untaped`.

        Raises:
            StoreError: They cannot be read, or some of them wait for a store that has fallen too far behind.
        """
        return await asyncio.to_thread(self.read_now, query)

    async def rows(self, query: Query) -> list[dict[str, Any]]:
        """The same as dicts, made on another thread: many take their time."""
        return await asyncio.to_thread(lambda: self.read_now(query).to_pylist())

    def read_now(self, query: Query) -> pa.Table:
        """The same, on this thread."""
        pieces, holes = self._view.pieces(query.kind), self._view.holes(query.kind)
        watermark = self._store.watermark if self._store is not None else 0
        if self._store is not None:
            _refuse_holes(query, holes, watermark)
        columns = list(dict.fromkeys([*query.columns, "pos", "n"]))
        newer = _newer(pieces, columns, query, watermark)
        stored = self._stored(columns, query, watermark, newer.num_rows)
        table = newer if stored is None else pa.concat_tables([stored, newer], promote_options="permissive")
        if query.limit is None or table.num_rows <= query.limit:
            return table
        return table.slice(table.num_rows - query.limit) if query.newest else table.slice(0, query.limit)

    def _stored(self, columns: Sequence[str], query: Query, watermark: int, newer: int) -> pa.Table | None:
        if self._store is None:
            return None
        if query.newest and query.limit is not None and newer >= query.limit:
            return None
        # Newer rows than the watermark may be committed by now, and would be cut off below.
        limit = None if query.limit is None or query.newest else query.limit
        wanted = query.limit
        while True:
            stored = self._store.select(
                query.kind,
                columns,
                where=query.where,
                by=query.by,
                start=query.start,
                end=query.end,
                after=query.after,
                limit=limit if not query.newest else wanted,
                newest=query.newest,
            )
            fits = stored.filter(pc.less_equal(stored["pos"], pa.scalar(watermark, pa.uint64())))
            if not query.newest or wanted is None or fits.num_rows + newer >= (query.limit or 0):
                break
            if stored.num_rows < wanted:
                break
            wanted = 2 * wanted
        return _plain(fits).append_column(UNTAPED, pa.repeat(pa.scalar(False), fits.num_rows))

    def expired(self, kind: str, after: int) -> bool:
        """Whether rows behind a position are no longer kept anywhere."""
        return self._store is None and any(after < hole.last_pos for hole in self._view.holes(kind))


def _refuse_holes(query: Query, holes: Sequence[Hole], watermark: int) -> None:
    for hole in holes:
        if (
            hole.last_pos > max(watermark, query.after or 0)
            and (query.start is None or query.start <= hole.last_ts)
            and (query.end is None or query.end > hole.first_ts)
        ):
            raise StoreError(
                f"rows of {query.kind} up to position {hole.last_pos} have not reached the store, which is at"
                f" {watermark}, and are not in memory any more",
                "store.behind",
                {"watermark": str(watermark), "behind": str(hole.last_pos), "retry_after": 5},
            )


def _newer(pieces: Sequence[Piece], columns: Sequence[str], query: Query, watermark: int) -> pa.Table:
    floor = max(watermark, query.after if query.after is not None else 0)
    chosen = [piece for piece in pieces if piece.last_pos > floor]
    if not chosen:
        return _nothing(query.kind, columns)
    needed = list(dict.fromkeys([*columns, *query.where, query.by]))
    table = _plain(pa.Table.from_batches([piece.batch.select(needed) for piece in chosen]))
    untaped = np.repeat([piece.untaped for piece in chosen], [piece.batch.num_rows for piece in chosen])
    table = table.append_column(UNTAPED, pa.array(untaped, pa.bool_()))
    # Not as one expression: its evaluation may change the order of rows.
    tests = [pc.greater(table["pos"], pa.scalar(floor, pa.uint64()))]
    for column, value in query.where.items():
        tests.append(pc.equal(table[column], pa.scalar(value, table.schema.field(column).type)))
    if query.start is not None:
        tests.append(pc.greater_equal(table[query.by], pa.scalar(query.start, pa.int64())))
    if query.end is not None:
        tests.append(pc.less(table[query.by], pa.scalar(query.end, pa.int64())))
    table = table.filter(functools.reduce(pc.and_kleene, tests)).select([*columns, UNTAPED])
    # Thinned pieces of taped and untaped rows overlap.
    if untaped.any():
        table = table.sort_by([("pos", "ascending"), ("n", "ascending")])
    return table


def _nothing(kind: str, columns: Sequence[str]) -> pa.Table:
    types = {column["name"]: column["type"] for column in _core.schema()[kind]}
    fields = [pa.field(name, arrow_type(types[name])) for name in columns]
    return pa.schema([*fields, pa.field(UNTAPED, pa.bool_())]).empty_table()


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries and without what a schema says about nulls: what is stored and what is new are alike."""
    fields = []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_list(kind):
            kind = pa.list_(kind.value_type)
        fields.append(pa.field(field.name, kind))
    return table.cast(pa.schema(fields))
