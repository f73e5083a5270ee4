"""Pages: whatever the rows, the limit and the moment, each row comes once, in order, also while rows are added."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coby import _core
from coby.api import LiveView
from coby.api.history import History, Query
from coby.storage.embedded import StoreReader, StoreWriter
from coby.storage.select import Selection
from coby.utils.exceptions import StoreError
from support.rows import FakeCut
from support.serving import RUN, Process, Server, instrument

VENUES = ("binance", "okx")
START = 1_767_225_600 * 10**9
KIND = "trades"


def arrow_type(name: str) -> pa.DataType:
    kind: pa.DataType = pa.type_for_alias(name)  # type: ignore[call-overload]
    return kind


SCHEMA = pa.schema([pa.field(c["name"], arrow_type(c["type"]), c["nullable"]) for c in _core.schema()[KIND]])


def cut(first: int, counts: list[int]) -> FakeCut:
    """One record for each count, of so many trades; the instruments take turns."""
    rows = [
        {
            "pos": RUN | (first + i),
            "n": n,
            "venue": VENUES[(first + i + n) % 2],
            "native_symbol": "BTCUSDT",
            "symbol": "BTC-USDT",
            "ts_event": None,
            "ts_recv": START + (first + i) // 3,
            "proof": "none",
            "rounded": False,
            "price": 1.5,
            "size": float(first + i + 1),
            "side": "buy",
            "trade_id": f"{first + i}.{n}",
            "history": False,
        }
        for i, count in enumerate(counts)
        for n in range(count)
    ]
    batches = {KIND: pa.RecordBatch.from_pylist(rows, schema=SCHEMA)} if rows else {}
    return FakeCut(RUN | first, RUN | (first + len(counts) - 1), batches, follows=RUN | (first - 1))


counts = st.lists(st.integers(0, 4), min_size=1, max_size=12)
steps = st.lists(st.tuples(counts, st.booleans()), max_size=6)


@settings(max_examples=40, deadline=None)
@given(before=steps, between=steps, limit=st.integers(1, 9), venue=st.sampled_from(("all", *VENUES)))
def test_paging_gives_each_row_once_in_order_while_rows_are_added(
    before: list[Any], between: list[Any], limit: int, venue: str
) -> None:
    with tempfile.TemporaryDirectory() as path:
        process = Process(Path(path))
        process.engine.listed += [instrument(name, "BTCUSDT", "BTC-USDT") for name in VENUES]
        taken: list[dict[str, Any]] = []
        first = 1

        def take(step: tuple[list[int], bool]) -> None:
            nonlocal first
            added = cut(first, step[0])
            process.take(added, commit=step[1])
            taken.extend(row for batch in added.batches.values() for row in batch.to_pylist())
            first += len(step[0])

        for step in before:
            take(step)
        waiting = list(between)
        items, cursor = [], None
        with Server(process.app) as server:
            while True:
                page = server.get(f"/trades/{venue}/BTC-USDT", from_=0, limit=limit, cursor=cursor)
                assert len(page["items"]) <= limit
                items += page["items"]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
                if waiting:
                    take(waiting.pop(0))
        process.close()
    wanted = [row["trade_id"] for row in taken if venue in {"all", row["venue"]}]
    got = [item["trade_id"] for item in items]
    assert got == wanted


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(counts, st.booleans()), min_size=1, max_size=12),
    kept=st.integers(1, 6),
    newest=st.booleans(),
    limit=st.none() | st.integers(1, 30),
    after=st.integers(0, 60),
)
def test_store_and_view_are_one_without_holes_or_repeats(
    parts: list[Any], kept: int, newest: bool, limit: int | None, after: int
) -> None:
    with tempfile.TemporaryDirectory() as path, StoreWriter(path) as writer, StoreReader(path) as reader:
        selection = Selection(reader)
        view = LiveView(lambda: selection.watermark, kept={KIND: kept}, spare=3)
        first = 1
        rows: list[dict[str, Any]] = []
        for number, commit in parts:
            added = cut(first, number)
            view.take(added)
            writer.append(added)
            if commit:
                writer.commit(added.last_pos)
            rows += [row for batch in added.batches.values() for row in batch.to_pylist()]
            first += len(number)
        query = Query(
            KIND,
            ("trade_id",),
            {"venue": "okx"},
            after=RUN | after,
            limit=limit,
            newest=newest and limit is not None,
        )
        found = History(selection, view).read_now(query)["trade_id"].to_pylist()
        wanted = [row["trade_id"] for row in rows if row["venue"] == "okx" and row["pos"] > RUN | after]
        assert found == (wanted if limit is None else wanted[-limit:] if newest else wanted[:limit])


def test_rows_that_neither_has_are_refused_not_left_out(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer, StoreReader(tmp_path) as reader:
        selection = Selection(reader)
        view = LiveView(lambda: selection.watermark)
        history = History(selection, view)
        cuts = [cut(1 + 3 * i, [1, 1, 1]) for i in range(4)]
        for i in (0, 2, 3):
            view.take(cuts[i])
        everything = Query(KIND, ("trade_id",), {})
        with pytest.raises(StoreError, match="have not reached the store") as caught:
            history.read_now(everything)
        assert caught.value.http_status == 503
        later = Query(KIND, ("trade_id",), {}, after=cuts[2].first_pos - 1)
        assert history.read_now(later).num_rows == 6
        earlier = Query(KIND, ("trade_id",), {}, end=START)
        assert history.read_now(earlier).num_rows == 0
        for each in cuts[:2]:
            writer.append(each)
        writer.commit(cuts[1].last_pos)
        assert history.read_now(everything).num_rows == 12
