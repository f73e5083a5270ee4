"""Every setting that shapes rows does so, as the variables of a shell say it: `coby import` under each of them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coby import recording
from coby.simulator.generate import Generator
from coby.storage.tables import StoreReader
from support.running import environment

COBY = [sys.executable, "-c", "import sys; from coby.cli import main; sys.exit(main())"]
VARIABLES = {
    "UPDATE_FREQUENCY": "1",
    "HEATMAP_DEPTH": "7",
    "BTC_BUCKET_SIZE": "25",
    "ETH_BUCKET_SIZE": "2,0.5",
    "SOL_BUCKET_SIZE": "0.2",
    "COBY_SNAPSHOT_LEVELS": "3",
}


def imported(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    file = directory / "binance_futures.jsonl.gz"
    if not file.exists():
        recording.write(file, Generator(4, seconds=8))
    return subprocess.run(
        [*COBY, "import", "--venue", "binance_futures", str(file), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=directory,
        env=environment(**variables),
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    directory = tmp_path_factory.mktemp("settings")
    done = imported(directory, COBY_DATA_DIR="elsewhere", **VARIABLES)
    assert done.returncode == 0, done.stderr
    with StoreReader(directory / "elsewhere") as store:
        return {kind: store.read(kind).to_pylist() for kind in ("book_snapshots", "price_buckets", "heatmap_columns")}


def test_update_frequency_is_the_time_between_columns(rows: dict[str, list[dict[str, Any]]]) -> None:
    for kind in ("book_snapshots", "heatmap_columns"):
        assert len(rows[kind]) > 5
        assert all(row["t"] % 1_000_000_000 == 0 for row in rows[kind])


def test_heatmap_depth_is_the_rows_a_side(rows: dict[str, list[dict[str, Any]]]) -> None:
    columns = rows["heatmap_columns"]
    assert {len(row[side]) for row in columns for side in ("bid_quantity", "ask_quantity")} == {7}


def test_bucket_sizes_are_those_of_the_base(rows: dict[str, list[dict[str, Any]]]) -> None:
    sizes = Counter((row["symbol"].partition("-")[0], row["bucket_size"]) for row in rows["price_buckets"])
    assert sizes.keys() == {("BTC", 25.0), ("ETH", 2.0), ("ETH", 0.5), ("SOL", 0.2)}


def test_snapshot_levels_are_those_a_side(rows: dict[str, list[dict[str, Any]]]) -> None:
    assert {len(row["bid_prices"]) for row in rows["book_snapshots"]} == {3}


def test_a_file_and_flags_are_settings_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('heatmap_depth = 4\ndata_dir = "there"\n')
    done = imported(tmp_path, "--config", "mine.toml", "--data-dir", "here")
    assert done.returncode == 0, done.stderr
    with StoreReader(tmp_path / "here") as store:
        assert {len(row["bid_quantity"]) for row in store.read("heatmap_columns").to_pylist()} == {4}
    assert not (tmp_path / "there").exists()


def test_log_level_and_log_file_are_followed(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "coby.log"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from coby.cli import run; sys.exit(run())",
            "--host",
            "no.such.host.invalid",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment(COBY_LOG_LEVEL="ERROR", COBY_LOG_FILE=str(log)),
    )
    assert done.returncode == 2
    assert log.exists()


def test_a_wrong_setting_stops_an_import_before_it_makes_anything(tmp_path: Path) -> None:
    done = imported(tmp_path, HEATMAP_DEPTH="many")
    assert done.returncode == 2
    assert done.stderr == 'coby: HEATMAP_DEPTH is "many": it must be a whole number from 1 to 10000\n'
    assert [path.name for path in tmp_path.iterdir()] == ["binance_futures.jsonl.gz"]
