"""Keeps secrets, and what would spoil a line, out of what people and files get to see."""

import re
import threading
from collections.abc import Iterable

MASK = "***"

_NAME = r"pass(?:word|wd|phrase)|secret|token|api[_-]?key|private[_-]?key|signature|authorization|cookie|credentials?"
_SECRET_NAME = re.compile(rf"(?:^|[_\-.]|\b)(?:{_NAME})(?:$|[_\-.]|\b)|password|secret|apikey", re.IGNORECASE)
_USER_INFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^\s/?#@]*:?[^\s/?#]*@", re.IGNORECASE)
_PAIR = re.compile(
    rf"""(?P<name>\b[\w\-]*(?:{_NAME})[\w\-]*["']?\s*[=:]\s*)(?:(?:Bearer|Basic)\s+)?(?P<value>"[^"]*"|'[^']*'|[^\s,;&"')}}\]]+)""",
    re.IGNORECASE,
)
_SHORTEST = 4
_LONGEST = 200

_lock = threading.Lock()
_secrets: tuple[str, ...] = ()


def register_secrets(secrets: Iterable[str]) -> None:
    """From now on `redact` masks these texts wherever they stand; texts of under four characters are too common."""
    global _secrets  # noqa: PLW0603  # one list a process: logging must know every secret
    with _lock:
        known = {*_secrets, *(secret for secret in secrets if len(secret) >= _SHORTEST)}
        # The longest first: one secret may be a part of another.
        _secrets = tuple(sorted(known, key=lambda secret: (-len(secret), secret)))


def is_secret_name(name: str) -> bool:
    """Whether a setting, field or header of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def redact(text: str) -> str:
    """`text` without registered secrets, users and passwords in URLs, and values named like secrets."""
    for secret in _secrets:
        text = text.replace(secret, MASK)
    text = _USER_INFO.sub(rf"\g<scheme>{MASK}@", text)
    return _PAIR.sub(rf"\g<name>{MASK}", text)


def redact_value(name: str, value: object) -> object:
    """A named fact, ready for JSON: secrets masked, texts redacted, what JSON does not know as text."""
    if is_secret_name(name) and value is not None:
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): redact_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(name, inner) for inner in value]
    return redact(str(value))


def printable(value: object) -> str:
    """What a stranger sent, fit for one line of a message: what cannot be printed is `?`, what is too long is cut."""
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
