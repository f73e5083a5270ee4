"""Runs connectors against an engine: what they bring is taped and replayed like what any venue sends.

Each connection of a connector is one of the engine's venue `external`. The engine ends it when it wants the books to
start again, which for a connector means to connect anew; a frame is waited with until the engine has room for it.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from coby.interfaces import ExchangeConnector, Frame
from coby.utils.exceptions import ConfigError, ConnectorError, EngineError, UnknownSymbolError
from coby.utils.logging import get_logger
from coby.utils.validation import known_symbol

_FULL_SECONDS = 0.005
"""Between two tries to hand over a frame that the engine had no room for."""
_LOOK_SECONDS = 0.2
"""Between two looks at whether the engine has ended a connection."""
_SHOWN = 10

_log = get_logger(__name__)


class Feed(Protocol):
    """What a host needs of a connection; `coby._core.ExternalFeed` is one."""

    def push(self, text: str) -> bool:
        """Hands over a frame; False where it was not taken."""

    def instruments(self, text: str) -> bool:
        """Hands over the list of instruments; False where it was not taken."""

    @property
    def ended(self) -> bool:
        """It takes nothing more."""

    def close(self) -> None:
        """Ends it."""


class Engine(Protocol):
    """What a host needs of an engine; `coby._core.Engine` is one."""

    def external(self, exchange: str, /) -> Feed:
        """Opens a connection; waits until that is possible."""


class Host:
    """Runs one connector.

    Args:
        engine: A live one.
        connector: Nobody else runs it.
        symbols: What is wanted of it, in any spelling: the book and the trades of each that it has.
    """

    def __init__(self, engine: Engine, connector: ExchangeConnector, symbols: Sequence[str]) -> None:
        self._engine = engine
        self._connector = connector
        self._symbols = tuple(symbols)
        self._feed: Feed | None = None
        self._missing: tuple[str, ...] | None = None

    @property
    def exchange(self) -> str:
        """The connector's name."""
        return self._connector.exchange

    async def run(self) -> None:
        """Until the connector is stopped, or fails for good.

        Raises:
            EngineError: The engine has ended.
            ConfigError: The connector's name cannot be used.
            Exception: What the connector says that no other attempt may heal.
        """
        connector = self._connector
        connector.add_connection_callback(self._connection)
        connector.add_data_callback(self._take)
        watching = asyncio.create_task(self._watch(), name=f"connector {self.exchange}: watch")
        try:
            await connector.run()
        finally:
            watching.cancel()
            connector.remove_connection_callback(self._connection)
            connector.remove_data_callback(self._take)
            try:
                await connector.stop()
            finally:
                self._close()

    async def _connection(self, connected: bool) -> None:
        self._close()
        if not connected:
            _log.info("connector %s: disconnected", self.exchange)
            return
        feed = await asyncio.to_thread(self._engine.external, self.exchange)
        self._feed = feed
        listed = [dict(instrument) for instrument in await self._connector.get_instruments()]
        await self._hand_over(feed, feed.instruments, _json(self.exchange, listed))
        await self._want(await self._connector.get_supported_symbols())
        _log.info("connector %s: connected, %d instruments", self.exchange, len(listed))

    async def _want(self, supported: Sequence[str]) -> None:
        missing = []
        for symbol in self._symbols:
            try:
                found = known_symbol(symbol, supported)
            except UnknownSymbolError as error:
                missing.append(error.message)
                continue
            await self._connector.subscribe_orderbook(found)
            await self._connector.subscribe_trades(found)
        # Told once, not after each reconnect.
        if tuple(missing) != self._missing:
            self._missing = tuple(missing)
            if missing and len(missing) == len(self._symbols):
                some = ", ".join(supported[:_SHOWN]) + (", ..." if len(supported) > _SHOWN else "")
                _log.error("connector %s has none of %s; it has %s", self.exchange, ", ".join(self._symbols), some)
            for message in missing:
                _log.info("connector %s: %s", self.exchange, message)

    async def _take(self, frame: Frame) -> None:
        if self._feed is None:
            raise ConnectionResetError(f"{self.exchange}: a frame came outside a connection")
        await self._hand_over(self._feed, self._feed.push, _json(self.exchange, frame))

    async def _hand_over(self, feed: Feed, take: Callable[[str], bool], text: str) -> None:
        while not take(text):
            if feed.ended:
                raise ConnectionResetError(f"the engine wants {self.exchange} to connect anew")
            await asyncio.sleep(_FULL_SECONDS)

    async def _watch(self) -> None:
        """A connector that has nothing to say has to hear too that its connection has ended."""
        told = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._feed is not None and self._feed.ended:
                # What cannot be closed is tried again.
                try:
                    await self._connector.disconnect()
                except self._connector.retried:
                    continue
                except Exception:  # noqa: BLE001  whatever it is, the next connection depends on this one's end
                    if not told:
                        _log.exception("connector %s cannot be disconnected, which is tried again", self.exchange)
                    told = True

    def _close(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None


async def hosted(engine: Engine, specs: Sequence[str], symbols: Sequence[str]) -> None:
    """Runs connectors until it is cancelled; one that fails for good ends alone, and the log says why.

    Args:
        engine: A live one.
        specs: `module:Class` each, as in the setting `connectors`.
        symbols: What is wanted of each, in any spelling.

    Raises:
        ConfigError: One cannot be used.
    """
    hosts = [Host(engine, connector, symbols) for connector in loaded(specs)]
    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(_kept(host), name=f"connector {host.exchange}")
    await asyncio.Event().wait()


async def _kept(host: Host) -> None:
    try:
        await host.run()
    except EngineError as error:
        _log.info("connector %s: %s", host.exchange, error)
    except Exception:  # noqa: BLE001  whatever it is, the others go on
        _log.exception("connector %s has ended", host.exchange)


def loaded(specs: Sequence[str]) -> list[ExchangeConnector]:
    """The connectors that `module:Class` name; modules are looked for in the working directory too.

    Raises:
        ConfigError: There is none of that name, it cannot be made without arguments, or two feed one exchange.
    """
    here = str(Path.cwd())
    if specs and here not in sys.path:
        sys.path.append(here)
    connectors: dict[str, ExchangeConnector] = {}
    for spec in specs:
        connector = _connector(spec)
        if connector.exchange in connectors:
            raise ConfigError(f'connectors: two of them are called "{connector.exchange}"', context={"connector": spec})
        connectors[connector.exchange] = connector
    return list(connectors.values())


def _connector(spec: str) -> ExchangeConnector:
    module, _, name = spec.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
        connector = kind()
    except Exception as error:
        raise ConfigError(
            f'connectors: "{spec}" cannot be used: {type(error).__name__}: {error}', context={"connector": spec}
        ) from error
    if not isinstance(connector, ExchangeConnector):
        raise ConfigError(f'connectors: "{spec}" is no ExchangeConnector', context={"connector": spec})
    return connector


def _json(exchange: str, value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ConnectorError(f"{exchange}: a frame is no JSON: {error}", context={"exchange": exchange}) from error


def _plain(value: object) -> object:
    """What JSON has no form for."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r}")
