"""The usual aggregation: buckets, heatmap columns and consolidated books of single books, exact in decimals.

Rows of buckets and heatmaps are made by the core for every book; this answers for a book that someone has in hand, by
the same rules: bids round down, asks up, and sums over buckets are the sums over levels.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal, localcontext

from coby.interfaces import AggregationEngine, Cut, Rows
from coby.models import HeatmapData, OrderBookSnapshot, PriceBuckets, PriceLevel
from coby.utils.exceptions import ProcessingError

_EXACT = Context(prec=800)
"""Digits that hold any sum or product of the shortest decimals of floats."""
_HEAD = ("symbol", "timestamp", "native_symbol", "ts_event", "ts_recv", "proof", "rounded", "pos")


class Aggregation(AggregationEngine):
    """The usual aggregation; it adds no rows."""

    def process(self, cut: Cut) -> Rows:
        """As the interface says: none, the core's cuts have them already."""
        return {}

    def create_price_buckets(self, book: OrderBookSnapshot, bucket_size: float) -> PriceBuckets:
        """As the interface says.

        Raises:
            ProcessingError: The bucket size is not above 0.
        """
        sides = {side: _buckets(levels, bucket_size, side) for side, levels in _sides(book)}
        about = {name: getattr(book, name) for name in (*_HEAD, "exchange")}
        return PriceBuckets.model_validate(
            about
            | {"bucket_size": bucket_size}
            | {
                side: [
                    {"index": index, "quantity": float(quantity), "notional": float(notional), "levels": count}
                    for index, (quantity, notional, count) in buckets.items()
                ]
                for side, buckets in sides.items()
            }
        )

    def create_heatmap(self, book: OrderBookSnapshot, bucket_size: float, depth: int) -> HeatmapData | None:
        """As the interface says.

        Raises:
            ProcessingError: The bucket size is not above 0.
        """
        if not book.bids or not book.asks:
            return None
        bids = _buckets(book.bids, bucket_size, "bids")
        asks = _buckets(book.asks, bucket_size, "asks")
        with localcontext(_EXACT):
            # Half of the sum, without halving: floor((bid + ask) / (2 size)).
            mid_index = int((_exact(book.bids[0].price) + _exact(book.asks[0].price)) // (2 * _exact(bucket_size)))

        def row(buckets: Mapping[int, tuple[Decimal, Decimal, int]], indices: Iterable[int]) -> tuple[float, ...]:
            return tuple(float(buckets[index][0]) if index in buckets else 0.0 for index in indices)

        about = {name: getattr(book, name) for name in (*_HEAD, "exchange")}
        return HeatmapData.model_validate(
            about
            | {
                "bucket_size": bucket_size,
                "mid_index": mid_index,
                "bid_quantity": row(bids, range(mid_index, mid_index - depth, -1)),
                "ask_quantity": row(asks, range(mid_index + 1, mid_index + 1 + depth)),
            }
        )

    def consolidate(self, books: Sequence[OrderBookSnapshot]) -> OrderBookSnapshot:
        """As the interface says; its time is that of the newest book."""
        live = [book for book in books if book.state != "gap"]
        symbols = sorted({book.symbol for book in books})
        if not live or len(symbols) != 1:
            what = "none of them is live" if not live else f"they are of {', '.join(symbols)}"
            raise ProcessingError(f"{len(books)} books cannot be consolidated: {what}", context={"symbols": symbols})
        sides: dict[str, list[tuple[float, float]]] = {}
        with localcontext(_EXACT):
            for side in ("bids", "asks"):
                sizes: defaultdict[float, Decimal] = defaultdict(Decimal)
                for book in live:
                    for level in getattr(book, side):
                        sizes[level.price] += _exact(level.size)
                sides[side] = [(price, float(size)) for price, size in sizes.items()]
        newest = max(live, key=lambda book: book.timestamp_ns)
        crossed = all(sides.values()) and max(sides["bids"])[0] >= min(sides["asks"])[0]
        return OrderBookSnapshot.model_validate(
            {"symbol": symbols[0], "exchange": "all", "timestamp": newest.timestamp}
            | {"ts_event": newest.ts_event, "ts_recv": newest.ts_recv}
            | {"rounded": any(book.rounded for book in live), "state": "crossed" if crossed else "live"}
            | sides
        )

    def venue_shares(self, books: Sequence[OrderBookSnapshot], bucket_size: float) -> Mapping[str, PriceBuckets]:
        """As the interface says."""
        return {book.exchange: self.create_price_buckets(book, bucket_size) for book in books if book.state != "gap"}

    def calculate_imbalance(self, book: OrderBookSnapshot, levels: int | None = None) -> float | None:
        """As the interface says."""
        return book.imbalance if levels is None else book.imbalance_of(levels)


def _sides(book: OrderBookSnapshot) -> tuple[tuple[str, Sequence[PriceLevel]], ...]:
    return ("bids", book.bids), ("asks", book.asks)


def _exact(number: float) -> Decimal:
    """The decimal that a venue sent, as far as a float carries it: its shortest one."""
    return Decimal(repr(float(number)))


def _buckets(levels: Iterable[PriceLevel], bucket_size: float, side: str) -> dict[int, tuple[Decimal, Decimal, int]]:
    """Quantity, notional and level count by index."""
    if not 0 < bucket_size < float("inf"):
        raise ProcessingError(f"bucket size is {bucket_size}: it must be above 0")
    with localcontext(_EXACT):
        size = _exact(bucket_size)
        buckets: dict[int, tuple[Decimal, Decimal, int]] = {}
        for level in levels:
            price, quantity = _exact(level.price), _exact(level.size)
            whole, rest = divmod(price, size)
            index = int(whole) + (1 if rest and side == "asks" else 0)
            held, notional, count = buckets.get(index, (Decimal(0), Decimal(0), 0))
            buckets[index] = (held + quantity, notional + price * quantity, count + 1)
        return buckets
