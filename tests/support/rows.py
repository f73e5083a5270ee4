"""Rows without an engine: a stream of records, and cuts of it at any positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import pyarrow as pa

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
MIDNIGHT = 20_000 * DAY_NS


def schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


SCHEMAS = {
    "trades": schema(
        ("pos", pa.uint64()),
        ("n", pa.uint32()),
        ("ts_recv", pa.int64()),
        ("venue", pa.dictionary(pa.int32(), pa.string())),
        ("price", pa.float64()),
    ),
    "price_buckets": schema(
        ("pos", pa.uint64()), ("n", pa.uint32()), ("ts_recv", pa.int64()), ("quantity", pa.list_(pa.float64()))
    ),
}

Row = dict[str, object]


@dataclass(frozen=True)
class FakeCut:
    first_pos: int
    last_pos: int
    batches: Mapping[str, pa.RecordBatch]
    untaped: bool = False
    follows: int = -1
    """By default all that comes before it."""

    def __post_init__(self) -> None:
        if self.follows < 0:
            object.__setattr__(self, "follows", self.first_pos - 1)

    @property
    def rows(self) -> dict[str, int]:
        return {kind: batch.num_rows for kind, batch in self.batches.items()}

    def batch(self, kind: str) -> pa.RecordBatch:
        return self.batches[kind]


@dataclass(frozen=True)
class Stream:
    """`rows[kind]` in order; records have the positions 1..=last_pos or given ones, some of them no row."""

    last_pos: int
    rows: Mapping[str, list[Row]]

    @classmethod
    def seeded(cls, random: Random, records: int = 60, positions: Sequence[int] = ()) -> "Stream":
        """Rows that cross midnight somewhere."""
        positions = positions or range(1, records + 1)
        rows: dict[str, list[Row]] = {kind: [] for kind in SCHEMAS}
        ts = MIDNIGHT - random.randrange(len(positions)) * 1_000_000
        for pos in positions:
            ts += random.randrange(2_000_000)
            for n in range(random.choice((0, 0, 1, 2))):
                rows["trades"].append(
                    {"pos": pos, "n": n, "ts_recv": ts, "venue": random.choice("abc"), "price": random.random()}
                )
            if random.random() < 0.3:
                quantity = [random.random() for _ in range(random.randrange(4))]
                rows["price_buckets"].append({"pos": pos, "n": 0, "ts_recv": ts, "quantity": quantity})
        return cls(positions[-1], rows)

    def cut(self, first_pos: int, last_pos: int) -> FakeCut:
        batches = {}
        for kind, rows in self.rows.items():
            chosen = [row for row in rows if first_pos <= int(str(row["pos"])) <= last_pos]
            if chosen:
                batches[kind] = pa.RecordBatch.from_pylist(chosen, schema=SCHEMAS[kind])
        return FakeCut(first_pos, last_pos, batches)

    def until(self, kind: str, last_pos: int) -> list[Row]:
        return [row for row in self.rows[kind] if int(str(row["pos"])) <= last_pos]
