"""Where rows go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

import pyarrow as pa

from coby.interfaces.cut import Cut, Rows
from coby.models import OrderBookSnapshot


class StorageManager(ABC):
    """A store that loses nothing that was acknowledged, and stores nothing twice.

    Rows wait in memory from `append` until a `commit` that may take them. A commit makes the rows of all kinds and the
    position that they end at durable in one transaction; that position, the watermark, is what prevents duplicates:
    after a crash the daemon derives the rows behind it again.

    An open store can be read by other tasks while one writes; other processes can read it too.
    """

    least_seconds: ClassVar[float] = 0.0
    """Commits begin at least so far apart, however many rows wait."""
    flush_seconds: ClassVar[float] = 1.0
    """After this time what waits is committed, however few rows it has."""

    @abstractmethod
    async def open(self) -> None:
        """Makes it ready: creates or migrates tables, removes what a crash left.

        Raises:
            StoreLockedError: Another process writes to it.
            StoreError: It cannot be reached, or is of a newer version.
        """

    @abstractmethod
    async def close(self) -> None:
        """Ends it without committing what waits; again is harmless."""

    @property
    @abstractmethod
    def watermark(self) -> int:
        """Every row of a position up to this one is in the store, once; 0 where there is none yet."""

    @property
    @abstractmethod
    def seen(self) -> int:
        """The last position that was appended, or the watermark: cuts have to go on behind it."""

    @property
    @abstractmethod
    def rows_waiting(self) -> int:
        """Rows that were appended and are not committed: what `BATCH_WRITE_SIZE` is about."""

    @property
    @abstractmethod
    def bytes_waiting(self) -> int:
        """About how much memory they take: what `MAX_MEMORY_USAGE` is about."""

    @abstractmethod
    async def append(self, cut: Cut, extra: Rows | None = None) -> None:
        """Takes a cut, and the rows that processors added to it.

        Cuts come in the order of their positions; rows that the store has, by their position, are left out. It may
        wait: that is how a store that is full slows its feeder down.
        """

    @abstractmethod
    async def commit(self, durable_pos: int) -> int:
        """Makes the waiting cuts durable that end at or before `durable_pos`, all at once; returns the watermark.

        Raises:
            StoreError: Nothing was committed; the cuts still wait, and committing again may succeed.
        """

    @abstractmethod
    async def rewind(self, durable_pos: int) -> None:
        """Forgets the waiting cuts that end behind `durable_pos`: the tape has lost them, or will hand them out again.

        `seen` is then where the next cut has to go on from; it may be before `durable_pos`.
        """

    @abstractmethod
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
        """Committed rows of a kind, ordered by `(pos, n)`.

        Args:
            kind: As the core names it.
            venue: Only of this venue.
            symbol: Only of this symbol, canonical or the venue's own.
            start: Only received at or after this time, nanoseconds.
            end: Only received before this time, nanoseconds.
            columns: Only these columns.
            limit: At most so many rows, the first ones.

        Raises:
            StoreError: There is no such kind, or it cannot be read.
        """

    @abstractmethod
    async def get_latest_orderbook(self, venue: str, symbol: str, at: int | None = None) -> OrderBookSnapshot | None:
        """The last stored snapshot of a book, or the last one at or before a time in nanoseconds; None without one."""

    @abstractmethod
    async def optimize(self) -> Mapping[str, int]:
        """Compacts, compresses, drops what retention says; the rows that stay are the same. Says how much it did.

        Raises:
            StoreError: The store is as it was.
        """

    @abstractmethod
    async def health(self) -> Mapping[str, Any]:
        """Facts for `/status`: `state watermark rows_waiting bytes last_commit_ns last_error`, and its own."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
