"""Implementations that take the place of the usual ones."""

import asyncio
import errno
import threading
from pathlib import Path

import pyarrow as pa

from coby.engine.processing import Processor
from coby.interfaces import Cut, Rows
from coby.storage.embedded import EmbeddedStore
from coby.storage.files import Files


class CountingProcessor(Processor):
    """Numbers all trades."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def process(self, cut: Cut) -> Rows:
        if "trades" not in cut.rows:
            return {}
        trades = pa.record_batch(cut.batch("trades"))
        first, self.seen = self.seen + 1, self.seen + trades.num_rows
        return {"metrics": trades.append_column("seen", pa.array(range(first, self.seen + 1), pa.int64()))}


class FullWhile(EmbeddedStore):
    """A store on a disk that is full as long as a file is there."""

    def __init__(self, directory: Path, flag: str) -> None:
        super().__init__(directory, files=_Full(Path(flag)))


class _Full(Files):
    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def write(self, path: Path, data: bytes | memoryview) -> None:
        if self._flag.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, data)


class Hanging(EmbeddedStore):
    """A store whose disk never answers again, once a file is there."""

    def __init__(self, directory: Path, flag: str) -> None:
        super().__init__(directory)
        self._flag = Path(flag)

    async def commit(self, durable_pos: int) -> int:
        if self._flag.exists():
            await asyncio.Event().wait()
        return await super().commit(durable_pos)


class Stuck(EmbeddedStore):
    """A store whose disk holds up whatever writes to it for ever, once a file is there."""

    def __init__(self, directory: Path, flag: str) -> None:
        super().__init__(directory, files=_StuckDisk(Path(flag)))


class _StuckDisk(Files):
    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def sync(self, path: Path) -> None:
        if self._flag.exists():
            threading.Event().wait()
        super().sync(path)
