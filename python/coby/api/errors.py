"""What requests are refused with: a closed list of codes, one class for each."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from coby.utils.exceptions import CobyError

Code = Literal[
    "bad_parameter",
    "unknown_symbol",
    "unknown_venue",
    "ambiguous_symbol",
    "bucket_too_small",
    "scale_overflow",
    "range_too_large",
    "no_data",
    "not_live",
    "cursor_mismatch",
    "cursor_expired",
    "unauthenticated",
    "forbidden",
    "origin_not_allowed",
    "session_not_found",
    "session_limit",
    "rate_limited",
    "overloaded",
    "store_unavailable",
    "internal",
]
CODES: tuple[str, ...] = get_args(Code)
"""Every code that an answer may have; clients may rely on it."""

PROBLEM = "application/problem+json"
_RETRY_SECONDS: Mapping[str, int] = {"store_unavailable": 5, "overloaded": 1, "rate_limited": 1}


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: str
    """`urn:coby:error:` and the code."""
    title: str
    """For people: what kind of problem."""
    status: int
    """HTTP status."""
    detail: str
    """For people: what happened to what, and what is allowed."""
    code: Code
    """For programs."""
    message: str
    """The same as `detail`."""
    context: dict[str, Any]
    """Offending names and values, and what is allowed."""
    correlation_id: str | None
    """Also in the header `X-Correlation-ID`, and in the logs."""


class ApiError(CobyError):
    """A request that cannot be answered."""


class BadParameterError(ApiError):
    """A request that does not make sense."""

    http_status = 400
    api_code = "bad_parameter"


class NotFoundError(ApiError):
    """There is no such resource."""

    http_status = 404
    api_code = "bad_parameter"


class MethodNotAllowedError(ApiError):
    """The resource can only be read."""

    http_status = 405
    api_code = "bad_parameter"


class NoDataError(ApiError):
    """Nothing is known about what was asked for."""

    http_status = 404
    api_code = "no_data"


class NotLiveError(ApiError):
    """There is no book of it now."""

    http_status = 409
    api_code = "not_live"


class BucketTooSmallError(ApiError):
    """A bucket size that is finer than what is kept."""

    http_status = 400
    api_code = "bucket_too_small"


class ScaleOverflowError(ApiError):
    """A sum that no exact 64-bit number holds."""

    http_status = 422
    api_code = "scale_overflow"


class RangeTooLargeError(ApiError):
    """More than one answer may hold."""

    http_status = 400
    api_code = "range_too_large"


class CursorMismatchError(ApiError):
    """A cursor of another question."""

    http_status = 400
    api_code = "cursor_mismatch"


class CursorExpiredError(ApiError):
    """The rows that a cursor points to are gone."""

    http_status = 410
    api_code = "cursor_expired"


class ForbiddenError(ApiError):
    """Not allowed."""

    http_status = 403
    api_code = "forbidden"


class RateLimitedError(ApiError):
    """Too many requests."""

    http_status = 429
    api_code = "rate_limited"


class OverloadedError(ApiError):
    """The process is too busy."""

    http_status = 503
    api_code = "overloaded"


def retry_after(error: CobyError) -> int | None:
    """Seconds after which asking again may succeed; None where it will not by waiting."""
    wanted = error.context.get("retry_after")
    if isinstance(wanted, int):
        return wanted
    return _RETRY_SECONDS.get(error.api_code) if error.http_status in {429, 503} else None
