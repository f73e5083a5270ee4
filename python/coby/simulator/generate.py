"""The recording that `coby play` makes for itself: a minute of `binance_futures`."""

from collections.abc import Iterator
from dataclasses import dataclass

from coby.recording import RecordedFrame
from coby.simulator.record import record
from coby.simulator.venues import VENUES


@dataclass(frozen=True)
class Generator:
    """Frames of a made-up recording; the same arguments give the same frames on every platform."""

    seed: int
    seconds: float = 30.0

    def __iter__(self) -> Iterator[RecordedFrame]:
        return record(VENUES["binance_futures"], self.seconds, symbols=("BTC", "ETH", "SOL"), seed=self.seed)
