"""One venue's book of one instrument: deep, alive, and led by a fair price that all venues share.

Prices are counted in ticks and sizes in lots. No floating point: a seed gives the same market on every platform.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from coby.simulator.fair import CALM, MINUTE_NS, FairPrice

BID: Literal[0] = 0
ASK: Literal[1] = 1
Levels = dict[int, int]

# Times between events, in percent of their mean: the sixteen mid-quantiles of the exponential distribution.
_WAITING = (3, 10, 17, 25, 33, 42, 52, 63, 75, 88, 104, 123, 147, 180, 228, 344)
# How much bigger than usual an order is: mostly not at all, sometimes a lot.
_FAT_TAIL = (1, 1, 1, 1, 2, 2, 3, 5, 9)
_KEPT_FILLS = 300
_GRID_NS = 50_000_000
_CLEAR_NS = 1_000_000


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
    perpetual: bool = False
    inverse: bool = False
    """Whether sizes count the quote currency, not the base."""

    @property
    def canonical(self) -> str:
        """The venue-independent name, such as `BTC-USDT` or `BTC-USDT-PERP`."""
        return f"{self.base}-{self.quote}{'-PERP' if self.perpetual else ''}"

    def price(self, ticks: int) -> str:
        """A price as the venue prints it."""
        return decimal(ticks * self.tick, self.price_digits)

    def size(self, lots: int) -> str:
        """A size as the venue prints it."""
        return decimal(lots * self.lot, self.size_digits)

    def notional(self, tick_lots: int) -> str:
        """A sum of ticks times lots, in the quote currency."""
        return decimal(tick_lots * self.tick * self.lot, self.price_digits + self.size_digits)

    def level(self, ticks: int, lots: int) -> list[str]:
        """Price and size as the venue prints them."""
        return [self.price(ticks), self.size(lots)]


@dataclass(frozen=True, slots=True)
class Fill:
    """A taker's order that met one price level; it filled the orders (trades) `first_id..=last_id` there."""

    time_ns: int
    ticks: int
    lots: int
    taker_sells: bool
    number: int
    """Counts the market's fills."""
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Update:
    """What one event did to the book: new sizes of levels (0: gone), and what was traded.

    `first..=last` are the market's sequence numbers of the changes; an event that leaves all levels as they were has
    a number too.
    """

    time_ns: int
    changes: list[tuple[int, int, int]]
    """Side, ticks, lots; a level occurs once."""
    fills: list[Fill]
    first: int
    last: int


@dataclass
class Candle:
    """Trades of one interval; `open_ns` is where it begins. Amounts in lots and in ticks times lots."""

    open_ns: int
    open: int
    high: int
    low: int
    close: int
    lots: int = 0
    bought: int = 0
    notional: int = 0
    bought_notional: int = 0
    count: int = 0
    first_id: int = -1
    last_id: int = -1

    def add(self, fill: Fill) -> None:
        """Counts a fill in."""
        if not self.count:
            self.open = self.high = self.low = fill.ticks
            self.first_id = fill.first_id
        self.high, self.low, self.close = max(self.high, fill.ticks), min(self.low, fill.ticks), fill.ticks
        self.lots += fill.lots
        self.notional += fill.lots * fill.ticks
        if not fill.taker_sells:
            self.bought += fill.lots
            self.bought_notional += fill.lots * fill.ticks
        self.count += fill.last_id - fill.first_id + 1
        self.last_id = fill.last_id

    def merged(self, later: "Candle") -> "Candle":
        """This candle and a later one as one."""
        return Candle(
            self.open_ns,
            self.open,
            max(self.high, later.high),
            min(self.low, later.low),
            later.close,
            self.lots + later.lots,
            self.bought + later.bought,
            self.notional + later.notional,
            self.bought_notional + later.bought_notional,
            self.count + later.count,
            self.first_id if self.count else later.first_id,
            later.last_id if later.count else self.last_id,
        )


