"""The embedded store as the daemon has it: `tables` behind threads, so that no disk ever holds up the event loop."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from coby.interfaces import Cut, Rows, StorageManager
from coby.models import OrderBookSnapshot
from coby.storage.files import Files
from coby.storage.tables import StoredFile, StoreReader, StoreWriter, store_errors
from coby.utils.exceptions import StoreError

__all__ = ["EmbeddedStore", "StoreReader", "StoreWriter", "StoredFile"]

T = TypeVar("T")


class EmbeddedStore(StorageManager):
    """Parquet files and an SQLite catalogue in a directory; needs no server.

    One thread writes, so that appending and committing take turns; compacting and reading have their own.

    Args:
        directory: The data directory; made if it is not there.
        files: The file layer.
    """

    least_seconds: ClassVar[float] = 5.0
    flush_seconds: ClassVar[float] = 10.0

    def __init__(self, directory: str | Path, *, files: Files | None = None) -> None:
        self._directory = Path(directory)
        self._files = files
        self._store: StoreWriter | None = None
        self._writing = ThreadPoolExecutor(1, "coby-store")
        self._compacting = ThreadPoolExecutor(1, "coby-compact")
        self._watermark = 0
        self._last_commit: int | None = None
        self._error: str | None = None

    async def open(self) -> None:
        """As the interface says; the process that holds it is named if there is one."""
        self._store = await self._write(lambda: StoreWriter(self._directory, files=self._files))
        self._watermark = self._store.watermark

    async def close(self) -> None:
        """As the interface says."""
        store, self._store = self._store, None
        if store is not None:
            store.stopping.set()
            await asyncio.to_thread(self._compacting.shutdown, cancel_futures=True)
            await self._write(store.close)
            self._writing.shutdown()

    @property
    def watermark(self) -> int:
        """As the interface says."""
        return self._watermark

    @property
    def seen(self) -> int:
        """As the interface says."""
        return self._store.seen if self._store else self._watermark

    @property
    def rows_waiting(self) -> int:
        """As the interface says."""
        return self._store.rows_waiting if self._store else 0

    @property
    def bytes_waiting(self) -> int:
        """As the interface says."""
        return self._store.bytes_waiting if self._store else 0

    async def append(self, cut: Cut, extra: Rows | None = None) -> None:
        """As the interface says; it waits for a commit that is under way."""
        store = self._opened
        await self._write(lambda: store.append(cut, extra))

    async def commit(self, durable_pos: int) -> int:
        """As the interface says."""
        store = self._opened
        try:
            self._watermark = await self._write(lambda: store.commit(durable_pos))
        except StoreError as error:
            self._error = str(error)
            raise
        self._error = None
        self._last_commit = time.time_ns()
        return self._watermark

    async def rewind(self, durable_pos: int) -> None:
        """As the interface says."""
        store = self._opened
        await self._write(lambda: store.rewind(durable_pos))

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
        """As the interface says; a symbol may also be the venue's own."""
        return await self._reading(
            lambda store: store.read(kind, columns, venue=venue, symbol=symbol, start=start, end=end, limit=limit)
        )

    async def get_latest_orderbook(self, venue: str, symbol: str, at: int | None = None) -> OrderBookSnapshot | None:
        """As the interface says; the symbol may also be the venue's own."""
        row = await self._reading(lambda store: store.latest("book_snapshots", venue, symbol, at))
        return OrderBookSnapshot.from_row(row) if row else None

    async def optimize(self) -> Mapping[str, int]:
        """Merges files of hours and days that are over; `files` is how many went."""
        store = self._opened
        loop = asyncio.get_running_loop()
        gone = await loop.run_in_executor(self._compacting, lambda: store.compact(time.time_ns()))
        return {"files": gone}

    async def health(self) -> Mapping[str, Any]:
        """As the interface says, and `files`: how many there are."""
        files = await self._reading(lambda store: store.files()) if self._store else []
        return {
            "kind": "embedded",
            "state": "closed" if self._store is None else "failing" if self._error else "ok",
            "watermark": self._watermark,
            "rows_waiting": self.rows_waiting,
            "bytes": sum(file.bytes for file in files),
            "last_commit_ns": self._last_commit,
            "last_error": self._error,
            "bytes_waiting": self.bytes_waiting,
            "files": len(files),
        }

    @property
    def _opened(self) -> StoreWriter:
        if self._store is None:
            raise StoreError(f"{self._directory}: the store is not open", "store.closed")
        return self._store

    async def _write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    async def _reading(self, work: Callable[[StoreReader], T]) -> T:
        def read() -> T:
            # A connection of its own: it sees committed rows only, and waits for nobody.
            with store_errors(self._directory), StoreReader(self._directory) as reader:
                return work(reader)

        return await asyncio.to_thread(read)
