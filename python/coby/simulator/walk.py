"""A market that never was: a random walk with a deep book, trades and resting walls. Whole numbers only.

Prices are counted in ticks and sizes in lots. No floating point: a seed gives the same market on every platform.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

Levels = dict[int, int]

# Where orders rest, by distance from the touch in ticks: every tick, every 7th, every 25th. Some 560 levels a side.
_GRID = ((200, 1), (1_500, 7), (6_000, 25))
_CROWDED = 650
# How much bigger than usual an order is: mostly not at all, sometimes a lot.
_FAT_TAIL = (1, 1, 1, 1, 2, 2, 3, 5, 9)


@dataclass(frozen=True)
class Instrument:
    """What is traded, in the venue's terms.

    `tick` and `lot` are the steps of price and size in units of the last printed digit.
    """

    symbol: str
    base: str
    quote: str
    price_digits: int
    tick: int
    size_digits: int
    lot: int
    start: int
    """First price, in ticks."""
    typical: int
    """Typical size near the touch, in lots."""
    pace: int
    """Width of the price's step each 100 ms, in ticks."""

    def price(self, ticks: int) -> str:
        """A price as the venue prints it."""
        return decimal(ticks * self.tick, self.price_digits)

    def size(self, lots: int) -> str:
        """A size as the venue prints it."""
        return decimal(lots * self.lot, self.size_digits)


@dataclass(frozen=True)
class Fill:
    """A taker's order that met one price level."""

    ticks: int
    lots: int
    taker_sells: bool
    orders: int


class Market:
    """One instrument's book. `step` lets 100 ms pass and says what changed."""

    def __init__(self, instrument: Instrument, random: Random) -> None:
        self.instrument = instrument
        self._random = random
        self._trend = 0
        self.bids: Levels = {}
        self.asks: Levels = {}
        self._bid = instrument.start
        self._ask = instrument.start + 1
        self._changed: tuple[Levels, Levels] = ({}, {})
        while self._refill(1_000):
            pass
        self._changed = ({}, {})

    @property
    def best(self) -> tuple[int, int]:
        """Best bid and best ask, in ticks."""
        return self._bid, self._ask

    def step(self) -> tuple[Levels, Levels, list[Fill]]:
        """Changed bids and asks, with their new sizes (0 removes), and the trades that happened."""
        self._changed = ({}, {})
        # The trend fades by a tenth, towards zero on both sides: rounded down, it would lean downwards.
        fading = abs(self._trend) * 9 // 10
        self._trend = (fading if self._trend > 0 else -fading) + self._bell(max(1, self.instrument.pace // 4))
        move = self._trend + self._bell(self.instrument.pace)
        fills = self._trade(move)
        self._move_to(self._bid + move)
        for _ in range(self._random.randrange(6, 30)):
            self._touch()
        self._refill(25)
        self._forget_far_levels()
        return *self._changed, fills

    def _trade(self, move: int) -> list[Fill]:
        """Takers, mostly on the side to which the price goes; they never clear more than a few levels."""
        fills = []
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            sells = (move < 0) == (self._random.randrange(4) > 0)
            side, at = (0, self._bid) if sells else (1, self._ask)
            rest = self._size(0)
            for ticks in range(at, at - 4, -1) if sells else range(at, at + 4):
                there = self._side(side).get(ticks, 0)
                taken = min(rest, there)
                if taken:
                    fills.append(Fill(ticks, taken, sells, self._random.randrange(1, 5)))
                    self._set(side, ticks, there - taken)
                    rest -= taken
        return fills

    def _move_to(self, bid: int) -> None:
        """The touch moves: orders in its way are cancelled, new ones follow it."""
        bid = max(bid, 10_000)
        ask = bid + self._random.choice((1, 1, 1, 1, 2, 3))
        for ticks in [ticks for ticks in self.bids if ticks > bid]:
            self._set(0, ticks, 0)
        for ticks in [ticks for ticks in self.asks if ticks < ask]:
            self._set(1, ticks, 0)
        self._bid, self._ask = bid, ask
        for side, ticks in ((0, bid), (1, ask)):
            if ticks not in self._side(side):
                self._set(side, ticks, self._size(0))

    def _touch(self) -> None:
        """Somebody changes or cancels an order, most likely near the touch."""
        side = self._random.randrange(2)
        reach = self._random.choice((3, 10, 30, 100, 100, 400))
        distance = self._random.randrange(1, reach)
        ticks = self._at(side, distance)
        if not self._rests(ticks, distance):
            return
        self._set(side, ticks, 0 if self._random.randrange(8) == 0 else self._size(distance, ticks))

    def _refill(self, at_most: int) -> int:
        """Orders return to where orders usually rest, so many a side."""
        added = 0
        for side in (0, 1):
            free = [ticks for ticks in self._resting_places(side) if ticks not in self._side(side)]
            for ticks in free[:at_most]:
                self._set(side, ticks, self._size(abs(ticks - self._at(side, 0)), ticks))
                added += 1
        return added

    def _resting_places(self, side: int) -> Iterator[int]:
        """From the touch outwards."""
        near = 0
        for reach, every in _GRID:
            for distance in range(near, reach):
                ticks = self._at(side, distance)
                if ticks % every == 0:
                    yield ticks
            near = reach

    def _forget_far_levels(self) -> None:
        """Orders that the price has left behind are cancelled, some at a time."""
        for side in (0, 1):
            levels = self._side(side)
            if len(levels) > _CROWDED:
                left = levels.keys() - set(self._resting_places(side))
                for ticks in sorted(left)[:40]:
                    self._set(side, ticks, 0)

    def _rests(self, ticks: int, distance: int) -> bool:
        return any(distance < reach and ticks % every == 0 for reach, every in _GRID)

    def _at(self, side: int, distance: int) -> int:
        return self._ask + distance if side else self._bid - distance

    def _side(self, side: int) -> Levels:
        return self.asks if side else self.bids

    def _set(self, side: int, ticks: int, lots: int) -> None:
        levels = self._side(side)
        if levels.get(ticks, 0) == lots:
            return
        if lots:
            levels[ticks] = lots
        else:
            del levels[ticks]
        self._changed[side][ticks] = lots

    def _size(self, distance: int, ticks: int = 1) -> int:
        wall = 12 if ticks % 1_000 == 0 else 4 if ticks % 500 == 0 else 1
        size = self.instrument.typical * self._random.randrange(20, 180) * self._random.choice(_FAT_TAIL)
        return max(1, size * wall * (100 + min(distance, 2_000)) // 10_000)

    def _bell(self, width: int) -> int:
        """Bell-shaped around 0, with a spread of about `width`."""
        return sum(self._random.randrange(-width, width + 1) for _ in range(3))


def decimal(mantissa: int, digits: int) -> str:
    """`mantissa * 10 ** -digits` in plain notation, with all digits."""
    if digits == 0:
        return str(mantissa)
    text = f"{mantissa:0{digits + 1}d}"
    return f"{text[:-digits]}.{text[-digits:]}"
