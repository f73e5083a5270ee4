"""A client of a simulated venue without sockets: it says what it is told to, and keeps what it hears."""

import json
from collections.abc import Iterable
from typing import Any

from coby.simulator.exchange import SECOND, Connection, Exchange, Request, Response, Venue
from coby.simulator.faults import Fault, Script
from coby.simulator.venues import VENUES
from support.unpacked import unpacked

START_NS = 1_767_225_600 * SECOND


class Ear:
    """The far end of a connection."""

    def __init__(self) -> None:
        self.payloads: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.closed: int | None = None

    def deliver(self, payload: str | bytes) -> None:
        self.payloads.append(payload)

    def ping(self, payload: bytes) -> None:
        self.pings.append(payload)

    def close(self, code: int, reason: str) -> None:
        self.closed = code


class Client:
    """One venue, one connection at a time, and a log of faults."""

    def __init__(self, venue: str, *, faults: Iterable[Fault] = (), seed: int = 1) -> None:
        self.exchange = Exchange([VENUES[venue]], seed=seed, start_ns=START_NS)
        self.venue: Venue = self.exchange.venues[venue]
        self.log: list[dict[str, Any]] = []
        self.exchange.faults = Script(self.exchange, faults, self.log.append)
        self.ear = Ear()
        self.connection: Connection | None = None

    def dial(self, target: str) -> "Client":
        self.ear = Ear()
        self.connection = self.exchange.dial(self.venue, target, self.ear)
        return self

    def say(self, *messages: object) -> "Client":
        assert self.connection is not None
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            self.exchange.hear(self.connection, text)
        return self

    def wait(self, seconds: float) -> "Client":
        self.exchange.clock.advance(self.exchange.clock.now_ns + round(seconds * SECOND))
        return self

    def heard(self) -> list[Any]:
        """What has come since the last call."""
        payloads, self.ear.payloads = self.ear.payloads, []
        return [json.loads(unpacked(payload)) for payload in payloads]

    def heard_first(self) -> Any:
        """The next frame, which is taken alone."""
        payload, self.ear.payloads = self.ear.payloads[0], self.ear.payloads[1:]
        return json.loads(unpacked(payload))

    def answer(self, request: Request) -> Response:
        response = self.exchange.ask(self.venue, request)
        assert response is not None
        return response

    def get(self, target: str) -> Any:
        return json.loads(self.answer(Request.get(target)).body)


def assert_shape(found: Any, sheet: str | Any) -> None:
    """The same keys in the same order, and the same types, as in a fact sheet."""
    expected = json.loads(sheet) if isinstance(sheet, str) else sheet
    assert shape(found) == shape(expected)
    assert order(found) == order(expected)


def order(value: object) -> Any:
    """Keys in their order; of a list those of its first item."""
    if isinstance(value, dict):
        return [(key, order(item)) for key, item in value.items()]
    if isinstance(value, list):
        return order(value[0]) if value else None
    return None


def first(frames: Iterable[Any], **what: Any) -> Any:
    """The first frame with these values."""
    return next(frame for frame in frames if all(frame.get(key) == value for key, value in what.items()))


def shape(value: object) -> Any:
    """Keys and types; of a list the shapes that occur in it; a number is a number."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, list) for item in value):
            return [shape(value[0])]
        if any(isinstance(item, dict) for item in value):
            return [shape(value[0])]
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__
