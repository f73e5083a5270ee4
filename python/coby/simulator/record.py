"""Recordings without sockets: a client that reads a simulated venue, in simulated time, as fast as it goes.

It does what the venue's plan says, repairs its books after faults, comes back when connections break, and writes down
what it sees in the format of `coby.recording`. It never looks into a frame.
"""

import base64
import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, cast

from coby.recording import Kind, RecordedFrame
from coby.simulator.exchange import MS, SECOND, Connection, Dial, Exchange, Request, Venue
from coby.simulator.faults import Fault, Script
from coby.simulator.market import Market

START_NS = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z."""

_STEP_NS = 100 * MS
_KEEP_ALIVE_NS = 15 * SECOND
_PATIENCE_NS = 4 * SECOND
_REFRESH_NS = 60 * SECOND


def record(
    kind: type[Venue],
    seconds: float,
    *,
    symbols: Iterable[str] = (),
    seed: int = 1,
    activity: int = 100,
    faults: Callable[[Exchange], Iterable[Fault]] = lambda _: (),
    watch: Callable[[Exchange], Callable[[dict[str, Any]], None]] = lambda _: lambda _: None,
) -> Iterator[RecordedFrame]:
    """Yields the frames of a recording of one venue; the same arguments give the same frames on every platform.

    Args:
        kind: The venue.
        seconds: How much time the recording covers.
        symbols: As for `Exchange`.
        seed: As for `Exchange`.
        activity: As for `Exchange`.
        faults: Makes the script of faults.
        watch: Is given the exchange before it starts, and gives the log that is told of faults.
    """
    exchange = Exchange([kind], symbols=symbols, seed=seed, start_ns=START_NS, activity=activity)
    log = watch(exchange)
    venue = exchange.venues[kind.name]
    client = _Client(exchange, venue, Random(f"{seed}/{kind.name}/client"))

    def noticed(entry: dict[str, Any]) -> None:
        log({**entry, "frame": client.count})
        client.repair_after(entry)

    exchange.faults = Script(exchange, faults(exchange), noticed)
    exchange.clock.at(START_NS, client.start)
    end_ns = START_NS + round(seconds * SECOND)
    while exchange.clock.now_ns < end_ns:
        exchange.clock.advance(min(exchange.clock.now_ns + _STEP_NS, end_ns))
        while client.seen:
            yield client.seen.popleft()


class _Client:
    """Reads one venue."""

    def __init__(self, exchange: Exchange, venue: Venue, random: Random) -> None:
        self.exchange = exchange
        self.venue = venue
        self.clock = exchange.clock
        self._random = random
        self.plan = venue.plan(list(venue.markets.values()))
        self._links: dict[int, _Link] = {}
        self._links_made = 0
        self._recv_ns = 0
        self.seen: deque[RecordedFrame] = deque()
        self.count = 0
        """Frames recorded so far."""

    def start(self) -> None:
        """Asks for listings, then dials."""
        for request in self.plan.listings:
            self.ask(request)
        for number, _ in enumerate(self.plan.dials):
            self.clock.at(self.clock.now_ns + (300 + 120 * number) * MS, lambda number=number: self.dial(number))  # type: ignore[misc]
        self.clock.every(_KEEP_ALIVE_NS, self._keep_alive)
        if self.plan.refresh:
            self.clock.every(_REFRESH_NS, self._refresh)

    def repair_after(self, entry: dict[str, Any]) -> None:
        """Does what a client does that finds out about a fault, after a moment."""
        fault, venue = entry["fault"], self.venue
        if fault in {"drop", "corrupt", "truncate", "skip", "reorder", "stale_snapshot"} and entry["channel"] == "book":
            if fault == "truncate" and not venue.marks_snapshots:
                self._leave(entry["connection"], venue.notice_ns)
                return
            # Nobody can tell what was in a broken frame, nor which frame a connection's count is short of.
            all_ = fault == "truncate" or (venue.numbers_connections and fault in {"drop", "reorder", "skip"})
            for place, market in enumerate(venue.markets.values() if all_ else [venue.markets[entry["symbol"]]]):
                at = self.clock.now_ns + venue.notice_ns + place * 150 * MS
                self.clock.at(at, lambda market=market: self.resync(market))  # type: ignore[misc]
        elif fault == "freeze":
            self._leave(entry["connection"], _PATIENCE_NS)

    def _leave(self, number: int, patience_ns: int) -> None:
        """Ends a connection, and so dials it anew, after a while."""
        link = next((link for link in self._links.values() if link.connection.number == number), None)
        if link is not None:
            self.clock.at(self.clock.now_ns + patience_ns, link.give_up)

    def resync(self, market: Market) -> None:
        """Gets a book anew."""
        link = self._links.get(0)
        steps = self.venue.resync(market)
        for step in steps:
            if isinstance(step, Request):
                self.ask(step)
        if link is not None:
            link.send(*[step for step in steps if isinstance(step, str)])

    def dial(self, number: int) -> None:
        """Connects, as the plan's dial of that number says."""
        dial = self.plan.dials[number]
        if dial.token is None:
            self._connect(number, dial, dial.url)
        else:
            self.ask(dial.token, lambda body: self._connect(number, dial, dial.url.format(token=_token(body))))

    def _connect(self, number: int, dial: Dial, url: str) -> None:
        target = url.split("://")[1].partition("/")
        path, _, query = f"/{target[2]}".partition("?")
        door = self.exchange.faults.door(self.venue, path, socket=True)
        if door.refused or door.response or self.venue.handshake(path, {}) != 101:
            self.clock.at(self.clock.now_ns + SECOND, lambda: self.dial(number))
            return
        if door.delay_ns:
            self.clock.at(self.clock.now_ns + door.delay_ns, lambda: self._enter(number, dial, url, f"{path}?{query}"))
        else:
            self._enter(number, dial, url, f"{path}?{query}")

    def _enter(self, number: int, dial: Dial, url: str, target: str) -> None:
        self._links_made += 1
        link = _Link(self, number, self._links_made, url)
        self._links[number] = link
        self.note("open", url, None, conn=link.label)
        link.connection = self.exchange.dial(self.venue, target, link)
        if not link.connection.open:
            return
        if not dial.greeted:
            link.begin()
        for place, request in enumerate(dial.requests):
            self.clock.at(self.clock.now_ns + (700 + 90 * place) * MS, lambda request=request: self.ask(request))  # type: ignore[misc]

        for place, message in enumerate(dial.later):
            self.clock.at(self.clock.now_ns + (700 + 150 * place) * MS, lambda message=message: link.send(message))  # type: ignore[misc]

    def ask(self, request: Request, then: Callable[[str], None] = lambda _: None) -> None:
        """Sends a REST request; its answer is recorded when it arrives, and given to `then` if it is good."""
        response = self.exchange.ask(self.venue, request)
        if response is None:
            self.clock.at(self.clock.now_ns + SECOND, lambda: self.ask(request, then))
            return
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        url = f"{self.plan.rest}{request.path}{'?' if query else ''}{query}"

        def arrive() -> None:
            more = {"request": request.body} if request.body else {}
            self.note("http", url, response.body, method=request.method, status=response.status, **more)
            if response.status == 200:
                then(response.body)
            else:
                self.clock.at(self.clock.now_ns + 2 * SECOND, lambda: self.ask(request, then))

        self.clock.at(self.clock.now_ns + self._random.randrange(25, 140) * MS + response.delay_ns, arrive)

    def gone(self, link: "_Link") -> None:
        """A connection has ended: it is dialled again a second later."""
        self.note("close", link.url, None, conn=link.label)
        if self._links.get(link.number) is link:
            del self._links[link.number]
            self.clock.at(self.clock.now_ns + SECOND, lambda: self.dial(link.number))

    def _keep_alive(self) -> None:
        for link in list(self._links.values()):
            message = self.venue.keep_alive(link.connection)
            if message is not None:
                self.exchange.hear(link.connection, message)

    def _refresh(self) -> None:
        for market in self.venue.markets.values():
            self.resync(market)

    def arrival_ns(self) -> int:
        """When what is sent now arrives."""
        return self.clock.now_ns + self._random.randrange(4_000_000, 24_000_000)

    def note(self, kind: Kind, url: str, body: str | None, **more: Any) -> None:
        """Records a frame."""
        self._recv_ns = max(self._recv_ns + 1, self.clock.now_ns)
        self.count += 1
        frame = {"recv_ns": self._recv_ns, "kind": kind, "url": url, "body": body, **more}
        self.seen.append(cast("RecordedFrame", frame))


