"""A daemon as a person runs it: `coby-run --simulate` in a process of its own, watched from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

COBY_RUN = [sys.executable, "-c", "import sys; from coby.cli import run; sys.exit(run())"]
VENUES = "binance,coinbase,kraken,kucoin,bitstamp"


def environment(**variables: str) -> dict[str, str]:
    """That of this process, without settings of ours but those given."""
    ours = ("COBY_", "DB_", "REDIS_", "HEATMAP_", "UPDATE_", "DATA_", "BATCH_", "MAX_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(found: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer within a time."""
    until = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Running:
    """Starts a daemon; the end of the context ends it in good order if it still runs."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        venues: str = VENUES,
        program: Sequence[str] = COBY_RUN,
        **variables: str,
    ) -> None:
        self.port = free_port()
        self.data_dir = data_dir
        self.started = time.monotonic()
        command = [*program, "--simulate", "--data-dir", str(data_dir), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--venues", venues, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=data_dir.parent,
            env=environment(**variables),
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reading.join()
        if error is not None:
            sys.stderr.write("\n".join(self.lines[-40:]) + "\n")

    def get(self, path: str) -> Any:
        """The answer to a request; None while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1{path}", timeout=5) as answer:
                return json.loads(answer.read())
        except (OSError, urllib.error.HTTPError):
            assert self.process.poll() is None, "\n".join(self.lines[-20:])
            return None

    def venues(self) -> dict[str, dict[str, Any]]:
        status = self.get("/status")
        # In its first moments an engine has nothing to tell.
        live = (status["engine"]["live"] or {}) if status else {}
        return {venue["venue"]: venue for venue in live.get("venues", ())}

    def all_live(self, seconds: float = 10.0) -> float:
        """Waits until every venue is; returns how long that took since the start."""

        def live() -> bool:
            venues = self.venues()
            return bool(venues) and all(venue["state"] == "live" for venue in venues.values())

        eventually(live, seconds, f"all live; they are { {n: v['state'] for n, v in self.venues().items()} }")
        return time.monotonic() - self.started

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Ends it by a signal; returns the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        self._reading.join()
        return time.monotonic() - began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
