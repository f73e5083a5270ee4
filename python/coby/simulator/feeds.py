"""How venues gather a book's changes before they send them: by time, or cut to a window of the best levels."""

from collections.abc import Hashable
from dataclasses import dataclass

from coby.simulator.market import ASK, BID, Candle, Levels, Market, Update

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Push:
    """Gathered changes as `(ticks, lots)`; `first..=last` are their sequence numbers.

    `previous` is the last number of the push before.
    """

    bids: Pairs
    asks: Pairs
    first: int
    last: int
    previous: int
    time_ns: int


class Batch:
    """All changes of a book since the last push, newest sizes only."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._changes: tuple[Levels, Levels] = ({}, {})
        self._first = 0
        self._previous = market.sequence
        self._last = market.sequence
        self._behind_hole = 0
        self._time_ns = 0

    def add(self, update: Update) -> None:
        """Gathers an update."""
        self._first = self._first or update.first
        self._last = update.last
        self._time_ns = update.time_ns
        for side, ticks, lots in update.changes:
            self._changes[side][ticks] = lots

    def skip(self) -> None:
        """The next push follows on one that nobody has seen: no push spans the hole."""
        self._previous = self._market.sequence
        self._behind_hole = self._market.sequence + 1

    def take(self) -> Push | None:
        """What has been gathered; None if nothing has happened."""
        if not self._first:
            return None
        bids, asks = self._changes
        first = self._behind_hole if self._first < self._behind_hole <= self._last else self._first
        push = Push(
            sorted(bids.items(), reverse=True),
            sorted(asks.items()),
            first,
            self._last,
            self._previous,
            self._time_ns,
        )
        self._changes = ({}, {})
        self._first, self._previous = 0, self._last
        return push


class Window:
    """The best levels of a book as a client sees them that is told of every change inside, and cuts to `depth` itself.

    Levels that leave because better ones came are not mentioned; those that come back are sent again.
    """

    def __init__(self, market: Market, depth: int) -> None:
        self.depth = depth
        self._sides = (market.bids, market.asks)
        self._seen: tuple[Levels, Levels] = (dict(market.bids.top(depth)), dict(market.asks.top(depth)))

    def changes(self, update: Update) -> tuple[Pairs, Pairs]:
        """What the client is told of an update: removals and new sizes of bids and of asks, best first."""
        told: tuple[Levels, Levels] = ({}, {})
        for side, ticks, lots in update.changes:
            levels, seen = self._sides[side], self._seen[side]
            if lots:
                if len(levels.keys) <= self.depth or levels.sign * ticks <= levels.keys[self.depth - 1]:
                    seen[ticks] = told[side][ticks] = lots
            elif seen.pop(ticks, 0):
                told[side][ticks] = 0
        for side in {side for side, _, _ in update.changes}:
            self._settle(side, told[side], len(update.changes))
        return sorted(told[0].items(), reverse=True), sorted(told[1].items())

    def _settle(self, side: int, told: Levels, changes: int) -> None:
        """Levels that were pushed out are forgotten, those that moved up are told."""
        levels, seen = self._sides[side], self._seen[side]
        # No level can have been pushed further than there were changes.
        for key in levels.keys[self.depth : self.depth + changes]:
            seen.pop(levels.sign * key, None)
        for key in reversed(levels.keys[: self.depth]):
            ticks = levels.sign * key
            if ticks in seen:
                if len(seen) >= min(self.depth, len(levels.keys)):
                    break
                continue
            seen[ticks] = told[ticks] = levels.lots[ticks]


class Image:
    """The best levels of a book at each push, and what is different from the push before.

    Unlike with a `Window`, levels that leave are told as removals: the client need not cut anything. What it holds is
    the last push, not the present: a snapshot of it joins the next push without a hole. Without `depth` it is whole.
    """

    def __init__(self, market: Market, depth: int | None) -> None:
        self.depth = depth
        self._market = market
        self._take()

    @property
    def bids(self) -> Pairs:
        """Bids of the last push, best first."""
        return list(self._sides[BID].items())

    @property
    def asks(self) -> Pairs:
        """Asks of the last push, best first."""
        return list(self._sides[ASK].items())

    def push(self) -> Push | None:
        """Differences to the last push, size 0 for levels that have left; None if nothing has happened."""
        market = self._market
        if market.sequence == self.sequence:
            return None
        previous, before = self.sequence, self._sides
        self._take()
        found: list[Pairs] = []
        for old, new in zip(before, self._sides, strict=True):
            changes = [(ticks, lots) for ticks, lots in new.items() if old.get(ticks) != lots]
            found.append([(ticks, 0) for ticks in old if ticks not in new] + changes)
        return Push(found[BID], found[ASK], previous + 1, self.sequence, previous, self.time_ns)

    def _take(self) -> None:
        market = self._market
        self._sides: tuple[Levels, Levels] = (dict(market.bids.top(self.depth)), dict(market.asks.top(self.depth)))
        self.sequence = market.sequence
        self.time_ns = market.changed_ns


class Images:
    """The images that somebody reads, by whatever tells one feed of a book from another."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, Hashable], Image] = {}

    def of(self, market: Market, feed: Hashable, depth: int) -> Image:
        """The image of a feed, which begins with the book as it is now."""
        key = (market.instrument.symbol, feed)
        if key not in self._images:
            self._images[key] = Image(market, depth)
        return self._images[key]

    def end(self, market: Market, feed: Hashable) -> None:
        """Nobody reads a feed any more."""
        self._images.pop((market.instrument.symbol, feed), None)

    def skip(self, market: Market) -> None:
        """Nobody gets the next push of any feed, so the one after that follows on a number that is not known."""
        market.sequence += 2
        for (symbol, _), image in self._images.items():
            if symbol == market.instrument.symbol:
                image.sequence += 1


def due(market: Market, length_ns: int, now_ns: int, step_ns: int, *, traded: bool) -> list[tuple[Candle, bool]]:
    """Candles that a push tells of which comes every `step_ns`, and whether each has ended.

    They are the one that has ended since the last push, and the running one if something has `traded`.
    """
    begin = now_ns // length_ns * length_ns
    ended = market.candles(length_ns, begin - length_ns, begin) if now_ns - begin < step_ns else []
    running = market.candles(length_ns, begin, begin + 1) if traded else []
    return [(candle, True) for candle in ended] + [(candle, False) for candle in running]