class Side:
    """Levels of one side, kept sorted; `keys` are ticks for asks and negative ticks for bids, so best comes first."""

    __slots__ = ("keys", "lots", "sign")

    def __init__(self, sign: int, lots: Levels) -> None:
        self.sign = sign
        self.lots = lots
        self.keys = sorted(sign * ticks for ticks in lots)

    @property
    def best(self) -> int:
        """Ticks of the best level."""
        return self.sign * self.keys[0]

    def put(self, ticks: int, lots: int) -> None:
        """Sets a level's size; 0 removes it."""
        key = self.sign * ticks
        if lots:
            if ticks not in self.lots:
                insort(self.keys, key)
            self.lots[ticks] = lots
        else:
            del self.lots[ticks]
            del self.keys[bisect_left(self.keys, key)]

    def top(self, depth: int | None = None) -> list[tuple[int, int]]:
        """Ticks and lots of the best levels, or of all, best first."""
        sign, lots = self.sign, self.lots
        return [(sign * key, lots[sign * key]) for key in self.keys[:depth]]


@dataclass(frozen=True)
class Temper:
    """What sets a venue's markets apart: how far they lag behind and wander around the fair price, depth and pace."""

    lag_ns: int = 100_000_000
    wander: int = 40_000
    """Width of the premium's wandering, in parts per billion."""
    levels: int = 1_500
    pace: int = 100
    """Events in percent of what is usual for the asset."""


