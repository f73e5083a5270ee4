"""Fair prices: what an asset is worth everywhere, whatever each venue quotes around it.

Whole numbers only (1e-8 of a dollar, parts per billion): a seed gives the same path on every platform.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

STEP_NS = 50_000_000
MINUTE_NS = 60_000_000_000
CALM = 100

_KEPT_STEPS = 128
_HISTORY_MINUTES = 24 * 60
_BILLION = 1_000_000_000


@dataclass(frozen=True)
class Asset:
    """`price` in dollars times 1e8; `typical` order and `lively`, the width of a 50 ms step in parts per billion."""

    base: str
    price: int
    typical_dollars: int
    lively: int
    pace: int
    """Book events a second at a venue when nothing special happens."""


ASSETS = {
    asset.base: asset
    for asset in (
        Asset("BTC", 67_234_51_000_000, 9_000, 9_000, 36),
        Asset("ETH", 3_512_75_000_000, 6_000, 12_000, 28),
        Asset("SOL", 176_42_000_000, 2_500, 17_000, 18),
        Asset("XRP", 2_18_370_000, 1_200, 19_000, 12),
    )
}


class FairPrice:
    """A path of 50 ms steps: calm and lively times, trends, news that make it jump, and a weak pull back home."""

    def __init__(self, asset: Asset, start_ns: int, seed: str) -> None:
        self.asset = asset
        self.start_ns = start_ns
        self._random = Random(seed)
        self._history_seed = f"{seed}/history"
        self._steps = deque([asset.price], _KEPT_STEPS)
        self._count = 1
        self._trend = 0
        self._liveliness = CALM
        self._candles: list[tuple[int, int, int, int]] | None = None
        self.activity = CALM
        """How busy every venue is, in percent of a calm time."""

    def at(self, now_ns: int) -> int:
        """The price at a time, which may lie up to some seconds behind the latest time asked for."""
        index = max(0, (now_ns - self.start_ns) // STEP_NS)
        while self._count <= index:
            self._step()
        oldest = self._count - len(self._steps)
        return self._steps[max(0, index - oldest)]

    def _step(self) -> None:
        random = self._random
        price = self._steps[-1]
        self.activity = max(CALM, self.activity - max(1, (self.activity - CALM) // 40))
        self._liveliness = max(CALM, self._liveliness - max(1, (self._liveliness - CALM) // 100))
        move = 0
        if random.randrange(800) == 0:
            move = random.randrange(250_000, 1_400_000) * random.choice((-1, 1))
            self.activity = random.randrange(350, 700)
        if random.randrange(1_000) == 0:
            self._liveliness = random.randrange(150, 450)
        # Towards zero on both sides: rounded down, a trend would lean downwards.
        fading = abs(self._trend) * 31 // 32
        self._trend = (fading if self._trend > 0 else -fading) + bell(random, self.asset.lively // 12)
        move += self._trend + bell(random, self.asset.lively) * self._liveliness // CALM
        pull = (self.asset.price - price) // 32_768
        self._steps.append(price + price * move // _BILLION + pull)
        self._count += 1

    def minutes_before(self) -> list[tuple[int, int, int, int]]:
        """Open, high, low and close of each minute of the day before the start, oldest first; it ends at the start."""
        if self._candles is None:
            random = Random(self._history_seed)
            backwards = []
            close = self.asset.price
            width = self.asset.lively * 30
            for _ in range(_HISTORY_MINUTES):
                opened = close + close * bell(random, width) // _BILLION
                low, high = sorted((opened, close))
                high += high * random.randrange(width) // _BILLION
                low -= low * random.randrange(width) // _BILLION
                backwards.append((opened, high, low, close))
                close = opened
            self._candles = backwards[::-1]
        return self._candles


def bell(random: Random, width: int) -> int:
    """Bell-shaped around 0 with a standard deviation of about `width`."""
    return random.randint(-width, width) + random.randint(-width, width) + random.randint(-width, width)
