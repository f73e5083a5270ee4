"""Arrow batches say exactly what the core's rows say.

The oracle is the hash that the engine takes of its own rows: here the same canonical encoding is written from the
batches, by the schema alone, and hashed by another implementation.
"""

import gc
import json
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash

from coby import _core, recording
from coby._core import Cut, Engine
from coby.utils.exceptions import ConfigError
from support.cuts import cuts_of
from support.mishaps import MISHAPS, VENUE, frames

NUMBERS = {"uint64": "<Q", "uint32": "<I", "int64": "<q", "float64": "<d", "bool": "<?"}


def encoded(kind: str, value: Any, *, nullable: bool) -> bytes:
    if nullable:
        return b"\0" if value is None else b"\1" + encoded(kind, value, nullable=False)
    if kind == "string":
        text: bytes = value.encode()
        return struct.pack("<I", len(text)) + text
    if kind.startswith("list<"):
        item = NUMBERS[kind.removeprefix("list<").removesuffix(">")]
        return struct.pack("<I", len(value)) + b"".join(struct.pack(item, element) for element in value)
    return struct.pack(NUMBERS[kind], value)


def crowded(frame: Any, count: int) -> Any:
    """An instrument list with so many more instruments."""
    body = json.loads(frame["body"])
    like = body["symbols"][0]
    body["symbols"] += [{**like, "symbol": f"A{n:05}USDT", "baseAsset": f"A{n:05}"} for n in range(count)]
    return {**frame, "body": json.dumps(body)}


def imported(folder: Path, *, listed: bool, seconds: float = 70.0, more: int = 0) -> tuple[list[Cut], dict[str, Any]]:
    every = frames(seconds, seed=11, faults=MISHAPS)
    every = [crowded(f, more) if "exchangeInfo" in str(f.get("url")) else f for f in every]
    recording.write(folder / "recording.jsonl", [f for f in every if listed or "exchangeInfo" not in str(f.get("url"))])
    settings = {"update_interval_ms": 1000, "heatmap_depth": 5, "snapshot_levels": 4}
    engine = Engine.importing(VENUE, [folder / "recording.jsonl"], folder / "tape", settings, check=False)
    return list(cuts_of(engine)), engine.status()


@pytest.fixture(scope="module", params=[(True, 0), (False, 0), (True, 2_000)], ids=["listed", "unlisted", "crowded"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Cut], dict[str, Any]]:
    listed, more = request.param
    return imported(tmp_path_factory.mktemp("batches"), listed=listed, more=more)


def test_batches_hash_as_the_rows_do(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    cuts, status = rows
    seen = 0
    for kind, columns in _core.schema().items():
        digest = xxhash.xxh3_128()
        for cut in cuts:
            batch = pa.record_batch(cut.batch(kind))
            batch.validate(full=True)
            assert batch.num_rows == len(cut.batch(kind)) == cut.rows.get(kind, 0)
            assert batch.schema.names == [column["name"] for column in columns]
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for column, value in zip(columns, values, strict=True):
                    digest.update(encoded(column["type"], value, nullable=column["nullable"]))
            seen += batch.num_rows
        assert digest.hexdigest() == status["row_hashes"][kind], kind
    assert seen == status["rows"]


def test_the_recordings_fill_every_kind_and_miss_what_may_be_missing(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    cuts, _ = rows
    every = {kind: pa.Table.from_batches([pa.record_batch(cut.batch(kind)) for cut in cuts]) for kind in _core.schema()}
    listed = every["instruments"].num_rows > 0
    for kind, table in every.items():
        assert table.num_rows or kind == "instruments", kind
    symbols = every["trades"]["symbol"]
    assert symbols.null_count == (0 if listed else len(symbols))
    assert every["connection_events"]["symbol"].null_count == every["connection_events"].num_rows
    assert 0 < every["tops"]["bid"].null_count < every["tops"].num_rows
    assert 0 < every["gaps"]["to"].null_count < every["gaps"].num_rows
    assert len(every["trades"]["venue"].unique()) == 1
    assert len(every["trades"]["native_symbol"].unique()) == 3


def arrow_type(name: str) -> pa.DataType:
    if name.startswith("list<"):
        return pa.list_(arrow_type(name.removeprefix("list<").removesuffix(">")))
    kind: pa.DataType = pa.type_for_alias(name)  # type: ignore[call-overload]  # the stub wants literals
    return kind


def test_types_are_those_of_the_schema(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    cut = rows[0][0]
    for kind, columns in _core.schema().items():
        for column, field in zip(columns, pa.record_batch(cut.batch(kind)).schema, strict=True):
            found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            assert (field.name, field.nullable) == (column["name"], column["nullable"])
            assert found == arrow_type(column["type"])


def test_dictionaries_hold_each_text_once(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    for cut in rows[0]:
        for kind in cut.rows:
            for column in pa.record_batch(cut.batch(kind)).columns:
                if isinstance(column, pa.DictionaryArray):
                    texts = column.dictionary.to_pylist()
                    assert len(set(texts)) == len(texts)
                    assert None not in texts
                    # A long list of instruments is not carried along by every batch.
                    assert len(texts) <= max(512, 2 * sum(cut.rows.values()))


def test_cuts_follow_each_other_and_split_no_record(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    last = 0
    for cut in rows[0]:
        assert last < cut.first_pos <= cut.last_pos
        last = cut.last_pos
        for kind in cut.rows:
            positions: list[Any] = pa.record_batch(cut.batch(kind))["pos"].to_pylist()
            assert positions == sorted(positions)
            assert cut.first_pos <= positions[0]
            assert positions[-1] <= cut.last_pos


def test_columns_outlive_their_batch_their_cut_and_each_other(tmp_path: Path) -> None:
    cuts, _ = imported(tmp_path, listed=True, seconds=5.0)
    whole = max(cuts, key=lambda cut: cut.rows.get("tops", 0))
    before = pa.record_batch(whole.batch("tops")).to_pydict()
    columns = dict(zip(before, pa.record_batch(whole.batch("tops")).columns, strict=True))
    del whole, cuts
    gc.collect()
    for name in list(columns):
        column = columns.pop(name)
        column.validate(full=True)
        assert column.to_pylist() == before[name]


def test_an_export_that_nobody_takes_is_given_back(tmp_path: Path) -> None:
    cuts, _ = imported(tmp_path, listed=True, seconds=2.0)
    for cut in cuts:
        for kind in _core.schema():
            schema, array = cut.batch(kind).__arrow_c_array__()
            del schema
            assert "arrow_array" in repr(array)
            cut.batch(kind).__arrow_c_array__(object())


def test_an_unknown_kind_is_an_error(rows: tuple[list[Cut], dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        rows[0][0].batch("nonsense")
