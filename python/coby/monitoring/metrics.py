"""Figures in Prometheus' format: those of the API counted here, all others read when they are asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

Facts = Callable[[], Mapping[str, Any]]

_ENGINE = {
    "frames": "Frames received",
    "records": "Records on the tape",
    "rows": "Rows derived",
    "errors": "Frames that could not be decoded",
    "unknown": "Frames of unknown kinds",
    "duplicates": "Trades that came twice",
    "holes": "Damaged spans of the tape",
}
_TAPE = {
    "dropped": "Records that the tape did not take",
    "stalls": "Times the engine waited for the tape",
    "blocks": "Blocks written",
    "raw_bytes": "Bytes before compression",
    "bytes": "Bytes written",
    "syncs": "Times the tape was synced",
}
_STATES = ("closed", "listing", "connecting", "live", "degraded", "disconnected", "refused")
_BOOK_STATES = ("empty", "buffering", "live", "gap", "aside")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """A registry of its own.

    Args:
        engine: The engine's status.
        durable_pos: The last position that is on disk.
        feeder: The store feeder's status; None where there is no store.
        resources: Of the process.
        ready: Whether the process is ready.
    """

    def __init__(
        self,
        engine: Facts,
        durable_pos: Callable[[], int],
        feeder: Facts | None,
        resources: Facts,
        ready: Callable[[], bool],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "coby_http_requests", "Requests answered", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "coby_http_request_seconds", "How long answers took", ("route",), buckets=_BUCKETS, registry=self._registry
        )
        self._registry.register(_Facts(engine, durable_pos, feeder, resources, ready))

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer of the API."""
        known = method if method in {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"} else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self) -> tuple[bytes, str]:
        """Everything as text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Facts(Collector):
    def __init__(
        self,
        engine: Facts,
        durable_pos: Callable[[], int],
        feeder: Facts | None,
        resources: Facts,
        ready: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._durable_pos = durable_pos
        self._feeder = feeder
        self._resources = resources
        self._ready = ready

    def describe(self) -> Iterable[Metric]:
        # Registering must not ask an engine that may not run yet.
        return ()

    def collect(self) -> Iterator[Metric]:
        engine = self._engine()
        yield GaugeMetricFamily("coby_ready", "1 if the process is ready", float(self._ready()))
        for name, text in _ENGINE.items():
            if name in engine:
                yield CounterMetricFamily(f"coby_{name}", text, float(engine[name]))
        yield GaugeMetricFamily("coby_position", "Last position", float(engine.get("pos", 0)))
        yield GaugeMetricFamily("coby_durable_position", "Last position on disk", float(self._durable_pos()))
        live = engine.get("live") or {}
        if live:
            yield GaugeMetricFamily("coby_untaped", "1 while the tape cannot be written", float(bool(live["untaped"])))
            yield CounterMetricFamily("coby_dropped_cuts", "Cuts not handed out", float(engine.get("dropped_cuts", 0)))
            for name, text in _TAPE.items():
                if name in live["tape"]:
                    yield CounterMetricFamily(f"coby_tape_{name}", text, float(live["tape"][name]))
            yield from _venues(live["venues"])
        if self._feeder is not None:
            yield from _store(self._feeder())
        yield from _process(self._resources())


def _venues(venues: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    state = GaugeMetricFamily("coby_venue_state", "1 for the state that a venue is in", labels=("venue", "state"))
    books = GaugeMetricFamily("coby_venue_books", "Books in a state", labels=("venue", "state"))
    links = GaugeMetricFamily("coby_venue_connections", "Open connections", labels=("venue",))
    last = GaugeMetricFamily("coby_venue_last_frame_seconds", "When the last frame came, Unix time", labels=("venue",))
    counts = {
        name: CounterMetricFamily(f"coby_venue_{name}", text, labels=("venue",))
        for name, text in (
            ("frames", "Frames received"),
            ("errors", "Frames that could not be decoded"),
            ("unknown", "Frames of unknown kinds"),
            ("duplicates", "Trades that came twice"),
        )
    }
    for venue in venues:
        name = venue["venue"]
        for word in _STATES:
            state.add_metric((name, word), float(venue["state"] == word))
        for word in _BOOK_STATES:
            books.add_metric((name, word), float(sum(book["state"] == word for book in venue["books"])))
        links.add_metric((name,), float(sum(link["state"] == "connected" for link in venue["links"])))
        if venue["last_frame"] is not None:
            last.add_metric((name,), venue["last_frame"] / 1e9)
        for counted, family in counts.items():
            family.add_metric((name,), float(venue[counted]))
    yield from (state, books, links, last, *counts.values())


def _store(told: Mapping[str, Any]) -> Iterator[Metric]:
    for name, fact, text in (
        ("coby_store_watermark", "watermark", "Last position in the store"),
        ("coby_store_rows_waiting", "rows_waiting", "Rows that wait for the store"),
        ("coby_store_rows_pending", "pending_rows", "Rows that wait to be handed to the store"),
        ("coby_store_holes", "holes", "Holes in the live rows that were derived from the tape"),
        ("coby_store_commit_failures", "commit_failures", "Commits that failed"),
        ("coby_store_seconds_behind", "seconds_behind", "Age of the oldest waiting row"),
    ):
        if told.get(fact) is not None:
            yield GaugeMetricFamily(name, text, float(told[fact]))
    yield GaugeMetricFamily(
        "coby_store_failing",
        "1 while the store does not take rows",
        float(bool(told.get("last_error") or told.get("behind"))),
    )


def _process(told: Mapping[str, Any]) -> Iterator[Metric]:
    for fact, text in (
        ("memory_bytes", "Resident memory"),
        ("memory_limit_bytes", "What memory should stay below"),
        ("threads", "Threads"),
        ("open_files", "Open files"),
        ("disk_free_bytes", "Free where data is written"),
        ("disk_total_bytes", "Size of that disk"),
    ):
        if told.get(fact) is not None:
            yield GaugeMetricFamily(f"coby_process_{fact}", text, float(told[fact]))
    if "cpu_seconds" in told:
        yield CounterMetricFamily("coby_process_cpu_seconds", "Processor time used", float(told["cpu_seconds"]))
