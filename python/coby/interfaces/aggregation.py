"""What sums books up."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from coby.interfaces.cut import Cut, Rows
from coby.models import HeatmapData, OrderBookSnapshot, PriceBuckets


class AggregationEngine(ABC):
    """Buckets, heatmaps, consolidation and imbalance, beside those that the core makes of every book.

    As a `DataProcessor` it gets every cut and may add rows to it; its other methods answer for one book.
    """

    @abstractmethod
    def process(self, cut: Cut) -> Rows:
        """Rows to add to a cut, of kinds of its own; empty for none.

        Raises:
            ProcessingError: The cut goes on without its rows; the failure is counted and logged.
        """

    @abstractmethod
    def create_price_buckets(self, book: OrderBookSnapshot, bucket_size: float) -> PriceBuckets:
        """The book in buckets: bids rounded down, asks up. The sums over buckets are the sums over levels.

        Args:
            book: Any.
            bucket_size: In quote units, above 0.
        """

    @abstractmethod
    def create_heatmap(self, book: OrderBookSnapshot, bucket_size: float, depth: int) -> HeatmapData | None:
        """The column of a heatmap: `depth` buckets a side around the mid price; None without one."""

    @abstractmethod
    def consolidate(self, books: Sequence[OrderBookSnapshot]) -> OrderBookSnapshot:
        """Books of one symbol at several exchanges as one, of the exchange `all`; those that are not live are left out.

        Raises:
            ProcessingError: They are of different symbols, or none is live.
        """

    @abstractmethod
    def venue_shares(self, books: Sequence[OrderBookSnapshot], bucket_size: float) -> Mapping[str, PriceBuckets]:
        """What each live exchange has in the buckets of the consolidated book, by exchange."""

    @abstractmethod
    def calculate_imbalance(self, book: OrderBookSnapshot, levels: int | None = None) -> float | None:
        """`(bids - asks) / (bids + asks)` of the best `levels` a side, or of all: -1 to 1; None for an empty book."""
