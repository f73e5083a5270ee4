"""Readiness, resources and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coby.monitoring.health import Health
from coby.monitoring.monitor import ProcessMonitor
from coby.monitoring.resources import Resources
from support.serving import Book, FakeLive, instrument


def engine(**told: Any) -> FakeLive:
    found = FakeLive()
    found.listed = [instrument("okx", "BTC-USDT", "BTC-USDT"), instrument("kraken", "XBT/USDT", "BTC-USDT")]
    found.books = {("okx", "BTC-USDT"): Book({}, {}), ("kraken", "XBT/USDT"): Book({}, {}, state="gap")}
    found.told = told
    return found


def reasons(
    status: Mapping[str, Any], feeder: Mapping[str, Any] | None = None, free: int | None = 1 << 40
) -> dict[str, str]:
    told = Health(lambda: status, None if feeder is None else lambda: feeder, lambda: {"disk_free_bytes": free})
    return {reason.code: reason.message for reason in told.reasons()}


def test_one_live_book_is_enough() -> None:
    assert reasons(engine().status()) == {}
    assert reasons(engine().status(), {"rows_waiting": 10, "seconds_behind": 3, "last_error": None}) == {}


def test_every_reason_is_told_with_its_words() -> None:
    down = {"state": "disconnected", "error": "connection refused", "books": []}
    told = engine(okx=down, kraken=down)
    told.untaped = "No space left on device"
    found = reasons(told.status(), {"last_error": "disk full", "rows_waiting": 10**6}, free=5 << 20)
    assert found.keys() == {"untaped", "no_venue_live", "store_failed", "store_behind", "disk_full"}
    assert "No space left on device" in found["untaped"]
    assert "okx is disconnected (connection refused)" in found["no_venue_live"]
    assert "disk full" in found["store_failed"]
    assert "1000000 rows" in found["store_behind"]
    assert "5 MiB" in found["disk_full"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"failed": "panicked", "live": {"venues": []}}, "failed"),
        ({"failed": None}, "starting"),
        ({"failed": None, "ended": True, "live": {"untaped": None, "venues": []}}, "starting"),
        ({"failed": None, "ended": False, "live": {"untaped": None, "venues": []}}, "no_venue_live"),
    ],
)
def test_an_engine_that_does_not_run_is_not_ready(status: dict[str, Any], code: str) -> None:
    assert reasons(status).keys() == {code}


def test_a_store_that_is_late_by_time_or_left_behind_is_not_ready() -> None:
    status = engine().status()
    assert "90 s" in reasons(status, {"seconds_behind": 90.2})["store_behind"]
    assert "too full" in reasons(status, {"behind": "too full"})["store_failed"]
    assert reasons(status, {"rows_waiting": 150_000, "pending_rows": 60_000}).keys() == {"store_behind"}


def test_resources_are_measured_at_most_once_a_second(tmp_path: Path) -> None:
    now = 0.0
    resources = Resources(tmp_path, 100, lambda: now)
    first = resources.measure()
    assert first["memory_limit_bytes"] == 100 << 20
    assert first["memory_bytes"] > 1 << 20
    assert 0 < first["disk_free_bytes"] <= first["disk_total_bytes"]
    assert first["threads"] >= 1
    while resources._process.cpu_times().user < first["cpu_seconds"] + 0.05:
        sum(range(10_000))
    now = 0.5
    assert resources.measure() is first
    now = 2.0
    later = resources.measure()
    assert later["cpu_seconds"] > first["cpu_seconds"]
    assert later["cpu_share"] == pytest.approx((later["cpu_seconds"] - first["cpu_seconds"]) / 2.0)
    assert Resources(tmp_path / "gone", 1).measure()["disk_free_bytes"] is None


def test_figures_are_those_of_status(tmp_path: Path) -> None:
    watched = engine()
    watched.durable_pos = 77
    monitor = ProcessMonitor(
        watched, lambda: {"watermark": 66, "last_error": "x"}, data_dir=tmp_path, memory_limit_mib=1
    )
    for status in (200, 200, 503):
        monitor.observe("/books/{venue}/{symbol}", "GET", status, 0.004)
    monitor.observe("none", "BREW", 405, 0.1)
    body, kind = monitor.exposition()
    lines = set(body.decode().splitlines())
    assert kind.startswith("text/plain")
    assert {
        "coby_durable_position 77.0",
        "coby_store_watermark 66.0",
        "coby_store_failing 1.0",
        "coby_untaped 0.0",
        "coby_frames_total 7.0",
        'coby_venue_books{state="gap",venue="kraken"} 1.0',
        'coby_venue_state{state="live",venue="okx"} 1.0',
        'coby_venue_state{state="live",venue="kraken"} 0.0',
        'coby_venue_connections{venue="okx"} 1.0',
        'coby_http_requests_total{method="GET",route="/books/{venue}/{symbol}",status="200"} 2.0',
        'coby_http_requests_total{method="other",route="none",status="405"} 1.0',
        'coby_http_request_seconds_bucket{le="0.005",route="/books/{venue}/{symbol}"} 3.0',
    } <= lines
    assert monitor.readiness()["ready"] is False
