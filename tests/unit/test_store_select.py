"""Questions to the store: whatever is asked, the answer is what a scan of all rows gives."""

import tempfile
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coby.storage import select
from coby.storage.embedded import StoreReader, StoreWriter
from coby.storage.select import Selection
from coby.utils.exceptions import StoreError
from support.rows import Stream

STREAM = Stream.seeded(Random(7), 200)
TRADES = STREAM.rows["trades"]
FIRST, LAST = int(str(TRADES[0]["ts_recv"])), int(str(TRADES[-1]["ts_recv"]))
moments = st.none() | st.integers(FIRST - 5, LAST + 5)


@pytest.fixture(scope="module")
def selections() -> Any:
    with tempfile.TemporaryDirectory() as path, StoreWriter(path) as writer:
        first = 1
        random = Random(3)
        while first <= 200:
            last = min(200, first + random.randrange(1, 25))
            writer.append(STREAM.cut(first, last))
            writer.commit(last)
            first = last + 1
        with StoreReader(path) as reader:
            yield [Selection(reader), Selection(reader, cached_bytes=0)]


@settings(max_examples=150, deadline=None)
@given(
    venue=st.sampled_from([None, "a", "b", "z"]),
    start=moments,
    end=moments,
    after=st.none() | st.integers(0, 210),
    limit=st.none() | st.integers(1, 40),
    newest=st.booleans(),
    large=st.booleans(),
)
def test_an_answer_is_what_a_scan_gives(
    selections: list[Selection],
    *,
    venue: str | None,
    start: int | None,
    end: int | None,
    after: int | None,
    limit: int | None,
    newest: bool,
    large: bool,
) -> None:
    wanted = [
        row
        for row in TRADES
        if (venue is None or row["venue"] == venue)
        and (start is None or int(str(row["ts_recv"])) >= start)
        and (end is None or int(str(row["ts_recv"])) < end)
        and (after is None or int(str(row["pos"])) > after)
    ]
    if limit is not None:
        wanted = wanted[-limit:] if newest else wanted[:limit]
    with pytest.MonkeyPatch.context() as patch:
        # Every file counts as large, or none does.
        patch.setattr(select, "_SMALL", 0 if large else 1 << 20)
        for selection in selections:
            for columns in (None, ("price",)):
                found = selection.select(
                    "trades",
                    columns,
                    where={} if venue is None else {"venue": venue},
                    start=start,
                    end=end,
                    after=after,
                    limit=limit,
                    newest=newest,
                )
                assert [(row["pos"], row["n"], row["price"]) for row in found.to_pylist()] == [
                    (row["pos"], row["n"], row["price"]) for row in wanted
                ]
                assert columns is None or found.column_names == ["price", "pos", "n"]


def test_what_is_kept_in_memory_is_bounded(selections: list[Selection]) -> None:
    kept, nothing = selections
    for selection in selections:
        selection.select("trades")
    assert 0 < kept._cache._bytes == sum(table.nbytes for table in kept._cache._tables.values())
    assert (nothing._cache._bytes, len(nothing._cache._tables)) == (0, 0)


def test_a_kind_that_is_none_is_named(selections: list[Selection]) -> None:
    with pytest.raises(StoreError, match='no kind of row "trade"'):
        selections[0].select("trade")
