"""The five seams of the daemon: what it composes, and what anyone may replace.

An implementation derives from one of these classes and is handed to the daemon; nothing else has to change. Methods
that wait are coroutines; what computes is a plain method and returns soon. Calls come from one event loop, one at a
time for an object, unless a method says otherwise. What fails on purpose raises a class of `coby.utils.exceptions`.
"""

from coby.interfaces.aggregation import AggregationEngine
from coby.interfaces.connector import Channel, ConnectionCallback, DataCallback, ExchangeConnector, Frame
from coby.interfaces.cut import Cut, Part, Rows, SupportsArrow
from coby.interfaces.processor import DataProcessor
from coby.interfaces.replay import ReplayManager
from coby.interfaces.storage import StorageManager

__all__ = [
    "AggregationEngine",
    "Channel",
    "ConnectionCallback",
    "Cut",
    "DataCallback",
    "DataProcessor",
    "ExchangeConnector",
    "Frame",
    "Part",
    "ReplayManager",
    "Rows",
    "StorageManager",
    "SupportsArrow",
]
