"""The commands, as a person runs them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coby import recording
from coby.simulator.generate import Fault, Generator
from coby.storage.embedded import StoreReader
from support.captures import NAMES, capture

FAULTS = [Fault("lost", 3.0), Fault("reconnect", 6.0), Fault("malformed", 12.0, "ETHUSDT"), Fault("lost_trade", 9.0)]
ROOT = Path(__file__).parents[2]
COBY = [sys.executable, "-c", "import sys; from coby.cli import main; sys.exit(main())"]


def coby(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COBY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def output(*arguments: object) -> str:
    done = coby(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    with StoreReader(data_dir) as store:
        return {kind: store.read(kind).to_pylist() for kind in sorted({file.kind for file in store.files()})}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "binance_futures.jsonl.gz"
    recording.write(path, Generator(4, seconds=20, faults=FAULTS))
    return path


@pytest.fixture(scope="module")
def imported(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("data")
    output("import", "--venue", "binance_futures", file, "--data-dir", data_dir)
    return data_dir


def test_the_tables_hold_what_a_replay_of_the_tape_counts(imported: Path) -> None:
    first, second = (json.loads(output("replay", imported, "--json")) for _ in range(2))
    assert first == second
    rows = rows_of(imported)
    assert {kind: len(of_kind) for kind, of_kind in rows.items()} == first["rows"]
    assert {"trades", "tops", "book_snapshots", "price_buckets", "heatmap_columns", "candles", "gaps"} <= rows.keys()
    for of_kind in rows.values():
        places = [(row["pos"], row["n"]) for row in of_kind]
        assert places == sorted(set(places))
    with StoreReader(imported) as store:
        assert store.watermark == first["pos"]


def test_a_part_of_a_replay_is_the_end_of_the_whole(imported: Path) -> None:
    trades = rows_of(imported)["trades"]
    middle = trades[len(trades) // 2]["pos"]
    rest = json.loads(output("replay", imported / "tape", "--after", middle, "--json"))
    assert rest["rows"]["trades"] == len([row for row in trades if row["pos"] > middle])


def test_importing_again_adds_nothing(file: Path, imported: Path) -> None:
    before = rows_of(imported)
    output("import", "--venue", "binance_futures", file, "--data-dir", imported)
    assert rows_of(imported) == before


def test_heatmap_columns_and_price_buckets_agree(imported: Path) -> None:
    rows = rows_of(imported)
    buckets = {(row["native_symbol"], row["t"], row["side"]): row for row in rows["price_buckets"]}
    columns = {(row["native_symbol"], row["t"]): row for row in rows["heatmap_columns"]}
    assert len(columns) > 50
    for (symbol, t), column in columns.items():
        bucket = buckets[symbol, t, "bid"]
        by_index = dict(zip(bucket["index"], bucket["quantity"], strict=True))
        for i, quantity in enumerate(column["bid_quantity"]):
            assert by_index.get(column["mid_index"] - i, 0.0) == pytest.approx(quantity)


def kill_and_go_on(file: Path, whole: Path, data_dir: Path, seed: int, kills: int) -> None:
    """Kills an import again and again, lets it end, and compares its rows with those of one that was never killed."""
    chance = random.Random(seed)
    command = [*COBY, "import", "--venue", "binance_futures", str(file), "--data-dir", str(data_dir)]
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.1, 0.8))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    assert killed > 0
    output(*command[len(COBY) :])
    assert rows_of(data_dir) == rows_of(whole)
    mended, uninterrupted = (json.loads(output("replay", d, "--json")) for d in (data_dir, whole))
    assert mended == uninterrupted


def test_a_killed_import_goes_on(file: Path, imported: Path, tmp_path: Path) -> None:
    kill_and_go_on(file, imported, tmp_path, seed=1, kills=5)


@pytest.mark.prove
def test_a_hundred_kills(file: Path, imported: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "0"))
    for part in range(20):
        kill_and_go_on(file, imported, tmp_path / str(part), seed=seed + part, kills=5)


def test_the_tape_commands_find_and_mend_damage(file: Path, tmp_path: Path) -> None:
    output("import", "--venue", "binance_futures", file, "--data-dir", tmp_path)
    assert "records" in output("tape", "info", tmp_path)
    assert "all is well" in output("tape", "verify", tmp_path)
    segment = max((tmp_path / "tape").glob("*.tape"), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0xFF
    segment.write_bytes(data)
    found = coby("tape", "verify", tmp_path)
    assert found.returncode == 1
    assert "are missing" in found.stdout
    assert "saved" in output("tape", "repair", tmp_path)
    damaged = json.loads(output("replay", tmp_path, "--json"))
    assert damaged["rows"]["gaps"] > 0


def test_decode_prints_one_event_a_line(file: Path) -> None:
    events = [json.loads(line) for line in output("decode", "--venue", "binance_futures", file).splitlines()]
    kinds = {event["kind"] for event in events}
    assert {"trade", "book", "gap", "candle", "status"} <= kinds
    assert {"kind", "frame", "venue", "native_symbol", "symbol", "ts_event", "ts_recv"} <= events[0].keys()
    loose = [
        json.loads(line) for line in output("decode", "--venue", "binance_futures", file, "--no-sync").splitlines()
    ]
    assert not [event for event in loose if event["kind"] == "gap" and event["channel"] == "book"]


def test_a_reader_that_leaves_early_is_no_error(file: Path) -> None:
    with subprocess.Popen(
        [*COBY, "decode", "--venue", "binance_futures", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_play_leaves_tables_and_a_picture(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    said = output("play", file, "--data-dir", tmp_path, "--picture", picture)
    assert "frames" in said
    assert "gaps" in said
    assert rows_of(tmp_path / "binance_futures")["trades"]
    assert "BTC-USDT-PERP" in picture.read_text()
    assert "font-face" not in picture.read_text()


def test_play_makes_a_market_up_where_it_is_given_none(tmp_path: Path) -> None:
    output("play", "--data-dir", tmp_path)
    assert rows_of(tmp_path / "made_up" / "binance_futures")["heatmap_columns"]


def test_venues_lists_what_is_proved() -> None:
    assert "binance_futures" in output("venues")
    (futures,) = (v for v in json.loads(output("venues", "--json")) if v["id"] == "binance_futures")
    assert futures["books"][0]["proof"] == "sequence"
    lines = [line for line in output("venues", "--markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(json.loads(output("venues", "--json")))
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_page_of_venues_is_what_the_code_says() -> None:
    page = ROOT / "docs" / "venues.md"
    assert page.read_text(encoding="utf-8") == output("venues", "--markdown"), "`make docs` makes it anew"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["import", "--venue", "binance_future", "FILE"], 2, 'is "binance_future".*did you mean binance_futures'),
        (["import", "--venue", "zzz", "FILE"], 2, "`coby venues` lists them all"),
        (["import", "--venue", "binance_futures", "none.gz"], 2, "FILE is none.gz, which is not there"),
        (["decode", "--venue", "binance_futures", "/"], 2, "FILE is /, which is no file"),
        (["decode", "--venue", "binance_futures", "BAD"], 1, "bad.jsonl: line 1 is no JSON"),
        (["import", "--venue", "binance_futures", "BAD"], 1, "bad.jsonl.* line"),
        (["import", "FILE"], 2, "--venue"),
        (["play", "BAD"], 2, "not named after a venue; name the venue with --venue"),
        (["play", "FILE", "--speed", "-1"], 2, "--speed is -1: it must be 0 or more"),
        (["replay", "nowhere"], 2, "DIR is nowhere"),
        (["tape", "info", "EMPTY"], 1, "EMPTY"),
        (["dance"], 2, "invalid choice: 'dance'"),
    ],
)
def test_wrong_use_is_one_readable_line(file: Path, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    bad, empty = tmp_path / "bad.jsonl", tmp_path / "EMPTY"
    bad.write_text("{nonsense\n")
    empty.mkdir()
    places = {"FILE": str(file), "BAD": str(bad), "EMPTY": str(empty)}
    data_dir = ["--data-dir", str(tmp_path / "data")] if arguments[0] in {"import", "play"} else []
    done = coby(*[places.get(argument, argument) for argument in arguments], *data_dir)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(says, done.stderr), done.stderr


@pytest.mark.parametrize("venue", NAMES)
def test_real_traffic_becomes_the_same_rows_twice(venue: str, tmp_path: Path) -> None:
    output("import", "--venue", venue, capture(venue), "--data-dir", tmp_path)
    first, second = (json.loads(output("replay", tmp_path, "--json")) for _ in range(2))
    assert first == second
    rows = rows_of(tmp_path)
    assert {kind: len(of_kind) for kind, of_kind in rows.items()} == first["rows"]
    assert not [row for row in rows["tops"] if row["state"] == "live" and row["bid"] and row["bid"] >= row["ask"]]
