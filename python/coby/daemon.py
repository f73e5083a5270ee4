"""The daemon: the one place where settings, engine, store, processors, server and screen are put together.

What it composes by are the classes of `coby.interfaces`; `Parts` names the implementations, and any of them may be
replaced. Only it knows signals, the simulator's process and exit codes.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pyarrow as pa
import uvicorn

from coby import _core
from coby.api import LiveView, State, check_binding, create_app, server_config
from coby.config import Settings
from coby.connectors import hosted
from coby.engine.aggregation import Aggregation
from coby.engine.drain import drained
from coby.engine.feeder import Feeder
from coby.engine.processing import Processor
from coby.interfaces import AggregationEngine, DataProcessor, ReplayManager, StorageManager
from coby.monitoring.monitor import ProcessMonitor
from coby.monitoring.watch import Figures, Watch
from coby.replay import TapeReplay
from coby.simulator.process import simulated
from coby.simulator.venues import VENUES
from coby.storage.embedded import EmbeddedStore, StoreReader
from coby.storage.select import Selection
from coby.terminal import Screen, save_picture
from coby.utils.exceptions import ConfigError, StoreError
from coby.utils.logging import get_logger, setup_logging

STOP_SECONDS = 4.0
"""How long flushing and sealing may take."""
END_SECONDS = 5.0
"""How long ending may take in all, whatever does not answer: a disk may hold a thread for ever."""

_LOOK_SECONDS = 0.5
_DRAW_SECONDS = 0.25
_SUMMARY_SECONDS = 10.0
_OPTIMIZE_SECONDS = 3600.0
_GIVE_BACK_SECONDS = 10.0
_M_MMAP_THRESHOLD = -3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MEMORY_SHARE = 4
"""Rows on their way into the store may take one part in so many of `MAX_MEMORY_USAGE`."""

_log = get_logger(__name__)


@dataclass(frozen=True)
class Parts:
    """The implementations that the daemon is made of."""

    store: StorageManager
    processor: DataProcessor
    aggregation: AggregationEngine
    replay: ReplayManager
    live: Callable[..., Any] = _core.Engine.live
    """Starts the engine that all venues are connected to by."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The usual ones; `dataclasses.replace` puts another one in its place."""
        tape = settings.data_dir / "tape"
        return cls(
            store=EmbeddedStore(settings.data_dir),
            processor=Processor(),
            aggregation=Aggregation(),
            replay=TapeReplay(tape, partial(_replayed, tape)),
        )


def run(settings: Settings, parts: Parts | None = None, *, picture: Path | None = None) -> int:
    """Runs until it is told to end, or something fails that nothing else can go on without; returns the exit code.

    Args:
        settings: All of them.
        parts: Implementations other than the usual ones.
        picture: Where the last picture of the terminal view goes, as SVG.

    Raises:
        ConfigError: A setting cannot be used.
        CobyError: It cannot start, or the engine failed.
        OSError: The port is in use.
    """
    terminal = sys.stdout.isatty()
    setup_logging(settings.log_level, settings.log_file, console=not terminal)
    # What the server says of its own start and end, the daemon says too.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _keep_memory_small()
    deadline = threading.Timer(END_SECONDS, _too_late)
    deadline.daemon = True
    daemon = Daemon(settings, parts or Parts.of(settings), terminal=terminal, picture=picture, ending=deadline.start)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(daemon.run())
    finally:
        deadline.cancel()


def _keep_memory_small() -> None:
    """Has large pieces of memory given back where they come and go for months."""
    if platform.libc_ver()[0] == "glibc":
        # Having once freed a large piece it would keep all of that size, unless it is given a limit (mallopt(3)).
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where it exists."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415  not there on Windows

    return uvloop.new_event_loop


