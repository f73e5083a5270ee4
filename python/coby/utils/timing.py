"""Time: the texts of moments, and how long things take."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from coby.utils.exceptions import InvalidValueError
from coby.utils.redaction import printable

SECOND_NS = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_ALLOWED = "nanoseconds since 1970 or a time like 2026-11-20T14:03:12.250Z"


def now_ns() -> int:
    """The time now: nanoseconds since the epoch, UTC. For views and logs; rows take their times from records."""
    return time.time_ns()


def format_time(ns: int) -> str:
    """A moment as RFC 3339 in UTC, with as many digits as it needs: none, 3, 6 or 9."""
    seconds, fraction = divmod(ns, SECOND_NS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    # strftime writes the years before 1000 without their zeros on some systems.
    text = text.rjust(19, "0")
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_time(text: str | int, name: str = "time") -> int:
    """A moment as nanoseconds since the epoch, from such a number or from RFC 3339 with up to 9 digits.

    Raises:
        InvalidValueError: It is neither, or no 64-bit number of nanoseconds; the message calls it `name`.
    """
    ns = _parse(str(text).strip())
    if ns is None or ns not in _INT64:
        raise InvalidValueError(
            f'{name} is "{printable(text)}": it must be {_ALLOWED}',
            context={name: printable(text), "allowed": _ALLOWED},
        )
    return ns


def _parse(text: str) -> int | None:
    if _NUMBER.fullmatch(text):
        return int(text)
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return seconds * SECOND_NS + int((fraction or "").ljust(9, "0"))


def format_duration(ns: int) -> str:
    """A length of time for people: `120 ns`, `4.2 ms`, `12.3 s`, `2:03:04`."""
    size = abs(ns)
    for unit, length in (("s", SECOND_NS), ("ms", 1_000_000), ("us", 1000)):
        if size >= 100 * SECOND_NS:
            break
        if size >= length:
            return f"{ns / length:.3g} {unit}"
    if size < 1000:
        return f"{ns} ns"
    minutes, seconds = divmod(size // SECOND_NS, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{'-' if ns < 0 else ''}{hours}:{minutes:02d}:{seconds:02d}"


class Stopwatch:
    """How long something takes, by a clock that is never set back.

    `with Stopwatch() as watch: ...`; afterwards `watch.elapsed_ns` stands still.

    Args:
        clock: Gives nanoseconds; for tests.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._began = clock()
        self._ended: int | None = None

    def __enter__(self) -> Self:
        self._began = self._clock()
        self._ended = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = self._clock()

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the start, or from start to end."""
        return (self._clock() if self._ended is None else self._ended) - self._began


class Periodic:
    """Says when something is due that shall happen every so often; it does not catch up on what was missed.

    Args:
        seconds: How often, above 0.
        clock: Gives nanoseconds; for tests.
    """

    def __init__(self, seconds: float, clock: Callable[[], int] = time.monotonic_ns) -> None:
        if not seconds > 0:
            raise InvalidValueError(f"seconds is {seconds}: it must be above 0")
        self._every = max(1, round(seconds * SECOND_NS))
        self._clock = clock
        self._next = clock() + self._every

    def due(self) -> bool:
        """Whether it is time; if so, the next time is a period later on the same grid."""
        now = self._clock()
        if now < self._next:
            return False
        self._next += ((now - self._next) // self._every + 1) * self._every
        return True

    @property
    def wait_seconds(self) -> float:
        """Until it is due next, 0 if it is."""
        return max(0, self._next - self._clock()) / SECOND_NS
