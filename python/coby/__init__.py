"""COBY, Cryptocurrency Order Book Yielder: exact order books, trades and heatmaps, stored and replayed exactly."""

from importlib.metadata import version

from coby._core import OrderBook
from coby.decoding import decode

__version__ = version("coby")

__all__ = ["OrderBook", "__version__", "decode"]
