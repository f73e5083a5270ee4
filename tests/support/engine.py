"""An engine without Rust: a thread that hands out cuts through a socket pair, as the real one does."""

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from support.rows import FakeCut


class FakeEngine:
    def __init__(self, cuts: Sequence[FakeCut], *, failed: str | None = None, pause: float = 0.0) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._lock = threading.Lock()
        self._waiting: list[FakeCut] = []
        self._ended = False
        self._failed = failed
        self.durable_pos = 0
        self.drains = 0
        self._thread = threading.Thread(target=self._run, args=(cuts, pause))
        self._thread.start()

    def _run(self, cuts: Sequence[FakeCut], pause: float) -> None:
        for cut in cuts:
            with self._lock:
                self._waiting.append(cut)
                self.durable_pos = cut.last_pos
            self._writer.send(b"!")
            time.sleep(pause)
        self._ended = True
        self._writer.send(b"!")

    def fileno(self) -> int:
        return self._reader.fileno()

    def drain(self) -> list[FakeCut]:
        self.drains += 1
        self._reader.recv(4096)
        with self._lock:
            cuts, self._waiting = self._waiting, []
        return cuts

    @property
    def finished(self) -> bool:
        return self._ended and not self._waiting

    def status(self) -> dict[str, Any]:
        return {"failed": self._failed}

    def stop(self) -> None:
        self._thread.join()
        self._reader.close()
        self._writer.close()
