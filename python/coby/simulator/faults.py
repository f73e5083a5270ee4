"""What goes wrong: a script of faults, each with a time and a target, and what came of it."""

import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, cast, get_args

from coby.simulator.exchange import (
    SECOND,
    Channel,
    Connection,
    Door,
    Exchange,
    Frame,
    Picture,
    Response,
    Venue,
)
from coby.simulator.market import Market
from coby.utils.exceptions import ConfigError

FrameFault = Literal["drop", "duplicate", "reorder", "corrupt", "truncate", "freeze", "close"]
"""Befall a frame, or the connection that was about to carry it."""
TimedFault = Literal["skip", "time_jump"]
DoorFault = Literal["refuse", "http", "slow_handshake"]
SnapshotFault = Literal["late_snapshot", "stale_snapshot"]
Kind = FrameFault | TimedFault | DoorFault | SnapshotFault
KINDS: tuple[str, ...] = tuple(
    kind for part in (FrameFault, TimedFault, DoorFault, SnapshotFault) for kind in get_args(part)
)

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    - `drop duplicate reorder corrupt truncate`: the next frame that fits is lost, sent twice, sent after its successor,
      sent with a wrong digit in a level's size, or cut in half.
    - `freeze close`: the connection that was about to carry that frame stays open and mute for `seconds` (0: for ever),
      or is closed with `code` (1006: without a closing handshake).
    - `skip`: sequence numbers are used up that nobody is told of, where there are any. `time_jump`: the venue's clock
      changes by `seconds`.
    - `refuse http slow_handshake`: for `seconds` connections are reset, REST answers `status` with `retry_after` (only
      paths that contain `path`), or connecting takes `delay` seconds.
    - `late_snapshot stale_snapshot`: the next `count` snapshots come `delay` seconds late, or are `delay` seconds old.

    `at` is in seconds since the start. A missing `venue` or `symbol` (the venue's or the canonical name) means any.
    `frame` waits for the so-manyeth frame that fits, from 1; `count` is how many frames in a row are hit. With `within`
    only frames fit that touch one of the so many best levels.
    """

    kind: Kind
    at: float = 0.0
    venue: str | None = None
    symbol: str | None = None
    channel: Channel = "book"
    frame: int = 1
    count: int = 1
    seconds: float = 5.0
    delay: float = 2.0
    code: int = 1001
    status: int = 503
    retry_after: int | None = None
    path: str = ""
    within: int | None = None

    def later(self, seconds: float) -> "Fault":
        """The same fault, so much later."""
        return replace(self, at=self.at + seconds)

    def fits(self, venue: Venue, market: Market | None) -> bool:
        """Whether this is the target."""
        if self.venue not in (None, venue.name):
            return False
        if self.symbol is None:
            return True
        return market is not None and self.symbol in (market.instrument.symbol, market.instrument.canonical)


class Script:
    """Lets faults happen; the `Faults` of an exchange.

    Args:
        exchange: Where.
        faults: What; more can be added while it runs.
        log: Is told of each fault when it takes effect.
    """

    def __init__(self, exchange: Exchange, faults: Iterable[Fault], log: Log) -> None:
        self._exchange = exchange
        self._clock = exchange.clock
        self._log = log
        self._start_ns = self._clock.now_ns
        self._frames: list[_Armed] = []
        self._doors: list[Fault] = []
        self._snapshots: list[_Armed] = []
        self._pictures: dict[tuple[int, int], Picture] = {}
        self._held: dict[tuple[int, Channel, int], str | bytes] = {}
        for fault in sorted(faults, key=lambda fault: fault.at):
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Adds a fault; its `at` still counts from the start."""
        at_ns = self._start_ns + round(fault.at * SECOND)
        if fault.kind in get_args(FrameFault):
            self._frames.append(_Armed(fault, at_ns, fault.frame, fault.count))
        elif fault.kind in get_args(DoorFault):
            self._doors.append(fault)
        elif fault.kind in get_args(SnapshotFault):
            armed = _Armed(fault, at_ns, 1, fault.count)
            self._snapshots.append(armed)
            if fault.kind == "stale_snapshot":
                self._clock.at(at_ns - round(fault.delay * SECOND), lambda: self._photograph(armed))
        else:
            self._clock.at(at_ns, lambda: self._timed(fault))

    @property
    def waiting(self) -> int:
        """How many faults wait for a frame or a snapshot to befall."""
        return len(self._frames) + len(self._snapshots)

    # Frames

    def pass_on(self, connection: Connection, frame: Frame) -> None:
        """Delivers a frame, or does to it what the script says."""
        payload = connection.venue.wire(frame.text)
        for armed in self._frames:
            if armed.due(self._clock.now_ns, connection.venue, frame.market) and armed.fault.channel == frame.channel:
                level = _level(frame, connection.venue, armed.fault)
                if level is False or not armed.hit():
                    continue
                text, facts = _flipped(frame.text, level) if level else (frame.text, dict[str, Any]())
                if not armed.left:
                    self._frames.remove(armed)
                if armed.fault.kind == "freeze":
                    facts = {"seconds": armed.fault.seconds}
                self._note(armed.fault, connection.venue, frame.market, connection=connection.number, **facts)
                self._befall(armed.fault, connection, frame, text)
                return
        connection.deliver(payload)
        if self._held and (held := self._held.pop(_key(connection, frame), None)) is not None:
            connection.deliver(held)

    def _befall(self, fault: Fault, connection: Connection, frame: Frame, text: str) -> None:
        payload = connection.venue.wire(text)
        match fault.kind:
            case "duplicate":
                connection.deliver(payload)
                connection.deliver(payload)
            case "reorder":
                self._held[_key(connection, frame)] = payload
            case "corrupt":
                connection.deliver(payload)
            case "truncate":
                connection.deliver(payload[: len(payload) // 2])
            case "freeze":
                connection.frozen = True
                if fault.seconds:
                    self._clock.at(self._clock.now_ns + round(fault.seconds * SECOND), lambda: _thaw(connection))
            case "close":
                connection.close(fault.code, "going away")

    # Snapshots

    def _photograph(self, armed: "_Armed") -> None:
        for venue in self._exchange.venues.values():
            for market in venue.markets.values():
                if armed.fault.fits(venue, market):
                    self._pictures[id(armed), id(market)] = Picture.of(market)

    def stale(self, venue: Venue, market: Market) -> Picture | None:
        """An old picture, if the script says so."""
        armed = self._snapshot("stale_snapshot", venue, market)
        return self._pictures.get((id(armed), id(market))) if armed else None

    def lateness_ns(self, venue: Venue, market: Market) -> int:
        """A delay, if the script says so."""
        armed = self._snapshot("late_snapshot", venue, market)
        return round(armed.fault.delay * SECOND) if armed else 0

    def _snapshot(self, kind: SnapshotFault, venue: Venue, market: Market) -> "_Armed | None":
        for armed in self._snapshots:
            if armed.fault.kind == kind and armed.due(self._clock.now_ns, venue, market):
                armed.left -= 1
                if not armed.left:
                    self._snapshots.remove(armed)
                self._note(armed.fault, venue, market, delay=armed.fault.delay)
                return armed
        return None

    # Doors

    def door(self, venue: Venue, path: str, *, socket: bool) -> Door:
        """How a client is met just now."""
        delay = 0
        for fault in self._doors:
            since = self._start_ns + round(fault.at * SECOND)
            if not since <= self._clock.now_ns < since + round(fault.seconds * SECOND):
                continue
            if fault.venue not in (None, venue.name):
                continue
            if fault.kind == "refuse":
                self._note(fault, venue, None, path=path)
                return Door(refused=True)
            if fault.kind == "http" and not socket and fault.path in path:
                headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                self._note(fault, venue, None, path=path, status=fault.status)
                return Door(response=Response("", fault.status, headers))
            if fault.kind == "slow_handshake" and socket:
                self._note(fault, venue, None, path=path, delay=fault.delay)
                delay = round(fault.delay * SECOND)
        return Door(delay_ns=delay)

    # Times

    def _timed(self, fault: Fault) -> None:
        for venue in self._exchange.venues.values():
            if fault.kind == "time_jump" and fault.venue in (None, venue.name):
                venue.clock_error_ns += round(fault.seconds * SECOND)
                self._note(fault, venue, None, seconds=fault.seconds)
            elif fault.kind == "skip" and venue.sequenced:
                market = next((market for market in venue.markets.values() if fault.fits(venue, market)), None)
                if market is not None:
                    venue.skip(market)
                    self._note(fault, venue, market)

    def _note(self, fault: Fault, venue: Venue, market: Market | None, **facts: Any) -> None:
        symbol = market.instrument.symbol if market else None
        self._log(
            {
                "kind": "fault",
                "t": self._clock.now_ns,
                "venue": venue.name,
                "symbol": symbol,
                "fault": fault.kind,
                "channel": fault.channel,
                **facts,
            }
        )


class _Armed:
    """A fault that waits for what it befalls."""

    def __init__(self, fault: Fault, at_ns: int, frames: int, left: int) -> None:
        self.fault = fault
        self.left = left
        self._at_ns = at_ns
        self._wait = frames

    def due(self, now_ns: int, venue: Venue, market: Market | None) -> bool:
        return now_ns >= self._at_ns and self.fault.fits(venue, market)

    def hit(self) -> bool:
        """Counts a frame that fits, and says whether it is hit."""
        if self._wait > 1:
            self._wait -= 1
            return False
        self.left -= 1
        return True


def _key(connection: Connection, frame: Frame) -> tuple[int, Channel, int]:
    return connection.number, frame.channel, id(frame.market)


def _thaw(connection: Connection) -> None:
    connection.frozen = False


def _level(frame: Frame, venue: Venue, fault: Fault) -> re.Match[str] | Literal[False] | None:
    """Which level a fault is about; None if about none, False if the frame lacks one that it needs."""
    if fault.kind != "corrupt" and fault.within is None:
        return None
    near: set[float] | None = None
    if fault.within is not None and frame.market is not None:
        price = frame.market.instrument.price
        sides = (frame.market.bids, frame.market.asks)
        near = {float(price(ticks)) for side in sides for ticks, _ in side.top(fault.within)}
    for level in venue.level.finditer(frame.text):
        if float(level[2]) and (near is None or float(level[1]) in near):
            return level if fault.kind == "corrupt" else None
    return False


def _flipped(text: str, level: re.Match[str]) -> tuple[str, dict[str, Any]]:
    """The text with another first digit in a level's size, and what was changed."""
    size = level[2]
    place = next(index for index, char in enumerate(size) if char in "123456789")
    wrong = f"{size[:place]}{int(size[place]) % 9 + 1}{size[place + 1 :]}"
    return text[: level.start(2)] + wrong + text[level.end(2) :], {"price": level[1], "size": size, "wrong": wrong}


# Scripts


def load(name: str, exchange: Exchange) -> list[Fault]:
    """A script by name (`none`, `all`, `flaky`), or from a JSON file: a list of objects with the fields of `Fault`.

    Raises:
        ConfigError: There is no such script, or it is not understood.
    """
    if name in NAMED:
        return NAMED[name](exchange)
    path = Path(name)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--faults is {name}: no script of that name ({', '.join(NAMED)}), no such file") from error
    except ValueError as error:
        raise ConfigError(f"--faults: {path} is no JSON ({error})") from error
    if not isinstance(entries, list):
        raise ConfigError(f"--faults: {path} must hold a list of faults")
    return [parse(entry, exchange) for entry in entries]


def parse(entry: object, exchange: Exchange) -> Fault:
    """A fault from JSON.

    Raises:
        ConfigError: It names no fault, no venue, no symbol of that venue, or a field that does not exist.
    """
    if not isinstance(entry, dict):
        raise ConfigError(f"a fault must be an object, not {json.dumps(entry)[:60]}")
    if entry.get("kind") not in KINDS:
        raise ConfigError(f'unknown fault "{entry.get("kind")}": one of {", ".join(KINDS)}')
    unknown = entry.keys() - {field.name for field in fields(Fault)}
    if unknown:
        raise ConfigError(f"a fault has no field {', '.join(sorted(unknown))}")
    numbers = {"at", "frame", "count", "seconds", "delay", "code", "status"}
    for name, value in entry.items():
        if name in numbers and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{name} of a fault must be a number, not {json.dumps(value)}")
    fault = Fault(**cast("dict[str, Any]", entry))
    if fault.venue is not None and fault.venue not in exchange.venues:
        raise ConfigError(f'a fault\'s venue is "{fault.venue}": one of {", ".join(exchange.venues)}')
    markets = [(venue, market) for venue in exchange.venues.values() for market in venue.markets.values()]
    if fault.symbol is not None and not any(fault.fits(venue, market) for venue, market in markets):
        raise ConfigError(f'a fault\'s symbol is "{fault.symbol}", which trades at none of its venues')
    return fault


def to_json(fault: Fault) -> dict[str, Any]:
    """The fields of a fault that say something."""
    plain = {field.name: field.default for field in fields(Fault)}
    return {name: value for name, value in asdict(fault).items() if value != plain[name]}


def _everything(exchange: Exchange) -> list[Fault]:
    """Every kind of fault once at each venue, within a minute and a half, at its symbols in turn."""
    found = []
    for offset, venue in enumerate(exchange.venues.values()):
        symbols = deque(venue.markets)
        at = 10.0 + offset * 0.7
        for kind in KINDS:
            fault = Fault(
                cast("Kind", kind),
                round(at, 1),
                venue.name,
                symbols[0] if kind not in get_args(DoorFault) else None,
                seconds=3.0 if kind != "time_jump" else 1.5,
                retry_after=2 if kind == "http" else None,
                status=429 if kind == "http" else 503,
                within=10 if kind == "corrupt" else None,
            )
            found.append(fault)
            symbols.rotate(-1)
            at += 5.0
        # Closing makes clients come back, and so meet what waits at the door and at the next snapshot.
        found += [Fault("close", round(at - delta, 1), venue.name, code=1006) for delta in (4.5, 9.5, 14.5, 19.5, 24.5)]
    return found


def _flaky(exchange: Exchange) -> list[Fault]:
    """An hour at a bad line: every now and then a frame is lost, doubled or late, or a connection breaks."""
    random = Random(f"{exchange.seed}/flaky")
    found = []
    at = 0.0
    while at < 3_600:
        at += random.randrange(5, 40) / 10
        kind = random.choice(("drop", "drop", "duplicate", "reorder", "truncate", "close"))
        found.append(Fault(cast("Kind", kind), round(at, 1), random.choice(list(exchange.venues)), code=1006))
    return found


NAMED: dict[str, Callable[[Exchange], list[Fault]]] = {
    "none": lambda _: [],
    "all": _everything,
    "flaky": _flaky,
}
