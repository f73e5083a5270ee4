"""The newest rows in memory: what is not stored yet, and what people look at most."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coby.api import arrow
from coby.interfaces import Cut

Row = Mapping[str, Any]

KEPT: Mapping[str, int] = {
    "trades": 1_000,
    "tops": 200,
    "book_snapshots": 20,
    "price_buckets": 20,
    "heatmap_columns": 240,
    "candles": 500,
    "metrics": 240,
    "quality": 240,
    "gaps": 1_000,
    "connection_events": 1_000,
    "instruments": 10,
}
"""Rows that are kept of each kind for each of what `_GROUPS` tells apart: a screen's worth, the store has the rest."""
_DEFAULT_KEPT = 1_000
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "heatmap_columns": ("bucket_size",),
    "price_buckets": ("bucket_size", "side"),
    "candles": ("interval", "source"),
}
_SPARE = 2_048
_JOINED = 32
_THINNED = 99
_BEGINNING = -(2**63)
_HOLES = 64
_RUN_SHIFT = 40
"""A position is a run's number and a record's number within it."""
_MOST_WAITING = 500_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one kind and one cut, as they came, or several cuts' thinned together."""

    last_pos: int
    """Position of its last row."""
    untaped: bool
    """Its records are on no tape."""
    batch: pa.RecordBatch
    level: int = 0
    """How often it was joined with others."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Positions, and times, of which rows are not here: only the store can tell them."""

    last_pos: int
    first_ts: int
    last_ts: int


@dataclass(slots=True)
class _Kind:
    pieces: list[Piece] = field(default_factory=list)
    rows: int = 0
    limit: int = 0
    thinned: Hole | None = None