class _Link:
    """One connection of the client; a `Transport`. Frames arrive some milliseconds late, in order."""

    connection: Connection

    def __init__(self, client: _Client, number: int, label: int, url: str) -> None:
        self._client = client
        self._arrived_ns = 0
        self._free_ns = 0
        self._begun = False
        self._ended = False
        self.number = number
        self.label = label
        self.url = url

    def begin(self) -> None:
        self._begun = True
        for message in self._client.plan.dials[self.number].messages:
            self.send(message)

    def send(self, *messages: str) -> None:
        """Sends messages together, or lets them wait for their turn where the venue takes only so many a second."""
        pause_ns = self._client.plan.dials[self.number].pause_ms * MS
        if pause_ns:
            clock = self._client.clock
            at = max(clock.now_ns, self._free_ns)
            self._free_ns = at + pause_ns
            clock.at(at, lambda: self._say(messages))
        else:
            self._say(messages)

    def _say(self, messages: Iterable[str]) -> None:
        for message in messages:
            if not self._ended:
                self._client.note("send", self.url.partition("?")[0], message, conn=self.label)
                self._client.exchange.hear(self.connection, message)

    def give_up(self) -> None:
        """The client ends a connection on which nothing comes."""
        if not self._ended:
            self._client.exchange.hang_up(self.connection)
            self._end()

    def deliver(self, payload: str | bytes) -> None:
        self._later(lambda: self._arrive(payload))

    def ping(self, payload: bytes) -> None:
        """Answered by any WebSocket library; not recorded."""
        self._client.exchange.hear_pong(self.connection)

    def close(self, code: int, reason: str) -> None:
        self._later(self._end)

    def _later(self, action: Callable[[], None]) -> None:
        self._arrived_ns = max(self._arrived_ns, self._client.arrival_ns())
        self._client.clock.at(self._arrived_ns, action)

    def _arrive(self, payload: str | bytes) -> None:
        if self._ended:
            return
        url = self.url.partition("?")[0]
        if isinstance(payload, str):
            self._client.note("text", url, payload, conn=self.label)
        else:
            self._client.note("binary_b64", url, base64.b64encode(payload).decode(), conn=self.label)
        if not self._begun:
            self.begin()
        if (pong := self._client.venue.pong(_said(payload))) is not None:
            self._client.exchange.hear(self.connection, pong)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._client.gone(self)


def _said(payload: str | bytes) -> str:
    """What a frame says; nothing if it is broken."""
    if isinstance(payload, str):
        return payload
    try:
        return gzip.decompress(payload).decode()
    except (OSError, EOFError, ValueError):
        return ""


def _token(body: str) -> str:
    token = json.loads(body)["data"]["token"]
    return str(token)
