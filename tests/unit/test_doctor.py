import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coby import _core
from coby.config import load
from coby.doctor import Finding, Report, diagnose
from coby.engine import drained
from coby.utils.exceptions import StoreError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def report(port: int, **environ: str) -> Report:
    return diagnose(load(environ={"COBY_PORT": str(port)} | environ))


def finding(found: Report, name: str) -> Finding:
    return next(finding for finding in found.findings if finding.name == name)


def test_a_machine_where_all_is_well(free_port: int, tmp_path: Path) -> None:
    found = report(free_port)
    assert found.healthy
    assert {finding.level for finding in found.findings} <= {"ok", "warning"}
    assert finding(found, "data directory").text.startswith("data will be made; ")
    assert list(tmp_path.iterdir()) == []
    assert found.versions["pydantic"][0].isdigit()
    assert json.loads(json.dumps(found.to_dict()))["healthy"] is True
    assert str(found).splitlines()[-1] == "nothing stands in the way"


def test_settings_are_told_with_their_origin_and_without_secrets(free_port: int) -> None:
    found = report(free_port, DB_PASSWORD="geheim!", SOL_BUCKET_SIZE="0.1", COBY_PROXIES="http://u:pw123@h:1")
    told = f"{found}{json.dumps(found.to_dict())}"
    assert not [secret for secret in ("geheim!", "pw123") if secret in told]
    lines = {line.split()[0]: line.split()[1:] for line in str(found).splitlines() if line.startswith("  ")}
    assert lines["bucket_sizes.SOL"] == ["0.1", "SOL_BUCKET_SIZE"]
    assert lines["heatmap_depth"] == ["50", "default"]
    assert lines["db_password"] == ["***", "DB_PASSWORD"]
    assert lines["port"] == [str(free_port), "COBY_PORT"]


def test_a_port_in_use_and_servers_that_do_not_answer(busy_port: int, free_port: int) -> None:
    gone = str(free_port)
    found = report(busy_port, DB_HOST="127.0.0.1", DB_PORT=gone, REDIS_HOST="127.0.0.1", REDIS_PORT=str(busy_port))
    assert not found.healthy
    assert finding(found, "http").level == "failed"
    assert "set COBY_PORT or --port" in finding(found, "http").text
    assert finding(found, "database").text.startswith(f"127.0.0.1:{gone} does not answer")
    assert finding(found, "redis") == Finding("redis", "ok", f"127.0.0.1:{busy_port} answers")
    assert str(found).splitlines()[-1] == f"2 of {len(found.findings)} checks failed"


def test_a_directory_of_sockets(free_port: int, tmp_path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("needs Unix sockets")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind(".s.PGSQL.5432")
        server.listen()
        assert finding(report(free_port, DB_HOST=str(tmp_path)), "database").level == "ok"


def test_what_cannot_be_written(free_port: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = report(free_port, COBY_DATA_DIR="file", COBY_LOG_FILE=str(tmp_path))
    assert "cannot be written" in finding(found, "data directory").text
    assert "set COBY_LOG_FILE" in finding(found, "log file").text
    fine = report(free_port, COBY_DATA_DIR=str(tmp_path), COBY_LOG_FILE="logs/coby.log")
    assert finding(fine, "data directory") == Finding("data directory", "ok", f"{tmp_path} can be written")
    assert finding(fine, "log file").level == "ok"


def test_little_room_is_a_warning(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**29))
    found = report(free_port)
    assert finding(found, "disk") == Finding(
        "disk", "warning", "0.5 GiB are free; make room, or set COBY_DATA_DIR to another disk"
    )
    assert found.healthy


def test_misspelt_variables_and_unknown_venues(free_port: int) -> None:
    found = report(free_port, COBY_VENUS="x", COBY_VENUES="binance_future")
    assert finding(found, "variables").level == "warning"
    assert "COBY_VENUS is no setting (did you mean COBY_VENUES?)" in finding(found, "variables").text
    failed = finding(found, "venues")
    assert failed.level == "failed"
    assert "did you mean binance_futures" in failed.text


def test_certificates(free_port: int, tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    found = report(free_port, COBY_ROOT_CERTIFICATES="c.pem")
    assert "holds no certificates" in finding(found, "certificates").text
    assert not found.healthy


def test_what_is_on_the_tape(free_port: int, tmp_path: Path) -> None:
    line = {"recv_ns": 5, "kind": "open", "url": "wss://fstream.binance.com/ws/btcusdt@aggTrade"}
    (tmp_path / "r.jsonl").write_text(json.dumps(line))
    tape = tmp_path / "data" / "tape"

    async def imported() -> None:
        engine = _core.Engine.importing("binance_futures", [tmp_path / "r.jsonl"], tape, {})
        async for _ in drained(engine):
            pass
        engine.stop()

    asyncio.run(imported())
    found = finding(report(free_port), "tape")
    assert found.level == "ok"
    assert int(found.text.split()[0]) == _core.tape_info(tape)["records"] >= 2
    shutil.rmtree(tape)
    tape.mkdir()
    assert finding(report(free_port), "tape").level == "failed"


def test_further_checks_are_asked_and_may_fail(free_port: int) -> None:
    def broken() -> Finding:
        raise StoreError("postgresql://me:pw@h: locked by process 5")

    settings = load(environ={"COBY_PORT": str(free_port)})
    found = diagnose(settings, {"store": lambda: Finding("store", "ok", "fine"), "lock": broken})
    assert found.findings[-2:] == [
        Finding("store", "ok", "fine"),
        Finding("lock", "failed", "postgresql://***@h: locked by process 5"),
    ]
