"""Processing over the Rust core: taking over its rows without ever making it wait for Python."""

from coby.engine.drain import Drainable, drained

__all__ = ["Drainable", "drained"]
