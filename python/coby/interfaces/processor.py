"""What looks at the data and adds to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from coby.interfaces.cut import Cut, Rows
from coby.models import Anomaly, BookMetrics, OrderBookSnapshot, QualityReport, TradeEvent


class DataProcessor(ABC):
    """Normalises, validates, measures, and notices what is odd.

    The daemon calls `process` with every cut, before a store gets it; the rows that it returns are committed with that
    cut. The other methods do the same for one book or trade, for whoever asks. An implementation remembers what it
    needs to, and must not depend on clocks: after a crash it gets the cuts behind the watermark again, and a replay
    gives it all of them. Its rows are not part of what COBY promises to replay to the same bytes.
    """

    @abstractmethod
    def process(self, cut: Cut) -> Rows:
        """Rows to add to a cut: kinds `metrics`, `quality`, `anomalies`, or of its own; empty for none.

        Raises:
            ProcessingError: The cut goes on without its rows; the failure is counted and logged.
        """

    @abstractmethod
    def normalize_orderbook(self, raw: Mapping[str, Any], exchange: str) -> OrderBookSnapshot:
        """A book from a frame in COBY's own form.

        Raises:
            ProcessingError: It is no book.
        """

    @abstractmethod
    def normalize_trade(self, raw: Mapping[str, Any], exchange: str) -> TradeEvent:
        """A trade from a frame in COBY's own form.

        Raises:
            ProcessingError: It is no trade.
        """

    @abstractmethod
    def validate_data(self, data: OrderBookSnapshot | TradeEvent) -> QualityReport:
        """What is wrong with it, if anything."""

    @abstractmethod
    def calculate_metrics(self, book: OrderBookSnapshot) -> BookMetrics:
        """Its figures."""

    @abstractmethod
    def detect_anomalies(self, data: OrderBookSnapshot | TradeEvent) -> Sequence[Anomaly]:
        """What is unusual, compared with what this object was given before."""
