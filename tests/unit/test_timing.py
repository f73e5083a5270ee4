import time

import pytest

from coby.utils.exceptions import InvalidValueError
from coby.utils.timing import Periodic, Stopwatch, format_duration, format_time, now_ns, parse_time

NS = 1_795_183_392_250_000_123


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-11-20T14:03:12.250000123Z", NS),
        (str(NS), NS),
        ("2026-11-20t14:03:12.25z", NS - 123),
        ("2026-11-20 15:03:12.25+01:00", NS - 123),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("-1", -1),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times_are_numbers_or_rfc_3339(text: str, ns: int) -> None:
    assert parse_time(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-20",
        "2026-11-20T14:03:12",
        "2026-13-20T14:03:12Z",
        "2026-11-20T24:61:00Z",
        "1.5",
        "9223372036854775808",
        "2300-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2026-11-20T14:03:12.1234567890Z",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"from is .*: it must be nanoseconds"):
        parse_time(text, "from")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NS, "2026-11-20T14:03:12.250000123Z"),
        (NS - 123, "2026-11-20T14:03:12.250Z"),
        (-1, None),
    ],
)
def test_a_time_has_the_digits_that_it_needs(ns: int, text: str | None) -> None:
    assert format_time(ns) == (text or "1969-12-31T23:59:59.999999999Z")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (4200, "4.2 us"),
        (4200000, "4.2 ms"),
        (12340000000, "12.3 s"),
        (100 * 10**9, "0:01:40"),
        (7384 * 10**9, "2:03:04"),
        (-100 * 10**9, "-0:01:40"),
        (-5000, "-5 us"),
    ],
)
def test_durations_for_people(ns: int, text: str) -> None:
    assert format_duration(ns) == text


def test_now_is_now() -> None:
    assert abs(now_ns() - time.time() * 1e9) < 60e9


def test_a_stopwatch_stops() -> None:
    ticks = iter([5, 10, 25, 40])
    with Stopwatch(lambda: next(ticks)) as watch:
        assert watch.elapsed_ns == 15
    assert (watch.elapsed_ns, watch.elapsed_ns) == (30, 30)


def test_what_is_periodic_keeps_to_its_grid() -> None:
    now = 0
    periodic = Periodic(10e-9, lambda: now)
    due = []
    for now in range(60):  # the clock reads it
        if 22 < now < 45:
            continue
        if periodic.due():
            due.append(now)
    assert due == [10, 20, 45, 50]
    assert periodic.wait_seconds == pytest.approx(1e-9)
    with pytest.raises(InvalidValueError):
        Periodic(0)
