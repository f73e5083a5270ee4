"""The truth log: true books, every trade and every fault, as JSON lines.

Each line has `kind` and `t` (simulated time, nanoseconds since 1970):

- `start`: `seed`, and of each venue the markets: `symbol`, `canonical`.
- `book`: `venue symbol sequence bids asks`, all levels (or the best `depth`) as the venue prints them, best first. At
  that time nothing is half-done: books do not change within a millisecond after a multiple of 50 ms.
- `trade`: `venue symbol price size side number first_id last_id`; `side` is the taker's.
- `fault`: `venue symbol fault channel` and what else there is to say of it.
"""

from collections.abc import Iterator
from typing import Any, TextIO

from coby.simulator.exchange import SECOND, Exchange, Venue, compact
from coby.simulator.market import Market, Update


class Truth:
    """Writes what is true of an exchange.

    Args:
        exchange: Watched from now on.
        out: Where the lines go; None keeps nothing.
        every_s: Seconds between pictures of all books; 0 for none.
        depth: How many levels of them; None for all.
    """

    def __init__(self, exchange: Exchange, out: TextIO | None, every_s: float = 5.0, depth: int | None = None) -> None:
        self._exchange = exchange
        self._out = out
        self._depth = depth
        if out is None:
            return
        venues = {
            venue.name: [
                {"symbol": m.instrument.symbol, "canonical": m.instrument.canonical} for m in venue.markets.values()
            ]
            for venue in exchange.venues.values()
        }
        self.log({"kind": "start", "t": exchange.clock.now_ns, "seed": exchange.seed, "venues": venues})
        exchange.observers.append(self._trades)
        if every_s:
            exchange.clock.every(round(every_s * SECOND), self._books)

    def log(self, entry: dict[str, Any]) -> None:
        """Writes a line."""
        if self._out is not None:
            self._out.write(compact(entry) + "\n")

    def _trades(self, venue: Venue, market: Market, update: Update) -> None:
        instrument = market.instrument
        for fill in update.fills:
            self.log(
                {
                    "kind": "trade",
                    "t": fill.time_ns,
                    "venue": venue.name,
                    "symbol": instrument.symbol,
                    "price": instrument.price(fill.ticks),
                    "size": instrument.size(fill.lots),
                    "side": "sell" if fill.taker_sells else "buy",
                    "number": fill.number,
                    "first_id": fill.first_id,
                    "last_id": fill.last_id,
                }
            )

    def _books(self) -> None:
        for entry in books(self._exchange, self._depth):
            self.log(entry)


def books(
    exchange: Exchange, depth: int | None = None, venue_name: str | None = None, symbol: str | None = None
) -> Iterator[dict[str, Any]]:
    """The true books as they are now, of all venues and symbols or of one."""
    for venue in exchange.venues.values():
        for market in venue.markets.values():
            instrument = market.instrument
            if venue_name not in (None, venue.name) or symbol not in (None, instrument.symbol, instrument.canonical):
                continue
            yield {
                "kind": "book",
                "t": exchange.clock.now_ns,
                "venue": venue.name,
                "symbol": instrument.symbol,
                "sequence": market.sequence,
                "bids": [instrument.level(*pair) for pair in market.bids.top(depth)],
                "asks": [instrument.level(*pair) for pair in market.asks.top(depth)],
            }