class Daemon:
    """One run of the daemon.

    Args:
        settings: All of them.
        parts: What it is made of.
        terminal: Whether to draw on the terminal.
        picture: Where the last picture goes.
        ending: Called when the end begins.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        *,
        terminal: bool = False,
        picture: Path | None = None,
        ending: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._picture = picture
        self._terminal = terminal
        self._ending = ending
        self._stop = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._flushes = False

    def stop(self) -> None:
        """Ends it in good order, as the first signal does."""
        self._stop.set()
        if not self._flushes and self._main is not None:
            self._main.cancel()

    async def run(self) -> int:
        """Everything, from the first check to the last fsync; returns the exit code."""
        self._main = asyncio.current_task()
        with contextlib.ExitStack() as outer:
            outer.enter_context(self._signals())
            try:
                figures = await self._compose(outer)
            except asyncio.CancelledError:
                if not self._stop.is_set():
                    raise
                return 0
        _log.info("ended: %s", figures)
        return 0

    async def _compose(self, outer: contextlib.ExitStack) -> Figures:
        settings = self._settings
        venues = self._venues()
        check_binding(settings.host)
        door = outer.enter_context(_listening(settings.host, settings.port))
        screen = None
        if self._terminal or self._picture:
            title = f"COBY · http://{settings.host}:{settings.port}" + (" · simulated" if settings.simulate else "")
            screen = outer.enter_context(Screen(title, terminal=self._terminal))
        if settings.db_host is not None:
            _log.warning("DB_HOST is set, but this version stores in the embedded store only")
        if settings.redis_host is not None:
            _log.warning("REDIS_HOST is set, but this version publishes to no Redis server")
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._parts.store)
            simulator = None
            if settings.simulate:
                simulator = await stack.enter_async_context(simulated(venues))
            stored = None
            if isinstance(self._parts.store, EmbeddedStore):
                stored = Selection(stack.enter_context(StoreReader(settings.data_dir)))
            figures = await self._live(venues, simulator, screen, door, stored)
        if screen is not None and self._picture is not None:
            save_picture(screen.board, self._picture, "coby-run")
        return figures

    async def _live(
        self,
        venues: Sequence[str],
        simulator: str | None,
        screen: Screen | None,
        door: socket.socket,
        stored: Selection | None,
    ) -> Figures:
        settings, store = self._settings, self._parts.store
        # From here on a signal flushes and seals before anything ends.
        self._flushes = True
        tape = settings.data_dir / "tape"
        engine = await asyncio.to_thread(
            partial(
                self._parts.live,
                str(tape),
                settings.pipeline_settings(),
                venues=list(venues),
                symbols=list(settings.symbols),
                simulator=simulator,
                proxies={name: url.get_secret_value() for name, url in settings.proxies.items()},
                root_certificates=str(settings.root_certificates) if settings.root_certificates else None,
                places=settings.data_buffer_size,
            )
        )
        view = LiveView(lambda: store.watermark)
        feeder = Feeder(
            engine,
            store,
            lambda after, until: _core.Engine.replaying(str(tape), after=after, until=until, hash=False),
            stages=[self._parts.processor, self._parts.aggregation],
            consumers=[view.take, *([screen.take] if screen else [])],
            batch_rows=settings.batch_write_size,
            memory=(settings.max_memory_usage << 20) // _MEMORY_SHARE,
        )
        monitor = ProcessMonitor(
            engine, feeder.status, data_dir=settings.data_dir, memory_limit_mib=settings.max_memory_usage
        )
        watch = Watch(engine.status, feeder.status, monitor.resources)
        feeder.add_consumer(watch.take)
        state = State(
            settings=settings,
            engine=engine,
            store=stored,
            view=view,
            feeder=feeder,
            monitor=monitor,
            started=time.time_ns(),
            version=_core.build_info()["version"],
            features={"simulated": settings.simulate, "store": "embedded" if stored else None, "replay": False},
        )
        server = _Server(server_config(create_app(state), settings.host, settings.port))
        _log.info("serving http://%s:%d; rows go to %s", settings.host, settings.port, settings.data_dir)
        feeding = asyncio.create_task(feeder.run(), name="feeder")
        beside = [
            asyncio.create_task(server.serve(sockets=[door]), name="server"),
            asyncio.create_task(hosted(engine, settings.connectors, settings.symbols), name="connectors"),
            asyncio.create_task(self._look(watch, screen), name="watch"),
            asyncio.create_task(_optimize(store), name="optimize"),
            asyncio.create_task(_give_back(), name="memory"),
        ]
        try:
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            await asyncio.wait([feeding, stopping, *beside], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            self._ending()
            for task in beside[1:]:
                task.cancel()
            last = watch.look()
            watch.end()
            server.should_exit = True
            await self._end(engine, feeding)
            if screen is not None:
                screen.show(last)
            ended = await asyncio.gather(feeding, *beside, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        return last

    async def _end(self, engine: _core.Engine, feeding: "asyncio.Task[None]") -> None:
        """Flushes and seals; what is not in the store in time is derived from the tape at the next start."""
        _log.info("ending: flushing what waits and sealing the tape")
        try:
            async with asyncio.timeout(STOP_SECONDS):
                # On a thread of its own: requests may keep all others busy.
                await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1, "coby-stop"), engine.stop)
                await asyncio.wait([feeding])
        except TimeoutError:
            feeding.cancel()
            _log.warning("the store was not complete in time; the rest comes from the tape at the next start")

    async def _look(self, watch: Watch, screen: Screen | None) -> None:
        summary = time.monotonic() + _SUMMARY_SECONDS
        looked = 0.0
        figures = watch.look()
        while True:
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                figures, looked = watch.look(), now
                self._check(figures)
            if screen is not None:
                screen.show(figures)
            if now >= summary:
                summary += _SUMMARY_SECONDS
                if not self._terminal:
                    _log.info("%s", figures)
            await asyncio.sleep(_DRAW_SECONDS)

    def _check(self, figures: Figures) -> None:
        """Nothing that was asked for exists anywhere: that is a wrong setting, not a market."""
        if self._settings.connectors:
            # They may have it, and some of them only know once they are connected.
            return
        if figures.venues and all(venue.state == "refused" for venue in figures.venues):
            reasons = dict.fromkeys(venue.reason for venue in figures.venues if venue.reason)
            symbols = ", ".join(self._settings.symbols)
            raise ConfigError(
                f'symbols is "{symbols}": no venue has any of them'
                + "".join(f"; {reason}" for reason in list(reasons)[:3])
            )

    def _venues(self) -> tuple[str, ...]:
        settings = self._settings
        if not settings.simulate:
            return settings.chosen_venues([v["id"] for v in _core.venues() if v["closed"] is None])
        return settings.chosen_venues(list(VENUES))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal ends everything in good order, the second one at once."""
        loop = asyncio.get_running_loop()

        def first() -> None:
            for each in _SIGNALS:
                loop.remove_signal_handler(each)
                signal.signal(each, _at_once)
            self.stop()

        # Where the loop knows no signals, Ctrl-C ends it as an exception.
        with contextlib.suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.add_signal_handler(number, first)
        try:
            yield
        finally:
            for number in _SIGNALS:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """Signals are the daemon's, not the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield


def _too_late() -> None:
    """What was acknowledged is on the tape; all else is derived from it at the next start."""
    _log.error("it did not end in time: some disk does not answer; what is missing comes from the tape next time")
    os._exit(1)


def _at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The server's socket, taken first: nothing is started for a daemon that cannot be reached.

    Raises:
        OSError: It is in use, or there is no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(
            f'host is "{host}": it must be a name or an address of this machine ({error.strerror})'
        ) from error
    with door:
        if os.name == "posix":
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(address)
            door.listen(1024)
        except OSError as error:
            told = f"http://{host}:{port}"
            if error.errno == errno.EADDRINUSE:
                raise OSError(
                    f"{told}: the port is in use; stop what listens there or choose another with --port"
                ) from error
            raise OSError(f"{told}: {error.strerror}") from error
        door.setblocking(False)
        yield door


async def _replayed(tape: Path, after: int) -> AsyncGenerator[Sequence[_core.Cut], None]:
    engine = await asyncio.to_thread(partial(_core.Engine.replaying, str(tape), after=after, hash=False))
    try:
        async with contextlib.aclosing(drained(engine)) as wakes:
            async for cuts in wakes:
                yield cuts
    finally:
        await asyncio.to_thread(engine.stop)


async def _optimize(store: StorageManager) -> None:
    """Lets the store tidy up at the start and then hourly; what fails is tried again an hour later."""
    while True:
        try:
            done = await store.optimize()
            if any(done.values()):
                _log.info("the store was optimised", extra=dict(done))
        except StoreError as error:
            _log.error("the store could not be optimised: %s", error)
        await asyncio.sleep(_OPTIMIZE_SECONDS)


async def _give_back() -> None:
    """Gives freed memory back to the system, again and again.

    Batches that live shortly among rows that stay leave holes, which the allocator would keep. It takes milliseconds.
    """
    while True:
        await asyncio.sleep(_GIVE_BACK_SECONDS)
        await asyncio.to_thread(pa.default_memory_pool().release_unused)
