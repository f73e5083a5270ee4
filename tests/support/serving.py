"""The API as the daemon runs it: over an engine whose books a test fills, rows of real imports, and a real store."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc
import uvicorn

from coby import _core, recording
from coby.api import Limits, LiveView, State, create_app, server_config
from coby.config import Settings
from coby.monitoring.monitor import ProcessMonitor
from coby.simulator.faults import Fault
from coby.storage.embedded import StoreReader, StoreWriter
from coby.storage.select import Selection
from coby.utils.exceptions import ConfigError, UnknownSymbolError
from support.cuts import cuts_of
from support.recorded import recorded

RUN = 1 << 40
UNLIMITED = Limits(requests_per_second=1e9, request_burst=1e9)


@dataclass
class Book:
    """A book as a test says it is; exact texts."""

    bids: dict[str, str]
    asks: dict[str, str]
    state: str = "live"
    pos: int = RUN | 1
    ts_recv: int = 1_767_225_600_000_000_000
    ts_event: int | None = None

    def side(self, name: str) -> list[tuple[str, str]]:
        levels = self.bids if name == "bids" else self.asks
        return sorted(levels.items(), key=lambda level: Decimal(level[0]), reverse=name == "bids")


@dataclass
class FakeLive:
    """What `LIVE.md` says of an engine."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    books: dict[tuple[str, str], Book] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    untaped: str | None = None
    durable_pos: int = 0

    def status(self) -> dict[str, Any]:
        venues = sorted({row["venue"] for row in self.listed})
        counts = dict.fromkeys(("frames", "records", "rows", "errors", "unknown", "duplicates", "holes", "checked"), 7)
        tape = dict.fromkeys(("records", "dropped", "stalls", "blocks", "raw_bytes", "bytes", "syncs"), 3)
        return counts | {
            "pos": self.durable_pos,
            "durable_pos": self.durable_pos,
            "broken": [],
            "row_hashes": {},
            "ended": False,
            "failed": None,
            "live": {
                "run": 1,
                "started": 1_767_225_600_000_000_000,
                "untaped": self.untaped,
                "tape": tape,
                "dropped_cuts": 0,
                "venues": [self._venue(venue) for venue in venues],
            },
        }

    def _venue(self, venue: str) -> dict[str, Any]:
        books = [
            {"native": native, "symbol": None, "state": book.state, "crossed": False, "since": 1, "last": book.ts_recv}
            for (of, native), book in self.books.items()
            if of == venue
        ]
        live = bool(books) and all(book["state"] == "live" for book in books)
        told: dict[str, Any] = {
            "venue": venue,
            "state": "live" if live else "degraded",
            "error": None,
            "next_attempt": None,
            "attempts": 1,
            "instruments": 3,
            "frames": 12,
            "last_frame": 1_767_225_600_000_000_000,
            "errors": 0,
            "unknown": 0,
            "duplicates": 0,
            "links": [
                {
                    "plan": "p",
                    "streams": 3,
                    "state": "connected",
                    "conn": 1,
                    "attempts": 1,
                    "error": None,
                    "next_attempt": None,
                }
            ],
            "unresolved": [],
            "books": books,
        }
        told.update(self.told.get(venue, {}))
        return told

    def instruments(self, venue: str | None = None) -> list[dict[str, Any]]:
        return [row for row in self.listed if venue in {None, row["venue"]}]

    def book(self, venue: str, symbol: str, levels: int = 50) -> dict[str, Any] | None:
        found = self._find(venue, symbol)
        if found is None:
            return None
        sides = {side: found.side(side)[:levels] for side in ("bids", "asks")}
        return self._head(venue, symbol, found) | sides

    def buckets(self, venue: str, symbol: str, bucket_size: str | None = None, rows: int = 50) -> dict[str, Any] | None:
        found = self._find(venue, symbol)
        if found is None:
            return None
        size = Decimal(bucket_size or "10")
        if size <= 0:
            raise ConfigError(f"bucket size is {bucket_size}")
        told: dict[str, Any] = self._head(venue, symbol, found) | {"bucket_size": str(size)}
        for name in ("bids", "asks"):
            sums: dict[int, list[Any]] = {}
            for price, quantity in found.side(name):
                exact = Decimal(price)
                index = int(exact // size)
                if name == "asks" and index * size < exact:
                    index += 1
                entry = sums.setdefault(index, [Decimal(0), Decimal(0), 0])
                entry[0] += Decimal(quantity)
                entry[1] += exact * Decimal(quantity)
                entry[2] += 1
            ordered = sorted(sums.items(), reverse=name == "bids")[:rows]
            told[name] = [(index, f"{q:f}", f"{value:f}", count) for index, (q, value, count) in ordered]
        return told

    def _find(self, venue: str, symbol: str) -> Book | None:
        if not any(row["venue"] == venue and row["native"] == symbol for row in self.listed):
            raise UnknownSymbolError(f"{venue} has no {symbol}")
        return self.books.get((venue, symbol))

    @staticmethod
    def _head(venue: str, symbol: str, book: Book) -> dict[str, Any]:
        return {
            "venue": venue,
            "native": symbol,
            "symbol": None,
            "state": book.state,
            "crossed": False,
            "pos": book.pos,
            # As the real one: when it is asked, however long ago the book's last message came.
            "ts_recv": time.time_ns(),
            "ts_event": book.ts_event,
            "price_scale": 2,
            "size_scale": 3,
        }


def instrument(venue: str, native: str, symbol: str | None, **other: Any) -> dict[str, Any]:
    """As an engine lists it."""
    base, quote = (symbol or "BTC-USDT").split("-")[:2]
    return {
        "venue": venue,
        "native": native,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "kind": "perpetual" if symbol and symbol.endswith("PERP") else "spot",
        "tick_size": "0.01",
        "lot_size": "0.001",
        "contract_size": "1",
        "inverse": False,
        "expiry": None,
        "status": "trading",
        "subscribed": True,
    } | other


def imported(venue: str, directory: Path, seconds: float, *, faults: Sequence[Fault] = (), **other: Any) -> list[Any]:
    """The cuts of an imported recording of a simulated venue."""
    path = directory / f"{venue}.jsonl"
    recording.write(path, recorded(venue, seconds, faults, every=0, **other)[0])
    engine = _core.Engine.importing(venue, [path], directory / "tape", Settings().pipeline_settings())
    return list(cuts_of(engine))


class Shifted:
    """A cut whose rows are those of another, at later positions: several imports as one run."""

    def __init__(self, cut: Any, by: int) -> None:
        self._cut = cut
        self._by = by
        self.first_pos, self.last_pos = cut.first_pos + by, cut.last_pos + by
        self.rows: Mapping[str, int] = cut.rows

    def batch(self, kind: str, /) -> pa.RecordBatch:
        batch = pa.record_batch(self._cut.batch(kind))
        moved = pc.add(batch["pos"], pa.scalar(self._by, pa.uint64()))
        return batch.set_column(0, batch.schema.field(0), moved)


@dataclass
class Feeder:
    """Status of a store that keeps up."""

    store: StoreWriter

    def status(self) -> dict[str, Any]:
        return {
            "state": "live",
            "watermark": self.store.watermark,
            "rows_waiting": self.store.rows_waiting,
            "seconds_behind": 0.2,
            "last_commit_ns": 5,
            "last_error": None,
        }


class Process:
    """Engine, store and view put together as the daemon does it."""

    def __init__(
        self,
        directory: Path,
        *,
        kept: Mapping[str, int] | None = None,
        limits: Limits = UNLIMITED,
        **settings: Any,
    ) -> None:
        self.engine = FakeLive()
        self.store = StoreWriter(directory / "store")
        self.reader = StoreReader(directory / "store")
        selection = Selection(self.reader)
        self.view = LiveView(lambda: selection.watermark, kept=kept)
        self.feeder = Feeder(self.store)
        self.settings = Settings(data_dir=directory, **settings)
        self.monitor = ProcessMonitor(
            self.engine, self.feeder.status, data_dir=directory, memory_limit_mib=self.settings.max_memory_usage
        )
        self.state = State(
            settings=self.settings,
            engine=self.engine,
            store=selection,
            view=self.view,
            feeder=self.feeder,
            monitor=self.monitor,
            started=1_767_225_600_000_000_000,
            version="0.0.1",
            limits=limits,
        )
        self.app = create_app(self.state)

    def take(self, cut: Any, *, commit: bool = False) -> None:
        self.view.take(cut)
        self.store.append(cut)
        if commit:
            self.store.commit(cut.last_pos)
        self.engine.durable_pos = cut.last_pos
        if "instruments" in cut.rows:
            for row in pa.record_batch(cut.batch("instruments")).to_pylist():
                listed = instrument(row["venue"], row["native_symbol"], row["symbol"])
                listed |= {name: row[name] for name in ("base", "quote", "kind", "inverse", "status")}
                listed |= {name: repr(row[name]) for name in ("tick_size", "lot_size", "contract_size")}
                self.engine.listed.append(listed)

    def close(self) -> None:
        self.reader.close()
        self.store.close()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A real server on loopback, in a thread, and a client of it."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(server_config(app, "127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self._client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._client.request(method, path, headers=named)
        response = self._client.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read())

    def get(self, path: str, **parameters: object) -> Any:
        """The JSON of a successful answer."""
        query = urlencode({name.removesuffix("_"): value for name, value in parameters.items() if value is not None})
        answer = self.ask(f"/api/v1{path}" + (f"?{query}" if query else ""))
        assert answer.status == 200, answer.body
        return answer.json

    def refused(self, path: str, **parameters: object) -> tuple[int, dict[str, Any]]:
        """Status and problem of a refused request."""
        query = urlencode({name.removesuffix("_"): value for name, value in parameters.items()})
        answer = self.ask(f"/api/v1{path}" + (f"?{query}" if query else ""))
        assert answer.headers["content-type"] == "application/problem+json", answer.body
        return answer.status, answer.json
