"""Numbers between stores (floats whose shortest text is exact), integers with a scale, and JSON (texts)."""

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

from coby.api.errors import ScaleOverflowError
from coby.utils.validation import plain_decimal

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

_EXACT = float(2**53)
# Below it the errors of a float and of its product with a power of ten add up to less than a half.
_ROUNDS = float(2**51)
_INT64 = 2**63
_SCALES = 19


def text_of(number: float | None) -> str | None:
    """The shortest decimal text of a float, without an exponent; None for no number."""
    if number is None or math.isnan(number):
        return None
    text = repr(number)
    if "e" in text:
        return plain_decimal(Decimal(text))
    return text.removesuffix(".0")


def texts_of(numbers: Iterable[float]) -> list[str]:
    """The texts of numbers that are there."""
    return [text_of(number) or "0" for number in numbers]


def plain(text: str) -> str:
    """A decimal text without zeros that mean nothing."""
    if "." not in text:
        return text
    return text.rstrip("0").rstrip(".")


def mantissa_text(mantissa: int, scale: int) -> str:
    """The decimal `mantissa / 10**scale`, without zeros that mean nothing."""
    if scale == 0 or mantissa == 0:
        return str(mantissa)
    sign = "-" if mantissa < 0 else ""
    digits = str(abs(mantissa)).rjust(scale + 1, "0")
    whole, fraction = digits[:-scale], digits[-scale:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def scale_of(values: Floats, at_least: int = 0) -> tuple[int, bool]:
    """The least scale at which all values are integers, and whether they are exactly that.

    A value with more digits than a float can prove gives the greatest scale at which integers are still exact.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return at_least, True
    largest = float(np.abs(values).max())
    scale = at_least
    while scale < _SCALES:
        power = float(10**scale)
        if largest * power >= _EXACT:
            return (max(at_least, scale - 1) if scale > at_least else scale), False
        mantissas = np.rint(values * power)
        # Both sides of the division are exact, so it gives the float that is nearest to that decimal.
        if bool(np.all(mantissas / power == values)):
            return scale, True
        scale += 1
    return _SCALES - 1, False


def mantissas_of(values: Floats, scale: int) -> Integers:
    """The values as integers at a scale.

    Raises:
        ScaleOverflowError: One does not fit 64 bits.
    """
    scaled = np.rint(values * float(10**scale))
    large = np.abs(scaled) >= _ROUNDS
    if not large.any():
        return scaled.astype(np.int64)
    if float(np.abs(scaled).max()) >= _INT64:
        raise overflow(scale)
    mantissas = scaled.astype(np.int64)
    mantissas[large] = [_mantissa_of(value, scale) for value in values[large].tolist()]
    return mantissas


def _mantissa_of(value: float, scale: int) -> int:
    """The shortest decimal of a float as an integer at a scale, rounded to even where it has more digits."""
    return int(Decimal(repr(value)).scaleb(scale).to_integral_value(ROUND_HALF_EVEN))


def overflow(scale: int) -> ScaleOverflowError:
    """What is raised where 64 bits do not suffice."""
    return ScaleOverflowError(
        f"a value with {scale} decimals does not fit 64 bits; ask for a smaller bucket or a single venue",
        context={"scale": scale},
    )


def decimal_scale(number: Decimal) -> int:
    """Digits behind the point of a decimal's plain text."""
    return max(0, -int(Decimal(plain_decimal(number)).as_tuple().exponent))


def mantissa(number: Decimal, scale: int) -> int:
    """A decimal as an integer at a scale that holds it."""
    return int(number.scaleb(scale))


def sums_fit(parts: Sequence[Integers]) -> bool:
    """Whether adding these up stays within 64 bits."""
    return sum(float(np.abs(part).max()) if part.size else 0.0 for part in parts) < _INT64
