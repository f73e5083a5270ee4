"""What all venues have in common: simulated time, true books, sockets as a venue sees them, and who listens to what."""

import heapq
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import parse_qsl

from coby.simulator.fair import ASSETS, FairPrice
from coby.simulator.market import Instrument, Market, Temper, Update

MS = 1_000_000
SECOND = 1_000_000_000

Channel = Literal["book", "trade", "candle", "other"]
"""What a frame carries; `other` for greetings, acknowledgements and heartbeats."""


class Clock:
    """Simulated time: nothing happens but what was asked for, in order of time, then of asking."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = self.now_ns = start_ns
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Does something at a time, or at once if it has passed."""
        self._asked += 1
        heapq.heappush(self._heap, (max(time_ns, self.now_ns), self._asked, action))

    def every(self, interval_ns: int, action: Callable[[], None], offset_ns: int = 0) -> None:
        """Does something at each multiple of an interval (UTC), the next one first, plus an offset."""

        def again() -> None:
            action()
            self.at(self.now_ns + interval_ns, again)

        self.at((self.now_ns // interval_ns + 1) * interval_ns + offset_ns, again)

    @property
    def next_ns(self) -> int | None:
        """When something happens next; None if never."""
        return self._heap[0][0] if self._heap else None

    def advance(self, until_ns: int) -> None:
        """Lets time pass."""
        while self._heap and self._heap[0][0] <= until_ns:
            self.now_ns, _, action = heapq.heappop(self._heap)
            action()
        self.now_ns = max(self.now_ns, until_ns)


@dataclass(frozen=True)
class Request:
    """A REST request; the path begins as at the venue's own host."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @classmethod
    def get(cls, target: str) -> "Request":
        """From a path with a query."""
        path, _, query = target.partition("?")
        return cls("GET", path, dict(parse_qsl(query)))

    def number(self, name: str, default: int, most: int | None = None) -> int:
        """A whole number from the query, at most `most`.

        Raises:
            Refusal: It is no number.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.lstrip("-").isdecimal():
            raise Refusal(400, f"{name} is no number")
        return int(text) if most is None else min(int(text), most)


@dataclass
class Response:
    """A REST answer; `delay_ns` is how much later than usual it comes."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_ns: int = 0

    @classmethod
    def of(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
        """From what JSON can hold."""
        return cls(compact(value), status, dict(headers or {}))


class Refusal(Exception):  # noqa: N818 - not an error of ours: the venue says no
    """A request that a venue refuses; each venue words it in its own way."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Frame:
    """A text a venue sends, and what faults need to know about it."""

    text: str
    channel: Channel = "other"
    market: Market | None = None


class Transport(Protocol):
    """The far end of a connection: a socket, or a recording."""

    def deliver(self, payload: str | bytes) -> None:
        """Sends a text or binary frame."""

    def ping(self, payload: bytes) -> None:
        """Sends a WebSocket ping."""

    def close(self, code: int, reason: str) -> None:
        """Ends the connection; code 1006 without a closing handshake."""


class Connection:
    """One socket, as the venue sees it."""

    def __init__(self, number: int, venue: "Venue", target: str, transport: Transport) -> None:
        path, _, query = target.partition("?")
        self.number = number
        self.venue = venue
        self.path = path or "/"
        self.query = dict(parse_qsl(query))
        self.transport = transport
        self.opened_ns = self.heard_ns = self.said_ns = self.ponged_ns = venue.clock.now_ns
        self.topics: dict[Hashable, None] = {}
        self.open = True
        self.frozen = False
        self.notes: dict[str, Any] = {}
        """What the venue remembers about this connection."""

    def send(self, frame: Frame) -> None:
        """Sends a frame; faults may have other plans for it."""
        if self.open:
            self.said_ns = self.venue.clock.now_ns
            self.venue.exchange.faults.pass_on(self, frame)

    def say(self, value: object) -> None:
        """Sends JSON that is not market data."""
        self.send(Frame(compact(value)))

    def deliver(self, payload: str | bytes) -> None:
        """Hands a payload to the transport as it is; for faults."""
        if self.open and not self.frozen:
            self.transport.deliver(payload)

    def ping(self, payload: bytes = b"") -> None:
        """Sends a WebSocket ping."""
        if self.open and not self.frozen:
            self.transport.ping(payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Ends the connection; whoever is at the other end of a frozen one does not hear of it."""
        if self.open:
            self.venue.exchange.hang_up(self)
            if not self.frozen:
                self.transport.close(code, reason)


@dataclass(frozen=True)
class Door:
    """How a client is met: after a delay, refused without a word, or with an answer instead of the venue's own."""

    delay_ns: int = 0
    refused: bool = False
    response: Response | None = None


class Faults(Protocol):
    """What may go wrong between a venue and its clients; see `coby.simulator.faults`."""

    def pass_on(self, connection: Connection, frame: Frame) -> None:
        """Delivers a frame, or does something else with it."""

    def stale(self, venue: "Venue", market: Market) -> "Picture | None":
        """The old picture that a snapshot shows instead of the present one, if so."""

    def lateness_ns(self, venue: "Venue", market: Market) -> int:
        """How much later than usual a snapshot comes."""

    def door(self, venue: "Venue", path: str, *, socket: bool) -> Door:
        """How a socket's handshake or a REST request is met."""


class NoFaults:
    """All goes well."""

    def pass_on(self, connection: Connection, frame: Frame) -> None:
        """Delivers the frame."""
        connection.deliver(connection.venue.wire(frame.text))

    def stale(self, venue: "Venue", market: Market) -> "Picture | None":
        """The present is shown."""
        return None

    def lateness_ns(self, venue: "Venue", market: Market) -> int:
        """It comes at once."""
        return 0

    def door(self, venue: "Venue", path: str, *, socket: bool) -> Door:
        """Welcome."""
        return Door()


@dataclass(frozen=True)
class Picture:
    """A book at one moment: all levels, best first, as `(ticks, lots)`."""

    time_ns: int
    sequence: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]

    @classmethod
    def of(cls, market: Market) -> "Picture":
        """The book as it is now."""
        return cls(market.changed_ns, market.sequence, market.bids.top(), market.asks.top())


class Venue(ABC):
    """A venue's own protocol: what its sockets say and hear, and what its REST answers."""

    name: ClassVar[str]
    instruments: ClassVar[tuple[Instrument, ...]]
    temper: ClassVar[Temper] = Temper()
    notice_ns: ClassVar[int] = 800 * MS
    """How long it takes a recorded client to do something about a fault: longer where proofs come seldom."""
    sequenced: ClassVar[bool] = False
    """Whether book messages carry numbers that show a loss."""
    numbers_connections: ClassVar[bool] = False
    """Whether those numbers count all that a connection carries, so that a loss cannot be pinned to one market."""
    marks_snapshots: ClassVar[bool] = True
    """Whether a snapshot says that it is one: where not, who cannot tell which books are hurt has to dial anew."""
    level: ClassVar[re.Pattern[str]] = re.compile(r'\["([\d.]+)","([\d.]+)"')
    """Finds a level in a frame: group 1 is its price, group 2 its size."""

    def __init__(self, exchange: "Exchange", markets: Iterable[Market]) -> None:
        self.exchange = exchange
        self.clock = exchange.clock
        self.markets = {market.instrument.symbol: market for market in markets}
        self.clock_error_ns = 0
        """How wrong the venue's own clock is."""

    def stamp(self, time_ns: int) -> int:
        """A time as the venue's clock shows it, in nanoseconds."""
        return time_ns + self.clock_error_ns

    @property
    def now(self) -> int:
        """The time on the venue's clock, in nanoseconds."""
        return self.clock.now_ns + self.clock_error_ns

    def wire(self, text: str) -> str | bytes:
        """A frame as it goes over the wire."""
        return text

    def picture(self, market: Market) -> Picture:
        """The book for a snapshot."""
        if self.exchange.late_ns is not None:
            self.exchange.late_ns += self.exchange.faults.lateness_ns(self, market)
        return self.exchange.faults.stale(self, market) or Picture.of(market)

    def publish(self, topic: Hashable, frame: Frame) -> None:
        """Sends a frame to all who have subscribed to a topic."""
        for connection in list(self.exchange.listeners.get((self.name, topic), ())):
            connection.send(frame)

    def wanted(self, topic: Hashable) -> bool:
        """Whether anybody has subscribed to a topic."""
        return bool(self.exchange.listeners.get((self.name, topic)))

    def subscribe(self, connection: Connection, topic: Hashable) -> bool:
        """Subscribes; False if it was subscribed before."""
        if topic in connection.topics:
            return False
        connection.topics[topic] = None
        self.exchange.listeners.setdefault((self.name, topic), {})[connection] = None
        return True

    def unsubscribe(self, connection: Connection, topic: Hashable) -> bool:
        """Ends a subscription; False if there was none."""
        if topic not in connection.topics:
            return False
        del connection.topics[topic]
        self.exchange.listeners[self.name, topic].pop(connection, None)
        return True

    def join(self, connection: Connection, topic: Hashable, market: Market, start: Callable[[], None]) -> None:
        """Subscribes to a channel that begins with a snapshot: `start` sends it, and what changes follows it."""

        def begin() -> None:
            if connection.open and self.subscribe(connection, topic):
                start()

        delay = self.exchange.faults.lateness_ns(self, market)
        if delay:
            self.clock.at(self.clock.now_ns + delay, begin)
        else:
            begin()

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """The HTTP status with which a WebSocket request is answered: 101, or why not."""
        return 101

    def opened(self, connection: Connection) -> None:  # noqa: B027 - most venues wait for the client to speak
        """A client has connected."""

    @abstractmethod
    def received(self, connection: Connection, text: str) -> None:
        """A client has sent a text frame."""

    @abstractmethod
    def answer(self, request: Request) -> Response:
        """Answers a REST request.

        Raises:
            Refusal: No.
        """

    def refuse(self, refusal: Refusal) -> Response:
        """Words a refusal."""
        return Response.of({"code": refusal.status, "msg": refusal.message}, refusal.status)

    @abstractmethod
    def changed(self, market: Market, update: Update) -> None:
        """Something has happened in a market."""

    def skip(self, market: Market) -> None:
        """Makes a hole in the book's sequence: numbers are used up that nobody is told of."""
        market.sequence += 7

    @abstractmethod
    def plan(self, markets: list[Market]) -> "Plan":
        """How a client would read these markets; for recordings."""

    @abstractmethod
    def resync(self, market: Market) -> list["str | Request"]:
        """What a client does to get a book anew: messages on the book's connection, and requests."""

    def keep_alive(self, connection: Connection) -> str | None:
        """What a client sends to keep a connection alive, every 15 s; None if nothing is needed."""
        return None

    def pong(self, text: str) -> str | None:
        """What a client answers to a frame that is a ping of the venue's own; None to any other."""
        return None


@dataclass(frozen=True)
class Dial:
    """A connection that a client makes: what it sends after opening, and which snapshots it asks for then.

    With `token` it asks for that first, and `{token}` in the URL is its answer's. With `greeted` it waits for the first
    frame before it sends. What it sends `later` asks for snapshots inside the socket.
    """

    url: str
    messages: list[str]
    requests: list[Request] = field(default_factory=list)
    token: Request | None = None
    greeted: bool = False
    later: list[str] = field(default_factory=list)
    pause_ms: int = 0
    """How long it waits between messages, where a venue takes only so many a second."""


@dataclass(frozen=True)
class Plan:
    """How a client reads a venue: base URL of REST, instrument lists first, then the connections, the book's first.

    With `refresh` it gets its books anew every now and then, because the protocol cannot prove that nothing is missing.
    """

    rest: str
    listings: list[Request]
    dials: list[Dial]
    refresh: bool = False


class Exchange:
    """All venues and their markets, in one simulated time.

    Args:
        venues: The protocols to speak.
        symbols: Which instruments trade, by the venue's name, canonical name or base; all if empty.
        seed: The same seed gives the same markets, whatever clients do and whichever other venues there are.
        start_ns: When simulated time begins.
        activity: How busy markets are, in percent of what is usual.
    """

    def __init__(
        self,
        venues: Iterable[type[Venue]],
        *,
        symbols: Iterable[str] = (),
        seed: int = 1,
        start_ns: int,
        activity: int = 100,
    ) -> None:
        self.seed = seed
        self.clock = Clock(start_ns)
        self.listeners: dict[tuple[str, Hashable], dict[Connection, None]] = {}
        self.connections: dict[int, Connection] = {}
        self.faults: Faults = NoFaults()
        self.late_ns: int | None = None
        """How much later than usual the REST answer comes that is being made."""
        self.observers: list[Callable[[Venue, Market, Update], None]] = []
        self._dialled = 0
        wanted = {symbol.upper() for symbol in symbols}
        self.fair = {base: FairPrice(asset, start_ns, f"{seed}/{base}") for base, asset in ASSETS.items()}
        self.venues: dict[str, Venue] = {}
        for kind in venues:
            temper = kind.temper
            pace = Temper(temper.lag_ns, temper.wander, temper.levels, temper.pace * activity // 100)
            markets = [
                Market(instrument, self.fair[instrument.base], pace, f"{seed}/{kind.name}/{instrument.symbol}")
                for instrument in kind.instruments
                if not wanted or wanted & {instrument.symbol.upper(), instrument.canonical, instrument.base}
            ]
            venue = self.venues[kind.name] = kind(self, markets)
            for market in markets:
                self._live(venue, market)

    def _live(self, venue: Venue, market: Market) -> None:
        def act() -> None:
            update = market.act(self.clock.now_ns)
            venue.changed(market, update)
            for observer in self.observers:
                observer(venue, market, update)
            self.clock.at(market.wait(self.clock.now_ns), act)

        self.clock.at(market.wait(self.clock.now_ns), act)

    def dial(self, venue: Venue, target: str, transport: Transport) -> Connection:
        """A client connects; `target` is path and query."""
        self._dialled += 1
        connection = Connection(self._dialled, venue, target, transport)
        self.connections[connection.number] = connection
        venue.opened(connection)
        return connection

    def hear(self, connection: Connection, text: str) -> None:
        """A client has sent a text frame."""
        if connection.open and not connection.frozen:
            connection.heard_ns = self.clock.now_ns
            connection.venue.received(connection, text)

    def hear_pong(self, connection: Connection) -> None:
        """A client has answered a WebSocket ping."""
        if connection.open and not connection.frozen:
            connection.ponged_ns = self.clock.now_ns

    def hang_up(self, connection: Connection) -> None:
        """A connection has ended."""
        connection.open = False
        self.connections.pop(connection.number, None)
        for topic in list(connection.topics):
            connection.venue.unsubscribe(connection, topic)

    def ask(self, venue: Venue, request: Request) -> Response | None:
        """A client sends a REST request; None if the venue takes no connection."""
        door = self.faults.door(venue, request.path, socket=False)
        if door.refused:
            return None
        self.late_ns = door.delay_ns
        try:
            response = door.response or venue.answer(request)
        except Refusal as refusal:
            response = venue.refuse(refusal)
        response.delay_ns += self.late_ns
        self.late_ns = None
        return response


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def iso(time_ns: int, digits: int = 6) -> str:
    """RFC 3339 in UTC with so many digits of a second."""
    second, rest = divmod(time_ns, SECOND)
    return f"{_second(second)}.{rest // 10 ** (9 - digits):0{digits}d}Z"


@lru_cache(64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
