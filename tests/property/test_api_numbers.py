"""Merging books and moving numbers between texts, floats and integers, against exact decimals."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from coby.api.columns import Column, added, reduced, regrouped
from coby.api.consolidate import BucketPart, Part, merge_buckets, merge_levels, middle, spread_matrix
from coby.api.numbers import mantissa_text, mantissas_of, plain, scale_of, text_of
from support.serving import Book, FakeLive, instrument

sizes = st.integers(1, 10**7).map(lambda n: f"{Decimal(n).scaleb(-3):f}")
prices = st.integers(1, 3000).map(lambda n: f"{Decimal(n).scaleb(-1):f}0")
side = st.dictionaries(prices, sizes, max_size=25)
contracts = st.sampled_from([Decimal(1), Decimal("0.01"), Decimal(100), Decimal("2.5")])
venues = st.lists(st.tuples(side, side, contracts), min_size=1, max_size=4)


def naive(books: Any, which: int) -> dict[Decimal, dict[str, Decimal]]:
    """Price, then venue, then size in base units."""
    merged: dict[Decimal, dict[str, Decimal]] = {}
    for i, book in enumerate(books):
        for price, size in book[which].items():
            merged.setdefault(Decimal(price), {})[f"v{i}"] = Decimal(size) * book[2]
    return merged


@given(venues, st.integers(1, 12))
def test_the_consolidated_book_is_the_merge_of_dicts(books: Any, depth: int) -> None:
    for which, descending in ((0, True), (1, False)):
        wanted = naive(books, which)
        order = sorted(wanted, reverse=descending)[:depth]
        parts = []
        for i, book in enumerate(books):
            # A venue hands over no more than its own best levels.
            best = sorted(book[which].items(), key=lambda level: Decimal(level[0]), reverse=descending)[:depth]
            parts.append(Part(f"v{i}", best, book[2]))
        levels, shares = merge_levels(parts, descending=descending, depth=depth)
        assert [Decimal(price) for price, _ in levels] == order
        assert [Decimal(size) for _, size in levels] == [sum(wanted[price].values()) for price in order]
        assert [{venue: Decimal(size) for venue, size in share.items()} for share in shares] == [
            wanted[price] for price in order
        ]


@given(venues, st.sampled_from(["0.1", "2", "10", "3.5"]))
def test_sums_over_buckets_are_sums_over_levels(books: Any, size: str) -> None:
    engine = FakeLive()
    for i, (bids, asks, _) in enumerate(books):
        engine.listed.append(instrument(f"v{i}", "X", "X-USD"))
        engine.books[f"v{i}", "X"] = Book(bids, asks)
    for which, name in enumerate(("bids", "asks")):
        parts = []
        for i, book in enumerate(books):
            told = engine.buckets(f"v{i}", "X", size, 10_000)
            assert told is not None
            parts.append(BucketPart(f"v{i}", told[name], book[2]))
        rows = merge_buckets(parts, bucket_size=Decimal(size), descending=which == 0, rows=10_000)
        wanted = naive(books, which)
        flat = [(price, share) for price, shares in wanted.items() for share in shares.values()]
        assert sum(Decimal(row["quantity"]) for row in rows) == sum(share for _, share in flat)
        assert sum(Decimal(row["notional"]) for row in rows) == sum(price * share for price, share in flat)
        assert sum(row["levels"] for row in rows) == len(flat)
        for row in rows:
            assert sum(map(Decimal, row["shares"].values())) == Decimal(row["quantity"])
            low = Decimal(row["index"]) * Decimal(size)
            held = [
                p for p in wanted if (low <= p < low + Decimal(size) if which == 0 else low - Decimal(size) < p <= low)
            ]
            assert held
            assert Decimal(row["price"]) == low


@given(st.lists(st.tuples(st.none() | prices, st.none() | prices), min_size=1, max_size=4))
def test_spreads_are_rounded_once_from_the_exact_fraction(best: list[tuple[str | None, str | None]]) -> None:
    mid = middle([bid for bid, _ in best if bid], [ask for _, ask in best if ask])
    matrix = spread_matrix(best, mid)
    for row, (_, ask) in zip(matrix, best, strict=True):
        for cell, (bid, _) in zip(row, best, strict=True):
            if cell is None:
                assert bid is None or ask is None or mid is None
                continue
            assert bid is not None
            assert ask is not None
            assert mid is not None
            assert abs(Fraction(cell) - (Fraction(bid) - Fraction(ask)) / mid * 10_000) <= Fraction(1, 200)


@given(st.lists(st.tuples(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 12)), max_size=8))
@example([(1, 11), (7708610, 2)])
def test_floats_of_15_digits_become_exact_integers_and_texts(decimals: list[tuple[int, int]]) -> None:
    exact = [Decimal(mantissa).scaleb(-scale) for mantissa, scale in decimals]
    floats = np.array([float(number) for number in exact], dtype=np.float64)
    assert [Decimal(text_of(value) or "") for value in floats.tolist()] == exact
    scale, whole = scale_of(floats)
    if whole:
        mantissas = mantissas_of(floats, scale).tolist()
        assert [Decimal(mantissa).scaleb(-scale) for mantissa in mantissas] == exact
        texts = [mantissa_text(mantissa, scale) for mantissa in mantissas]
        assert [Decimal(text) for text in texts] == exact
        assert all(plain(text) == text for text in texts)
    else:
        # Numbers of very different size need more than 53 bits at one scale.
        assert max(map(abs, exact)) * 10 ** max(scale for _, scale in decimals) >= 2**52


column = st.builds(
    lambda low, bids, gap, asks: Column(
        0, 0, low, np.array(bids, dtype=np.int64), low + len(bids) + gap, np.array(asks, dtype=np.int64)
    ),
    st.integers(-40, 40),
    st.lists(st.integers(0, 9), max_size=20),
    st.integers(0, 3),
    st.lists(st.integers(0, 9), max_size=20),
)


def cells(low: int, values: Any) -> dict[int, int]:
    return {low + i: int(value) for i, value in enumerate(values)}


@given(column, st.integers(2, 7))
def test_regrouping_is_the_same_two_roundings(given_: Column, factor: int) -> None:
    found = regrouped(given_, factor)
    bids, asks = cells(given_.bid_low, given_.bids), cells(given_.ask_low, given_.asks)
    for bucket, total in cells(found.bid_low, found.bids).items():
        assert total == sum(v for k, v in bids.items() if k // factor == bucket)
        assert bucket * factor >= given_.bid_low, "held whole"
    for bucket, total in cells(found.ask_low, found.asks).items():
        assert total == sum(v for k, v in asks.items() if -(-k // factor) == bucket)
        assert bucket * factor < given_.ask_low + len(given_.asks), "held whole"
    kept = set(cells(found.bid_low, found.bids))
    assert all(k // factor in kept for k in bids if k // factor * factor >= given_.bid_low)


@given(st.lists(column, min_size=1, max_size=4))
def test_added_columns_hold_sums_and_reduced_ones_maxima(parts: list[Column]) -> None:
    total, most = added(parts, len(parts)), reduced(parts, 0, len(parts))
    for name, low in (("bids", "bid_low"), ("asks", "ask_low")):
        held = [cells(getattr(part, low), getattr(part, name)) for part in parts]
        for bucket, value in cells(getattr(total, low), getattr(total, name)).items():
            assert value == sum(part.get(bucket, 0) for part in held)
        found = cells(getattr(most, low), getattr(most, name))
        assert found.keys() >= {bucket for part in held for bucket in part}
        for bucket, value in found.items():
            assert value == max(part.get(bucket, 0) for part in held)
