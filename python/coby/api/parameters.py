"""Parameters that routes share, and what is said about wrong ones."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from coby.api.errors import ApiError, BadParameterError
from coby.utils.exceptions import SessionNotFoundError
from coby.utils.redaction import printable
from coby.utils.timing import SECOND_NS, parse_time
from coby.utils.validation import nearest, plain_decimal, positive_decimal

_TIME = "nanoseconds since 1970, or RFC 3339"
From = Annotated[str | None, Query(alias="from", description=f"First moment, inclusive: {_TIME}")]
To = Annotated[str | None, Query(alias="to", description=f"Last moment, exclusive: {_TIME}")]
At = Annotated[str | None, Query(description=f"A moment in the past, from what is stored: {_TIME}")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the answer before")]
Limit = Annotated[int, Query(ge=1, le=5000, description="Items of a page, at most")]
BucketSize = Annotated[str | None, Query(description="Bucket size, a decimal number; by default the configured one")]

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
_UNITS = {"ms": 10**6, "s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3600 * SECOND_NS, "d": 86_400 * SECOND_NS}


def _live_session(session: Annotated[str, Query(description="`live`")] = "live") -> None:
    if session != "live":
        raise SessionNotFoundError(
            f'there is no session "{printable(session)}"; there is live',
            context={"session": printable(session), "allowed": ["live"]},
        )


def _known_parameters(request: Request) -> None:
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return
    known = sorted(_names(dependant))
    for name in request.query_params:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            allowed = ", ".join(known) or "no parameter"
            raise BadParameterError(
                f'"{printable(name)}" is no parameter of this resource, which takes {allowed}{hint}',
                context={"parameter": printable(name), "allowed": known},
            )


def _names(dependant: Dependant) -> set[str]:
    return {field.alias for field in dependant.query_params}.union(*map(_names, dependant.dependencies))


COMMON: Sequence[Any] = (Depends(_known_parameters),)
"""Dependencies of every route."""
MARKET: Sequence[Any] = (*COMMON, Depends(_live_session))
"""Dependencies of routes about markets."""


def moment(text: str | None, name: str) -> int | None:
    """A time in nanoseconds; None where none is given."""
    return None if text is None else parse_time(text, name)


def moments(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """The half-open range of `from` and `to`, either of which may be missing.

    Raises:
        InvalidValueError: One is no time.
        BadParameterError: The range is empty.
    """
    first, last = moment(start, "from"), moment(end, "to")
    if first is not None and last is not None and first >= last:
        raise BadParameterError(
            f'to is "{printable(end)}": it must be after from, which is "{printable(start)}"',
            context={"to": printable(end), "allowed": f"a time after {printable(start)}"},
        )
    return first, last


def bucket_size(text: str | None) -> Decimal | None:
    """A bucket size without zeros that mean nothing.

    Raises:
        InvalidValueError: It is no decimal number above 0.
    """
    return None if text is None else Decimal(plain_decimal(positive_decimal(text, "bucket")))


def duration(text: str, name: str, allowed: str) -> int:
    """A length of time such as `500ms`, `1m` or `1d`, or nanoseconds; in nanoseconds.

    Raises:
        BadParameterError: It is none.
    """
    stripped = text.strip()
    match = _DURATION.fullmatch(stripped)
    if match:
        return int(match[1]) * _UNITS[match[2]]
    if re.fullmatch(r"\d{1,18}", stripped, re.ASCII):
        return int(stripped)
    raise wrong(name, text, allowed)


def wrong(name: str, value: object, allowed: str, *, kind: type[ApiError] = BadParameterError) -> ApiError:
    """What is raised about a value that cannot be used."""
    return kind(
        f'{name} is "{printable(value)}": it must be {allowed}',
        context={name: printable(value), "allowed": allowed},
    )


def refused(error: RequestValidationError) -> ApiError:
    """The first wrong parameter that the framework found, as an error of ours."""
    found = error.errors()[0]
    place = found["loc"]
    return wrong(str(place[-1]), found.get("input"), _allowed(found["type"], found.get("ctx") or {}))


def _allowed(kind: str, facts: dict[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"{facts['ge']} or more"
        case "less_than_equal":
            return f"{facts['le']} or less"
        case "int_parsing" | "int_from_float" | "int_type":
            return "a whole number"
        case "literal_error" | "enum":
            return str(facts["expected"]).replace("'", "")
        case "missing":
            return "given"
        case _:
            return kind.replace("_", " ")
