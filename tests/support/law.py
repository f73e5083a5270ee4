"""What was true of simulated markets at every moment, and stored rows judged by it.

`ts_recv` of a row tells what its book may hold: something that was true no longer ago than a frame travels. `ts_event`
tells it exactly: the venue's own time, to the millisecond that most of them print.
"""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from coby.simulator.exchange import MS, SECOND, Exchange, Picture, Venue
from coby.simulator.market import BID, Market, Side, Update

Key = tuple[str, str]
"""Venue and its symbol."""
Row = dict[str, Any]
Touch = tuple[tuple[float, float], tuple[float, float]]
"""Price and size of the best bid and of the best ask."""
Top = tuple[list[float], list[float], list[float], list[float]]
Change = tuple[int, int, int]
"""Side, ticks, lots."""

MINUTE = 60 * SECOND
_CROSSED = 10
"""More levels than one update ever crosses."""
_STAMP_NS = MS
"""What a venue's print of a time may leave out."""


@dataclass(frozen=True)
class Manner:
    """What a venue's books are like, by its fact sheet."""

    late_ns: int = 150 * MS
    """How long a book stands before it is told again: the usual 100 ms between pushes, and time on the way."""
    early_ns: int = 0
    """How much newer than its book a message's time can be."""
    batch_ns: int = 0
    """How long a trade may wait for others, where they come in batches."""
    blocks: bool = False
    """Whether a trade's time is that at which its batch ended."""
    reach: int | None = None
    """How many levels a side a snapshot shows; what is deeper is known once it has changed."""
    order: Callable[[Change], tuple[int, ...]] | None = None
    """In what order the levels of an update are told where each is a message of its own."""
    uncrosses: bool = False
    """Whether readers are to take out what a newer level crosses, until the venue says so too."""


MANNERS = defaultdict(
    Manner,
    {
        "bitfinex": Manner(order=lambda change: (change[2] > 0, change[0], change[1] if change[0] else -change[1])),
        "coinbase": Manner(batch_ns=250 * MS),
        "deribit": Manner(batch_ns=100 * MS),
        "dydx": Manner(batch_ns=SECOND, blocks=True, reach=100, order=lambda change: (change[2] == 0,), uncrosses=True),
        "htx": Manner(early_ns=100 * MS),
        "hyperliquid": Manner(late_ns=5_600 * MS),
        "kucoin": Manner(reach=100),
        "mexc": Manner(batch_ns=100 * MS),
    },
)


class Trade(NamedTuple):
    """What a taker's order did at one price."""

    at: int
    """By the clock of receivers."""
    ms: int
    """By the venue's clock while that is right."""
    price: float
    size: float
    side: str