class LiveView:
    """Keeps, of every kind and instrument, the newest rows, and all rows that the store does not have yet.

    `take` runs on the event loop for every cut and touches no single row but those of gaps, which are rare. Reading may
    happen on any thread.

    Args:
        watermark: The store's; without a store, rows are only kept while they are among the newest.
        kept: Other numbers than `KEPT`.
        most_waiting: Rows of a kind that may wait for the store; beyond, old ones go, and a hole says so.
        spare: Rows beyond those kept before a kind is thinned: thinning is rare, and so cheap.
    """

    def __init__(
        self,
        watermark: Callable[[], int] | None = None,
        *,
        kept: Mapping[str, int] | None = None,
        most_waiting: int = _MOST_WAITING,
        spare: int = _SPARE,
    ) -> None:
        self._watermark = watermark
        self._kept = dict(KEPT) | dict(kept or {})
        self._most_waiting = most_waiting
        self._spare = spare
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.Lock()
        self._marks: list[tuple[int, int]] = []
        self._missed: list[Hole] = []
        self.open_gaps: dict[int, Row] = {}
        """The rows that opened the gaps that are open now, by id."""
        self.last_pos = 0
        """The last position taken."""
        self.last_ts = 0
        """Receive time of the newest row."""
        self.rows = 0
        """Rows taken since the start."""

    def take(self, cut: Cut) -> None:
        """Keeps the rows of a cut; cuts come in the order of their positions."""
        untaped = bool(getattr(cut, "untaped", False))
        before = self.last_ts
        for kind in cut.rows:
            batch = pa.record_batch(cut.batch(kind))
            if not batch.num_rows:
                continue
            self._take_times(batch)
            self.rows += batch.num_rows
            if kind == "gaps":
                self._take_gaps(batch)
            with self._lock:
                held = self._kinds.setdefault(kind, _Kind(limit=self._spare))
                held.pieces.append(Piece(batch.column("pos")[-1].as_py(), untaped, batch))
                held.rows += batch.num_rows
                _join(held.pieces)
                if held.rows > held.limit:
                    self._thin(kind, held)
        follows = getattr(cut, "follows", None)
        if (cut.first_pos - 1 if follows is None else follows) > self._seen(cut.first_pos):
            # Cuts were dropped on their way here; the store gets them from the tape.
            with self._lock:
                self._missed = [*self._missed[-_HOLES:], Hole(cut.first_pos - 1, before, self.last_ts)]
        self.last_pos = cut.last_pos
        self._marks.append((cut.last_pos, self.last_ts))
        if len(self._marks) > 4096:
            del self._marks[::2]

    def pieces(self, kind: str) -> tuple[Piece, ...]:
        """The kept rows of a kind, in the order of their positions."""
        with self._lock:
            held = self._kinds.get(kind)
            return tuple(held.pieces) if held else ()

    def holes(self, kind: str) -> tuple[Hole, ...]:
        """Where rows of a kind are missing: those that were thinned out, and cuts that never came."""
        with self._lock:
            held = self._kinds.get(kind)
            thinned = (held.thinned,) if held and held.thinned else ()
            return (*thinned, *self._missed)

    def settled_ts(self, watermark: int) -> int:
        """A receive time before which every row lies at or before a position; 0 where that is not known."""
        return max((ts for pos, ts in list(self._marks) if pos <= watermark), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes that the kept rows take, about: the newest few are not counted."""
        with self._lock:
            return sum(piece.batch.nbytes for held in self._kinds.values() for piece in held.pieces if piece.level)

    def _seen(self, first_pos: int) -> int:
        """The last position that has been here or in the store; no run before that of `first_pos` counts."""
        seen = self.last_pos
        if not seen:
            seen = self._watermark() if self._watermark is not None else first_pos
        return max(seen, first_pos >> _RUN_SHIFT << _RUN_SHIFT)

    def _take_times(self, batch: pa.RecordBatch) -> None:
        ts = batch.column("ts_recv")[-1].as_py()
        self.last_ts = max(self.last_ts, ts)

    def _take_gaps(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            if row["phase"] == "opened":
                self.open_gaps[row["id"]] = row
            else:
                self.open_gaps.pop(row["id"], None)

    def _thin(self, kind: str, held: _Kind) -> None:
        """Drops rows that are in the store, or too many, and not among the newest of their group."""
        table = _table(held.pieces)
        kept = _among_newest(table, _GROUPS.get(kind, ()), self._kept.get(kind, _DEFAULT_KEPT))
        pos = table["pos"].to_numpy()
        if self._watermark is not None:
            waiting = pos > self._watermark()
            if int(waiting.sum()) <= self._most_waiting:
                kept |= waiting
        if not kept.all():
            gone = table.filter(pa.array(~kept))
            held.thinned = Hole(int(pos[~kept].max()), _BEGINNING, pc.max(gone["ts_recv"]).as_py())
        untaped = np.repeat([p.untaped for p in held.pieces], [p.batch.num_rows for p in held.pieces])
        pieces = []
        for flag in (False, True):
            chosen = table.filter(pa.array(kept & (untaped == flag)))
            pieces += [
                Piece(batch["pos"][-1].as_py(), flag, batch, _THINNED)
                for batch in chosen.to_batches()
                if batch.num_rows
            ]
        # Runs of taped and untaped rows alternate at most a few times; readers sort by position.
        held.pieces = sorted(pieces, key=lambda piece: piece.last_pos)
        held.rows = sum(piece.batch.num_rows for piece in pieces)
        held.limit = held.rows + max(self._spare, held.rows // 2)


def _table(pieces: Sequence[Piece]) -> pa.Table:
    """Their rows in one chunk."""
    return pa.Table.from_batches([piece.batch for piece in pieces]).unify_dictionaries().combine_chunks()


def _join(pieces: list[Piece]) -> None:
    """Makes one of the last ones where enough are of one level: few are fast to read, and no row is copied often."""
    while len(pieces) >= _JOINED:
        last = pieces[-_JOINED:]
        if len({(piece.level, piece.untaped) for piece in last}) > 1:
            return
        (batch,) = _table(last).to_batches()
        pieces[-_JOINED:] = [Piece(last[-1].last_pos, last[-1].untaped, batch, last[-1].level + 1)]


def _among_newest(table: pa.Table, groups: tuple[str, ...], count: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Whether each row is among the last `count` of its instrument and group."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name in ("venue", "native_symbol", *groups):
        part, count_of = arrow.codes(table[name])
        codes = codes * count_of + part
    order = np.argsort(codes[::-1], kind="stable")
    ordered = codes[::-1][order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(len(ordered)) - np.repeat(first, np.diff(np.r_[first, len(ordered)]))
    kept = np.empty(len(codes), dtype=np.bool_)
    kept[len(codes) - 1 - order] = rank < count
    return kept
