"""Gaps: rows that open and rows that close them, folded."""

from collections.abc import Mapping, Sequence
from typing import Any

from coby.api.history import History, Query

COLUMNS = (
    "venue",
    "native_symbol",
    "symbol",
    "ts_recv",
    "proof",
    "id",
    "phase",
    "channel",
    "cause",
    "from",
    "to",
    "evidence",
)
Gap = dict[str, Any]
"""The row that opened it, `to` of the row that closed it."""
_FOREVER = 2**63 - 1


async def gaps_of(history: History, where: Mapping[str, object]) -> list[Gap]:
    """All gaps with such values, in the order in which they were noticed."""
    return fold(await history.rows(Query("gaps", COLUMNS, where)))


def fold(rows: Sequence[Mapping[str, Any]]) -> list[Gap]:
    """One entry for each gap, of rows in order."""
    found: dict[int, Gap] = {}
    for row in rows:
        if row["phase"] == "opened":
            found[row["id"]] = dict(row)
        elif row["id"] in found:
            found[row["id"]]["to"] = row["to"]
        else:
            found[row["id"]] = dict(row)
    return list(found.values())


def overlapping(gaps: Sequence[Gap], start: int, end: int) -> list[Gap]:
    """Those of which a part lies in `[start, end)`; a gap that began and ended at one moment does at that moment."""
    return [gap for gap in gaps if gap["from"] < end and (start < until(gap) or gap["from"] >= start)]


def until(gap: Mapping[str, Any]) -> int:
    """When a gap ends; beyond all times while it is open."""
    return _FOREVER if gap["to"] is None else int(gap["to"])