class History:
    """A market's book after each of its updates; state 0 is the first one, state `i` that after the `i`th update.

    Where levels are told one by one, each is an update.
    """

    def __init__(self, market: Market, now: int, manner: Manner) -> None:
        self.manner = manner
        self._instrument = market.instrument
        self._first = (dict(market.bids.lots), dict(market.asks.lots))
        self._changes: list[list[Change]] = []
        self._trades: list[Trade] = []
        self._floats: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self.began = now
        self.at: list[int] = []
        """When each update happened, by the clock of receivers."""
        self.stamps: list[int] = []
        """The same by the venue's clock while that is right."""

        self.reaches: list[tuple[int, float, float]] = []
        """When a snapshot was made that does not show all, its lowest bid and its highest ask."""

    def add(self, update: Update, now: int) -> None:
        order = self.manner.order
        parts = [update.changes] if order is None else [[change] for change in sorted(update.changes, key=order)]
        self._changes += parts
        self.at += [now] * len(parts)
        self.stamps += [update.time_ns] * len(parts)
        for fill in update.fills:
            side = "sell" if fill.taker_sells else "buy"
            self._trades.append(Trade(now, fill.time_ns // MS, self._price(fill.ticks), self._size(fill.lots), side))

    def show(self, picture: Picture, now: int) -> None:
        """Takes note of a snapshot."""
        if self.manner.reach is not None:
            low, high = (side[: self.manner.reach][-1][0] for side in (picture.bids, picture.asks))
            self.reaches.append((now, self._price(low), self._price(high)))

    @property
    def trades(self) -> Sequence[Trade]:
        """All so far."""
        return self._trades

    def known(self, now: int) -> tuple[float, float]:
        """Between which prices a receiver knows every level."""
        known = [reach for reach in self.reaches if reach[0] <= now]
        return known[-1][1:] if known else (0.0, float("inf"))

    def states(self, levels: Callable[[int], int]) -> Iterator[Top]:
        """Every state in turn, with so many levels a side as its number asks for."""
        sides = (Side(-1, dict(self._first[0])), Side(1, dict(self._first[1])))
        yield self._top(sides, levels(0), BID)
        for number, changes in enumerate(self._changes, 1):
            for side, ticks, lots in changes:
                sides[side].put(ticks, lots)
            newest = changes[-1][0] if changes else BID
            yield self._top(sides, levels(number), newest)

    def _top(self, sides: tuple[Side, Side], levels: int, newest: int) -> Top:
        found: list[list[float]] = []
        for place, side in enumerate(sides):
            older = self.manner.uncrosses and place != newest
            top = side.top(levels + _CROSSED if older else levels)
            if older:
                best = sides[newest].best
                top = [(ticks, lots) for ticks, lots in top if side.sign * (ticks - best) > 0][:levels]
            found += [[self._price(ticks) for ticks, _ in top], [self._size(lots) for _, lots in top]]
        return found[0], found[1], found[2], found[3]

    def _price(self, ticks: int) -> float:
        known = self._floats[0]
        if ticks not in known:
            known[ticks] = float(self._instrument.price(ticks))
        return known[ticks]

    def _size(self, lots: int) -> float:
        known = self._floats[1]
        if lots not in known:
            known[lots] = float(self._instrument.size(lots))
        return known[lots]


@dataclass(frozen=True)
class Happened:
    """A fault that took effect, at a time by the clock of receivers."""

    at: int
    venue: str
    symbol: str | None
    kind: str
    channel: str
    facts: Mapping[str, Any]


class Ledger:
    """Watches an exchange from now on.

    Args:
        exchange: It has not begun.
        now: The clock by which rows are received; simulated time by default.
    """

    def __init__(self, exchange: Exchange, now: Callable[[], int] | None = None) -> None:
        self._now = now or (lambda: exchange.clock.now_ns)
        self.histories = {
            (venue.name, symbol): History(market, self._now(), MANNERS[venue.name])
            for venue in exchange.venues.values()
            for symbol, market in venue.markets.items()
        }
        self.faults: list[Happened] = []
        exchange.observers.append(self._changed)
        for venue in exchange.venues.values():
            self._watch_snapshots(venue)

    def _watch_snapshots(self, venue: Venue) -> None:
        picture = venue.picture

        def watched(market: Market) -> Picture:
            found = picture(market)
            if history := self.histories.get((venue.name, market.instrument.symbol)):
                history.show(found, self._now())
            return found

        venue.picture = watched  # type: ignore[method-assign]

    def only(self, keys: Iterable[Key]) -> None:
        """Leaves out what nobody reads."""
        self.histories = {key: self.histories[key] for key in keys}

    def _changed(self, venue: Venue, market: Market, update: Update) -> None:
        if history := self.histories.get((venue.name, market.instrument.symbol)):
            history.add(update, self._now())

    def log(self, entry: Mapping[str, Any]) -> None:
        """Takes note of a fault; what a script of faults is given."""
        if entry["kind"] == "fault":
            known = {"kind", "t", "venue", "symbol", "fault", "channel"}
            facts = {name: value for name, value in entry.items() if name not in known}
            self.faults.append(
                Happened(self._now(), entry["venue"], entry["symbol"], entry["fault"], entry["channel"], facts)
            )


@dataclass(frozen=True)
class Gap:
    """Two rows of a gap as one; `to` is None while it is open."""

    key: Key
    channel: str
    cause: str
    since: int
    opened: int
    to: int | None
    evidence: str

    def holds(self, time: int, *, slack: int = 0) -> bool:
        return self.since - slack <= time and (self.to is None or time <= self.to)


def gaps_of(table: pa.Table) -> list[Gap]:
    """Gaps in the order in which they opened; each has to close at most once, by what it opened with."""
    found: dict[int, Gap] = {}
    for row in table.to_pylist():
        key = (row["venue"], row["native_symbol"])
        if row["phase"] == "opened":
            assert row["id"] not in found
            found[row["id"]] = Gap(
                key, row["channel"], row["cause"], row["from"], row["ts_recv"], None, row["evidence"]
            )
        else:
            gap = found[row["id"]]
            assert (gap.key, gap.channel, gap.since, gap.to) == (key, row["channel"], row["from"], None)
            assert row["to"] is not None
            found[row["id"]] = Gap(key, gap.channel, gap.cause, gap.since, gap.opened, row["to"], gap.evidence)
    return list(found.values())


@dataclass(frozen=True)
class Wrong:
    """A row that says what was not true."""

    key: Key
    kind: str
    ts_recv: int
    ts_event: int | None
    proof: str
    why: str


@dataclass
class Books:
    """What came of comparing the rows of one market's book."""

    snapshots: int = 0
    tops: int = 0
    beyond: int = 0
    """Rows whose best levels are beyond all that a snapshot has shown: nothing can be said of them."""
    wrong: list[Wrong] = field(default_factory=list)


def compare_books(
    key: Key,
    history: History,
    snapshots: Sequence[Row],
    tops: Iterable[Row],
    *,
    levels: int,
    late_ns: int = 0,
    clock_error: Callable[[int], set[int]] = lambda _: {0},
) -> Books:
    """Judges rows in which the book is said to be live.

    A snapshot is true if the book was so at some moment in the time before `ts_recv` that a venue takes to tell, and
    `late_ns`. A top is true if the best levels were so at `ts_event`; of feeds without one, the same as for snapshots.
    """
    books = Books()
    manner = history.manner
    late_ns += manner.late_ns

    def span(row: Row) -> tuple[int, int]:
        return bisect_right(history.at, row["ts_recv"] - late_ns), bisect_right(history.at, row["ts_recv"])

    def beyond(kind: str, row: Row) -> None:
        """Nothing can be said of best levels that no snapshot has shown, nor may the row claim to prove them."""
        books.beyond += 1
        if row["proof"] != "none":
            why = "its best levels are beyond all that a snapshot has shown"
            books.wrong.append(Wrong(key, kind, row["ts_recv"], row["ts_event"], row["proof"], why))

    waiting = deque((span(row), row) for row in snapshots)
    # Which states are worth having in full.
    needed = {number for (first, last), _ in waiting for number in range(first, last + 1)}
    touches: list[Touch] = []
    recent: dict[int, Top] = {}
    for number, top in enumerate(history.states(lambda number: levels if number in needed else 1)):
        touches.append(((top[0][0], top[1][0]), (top[2][0], top[3][0])))
        if number in needed:
            recent[number] = top
        while waiting and waiting[0][0][1] == number:
            (first, last), row = waiting.popleft()
            said = _cut(row, history.known(row["ts_recv"]))
            books.snapshots += 1
            if not (said[0] and said[2]):
                beyond("book_snapshots", row)
            if not any(_begins(recent[i], said) for i in range(last, first - 1, -1)):
                why = f"no such book in {last - first + 1} states"
                books.wrong.append(Wrong(key, "book_snapshots", row["ts_recv"], None, row["proof"], why))
            recent = {i: top for i, top in recent.items() if waiting and i >= waiting[0][0][0]}
    for row in tops:
        if row["ts_event"] is None:
            spans = [span(row)]
        else:
            stamps = [row["ts_event"] - error for error in clock_error(row["ts_recv"])]
            spans = [
                (
                    bisect_right(history.stamps, stamp - manner.early_ns - (manner.order is not None)),
                    bisect_right(history.stamps, stamp + _STAMP_NS - 1),
                )
                for stamp in stamps
            ]
        low, high = history.known(row["ts_recv"])
        said_touch = ((row["bid"], row["bid_size"]), (row["ask"], row["ask_size"]))
        known = (row["bid"] is not None and row["bid"] >= low, row["ask"] is not None and row["ask"] <= high)
        books.tops += 1
        if not all(known):
            beyond("tops", row)
        if not any(_touches(touches, said_touch, known, *span, apart=manner.order is not None) for span in spans):
            near = {i for i, touch in enumerate(touches) if touch == said_touch}
            why = f"{said_touch} is of {min(near, key=lambda i: abs(i - spans[0][0]), default=None)}, not of {spans}"
            books.wrong.append(Wrong(key, "tops", row["ts_recv"], row["ts_event"], row["proof"], why))
    return books


def _cut(row: Row, known: tuple[float, float]) -> Top:
    """What a snapshot says of prices of which every level is known."""
    bids = sum(price >= known[0] for price in row["bid_prices"])
    asks = sum(price <= known[1] for price in row["ask_prices"])
    return row["bid_prices"][:bids], row["bid_sizes"][:bids], row["ask_prices"][:asks], row["ask_sizes"][:asks]


def _begins(true: Top, said: Top) -> bool:
    return all(whole[: len(part)] == part for whole, part in zip(true, said, strict=True))


def _touches(
    touches: list[Touch], said: Touch, known: tuple[bool, bool], first: int, last: int, *, apart: bool
) -> bool:
    """Whether a touch was true in one of some states; with `apart`, each of its sides."""
    true = touches[first : last + 1]
    if apart:
        return all(not known[side] or any(touch[side] == said[side] for touch in true) for side in (0, 1))
    return any(all(not known[side] or touch[side] == said[side] for side in (0, 1)) for touch in true)


# Candles


def candles_of(
    trades: Iterable[Row], *, intervals: Iterable[int], until: int
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Candles that are closed by a time, made from trades alone: exact sums, printed as floats at the end."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for trade in trades:
        if trade["history"] or trade["ts_event"] is None:
            continue
        for interval in intervals:
            begin = trade["ts_event"] // interval * interval
            if begin + interval <= until:
                found[trade["venue"], trade["native_symbol"], interval, begin].append(trade)
    return {key: _candle(trades) for key, trades in found.items()}


def _candle(trades: list[Row]) -> tuple[Any, ...]:
    exact = [(Decimal(repr(t["price"])), Decimal(repr(t["size"])), t["side"], t["ts_event"]) for t in trades]
    prices = [price for price, _, _, _ in exact]
    opened = min(exact, key=lambda trade: trade[3])[0]
    closed = max(reversed(exact), key=lambda trade: trade[3])[0]
    volume = sum(size for _, size, _, _ in exact)
    notional = sum(price * size for price, size, _, _ in exact)
    bought = sum((size for _, size, side, _ in exact if side == "buy"), Decimal(0))
    sums = (opened, max(prices), min(prices), closed, volume, notional, bought)
    return (*map(float, sums), len(trades))


def stored_candles(table: pa.Table, *, until: int) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The last revision of each candle that came of trades; revisions have to count up from 0."""
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    revisions: Counter[tuple[Any, ...]] = Counter()
    for row in table.to_pylist():
        if row["source"] != "trades" or row["open_time"] + row["interval"] > until:
            continue
        key = (row["venue"], row["native_symbol"], row["interval"], row["open_time"])
        assert row["revision"] == revisions[key]
        revisions[key] += 1
        found[key] = tuple(row[n] for n in ("open", "high", "low", "close", "volume", "notional", "taker_buy", "count"))
    return found
