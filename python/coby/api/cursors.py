"""Opaque cursors: where a page ended, and the question that it belongs to."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence

from coby.api.errors import BadParameterError, CursorMismatchError
from coby.utils.redaction import printable

_LONGEST = 512


def encode(key: Sequence[int] | Sequence[str], filters: Mapping[str, object]) -> str:
    """A cursor that continues behind the row with this key."""
    text = json.dumps([list(key), _digest(filters)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, filters: Mapping[str, object], *types: type) -> tuple[object, ...]:
    """The key of a cursor of the same question, its parts of these types.

    Raises:
        CursorMismatchError: It belongs to other filters.
        BadParameterError: It is no cursor.
    """
    read = _read(cursor)
    if read is None:
        raise BadParameterError(
            f'cursor is "{printable(cursor)}": it must be the next_cursor of an answer',
            context={"cursor": printable(cursor), "allowed": "the next_cursor of an answer"},
        )
    key, digest = read
    if digest != _digest(filters):
        raise CursorMismatchError(
            "the cursor belongs to a request with other parameters; ask again without it",
            context={"parameters": sorted(filters)},
        )
    if len(key) != len(types) or not all(
        isinstance(part, kind) and not isinstance(part, bool) for part, kind in zip(key, types, strict=True)
    ):
        raise BadParameterError(
            "cursor is of another version; ask again without it", context={"cursor": printable(cursor)}
        )
    return tuple(key)


def _read(cursor: str) -> tuple[list[object], str] | None:
    """Key and digest of a cursor; None if it is none."""
    if len(cursor) > _LONGEST:
        return None
    try:
        read = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except ValueError:
        return None
    match read:
        case [list(key), str(digest)]:
            return key, digest
    return None


def _digest(filters: Mapping[str, object]) -> str:
    text = json.dumps(sorted(filters.items()), default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
