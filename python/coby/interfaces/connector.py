"""Where data comes from."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from coby.models import ConnectionStatus, OrderBookSnapshot
from coby.models.base import to_nanoseconds

Channel = Literal["book", "trades", "candles"]
Frame = Mapping[str, Any]
"""A message in COBY's own form, as the venue `external` reads it: JSON, prices and sizes as decimal texts, times in
nanoseconds as texts."""
DataCallback = Callable[[Frame], Awaitable[None]]
"""Takes a frame. It is awaited: a pipeline that is full slows the connector down, and no queue grows."""
ConnectionCallback = Callable[[bool], Awaitable[None]]
"""Told True when a connection was made, before anything is subscribed to on it, and False when that one has ended."""


class ExchangeConnector(ABC):
    """Connects to one exchange and brings what it sends into COBY's own form.

    A subclass says how to connect, subscribe and wait for the end of a connection, and calls `notify` with each frame.
    `run` does the rest: it connects, subscribes to what is wanted, and connects again when the connection is lost,
    until `stop`. The built-in venues are connectors too; their frames just never pass through Python.

    Frames are taped before anything is derived from them, so what a connector sends can be replayed without it.
    """

    first_delay: ClassVar[float] = 0.5
    """Seconds before the second attempt to connect; each further one waits twice as long."""
    longest_delay: ClassVar[float] = 30.0
    """Seconds that no wait is longer than."""
    retried: ClassVar[tuple[type[Exception], ...]] = (OSError, EOFError, TimeoutError)
    """Failures that another attempt may heal; any other one ends `run`. Venue libraries have their own."""

    def __init__(self) -> None:
        self._callbacks: list[DataCallback] = []
        self._connection_callbacks: list[ConnectionCallback] = []
        self._wanted: dict[tuple[str, Channel], None] = {}
        self._subscribed: set[tuple[str, Channel]] = set()
        self._connected = False
        self._stopping = asyncio.Event()
        self.attempt = 0
        """Attempts to connect since it was last connected; 0 while it is."""

    @property
    @abstractmethod
    def exchange(self) -> str:
        """Venue id: lower case, never changes."""

    @abstractmethod
    async def connect(self) -> None:
        """Opens the connection; returns when it can be subscribed on.

        Raises:
            OSError: It cannot be reached; also TimeoutError, and what `retried` names.
            ConnectorError: It refuses for good, such as for a wrong key.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Closes the connection; harmless without one. `wait_closed` then returns."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Returns when the connection has ended, whoever ended it. Reading and `notify` may happen in here."""

    @abstractmethod
    async def subscribe(self, symbol: str, channel: Channel) -> None:
        """Asks the exchange for one channel of one canonical symbol; a book's frames begin with a snapshot.

        Raises:
            UnknownSymbolError: The exchange does not have it.
        """

    @abstractmethod
    async def unsubscribe(self, symbol: str, channel: Channel) -> None:
        """Asks the exchange to stop sending it."""

    @abstractmethod
    async def get_supported_symbols(self) -> Sequence[str]:
        """The canonical symbols that can be subscribed to, from the exchange's own list."""

    async def get_instruments(self) -> Sequence[Mapping[str, Any]]:
        """What `get_supported_symbols` names, with what the exchange says of each; override it where that is more.

        Each has `symbol base quote`, and may have `kind` (`spot`, `perpetual` or `future`, that one with `expiry` in
        nanoseconds), `tick_size lot_size contract_size` (decimal texts), `inverse` and `status` (`trading`, `halted` or
        `delisted`). By default all but the first four are left to their defaults.
        """
        return [_instrument(symbol) for symbol in await self.get_supported_symbols()]

    @abstractmethod
    def normalize_symbol(self, symbol: str) -> str:
        """The exchange's own symbol for a canonical one.

        Raises:
            UnknownSymbolError: It has none.
        """

    @abstractmethod
    async def get_orderbook_snapshot(self, symbol: str, depth: int = 50) -> OrderBookSnapshot:
        """The book as the exchange answers when asked once: for checks, not for keeping a book.

        Raises:
            ConnectorError: It does not answer.
        """

    @abstractmethod
    def get_connection_status(self) -> ConnectionStatus:
        """How it is now; never waits."""

    async def subscribe_orderbook(self, symbol: str) -> None:
        """Wants the book of a symbol, now and after each reconnect."""
        await self._want(symbol, "book")

    async def subscribe_trades(self, symbol: str) -> None:
        """Wants the trades of a symbol, now and after each reconnect."""
        await self._want(symbol, "trades")

    async def unsubscribe_orderbook(self, symbol: str) -> None:
        """No longer wants the book of a symbol."""
        await self._want_no_more(symbol, "book")

    async def unsubscribe_trades(self, symbol: str) -> None:
        """No longer wants the trades of a symbol."""
        await self._want_no_more(symbol, "trades")

    def add_data_callback(self, callback: DataCallback) -> None:
        """From now on `callback` gets every frame, after those that were added before it."""
        if callback not in self._callbacks:
            self._callbacks.append(callback)

    def remove_data_callback(self, callback: DataCallback) -> None:
        """`callback` gets no more frames; harmless if it got none."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def add_connection_callback(self, callback: ConnectionCallback) -> None:
        """From now on `callback` is told of each connection and of its end."""
        if callback not in self._connection_callbacks:
            self._connection_callbacks.append(callback)

    def remove_connection_callback(self, callback: ConnectionCallback) -> None:
        """`callback` is told nothing more; harmless if it was told nothing."""
        if callback in self._connection_callbacks:
            self._connection_callbacks.remove(callback)

    async def notify(self, frame: Frame) -> None:
        """Hands a frame to all callbacks and waits for them. What one raises ends the connection, not the process."""
        for callback in tuple(self._callbacks):
            await callback(frame)

    async def health_check(self) -> bool:
        """Whether good data comes; `get_connection_status` says more."""
        return self.get_connection_status().is_healthy

    async def run(
        self,
        *,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Keeps the connection until `stop`; a connector that was stopped stays so.

        After a loss it waits between half and all of `first_delay`, then twice that, and so on up to `longest_delay`;
        a connection that could be subscribed on starts the count anew.

        Args:
            sleep: Waits so many seconds; by default until then or `stop`.
            jitter: Gives numbers in `[0, 1)`, so that many connectors do not come back at once.

        Raises:
            Exception: What `retried` does not name; the connection is closed then.
        """
        while not self._stopping.is_set():
            told = False
            try:
                self.attempt += 1
                await self.connect()
                # It may have been stopped meanwhile; then nobody closes what has just been opened.
                if not self._stopping.is_set():
                    told = True
                    await self._tell(True)
                    await self._subscribe_all()
                    self.attempt = 0
                    await self.wait_closed()
            except self.retried:
                # The status says what happened; here it only matters that another attempt may heal it.
                pass
            finally:
                self._connected = False
                self._subscribed.clear()
                await self.disconnect()
                if told:
                    await self._tell(False)
            if not self._stopping.is_set():
                longest = min(self.longest_delay, self.first_delay * 2.0 ** min(max(self.attempt - 1, 0), 32))
                await (sleep or self._sleep)(longest * (1 + jitter()) / 2)

    async def stop(self) -> None:
        """Ends `run` and the connection."""
        self._stopping.set()
        await self.disconnect()

    async def _tell(self, connected: bool) -> None:
        for callback in tuple(self._connection_callbacks):
            await callback(connected)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _subscribe_all(self) -> None:
        # What is wanted may grow while one subscription waits.
        while missing := [wanted for wanted in self._wanted if wanted not in self._subscribed]:
            self._subscribed.add(missing[0])
            await self.subscribe(*missing[0])
        self._connected = True

    async def _want(self, symbol: str, channel: Channel) -> None:
        self._wanted[symbol, channel] = None
        if self._connected and (symbol, channel) not in self._subscribed:
            self._subscribed.add((symbol, channel))
            await self.subscribe(symbol, channel)

    async def _want_no_more(self, symbol: str, channel: Channel) -> None:
        self._wanted.pop((symbol, channel), None)
        if (symbol, channel) in self._subscribed:
            self._subscribed.discard((symbol, channel))
            await self.unsubscribe(symbol, channel)


def _instrument(symbol: str) -> dict[str, str]:
    """What a canonical symbol says by itself."""
    base, quote, contract = (*symbol.split("-", 2), "", "")[:3]
    if not contract:
        return {"symbol": symbol, "base": base, "quote": quote}
    if contract == "PERP":
        return {"symbol": symbol, "base": base, "quote": quote, "kind": "perpetual"}
    expiry = to_nanoseconds(datetime.strptime(f"20{contract}", "%Y%m%d").replace(tzinfo=UTC))
    return {"symbol": symbol, "base": base, "quote": quote, "kind": "future", "expiry": str(expiry)}
