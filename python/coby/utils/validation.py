"""Checks of what comes from outside. Each error names the value, and what is allowed."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal

from coby.utils.exceptions import (
    AmbiguousSymbolError,
    CobyError,
    InvalidValueError,
    UnknownSymbolError,
    UnknownVenueError,
)
from coby.utils.redaction import printable
from coby.utils.timing import parse_time

DOLLARS = ("USDT", "USDC", "USD")
"""What a bare base asset is quoted in, the first choice first."""

_DECIMAL = re.compile(r"\d{1,40}(\.\d{1,40})?|\.\d{1,40}", re.ASCII)
_SEPARATORS = re.compile(r"[-_/: ]+")
_MANTISSA = 2**63
_SCALE = 18


def whole_number(text: str | int, name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`.

    Raises:
        InvalidValueError: It is none.
    """
    digits = str(text).strip()
    if re.fullmatch(r"[+-]?\d{1,20}", digits, re.ASCII) and low <= int(digits) <= high:
        return int(digits)
    raise _wrong(name, text, f"a whole number from {low} to {high}")


def positive_decimal(text: str, name: str) -> Decimal:
    """A decimal number above 0 that the core can hold: 18 digits behind the point, 64 bits in all.

    Raises:
        InvalidValueError: It is none.
    """
    digits = str(text).strip()
    if _DECIMAL.fullmatch(digits):
        number = Decimal(plain_decimal(Decimal(digits)))
        scale = -int(number.as_tuple().exponent)
        if number > 0 and scale <= _SCALE and number * 10**scale < _MANTISSA:
            return number
    raise _wrong(name, text, "a decimal number above 0, like 10 or 0.5")


def plain_decimal(number: Decimal) -> str:
    """A decimal as the API writes it: no exponent, no zeros that mean nothing."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_range(start: str | int, end: str | int) -> tuple[int, int]:
    """The half-open range `[start, end)` in nanoseconds.

    Raises:
        InvalidValueError: One is no time, or the start is not before the end.
    """
    first, last = parse_time(start, "from"), parse_time(end, "to")
    if first >= last:
        raise _wrong("to", end, f"a time after {start}")
    return first, last


def one_of(value: str, name: str, known: Collection[str]) -> str:
    """`value`, which must be one of `known`.

    Raises:
        InvalidValueError: It is not; the message names the nearest matches.
    """
    if value in known:
        return value
    raise _wrong(name, value, f"one of {', '.join(known)}", nearest(value, known))


def known_venue(value: str, known: Collection[str], name: str = "venue") -> str:
    """A venue's id, in any case.

    Raises:
        UnknownVenueError: There is no such venue; the message names the nearest matches.
    """
    lowered = value.strip().lower()
    if lowered in known:
        return lowered
    near = nearest(lowered, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
    raise UnknownVenueError(
        f'{name} is "{printable(value)}", which is no venue; {hint}',
        context={"venue": printable(value), "nearest": near},
    )


def symbol_key(text: str) -> str:
    """What all spellings of a symbol have in common: `BTC-USDT`, `btc_usdt`, `BTC/USDT` and `BTCUSDT` are one."""
    return _SEPARATORS.sub("", text.strip()).upper()


def known_symbol(value: str, known: Iterable[str], name: str = "symbol") -> str:
    """The canonical symbol that is meant, of those `known`; a bare base asset means its first spot pair in dollars.

    Raises:
        UnknownSymbolError: There is no such symbol; the message names the nearest matches.
        AmbiguousSymbolError: It may be several: `ABCD` may be `A-BCD` or `AB-CD`.
    """
    symbols = list(dict.fromkeys(known))
    if value in symbols:
        return value
    key = symbol_key(value)
    found = [symbol for symbol in symbols if symbol_key(symbol) == key]
    if not found:
        found = [pair for pair in (f"{key}-{quote}" for quote in DOLLARS) if pair in symbols][:1]
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousSymbolError(
            f'{name} is "{printable(value)}", which may be {" or ".join(found)}',
            context={"symbol": printable(value), "allowed": found},
        )
    near = nearest(key, symbols, symbol_key)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{len(symbols)} symbols are known"
    raise UnknownSymbolError(
        f'{name} is "{printable(value)}", which is not known; {hint}',
        context={"symbol": printable(value), "nearest": near},
    )


def nearest(value: str, known: Iterable[str], spell: Callable[[str], str] = str) -> list[str]:
    """Up to three of `known` that are spelled like `value`, the nearest first; `spell` gives what is compared."""
    spelled: dict[str, str] = {}
    for name in known:
        spelled.setdefault(spell(name), name)
    return [spelled[match] for match in difflib.get_close_matches(spell(value), spelled, 3, 0.6)]


def _wrong(name: str, value: object, allowed: str, near: list[str] | None = None) -> CobyError:
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return InvalidValueError(
        f'{name} is "{printable(value)}": it must be {allowed}{hint}',
        context={name: printable(value), "allowed": allowed},
    )
