"""The native module as a whole: its description, its stub, its errors."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from coby import _core
from coby.utils.exceptions import EngineError


def test_the_stub_says_what_the_module_is(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "mypy.stubtest", "coby._core"]
    done = subprocess.run(check, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_build_info_names_what_was_built() -> None:
    info = _core.build_info()
    assert info.keys() == {"version", "profile", "target", "code"}
    assert len(info["code"]) == 32
    assert all(info.values())


def test_schema_describes_every_column() -> None:
    kinds = _core.schema()
    assert {"trades", "tops", "book_snapshots", "price_buckets", "heatmap_columns", "candles", "gaps"} <= kinds.keys()
    head = ["pos", "n", "venue", "native_symbol", "symbol", "ts_event", "ts_recv", "proof", "rounded"]
    for columns in kinds.values():
        names = [column["name"] for column in columns]
        assert names[: len(head)] == head
        assert len(set(names)) == len(names)
        for column in columns:
            assert column.keys() == {"name", "type", "unit", "nullable", "doc"}
            assert column["doc"].endswith(".")
            assert pa.type_for_alias(column["type"].removeprefix("list<").removesuffix(">")) is not None


def test_venues_say_what_they_can_prove() -> None:
    specs = _core.venues()
    ids = [spec["id"] for spec in specs]
    assert ids == sorted(ids)
    assert "binance_futures" in ids
    for spec in specs:
        _core.Decoder(spec["id"])
        assert spec["books"] or spec["trades"]
        for feed in spec["books"] + spec["trades"]:
            assert feed["proof"] in {"none", "heartbeat", "checksum", "sequence"}
        for feed in spec["books"]:
            assert (feed["checksum_levels"] is None) or feed["checksum_levels"] > 0
            assert feed["limits"] or feed["proof"] == "sequence"


def test_a_panic_becomes_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="deliberately") as caught:
        _core._panic("deliberately")  # type: ignore[attr-defined]
    assert caught.value.code == "engine.internal"
    assert "deliberately" not in capfd.readouterr().out


def test_without_its_package_the_module_raises_the_nearest_builtins() -> None:
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("coby._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
sys.modules["coby"] = None
for call, error in [
    (lambda: core.Decoder("nowhere"), ValueError),
    (lambda: core.OrderBook().apply([("x", "1")]), ValueError),
    (lambda: core.tape_info("/nowhere"), RuntimeError),
]:
    try:
        call()
    except Exception as caught:
        assert type(caught) is error, caught
    else:
        raise AssertionError
"""
    assert _core.__file__
    subprocess.run([sys.executable, "-I", "-c", code, _core.__file__], check=True)
