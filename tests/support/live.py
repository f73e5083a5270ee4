"""A live engine without Rust, whose tape, drops and failures a test decides; it follows the real one's rules."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa

from coby.interfaces import Cut, Rows, StorageManager
from coby.models import OrderBookSnapshot
from coby.utils.exceptions import EngineError, StoreError
from support.rows import FakeCut, Stream

RUN = 1 << 40


@dataclass
class Tape:
    """What is on disk: positions of `stream`, of each run those up to its end."""

    stream: Stream
    positions: list[int]
    written: set[int] = field(default_factory=set)
    replays: int = 0
    broken: bool = False

    def replaying(self, after: int, until: int) -> "Replay":
        if self.broken:
            raise EngineError("the tape cannot be read")
        self.replays += 1
        return Replay(self, after, until)


class _Source:
    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self.waiting: list[FakeCut] = []
        self.ended = False
        self.stopped = False
        self.durable_pos = 0
        self.failed: str | None = None

    def fileno(self) -> int:
        return self._reader.fileno()

    def wake(self) -> None:
        self._writer.send(b"!")

    def drain(self) -> list[FakeCut]:
        self._reader.recv(4096)
        cuts, self.waiting = self.waiting, []
        return cuts

    @property
    def finished(self) -> bool:
        return self.ended and not self.waiting

    def end(self) -> None:
        self.ended = True
        self.wake()

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def status(self) -> dict[str, Any]:
        return {"failed": self.failed}


class Replay(_Source):
    """Cuts of what is on the tape, at other borders than live had."""

    def __init__(self, tape: Tape, after: int, until: int) -> None:
        super().__init__()
        random = Random(after)
        positions = [pos for pos in tape.positions if after < pos <= until and pos in tape.written]
        while positions:
            size = random.randint(1, 7)
            part = [pos for pos in positions[:size] if pos // RUN == positions[0] // RUN]
            self.waiting.append(tape.stream.cut(part[0], part[-1]))
            positions = positions[len(part) :]
        self.end()

    def stop(self) -> None:
        super().stop()
        self.close()


class LiveEngine(_Source):
    """Emits what a test says."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.last = 0
        self.venues: list[dict[str, Any]] = []
        self.untaped = False

    def status(self) -> dict[str, Any]:
        live: dict[str, Any] = {"run": 1, "started": 0, "before": 0, "untaped": None, "tape": {}, "venues": self.venues}
        return super().status() | {"frames": 0, "live": live}

    def emit(self, first_pos: int, last_pos: int, *, untaped: bool = False, dropped: bool = False) -> None:
        """Hands a cut on, or drops it because too many wait."""
        follows = self.last
        if untaped and not self.untaped:
            follows = self.durable_pos
        elif first_pos // RUN > self.last // RUN:
            follows = max((pos for pos in self.tape.written if pos < first_pos), default=0)
        self.last, self.untaped = last_pos, untaped
        if not dropped:
            cut = self.tape.stream.cut(first_pos, last_pos)
            self.waiting.append(FakeCut(cut.first_pos, cut.last_pos, cut.batches, untaped, follows))
            self.wake()

    def sync(self, durable_pos: int) -> None:
        """What is up to a position becomes durable."""
        self.tape.written |= {
            pos for pos in self.tape.positions if pos <= durable_pos and pos // RUN == durable_pos // RUN
        }
        self.durable_pos = durable_pos
        self.wake()


class MemoryStore(StorageManager):
    """Keeps rows in memory, as strictly as a real store, and fails when it is told to."""

    def __init__(self, watermark: int = 0) -> None:
        self._watermark = watermark
        self._seen = watermark
        self.waiting: list[tuple[int, dict[str, pa.RecordBatch]]] = []
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.commits: list[int] = []
        self.full = False
        self.opened = asyncio.Event()
        self.opened.set()
        """Cleared: the disk hangs."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    @property
    def watermark(self) -> int:
        return self._watermark

    @property
    def seen(self) -> int:
        return self._seen

    @property
    def rows_waiting(self) -> int:
        return sum(batch.num_rows for _, batches in self.waiting for batch in batches.values())

    @property
    def bytes_waiting(self) -> int:
        return 1000 * self.rows_waiting

    async def append(self, cut: Cut, extra: Rows | None = None) -> None:
        assert cut.first_pos > self._seen, "the feeder hands over what the store has not seen"
        batches = {kind: pa.record_batch(cut.batch(kind)) for kind in cut.rows}
        batches |= {kind: pa.record_batch(rows) for kind, rows in (extra or {}).items()}
        self.waiting.append((cut.last_pos, batches))
        self._seen = cut.last_pos

    async def commit(self, durable_pos: int) -> int:
        await self.opened.wait()
        if self.full:
            raise StoreError("No space left on device")
        while self.waiting and self.waiting[0][0] <= durable_pos:
            self._watermark, batches = self.waiting.pop(0)
            for kind, batch in batches.items():
                self.rows.setdefault(kind, []).extend(batch.to_pylist())
        self.commits.append(self._watermark)
        return self._watermark

    async def rewind(self, durable_pos: int) -> None:
        self.waiting = [waiting for waiting in self.waiting if waiting[0] <= durable_pos]
        self._seen = self.waiting[-1][0] if self.waiting else self._watermark

    async def read(
        self,
        kind: str,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        return pa.Table.from_pylist(self.rows[kind])

    async def get_latest_orderbook(self, venue: str, symbol: str, at: int | None = None) -> OrderBookSnapshot | None:
        return None

    async def optimize(self) -> Mapping[str, int]:
        return {}

    async def health(self) -> Mapping[str, Any]:
        return {}
