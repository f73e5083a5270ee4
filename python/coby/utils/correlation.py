"""Correlation ids: what belongs to one request or session carries one id, through every task that it starts."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("coby_correlation_id", default=None)
_LONGEST = 128


def set_correlation_id(correlation_id: str | None = None) -> str:
    """Sets the id for what this task does from now on, and returns it; without one, a new one is made.

    What a stranger sent is cut to 128 characters, and what is not printable becomes `?`: it will stand in logs.
    """
    chosen = correlation_id or secrets.token_hex(8)
    chosen = "".join(char if char.isprintable() else "?" for char in chosen[:_LONGEST])
    _current.set(chosen)
    return chosen


def get_correlation_id() -> str | None:
    """The id of this task; None where none was set."""
    return _current.get()


@contextmanager
def correlation(correlation_id: str | None = None) -> Iterator[str]:
    """Sets the id inside a `with` block; the one before comes back at its end."""
    token = _current.set(None)
    try:
        yield set_correlation_id(correlation_id)
    finally:
        _current.reset(token)
