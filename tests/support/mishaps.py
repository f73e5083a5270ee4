"""Small recordings of `binance_futures`, with faults on demand."""

from collections.abc import Iterable
from pathlib import Path

from coby import recording
from coby.recording import RecordedFrame
from coby.simulator.faults import Fault
from support.recorded import recorded

VENUE = "binance_futures"
MISHAPS = (
    Fault("drop", 2.0, symbol="BTCUSDT"),
    Fault("truncate", 2.5, symbol="ETHUSDT"),
    Fault("drop", 3.0, symbol="BTCUSDT", channel="trade"),
    Fault("close", 3.5, symbol="SOLUSDT"),
)
"""A lost message of a book and of trades, half a message, a closed connection."""


def frames(seconds: float, *, seed: int = 7, faults: Iterable[Fault] = ()) -> list[RecordedFrame]:
    """Of three symbols."""
    return recorded(VENUE, seconds, faults, seed=seed, symbols=("BTC", "ETH", "SOL"), every=0)[0]


def write(path: Path, seconds: float, *, seed: int = 7) -> Path:
    """Writes such frames and returns the path."""
    recording.write(path, frames(seconds, seed=seed))
    return path
