"""Memory, processor and disk of this process."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

MIB = 1 << 20
_SAMPLE_SECONDS = 1.0


class Resources:
    """What the process uses now, measured at most once a second.

    Args:
        data_dir: Where data is written to: the free space of its disk counts.
        memory_limit_mib: What memory should stay below.
        clock: Seconds that only grow; for tests.
    """

    def __init__(self, data_dir: Path, memory_limit_mib: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir
        self._limit = memory_limit_mib * MIB
        self._clock = clock
        self._process = psutil.Process()
        self._measured_at = float("-inf")
        self._cpu = 0.0
        self._last: dict[str, Any] = {}

    def measure(self) -> dict[str, Any]:
        """`memory_bytes memory_limit_bytes cpu_seconds cpu_share threads open_files disk_free_bytes disk_total_bytes`.

        `cpu_share` is in cores, since the measurement before. What the system does not tell is None.
        """
        now = self._clock()
        passed = now - self._measured_at
        if passed < _SAMPLE_SECONDS:
            return self._last
        with self._process.oneshot():
            times = self._process.cpu_times()
            cpu = times.user + times.system
            files: int | None = None
            with contextlib.suppress(psutil.Error, AttributeError):
                files = self._process.num_fds()
            free, total = self._disk()
            self._last = {
                "memory_bytes": self._process.memory_info().rss,
                "memory_limit_bytes": self._limit,
                "cpu_seconds": cpu,
                "cpu_share": (cpu - self._cpu) / passed if self._last else 0.0,
                "threads": self._process.num_threads(),
                "open_files": files,
                "disk_free_bytes": free,
                "disk_total_bytes": total,
            }
        self._cpu, self._measured_at = cpu, now
        return self._last

    def _disk(self) -> tuple[int | None, int | None]:
        try:
            usage = psutil.disk_usage(str(self._data_dir))
        except OSError:
            return None, None
        return usage.free, usage.total
