"""Processing over the Rust core: taking over its rows without ever making it wait for Python."""

from coby.engine.drain import Drainable, drained
from coby.engine.feeder import Feeder

__all__ = ["Drainable", "Feeder", "drained"]