class Market:
    """One book. `wait` says when it changes next, `act` changes it."""

    def __init__(self, instrument: Instrument, fair: FairPrice, temper: Temper, seed: str) -> None:
        self.instrument = instrument
        self.fair = fair
        self._temper = temper
        self._random = Random(seed)
        self._tick: int = instrument.tick * 10 ** (8 - instrument.price_digits)
        middle = fair.at(fair.start_ns) // self._tick
        # A usual distance between neighbours near the touch, and what people call a round price.
        self._gap = max(1, middle // 600_000)
        self._round = _round_step(middle)
        self._reach: int = min(self._gap * 8 * temper.levels, middle * 6 // 10)
        dollars: int = fair.asset.typical_dollars * 10 ** (8 + instrument.size_digits)
        unit = 10**8 if instrument.inverse else fair.asset.price
        self._typical: int = max(4, dollars // (unit * instrument.lot))
        self._premium = 0
        self._hidden: tuple[Levels, Levels] = ({}, {})
        self._now = fair.start_ns
        # Sizes before the event, of the levels that it touches.
        self._touched: dict[tuple[int, int], int] = {}
        self._fills: list[Fill] = []
        self._number = self._random.randrange(10**8, 10**9)
        self._trade_id = self._random.randrange(10**9, 2 * 10**9)
        self.sequence = self._random.randrange(10**9, 9 * 10**9)
        """Number of the latest change."""
        self.changed_ns = fair.start_ns
        """When the book changed last."""
        self.fills: deque[Fill] = deque(maxlen=_KEPT_FILLS)
        """The latest fills, oldest first."""
        self.minutes: dict[int, Candle] = {}
        """Candles of minutes with trades since the start, by their begin."""
        self.bids = Side(-1, self._first_levels(BID, middle))
        self.asks = Side(1, self._first_levels(ASK, middle + 1))
        self._sides = (self.bids, self.asks)
        self._walls = tuple({ticks for ticks, lots in side.lots.items() if self._is_wall(lots)} for side in self._sides)
        """Where very large orders stand."""

    def wait(self, now_ns: int) -> int:
        """When the next event happens: whole microseconds, and never within 1 ms after a multiple of 50 ms.

        So at such a multiple it is clear even to a venue that prints milliseconds what has happened.
        """
        pace = self.fair.asset.pace * self._temper.pace * self.fair.activity // CALM
        mean_us = 100_000_000 // max(1, pace)
        us = mean_us * self._random.choice(_WAITING) // 100 + self._random.randrange(2, 200)
        at = (now_ns // 1_000 + us) * 1_000
        return at + _CLEAR_NS if at % _GRID_NS < _CLEAR_NS else at

    def act(self, now_ns: int) -> Update:
        """Lets one thing happen."""
        self._now = now_ns
        self._touched, self._fills = {}, []
        # Now and then somebody does two things at once, as who quotes both sides does.
        for _ in range(self._random.choice((1, 1, 1, 1, 1, 2))):
            self._event()
        for side in (BID, ASK):
            self._deepen(side)
        now = (
            (side, ticks, self._sides[side].lots.get(ticks, 0), before)
            for (side, ticks), before in self._touched.items()
        )
        changes = [(side, ticks, lots) for side, ticks, lots, before in now if lots != before]
        first = self.sequence + 1
        self.sequence += max(1, len(changes))
        self.changed_ns = now_ns
        return Update(now_ns, changes, self._fills, first, self.sequence)

    def candles(self, interval_ns: int, since_ns: int, until_ns: int) -> list[Candle]:
        """Candles that begin in `[since, until)`, oldest first, and not after the latest event; quiet ones are flat."""
        until_ns = min(until_ns, self._now + 1)
        since_ns = max(since_ns // interval_ns * interval_ns, self._first_minute())
        found: list[Candle] = []
        for minute in self._each_minute(since_ns, until_ns - 1 + interval_ns):
            begin = minute.open_ns // interval_ns * interval_ns
            if begin >= until_ns:
                break
            if found and found[-1].open_ns == begin:
                found[-1] = found[-1].merged(minute)
            else:
                minute.open_ns = begin
                found.append(minute)
        return found

    # Candles

    def _first_minute(self) -> int:
        start = self.fair.start_ns // MINUTE_NS * MINUTE_NS
        return start - len(self.fair.minutes_before()) * MINUTE_NS

    def _each_minute(self, since_ns: int, until_ns: int) -> Iterator[Candle]:
        start = self.fair.start_ns // MINUTE_NS * MINUTE_NS
        before = self.fair.minutes_before()
        earlier = (candle.close for begin, candle in reversed(self.minutes.items()) if begin < since_ns)
        close = next(earlier, self.fair.asset.price // self._tick)
        for begin in range(since_ns // MINUTE_NS * MINUTE_NS, min(until_ns, self._now + 1), MINUTE_NS):
            if begin < start:
                opened, high, low, close = (price // self._tick for price in before[(begin - start) // MINUTE_NS])
                # As many trades as the minute was wide; nobody saw them, so any number will do.
                lots = self._typical * (40 + (high - low) % 97)
                middle = (high + low) // 2
                yield Candle(begin, opened, high, low, close, lots, lots // 2, lots * middle, lots // 2 * middle, 60)
            elif begin in self.minutes:
                close = self.minutes[begin].close
                yield replace(self.minutes[begin])
            else:
                yield Candle(begin, close, close, close, close)

    # Events

    def _event(self) -> None:
        random = self._random
        target = self._target()
        bid, ask = self.bids.best, self.asks.best
        if random.randrange(100) < 70:
            if ask <= target:
                self._take(ASK, target) if random.randrange(100) < 35 else self._pull(ASK, target)
                return
            if bid > target:
                self._take(BID, target + 1) if random.randrange(100) < 35 else self._pull(BID, target + 1)
                return
            if target - bid > self._gap * 2:
                self._join(BID, target - random.randrange(self._gap + 1))
                return
            if ask - target > self._gap * 2 + 1:
                self._join(ASK, target + 1 + random.randrange(self._gap + 1))
                return
        chance = random.randrange(1_000)
        side = random.randrange(2)
        if chance < 480:
            self._requote(side, 12)
        elif chance < 850:
            self._requote(side, None)
        elif chance < 965:
            levels = self._sides[side]
            self._hit(side, self._some_lots() // 2 + 1, levels.best + levels.sign * self._gap * 3, 3)
        elif chance < 985:
            # An iceberg: of a large order only the tip is shown.
            self._hidden[side][self._sides[side].best] = self._some_lots() * random.randrange(10, 40)
        elif chance < 997:
            self._wall(side)
        else:
            self._sweep(side)

    def _target(self) -> int:
        """The tick under the price that this venue believes in."""
        random = self._random
        pull = abs(self._premium) // 256
        self._premium += (-pull if self._premium > 0 else pull) + random.randint(-1, 1) * self._temper.wander // 8
        fair = self.fair.at(self._now - self._temper.lag_ns)
        return (fair + fair * self._premium // 1_000_000_000) // self._tick

    def _take(self, side: int, until: int) -> None:
        """A taker trades what has become cheap (asks) or dear (bids), up to a price."""
        self._hit(side, self._typical * self._random.randrange(2, 9), until, 4)

    def _hit(self, side: int, lots: int, until: int, most: int) -> None:
        levels = self._sides[side]
        hidden = self._hidden[side]
        for _ in range(most):
            ticks = levels.best
            if not lots or levels.sign * ticks > levels.sign * until or len(levels.keys) < 2:
                return
            there = levels.lots[ticks]
            taken = min(lots, there)
            lots -= taken
            self._fill(side, ticks, taken)
            if taken < there:
                self._put(side, ticks, there - taken)
            elif reserve := hidden.get(ticks, 0):
                tip = min(reserve, there)
                hidden[ticks] = reserve - tip
                self._put(side, ticks, tip)
            else:
                hidden.pop(ticks, None)
                self._put(side, ticks, 0)

    def _sweep(self, side: int) -> None:
        """Somebody in a hurry clears many levels; the price returns when makers do."""
        depth = self._random.randrange(6, 40)
        levels = self._sides[side]
        until = levels.best + levels.sign * (levels.best // 1_500 + 1)
        self._hit(side, 10**15, until, depth)

    def _pull(self, side: int, until: int) -> None:
        """Makers cancel what others would trade at a loss to them."""
        levels = self._sides[side]
        for _ in range(8):
            ticks = levels.best
            if levels.sign * ticks > levels.sign * until or len(levels.keys) < 2:
                return
            self._hidden[side].pop(ticks, None)
            self._put(side, ticks, 0)

    def _join(self, side: int, ticks: int) -> None:
        """Makers follow the price with a few orders at and behind the new touch."""
        other = self._sides[1 - side].best
        sign = self._sides[side].sign
        ticks = min(ticks, other - 1) if side == BID else max(ticks, other + 1)
        for _ in range(self._random.choice((1, 1, 2, 3, 4))):
            if ticks > 0:
                self._put(side, ticks, self._size_at(side, ticks))
            ticks += sign * self._random.randrange(1, 2 * self._gap + 1)

    def _requote(self, side: int, near: int | None) -> None:
        """A few orders come, change or go: near the touch, or anywhere with more of it near the touch."""
        random = self._random
        levels = self._sides[side]
        crowd = len(levels.keys) * 100 // self._temper.levels
        for _ in range(random.choice((1, 1, 1, 2, 3)) + (3 if crowd < 90 else 0)):
            u = random.randrange(1_024)
            dice = random.randrange(200)
            if dice < 100:
                index = random.randrange(near) if near else u * u * len(levels.keys) >> 20
                ticks = levels.sign * levels.keys[min(index, len(levels.keys) - 1)]
                self._put(side, ticks, self._size_at(side, ticks))
            elif dice - 100 < crowd * crowd // 200:
                index = random.randrange(near) if near else u * u * len(levels.keys) >> 20
                if 1 < len(levels.keys) > index:
                    ticks = levels.sign * levels.keys[index]
                    self._hidden[side].pop(ticks, None)
                    self._put(side, ticks, 0)
            else:
                distance = random.randrange(self._gap * near) if near else u * u * self._reach >> 20
                ticks = levels.best + levels.sign * distance
                if ticks > 0:
                    self._put(side, ticks, self._size_at(side, ticks))
        last = levels.sign * levels.keys[-1]
        if abs(last - levels.best) > 2 * self._reach and len(levels.keys) > 1:
            self._put(side, last, 0)

    def _wall(self, side: int) -> None:
        """At a round price a very large order appears or leaves."""
        levels = self._sides[side]
        away = self._random.randrange(1, 6) * self._round
        ticks = (levels.best + levels.sign * away) // self._round * self._round
        if ticks <= 0 or levels.sign * ticks <= levels.sign * levels.best:
            return
        if levels.lots.get(ticks, 0) > self._typical * 60:
            self._put(side, ticks, self._some_lots())
        else:
            self._put(side, ticks, self._typical * self._random.randrange(80, 250))

    def _deepen(self, side: int) -> None:
        """However the price has moved, a side keeps two thirds of its levels, and a wall."""
        levels = self._sides[side]
        while len(levels.keys) < self._temper.levels * 2 // 3:
            ticks = levels.sign * (levels.keys[-1] + self._gap)
            if ticks <= 0:
                break
            self._put(side, ticks, self._size_at(side, ticks))
        if not self._walls[side]:
            self._wall(side)

    def _is_wall(self, lots: int) -> bool:
        return lots > self._typical * 40

    # Levels

    def _fill(self, side: int, ticks: int, lots: int) -> None:
        self._number += 1
        first = self._trade_id + 1
        self._trade_id += 1 if lots == 1 else self._random.choice((1, 1, 1, 2, 3))
        fill = Fill(self._now, ticks, lots, side == BID, self._number, first, self._trade_id)
        self._fills.append(fill)
        self.fills.append(fill)
        minute = self._now // MINUTE_NS * MINUTE_NS
        candle = self.minutes.get(minute)
        if candle is None:
            candle = self.minutes[minute] = Candle(minute, ticks, ticks, ticks, ticks)
        candle.add(fill)

    def _put(self, side: int, ticks: int, lots: int) -> None:
        levels = self._sides[side]
        before = levels.lots.get(ticks, 0)
        if before != lots:
            levels.put(ticks, lots)
            if self._is_wall(lots):
                self._walls[side].add(ticks)
            else:
                self._walls[side].discard(ticks)
            self._touched.setdefault((side, ticks), before)

    def _size_at(self, side: int, ticks: int) -> int:
        distance = abs(ticks - self._sides[side].best)
        return self._size(ticks, distance)

    def _size(self, ticks: int, distance: int) -> int:
        wall = 20 if ticks % self._round == 0 else 4 if ticks % (self._round // 2) == 0 else 1
        away = 100 + 300 * min(distance, self._reach) // self._reach
        return max(1, self._some_lots() * wall * away // 100)

    def _some_lots(self) -> int:
        random = self._random
        return max(1, self._typical * random.randrange(10, 120) * random.choice(_FAT_TAIL) // 100)

    def _first_levels(self, side: int, best: int) -> Levels:
        sign = 1 if side == ASK else -1
        levels: Levels = {}
        count = self._temper.levels
        for index in range(count):
            # Density falls with the distance as it does where orders come and go.
            jitter = self._random.randrange(count)
            distance = (index * index * self._reach + jitter * self._gap) // (count * count)
            ticks = best + sign * max(distance, index)
            if ticks > 0:
                levels[ticks] = self._size(ticks, distance)
        return levels


def decimal(mantissa: int, digits: int) -> str:
    """`mantissa * 10 ** -digits` in plain notation, with all digits."""
    if digits == 0:
        return str(mantissa)
    text = f"{mantissa:0{digits + 1}d}"
    return f"{text[:-digits]}.{text[-digits:]}"


def plain(text: str) -> str:
    """A number as `decimal` prints it, without zeros at the end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _round_step(middle: int) -> int:
    """About a thousandth of the price: 2, 10, 20, 100, 200 and so on, so that half of it is a whole number too."""
    step = 2
    while step * 1_000 < middle:
        step *= 5 if str(step)[0] == "2" else 2
    return step
