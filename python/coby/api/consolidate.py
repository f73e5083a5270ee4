"""Several venues' books of one symbol as one, exactly: each level knows whose it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from coby.api.numbers import plain
from coby.utils.validation import plain_decimal

# Wide enough that no sum or product of 64-bit mantissas is rounded.
_WIDE = Context(prec=100)
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Part:
    """One venue's side of a book, best first, and how much base one unit of its sizes is."""

    venue: str
    levels: Sequence[tuple[str, str]]
    contract_size: Decimal = _ONE


@dataclass(frozen=True, slots=True)
class BucketPart:
    """One venue's buckets of one side: index, quantity, notional, levels; best first."""

    venue: str
    buckets: Sequence[tuple[int, str, str, int]]
    contract_size: Decimal = _ONE


def merge_levels(
    parts: Iterable[Part], *, descending: bool, depth: int
) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """The best `depth` prices of all parts with their total sizes, and of each the venues' shares.

    It is what the merge of whole books would give if each part holds its best `depth` levels.
    """
    shares: dict[str, dict[str, str]] = {}
    for part in parts:
        for price, size in part.levels:
            shares.setdefault(plain(price), {})[part.venue] = _scaled(size, part.contract_size)
    best = sorted(shares, key=Decimal, reverse=descending)[:depth]
    return [(price, _total(shares[price].values())) for price in best], [shares[price] for price in best]


def merge_buckets(
    parts: Iterable[BucketPart], *, bucket_size: Decimal, descending: bool, rows: int
) -> list[dict[str, Any]]:
    """The best `rows` buckets of all parts, in the shape of the answer."""
    found: dict[int, list[tuple[str, str, str, int]]] = {}
    for part in parts:
        for index, quantity, notional, levels in part.buckets:
            base, quote = _scaled(quantity, part.contract_size), _scaled(notional, part.contract_size)
            found.setdefault(index, []).append((part.venue, base, quote, levels))
    return [
        {
            "index": index,
            "price": edge(index, bucket_size),
            "quantity": _total(quantity for _, quantity, _, _ in found[index]),
            "notional": _total(notional for _, _, notional, _ in found[index]),
            "levels": sum(levels for _, _, _, levels in found[index]),
            "shares": {venue: quantity for venue, quantity, _, _ in found[index]},
        }
        for index in sorted(found, reverse=descending)[:rows]
    ]


def edge(index: int, bucket_size: Decimal) -> str:
    """The price that a bucket's prices were rounded to."""
    return plain_decimal(_WIDE.multiply(Decimal(index), bucket_size))


def middle(bids: Iterable[str], asks: Iterable[str]) -> Fraction | None:
    """Half-way between the highest bid and the lowest ask; None unless both are there."""
    highest = max(map(Fraction, bids), default=None)
    lowest = min(map(Fraction, asks), default=None)
    return None if highest is None or lowest is None else (highest + lowest) / 2


def spread_matrix(best: Sequence[tuple[str | None, str | None]], mid: Fraction | None) -> list[list[str | None]]:
    """Of best bid and ask by venue: `(bid of column - ask of row) / mid` in hundredths of a percent, to two decimals.

    Rounded once, from the exact fraction, half to even.
    """

    def cell(ask: str | None, bid: str | None) -> str | None:
        if ask is None or bid is None or not mid:
            return None
        return plain_decimal(Decimal(round((Fraction(bid) - Fraction(ask)) / mid * 1_000_000)).scaleb(-2))

    return [[cell(ask, bid) for bid, _ in best] for _, ask in best]


def fraction_text(number: Fraction) -> str:
    """A fraction of decimals as a decimal text; its denominator has no factors but 2 and 5."""
    return plain_decimal(_WIDE.divide(Decimal(number.numerator), Decimal(number.denominator)))


def _scaled(text: str, contract_size: Decimal) -> str:
    return plain(text) if contract_size == 1 else plain_decimal(_WIDE.multiply(Decimal(text), contract_size))


def _total(texts: Iterable[str]) -> str:
    first, *rest = texts
    if not rest:
        return first
    total = Decimal(first)
    for text in rest:
        total = _WIDE.add(total, Decimal(text))
    return plain_decimal(total)
