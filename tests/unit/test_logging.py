import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coby.utils import correlation, get_correlation_id, get_logger, set_correlation_id, setup_logging
from coby.utils.exceptions import ConfigError, StoreError
from coby.utils.redaction import MASK, is_secret_name, redact, redact_value, register_secrets


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    with correlation("none"):
        yield
    setup_logging("WARNING", console=False)
    root.setLevel(level)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def log_error(message: str, error: Exception, **facts: object) -> None:
    try:
        raise error
    except type(error):
        get_logger().exception(message, extra=facts)


def test_a_line_is_json_with_facts_and_the_id(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "coby.log"
    setup_logging(level="INFO", log_file=str(path), console=False)
    assert set_correlation_id("req-1") == "req-1"
    get_logger("coby.x").info("book %s", "live", extra={"venue": "kraken", "levels": 5, "path": tmp_path})
    get_logger("coby.x").debug("not shown")
    (line,) = lines(path)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "coby.x",
        "message": "book live",
        "correlation_id": "req-1",
        "venue": "kraken",
        "levels": 5,
        "path": str(tmp_path),
    }


def test_an_error_brings_its_code_and_context(tmp_path: Path) -> None:
    setup_logging(log_file=tmp_path / "l", console=False)
    log_error("commit failed", StoreError("disk full", "store.write", {"path": "p", "password": "geheim"}))
    (line,) = lines(tmp_path / "l")
    error = line["error"]
    assert (error["type"], error["code"], error["context"]) == (
        "StoreError",
        "store.write",
        {"path": "p", "password": MASK},
    )
    assert "test_logging.py" in error["trace"]


def test_no_secret_gets_into_a_log(tmp_path: Path) -> None:
    console = io.StringIO()
    setup_logging(log_file=tmp_path / "l", console=console)
    register_secrets(["s3cr3t-value", "abc"])
    log = get_logger("x")
    log.warning(
        "got %s from postgresql://me:pw1@db/x", "s3cr3t-value", extra={"api_key": "k3y", "note": "s3cr3t-value"}
    )
    log.warning("Authorization: Bearer tok3n password='pw2' alphabet abc")
    nested = {"token": "tok3n", "list": ["http://u:pw3@h"]}
    log_error("failed", ValueError("s3cr3t-value in a trace"), nested=nested)
    for text in (console.getvalue(), (tmp_path / "l").read_text()):
        assert not [secret for secret in ("s3cr3t-value", "pw1", "pw2", "pw3", "k3y", "tok3n") if secret in text]
        assert "alphabet abc" in text
        assert text.count(MASK) >= 7


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("redis://:pw@h:1/0", "redis://***@h:1/0"),
        ("wss://h/ws?token=abcd&x=1", "wss://h/ws?token=***&x=1"),
        ('{"api_key": "abcd", "a": 1}', '{"api_key": ***, "a": 1}'),
        ("DB_PASSWORD=abcd next", "DB_PASSWORD=*** next"),
        ("mail me@example.org, https://h/a@b", "mail me@example.org, https://h/a@b"),
        ("3 tokens were listed; compass north", "3 tokens were listed; compass north"),
    ],
)
def test_what_is_masked_and_what_is_not(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert redact(redacted) == redacted


def test_names_of_secrets() -> None:
    assert all(map(is_secret_name, ["password", "DB_PASSWORD", "api-key", "apikey", "Authorization", "clientSecret"]))
    assert not any(map(is_secret_name, ["path", "tokens_listed", "symbol", "keyboard", "passive"]))
    assert redact_value("password", None) is None


def test_a_message_cannot_pretend_to_be_two_lines(tmp_path: Path) -> None:
    console = io.StringIO()
    setup_logging(log_file=tmp_path / "l", console=console)
    get_logger().warning("bad\n2026 INFO all is well")
    assert console.getvalue().count("\n") == len(lines(tmp_path / "l")) == 1


def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    get_logger().info("hello")
    assert (capsys.readouterr().err.endswith("coby: hello correlation_id=none\n"), capsys.readouterr().out) == (
        True,
        "",
    )


def test_plain_lines_are_for_people() -> None:
    console = io.StringIO()
    setup_logging("debug", console=console)
    with correlation("r1"):
        get_logger("coby.io").debug("hello", extra={"venue": "okx"})
    assert console.getvalue().split(" ", 1)[1] == "DEBUG    coby.io: hello venue=okx correlation_id=r1\n"


def test_files_are_rotated_and_old_ones_go(tmp_path: Path) -> None:
    setup_logging(log_file=tmp_path / "l", console=False, max_bytes=2000, backups=2)
    for number in range(100):
        get_logger().warning("line %d", number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l", "l.1", "l.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    kept = [line["message"] for name in ("l.2", "l.1", "l") for line in lines(tmp_path / name)]
    assert kept == [f"line {number}" for number in range(100 - len(kept), 100)]


def test_setting_up_again_replaces_only_its_own(tmp_path: Path) -> None:
    other = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(other)
    before = len(root.handlers)
    for name in ("a", "b"):
        setup_logging(log_file=tmp_path / name, console=False)
    assert (other in root.handlers, len(root.handlers)) == (True, before + 1)
    root.removeHandler(other)
    get_logger().warning("x")
    assert (len(lines(tmp_path / "b")), (tmp_path / "a").read_text()) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "loud"}, 'log level is "loud": it must be one of'),
        ({"log_file": "/dev/null/x"}, "log file is /dev/null/x"),
    ],
)
def test_what_cannot_be_set_up(arguments: dict[str, Any], message: str) -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(ConfigError, match=message):
        setup_logging(**arguments)
    assert logging.getLogger().handlers == before


def test_each_task_has_its_own_id() -> None:
    async def task(name: str, seen: dict[str, str | None]) -> None:
        set_correlation_id(name)
        await asyncio.sleep(0)
        seen[name] = await asyncio.to_thread(get_correlation_id)

    async def both() -> dict[str, str | None]:
        seen: dict[str, str | None] = {}
        await asyncio.gather(task("a", seen), task("b", seen))
        return seen

    assert asyncio.run(both()) == {"a": "a", "b": "b"}


def test_ids() -> None:
    made = set_correlation_id()
    assert (len(made), get_correlation_id()) == (16, made)
    assert set_correlation_id() != made
    assert set_correlation_id("a\nb" + "c" * 200) == "a?b" + "c" * 125
    with correlation("inner") as inner, pytest.raises(RuntimeError), correlation("deeper"):
        raise RuntimeError
    assert (inner, get_correlation_id()) == ("inner", "a?b" + "c" * 125)
