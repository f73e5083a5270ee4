"""Helpers that know nothing of the rest of COBY."""

from coby.utils.correlation import correlation, get_correlation_id, set_correlation_id
from coby.utils.logging import get_logger, setup_logging

__all__ = ["correlation", "get_correlation_id", "get_logger", "set_correlation_id", "setup_logging"]
