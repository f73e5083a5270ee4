"""What flows between the parts: cuts, columnar rows of a range of tape positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


class SupportsArrow(Protocol):
    """What hands over a record batch through the Arrow PyCapsule interface; `pyarrow.record_batch(x)` reads it."""

    def __arrow_c_array__(self, requested_schema: object | None = None, /) -> tuple[object, object]: ...


class Cut(Protocol):
    """Rows of the positions `first_pos..=last_pos`; it never splits a record. `coby._core.Cut` is one."""

    @property
    def first_pos(self) -> int:
        """First position covered."""

    @property
    def last_pos(self) -> int:
        """Last position covered: what a store's watermark becomes."""

    @property
    def rows(self) -> Mapping[str, int]:
        """Row count by kind, kinds without rows left out."""

    def batch(self, kind: str, /) -> SupportsArrow:
        """The rows of a kind, ordered by `(pos, n)`."""


@dataclass(frozen=True)
class Part:
    """A cut made in Python; `batches` by kind, none of them empty."""

    first_pos: int
    last_pos: int
    batches: Mapping[str, pa.RecordBatch]

    @property
    def rows(self) -> Mapping[str, int]:
        """As for every cut."""
        return {kind: batch.num_rows for kind, batch in self.batches.items()}

    def batch(self, kind: str, /) -> pa.RecordBatch:
        """As for every cut."""
        return self.batches[kind]


Rows = Mapping[str, SupportsArrow]
"""Rows by kind, beside those of a cut. They begin with the columns of every row, and `pos` lies in that cut."""
