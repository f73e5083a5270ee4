"""The exception tree: every error that COBY raises on purpose.

Each carries a `code` for programs (`tape.newer`), a message for people and a `context` for logs. The Rust core
raises the same classes; its error enums map to them one to one. `to_dict` and `to_problem` make structured responses of
them: the same facts for every log, client and page.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

from coby.utils.correlation import get_correlation_id
from coby.utils.redaction import redact, redact_value


class CobyError(Exception):
    """The root. Catch it to catch everything that COBY raises on purpose.

    Args:
        message: One line for a person: what happened to what, and where it helps, what to do.
        code: Dotted and stable; `default_code` of the class where none is given.
        context: Facts by name, for logs.
    """

    default_code: ClassVar[str] = "coby"
    http_status: ClassVar[int] = 500
    """What the HTTP API answers with."""
    api_code: ClassVar[str] = "internal"
    """The code that the HTTP API tells; its list is closed."""

    def __init__(self, message: str, code: str | None = None, context: Mapping[str, object] | None = None) -> None:
        self.message = message
        self.code = code if code is not None else self.default_code
        self.context = dict(context or {})
        super().__init__(message, self.code, self.context)

    def __str__(self) -> str:
        return self.message

    def to_dict(self, correlation_id: str | None = None) -> dict[str, object]:
        """`code message context correlation_id`, ready for JSON and without secrets.

        Args:
            correlation_id: By default that of the task.
        """
        return {
            "code": self.code,
            "message": redact(self.message),
            "context": redact_value("context", self.context),
            "correlation_id": correlation_id or get_correlation_id(),
        }

    def to_problem(self, correlation_id: str | None = None) -> dict[str, object]:
        """The body of an HTTP answer with `http_status`: `application/problem+json` (RFC 9457) with these extensions.

        Args:
            correlation_id: By default that of the task.
        """
        told = self.to_dict(correlation_id)
        return {
            "type": f"urn:coby:error:{self.api_code}",
            "title": _title(type(self)),
            "status": self.http_status,
            "detail": told["message"],
            **told,
            "code": self.api_code,
        }


def _title(kind: type[CobyError]) -> str:
    """`UnknownVenueError` as words for people: `Unknown venue`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__.removesuffix("Error"))
    return words.capitalize() if words != "Coby" else "Internal error"


class ConfigError(CobyError):
    """A setting, option or argument has a value that cannot be used."""

    default_code = "config"
    http_status = 400
    api_code = "bad_parameter"


class InvalidValueError(CobyError, ValueError):
    """A value from outside, such as a parameter of a request, cannot be used."""

    default_code = "value"
    http_status = 400
    api_code = "bad_parameter"


class VenueError(CobyError):
    """A venue: unknown, closed, or it sent what its protocol does not describe."""

    default_code = "venue"


class UnknownVenueError(VenueError, ConfigError):
    """No venue has this id."""

    default_code = "venue.unknown"
    http_status = 404
    api_code = "unknown_venue"


class ConnectorError(VenueError):
    """A venue cannot be reached, refuses, or a connector to it failed."""

    default_code = "venue.connector"


class UnknownSymbolError(CobyError):
    """No instrument has this symbol."""

    default_code = "symbol.unknown"
    http_status = 404
    api_code = "unknown_symbol"


class AmbiguousSymbolError(UnknownSymbolError):
    """A symbol may be several instruments."""

    default_code = "symbol.ambiguous"
    http_status = 400
    api_code = "ambiguous_symbol"


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
    http_status = 503
    api_code = "store_unavailable"


class StoreLockedError(StoreError):
    """Another process writes to this store."""

    default_code = "store.locked"


class EngineError(CobyError):
    """The engine failed; it has stopped, the process goes on."""

    default_code = "engine"


class ProcessingError(CobyError):
    """A data processor or an aggregation failed on a cut; the cut goes on without its rows."""

    default_code = "processing"


class ReplayError(CobyError):
    """A replay cannot be made, or it failed."""

    default_code = "replay"
    http_status = 400
    api_code = "bad_parameter"


class SessionNotFoundError(ReplayError):
    """There is no such replay session, or it has ended."""

    default_code = "replay.session"
    http_status = 404
    api_code = "session_not_found"
