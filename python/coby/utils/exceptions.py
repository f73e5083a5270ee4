"""The exception tree: every error that COBY raises on purpose.

Each carries a `code` for programs (`tape.newer`), a message for people and a `context` for logs. The Rust core
raises the same classes; its error enums map to them one to one.
"""

from collections.abc import Mapping
from typing import ClassVar


class CobyError(Exception):
    """The root. Catch it to catch everything that COBY raises on purpose.

    Args:
        message: One line for a person: what happened to what, and where it helps, what to do.
        code: Dotted and stable; `default_code` of the class where none is given.
        context: Facts by name, for logs.
    """

    default_code: ClassVar[str] = "coby"

    def __init__(self, message: str, code: str | None = None, context: Mapping[str, object] | None = None) -> None:
        self.message = message
        self.code = code if code is not None else self.default_code
        self.context = dict(context or {})
        super().__init__(message, self.code, self.context)

    def __str__(self) -> str:
        return self.message


class ConfigError(CobyError):
    """A setting, option or argument has a value that cannot be used."""

    default_code = "config"


class VenueError(CobyError):
    """A venue: unknown, closed, or it sent what its protocol does not describe."""

    default_code = "venue"


class UnknownVenueError(VenueError, ConfigError):
    """No venue has this id."""

    default_code = "venue.unknown"


class NumberError(CobyError, ValueError):
    """A text is no decimal number, or no exact 64-bit mantissa can hold it."""

    default_code = "number"


class RecordingError(CobyError):
    """A recording cannot be read; `context` names `file` and `line` (from 1)."""

    default_code = "recording"


class TapeError(CobyError):
    """A tape cannot be read or written."""

    default_code = "tape"


class StoreError(CobyError):
    """A store cannot be read or written."""

    default_code = "store"


class StoreLockedError(StoreError):
    """Another process writes to this store."""

    default_code = "store.locked"


class EngineError(CobyError):
    """The engine failed; it has stopped, the process goes on."""

    default_code = "engine"
