"""`coby simulate`: loopback exchanges that speak each venue's own format, or recordings of them."""

import argparse
import asyncio
import contextlib
import difflib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from coby import recording
from coby.simulator import faults
from coby.simulator.exchange import SECOND, Exchange, Venue
from coby.simulator.record import record
from coby.simulator.truth import Truth
from coby.simulator.venues import VENUES
from coby.utils.exceptions import ConfigError, UnknownVenueError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--venues", nargs="+", default=list(VENUES), metavar="ID", help=f"{', '.join(VENUES)} (all)")
    parser.add_argument(
        "--symbols", nargs="+", default=[], metavar="SYMBOL", help="BTC, BTC-USDT or a venue's own name (all)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same markets (1)")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time (1)")
    parser.add_argument("--activity", type=int, default=100, metavar="PERCENT", help="how busy markets are (100)")
    parser.add_argument(
        "--faults", default="none", metavar="FILE|NAME", help=f"what goes wrong: {', '.join(faults.NAMED)}, or JSON"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free (0)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="write true books, trades and faults: JSON lines")
    parser.add_argument("--truth-every", type=float, default=5.0, metavar="SECONDS", help="between true books (5)")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="no sockets: write recordings; a directory for several venues"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a recording (60)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code.

    Raises:
        ConfigError: An argument cannot be used.
        OSError: The port is in use, or a file cannot be written.
    """
    for name, least in (("speed", 0.01), ("activity", 1), ("seconds", 0.1)):
        value = getattr(arguments, name)
        if value < least:
            raise ConfigError(f"--{name} is {value:g}: it must be at least {least:g}")
    venues = [_venue(name) for name in arguments.venues]
    with _opened(arguments.truth) as out:
        if arguments.record:
            for venue, path in _files(venues, arguments.record):
                _record(venue, path, arguments, out)
            return 0
        start_ns = time.time_ns() // SECOND * SECOND
        exchange = Exchange(
            venues, symbols=arguments.symbols, seed=arguments.seed, start_ns=start_ns, activity=arguments.activity
        )
        truth = Truth(exchange, out, arguments.truth_every)
        script = faults.Script(exchange, faults.load(arguments.faults, exchange), truth.log)
        exchange.faults = script
        asyncio.run(_serve(exchange, script, arguments.host, arguments.port, arguments.speed))
    return 0


def _record(venue: type[Venue], path: Path, arguments: argparse.Namespace, out: TextIO | None) -> None:
    frames = record(
        venue,
        arguments.seconds,
        symbols=arguments.symbols,
        seed=arguments.seed,
        activity=arguments.activity,
        faults=lambda exchange: faults.load(arguments.faults, exchange),
        watch=lambda exchange: Truth(exchange, out, arguments.truth_every).log,
    )
    sys.stdout.write(f"{path}: {recording.write(path, frames)} frames\n")
    sys.stdout.flush()


def _files(venues: Sequence[type[Venue]], path: Path) -> list[tuple[type[Venue], Path]]:
    """Where each venue is recorded: a single one in the file, several in a directory."""
    if len(venues) == 1 and not path.is_dir():
        return [(venues[0], path)]
    if path.suffix:
        raise ConfigError(f"--record is {path}: {len(venues)} venues need a directory, or choose one with --venues")
    path.mkdir(parents=True, exist_ok=True)
    return [(venue, path / f"{venue.name}.jsonl.gz") for venue in venues]


async def _serve(exchange: Exchange, script: faults.Script, host: str, port: int, speed: float) -> None:
    from coby.simulator.server import Server  # noqa: PLC0415  a daemon without simulated venues needs no HTTP client

    server = Server(exchange, script, speed)
    await server.start(host, port)
    sys.stdout.write(f"listening on {host}:{server.port}\n")
    sys.stdout.flush()
    serving = asyncio.create_task(server.serve())
    for number in (signal.SIGINT, signal.SIGTERM):
        # Where the loop knows no signals, Ctrl-C ends it as an exception.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        pass
    finally:
        await server.stop()


def _venue(name: str) -> type[Venue]:
    if name not in VENUES:
        near = difflib.get_close_matches(name.lower(), VENUES, 3, 0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(VENUES)}"
        raise UnknownVenueError(f'--venues has "{name}", which cannot be simulated; {hint}', context={"venue": name})
    return VENUES[name]


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
    else:
        with path.open("w", encoding="utf-8") as out:
            yield out


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m coby.simulator`."""
    parser = argparse.ArgumentParser(prog="coby simulate", description=__doc__)
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"coby: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
