"""Health, figures and resources as one object, for whoever serves them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from coby.monitoring.health import Health
from coby.monitoring.metrics import Metrics
from coby.monitoring.resources import Resources


class Engine(Protocol):
    """What is watched of an engine."""

    @property
    def durable_pos(self) -> int:
        """The last position that is on disk."""

    def status(self) -> Mapping[str, Any]:
        """How it is."""


class ProcessMonitor:
    """Watches the process.

    Args:
        engine: A live engine.
        feeder: Status of what takes rows to the store: `watermark rows_waiting pending_rows seconds_behind behind
            last_error`, as far as it tells them; None where there is no store.
        data_dir: Where data is written to.
        memory_limit_mib: What memory should stay below.
    """

    def __init__(
        self,
        engine: Engine,
        feeder: Callable[[], Mapping[str, Any]] | None,
        *,
        data_dir: Path,
        memory_limit_mib: int,
    ) -> None:
        self._resources = Resources(data_dir, memory_limit_mib)
        self._health = Health(engine.status, feeder, self._resources.measure)
        self._metrics = Metrics(
            engine.status,
            lambda: engine.durable_pos,
            feeder,
            self._resources.measure,
            lambda: not self._health.reasons(),
        )

    def readiness(self) -> dict[str, Any]:
        """`ready`, and `reasons`: each with `code` and `message`."""
        reasons = [reason.to_dict() for reason in self._health.reasons()]
        return {"ready": not reasons, "reasons": reasons}

    def resources(self) -> dict[str, Any]:
        """Memory, processor and disk; see `Resources.measure`."""
        return self._resources.measure()

    def exposition(self) -> tuple[bytes, str]:
        """All figures in Prometheus' text format, and its content type."""
        return self._metrics.exposition()

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer of the API."""
        self._metrics.observe(route, method, status, seconds)
