"""What the API is built on: the daemon puts it together, nothing here knows who made the parts."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from coby.api.view import LiveView
from coby.config import Settings


class Engine(Protocol):
    """What is asked of a live engine; `coby._core.Engine.live` is one. All but `status` and `durable_pos` may wait."""

    @property
    def durable_pos(self) -> int:
        """The last position that is on disk."""

    def status(self) -> dict[str, Any]:
        """How it is, with `live` for venues, connections and books."""

    def instruments(self, venue: str | None = None, /) -> list[dict[str, Any]]:
        """What venues list."""

    def book(self, venue: str, symbol: str, levels: int = 50, /) -> dict[str, Any] | None:
        """The best levels of a book, exact; `ts_recv` is the time of being asked, not that of its last message."""

    def buckets(
        self, venue: str, symbol: str, bucket_size: str | None = None, rows: int = 50, /
    ) -> dict[str, Any] | None:
        """The price buckets of a book, exact."""


class Store(Protocol):
    """Committed rows; calls come from several threads at once."""

    @property
    def watermark(self) -> int:
        """Every row of a position up to this one is in the store, once."""

    def select(
        self,
        kind: str,
        columns: Sequence[str] | None = None,
        *,
        where: Mapping[str, object] | None = None,
        by: str = "ts_recv",
        start: int | None = None,
        end: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> pa.Table:
        """The rows of a kind that fit, ordered by `(pos, n)`."""


class Feeder(Protocol):
    """What takes cuts to the store."""

    def status(self) -> Mapping[str, Any]:
        """Facts for `/status`, by name."""


class Monitor(Protocol):
    """Health, figures and resources of the process."""

    def readiness(self) -> Mapping[str, Any]:
        """`ready`, and `reasons`: each with `code` and `message`."""

    def resources(self) -> Mapping[str, Any]:
        """Memory, processor and disk."""

    def exposition(self) -> tuple[bytes, str]:
        """All figures in Prometheus' text format, and its content type."""

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients are held to; `/meta` tells them."""

    requests_per_second: float = 60
    """Of one client."""
    request_burst: float = 120
    """Requests of one client at once."""
    request_seconds: float = 10
    """What an answer may take."""
    concurrent_requests: int = 64
    """Requests under way at once, of all clients."""


@dataclass(frozen=True)
class State:
    """Everything that answers are made from."""

    settings: Settings
    engine: Engine
    store: Store | None
    view: LiveView
    feeder: Feeder | None
    monitor: Monitor
    started: int
    """When the process began, nanoseconds."""
    version: str = ""
    """Of the program."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """What it offers, for `/meta`."""
    hosts: tuple[str, ...] = ()
    """Names that requests may be addressed to, besides those of loopback and the host that is listened at."""
    limits: Limits = field(default_factory=Limits)
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    """Changes with every start."""
