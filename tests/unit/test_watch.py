import logging
from typing import Any

import pyarrow as pa
import pytest

from coby.interfaces import Part
from coby.monitoring.watch import Watch
from support.venues import venue


class Rig:
    def __init__(self, *venues: dict[str, Any]) -> None:
        self.venues = list(venues)
        self.status: dict[str, Any] = {"frames": 0, "live": {"venues": self.venues, "untaped": None}}
        self.now = 100.0
        self.resources = {"memory_bytes": 100 << 20, "memory_limit_bytes": 200 << 20}
        self.watch = Watch(
            lambda: self.status, lambda: {"seconds_behind": 3.0}, lambda: self.resources, clock=lambda: self.now
        )


def gap(id_: int, phase: str, to: int | None = None) -> Part:
    row = {
        "pos": id_,
        "venue": "kraken",
        "native_symbol": "BTC/USDT",
        "symbol": "BTC-USDT",
        "id": id_,
        "phase": phase,
        "channel": "book",
        "cause": "sequence",
        "from": 1_000_000_000,
        "to": to,
        "evidence": "5 after 3",
    }
    return Part(id_, id_, {"gaps": pa.RecordBatch.from_pylist([row])})


def tops(*rows: tuple[str, int | None, int]) -> Part:
    columns = [{"venue": name, "ts_event": event, "ts_recv": recv} for name, event, recv in rows]
    return Part(1, 1, {"tops": pa.RecordBatch.from_pylist(columns)})


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_changes_of_a_state_are_logged_once_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(venue(state="connecting"))
    rig.watch.look()
    rig.watch.look()
    rig.venues[0] = venue(state="disconnected", error="connection refused", next_attempt=0)
    rig.watch.look()
    rig.venues[0] = venue(state="live")
    rig.watch.look()
    assert [record.message for record in caplog.records] == [
        "kraken is connecting",
        "kraken is disconnected: connection refused; next attempt in 0.0 s",
        "kraken is live",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]


def test_a_symbol_that_a_venue_lacks_is_told_once_with_what_is_near(caplog: pytest.LogCaptureFixture) -> None:
    lacking = {"symbol": "BTCC", "message": 'no instrument is "BTCC"', "nearest": ["BTC-USDT"]}
    rig = Rig(venue(unresolved=[lacking]))
    rig.watch.look()
    rig.watch.look()
    told = [record.message for record in caplog.records if "BTCC" in record.message]
    assert told == ['kraken: no instrument is "BTCC"; did you mean BTC-USDT?']


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    rig = Rig(venue())
    for second in range(30):
        rig.now += 1
        rate = 10 if second < 15 else 100
        rig.status["frames"] += rate
        rig.venues[0]["frames"] += rate
        rig.watch.take(Part(1, 1, {"trades": pa.RecordBatch.from_pylist([{"pos": 1}] * rate)}))
        told = rig.watch.look()
        assert told.frames_per_second == told.venues[0].frames_per_second
    figures = rig.watch.look()
    assert figures.frames_per_second == pytest.approx(100)
    assert figures.rows_per_second == pytest.approx(100)
    assert figures.rows == 15 * 110


def test_lag_is_the_venue_s_time_to_ours() -> None:
    rig = Rig(venue(), venue("okx"))
    for _ in range(50):
        rig.watch.take(tops(("okx", None, 5), ("kraken", 1_000_000_000, 1_250_000_000)))
    rig.watch.take(tops(("okx", None, 5)))
    kraken, okx = rig.watch.look().venues
    assert kraken.lag == pytest.approx(0.25)
    assert okx.lag is None


def test_gaps_are_counted_and_followed(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(venue())
    rig.watch.take(gap(1, "opened"))
    rig.watch.take(gap(2, "opened"))
    rig.watch.take(gap(1, "closed", 3_500_000_000))
    figures = rig.watch.look()
    assert (figures.gaps, figures.open_gaps, figures.venues[0].open_gaps) == (2, 1, 1)
    assert "gap: kraken BTC-USDT book: sequence, 5 after 3" in caplog.text
    assert "gap closed: kraken BTC-USDT book after 2.500 s" in caplog.text
    assert "venues 1/1 live · books 1/1" in str(figures)
    assert "gaps 2 (open 1) · store 3 s behind" in str(figures)


def test_a_storm_of_gaps_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(venue())
    for number in range(1000):
        rig.watch.take(gap(number, "opened"))
    assert len(caplog.records) == 20
    rig.now += 11
    rig.watch.take(gap(1000, "opened"))
    assert caplog.records[-2].message == "980 more lines about gaps were left out"
    assert len(caplog.records) == 22


def test_a_tape_that_fails_and_comes_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(venue())
    rig.status["live"]["untaped"] = "disk full"
    figures = rig.watch.look()
    rig.watch.look()
    assert "NOT ON TAPE: disk full" in str(figures)
    rig.status["live"]["untaped"] = None
    rig.watch.look()
    told = [record.message for record in caplog.records if "tape" in record.message]
    assert len(told) == 2


def test_at_the_end_nothing_is_news(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(venue())
    rig.watch.end()
    rig.watch.take(gap(1, "opened"))
    rig.venues[0] = venue(state="disconnected")
    assert rig.watch.look().open_gaps == 1
    assert caplog.records == []


def test_an_engine_that_has_not_said_anything_yet() -> None:
    rig = Rig()
    rig.status["live"] = None
    assert rig.watch.look().venues == ()


def test_memory_above_the_limit_is_told_once_each_time_it_gets_there(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    assert rig.watch.look().memory == 100 << 20
    for used in (201, 300, 100, 201):
        rig.resources["memory_bytes"] = used << 20
        rig.watch.look()
    told = [record.message for record in caplog.records if "MAX_MEMORY_USAGE" in record.message]
    assert told == ["the process takes 201 MiB, above MAX_MEMORY_USAGE (200 MiB)"] * 2
