"""Small recordings of `binance_futures`, made up, with faults on demand."""

from collections.abc import Iterable
from pathlib import Path

from coby import recording
from coby.recording import RecordedFrame
from coby.simulator.faults import Fault
from coby.simulator.record import record
from coby.simulator.venues import VENUES

VENUE = "binance_futures"
MISHAPS = (
    Fault("drop", 2.0, symbol="BTCUSDT"),
    Fault("truncate", 2.5, symbol="ETHUSDT"),
    Fault("drop", 3.0, symbol="BTCUSDT", channel="trade"),
    Fault("close", 3.5, symbol="SOLUSDT"),
)
"""A lost message of a book and of trades, half a message, a closed connection."""


def frames(seconds: float, *, seed: int = 7, faults: Iterable[Fault] = ()) -> list[RecordedFrame]:
    """Of three symbols; the first is the list of instruments."""
    return list(record(VENUES[VENUE], seconds, symbols=("BTC", "ETH", "SOL"), seed=seed, faults=lambda _: faults))


def write(path: Path, seconds: float, *, seed: int = 7) -> Path:
    """Writes such frames and returns the path."""
    recording.write(path, frames(seconds, seed=seed))
    return path
