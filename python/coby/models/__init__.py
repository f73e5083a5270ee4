"""Views at the edge: what rows, books and states look like to a Python program.

Each is a frozen pydantic model, takes its fields in order or by name, checks them (`pydantic.ValidationError`, which is
a `ValueError`), and becomes JSON with `model_dump_json(by_alias=True)`. Prices and sizes are floats here; exact decimal
texts are what `coby.decode` and the HTTP API carry. `exchange` and `venue` are two names of one field.
"""

from coby.models.base import BookSide, BookState, MarketModel, Model, Nanoseconds, Proof, TradeSide
from coby.models.book import OrderBookSnapshot, PriceLevel
from coby.models.buckets import PriceBucket, PriceBuckets
from coby.models.candle import Candle
from coby.models.gap import Gap, GapCause
from coby.models.heatmap import HeatmapData, HeatmapPoint
from coby.models.quality import Anomaly, BookMetrics, QualityIssue, QualityReport, Severity
from coby.models.session import ReplaySession, ReplayState
from coby.models.status import ConnectionState, ConnectionStatus
from coby.models.trade import TradeEvent

__all__ = [
    "Anomaly",
    "BookMetrics",
    "BookSide",
    "BookState",
    "Candle",
    "ConnectionState",
    "ConnectionStatus",
    "Gap",
    "GapCause",
    "HeatmapData",
    "HeatmapPoint",
    "MarketModel",
    "Model",
    "Nanoseconds",
    "OrderBookSnapshot",
    "PriceBucket",
    "PriceBuckets",
    "PriceLevel",
    "Proof",
    "QualityIssue",
    "QualityReport",
    "ReplaySession",
    "ReplayState",
    "Severity",
    "TradeEvent",
    "TradeSide",
]
