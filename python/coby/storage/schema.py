"""The tables' physical layout. What the rows mean, and their columns, is defined by the Rust core alone."""

from functools import cache
from typing import Any

import pyarrow as pa

from coby import _core
from coby.utils.arrow import arrow_type

CATALOGUE = (
    """
CREATE TABLE files (
    kind TEXT NOT NULL, day TEXT NOT NULL, first_pos INTEGER NOT NULL, last_pos INTEGER NOT NULL,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, day, first_pos, last_pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE watermark (one INTEGER PRIMARY KEY CHECK (one = 1), last_pos INTEGER NOT NULL) STRICT;
INSERT INTO watermark VALUES (1, 0);
PRAGMA user_version = 1
""",
    """
ALTER TABLE files ADD COLUMN first_ts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN last_ts INTEGER NOT NULL DEFAULT 0;
UPDATE files SET first_ts = unixepoch(day) * 1000000000, last_ts = (unixepoch(day) + 86400) * 1000000000 - 1;
PRAGMA user_version = 2
""",
)
"""Every file of the store, and the position that the store is complete up to: what each version adds to the one before.

A file of version 1 may hold any time of its day.
"""
CATALOGUE_VERSION = len(CATALOGUE)

ROW_GROUP = 1 << 17
"""Rows that are compressed together, at most."""
ROW_GROUP_BYTES = 8 << 20
"""About how much memory they take, at most: a row of a book is a hundred times one of a trade."""

ADDED = ("metrics", "quality", "anomalies")
"""Kinds that a data processor may add, and whose columns are its own behind those of every row."""
HEAD = ("pos", "n", "venue", "native_symbol", "symbol", "ts_event", "ts_recv", "proof", "rounded")
"""The columns of every row."""

_ASCENDING = ("pos", "n", "ts_recv", "ts_event")
"""Columns that grow, or nearly: differences of neighbours are tiny."""


@cache
def schemas() -> dict[str, pa.Schema]:
    """The Arrow schema of each kind of row, as the core defines it."""
    return {
        kind: pa.schema([pa.field(c["name"], arrow_type(c["type"]), c["nullable"]) for c in columns])
        for kind, columns in _core.schema().items()
    }


def head() -> pa.Schema:
    """The Arrow schema of the columns that every row begins with."""
    trades = schemas()["trades"]
    return pa.schema([trades.field(name) for name in HEAD])


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Keyword arguments of `pyarrow.parquet.write_table` for rows of this schema."""
    ascending = [field.name for field in schema if field.name in _ASCENDING]
    return {
        # Read back, columns have the types that the core names; how a batch encoded its texts is not kept.
        "store_schema": False,
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [_leaf(field) for field in schema if field.name not in ascending],
        "column_encoding": dict.fromkeys(ascending, "DELTA_BINARY_PACKED"),
    }


def _leaf(field: "pa.Field[Any]") -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
