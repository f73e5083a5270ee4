"""Books against a second way to say the same: exact fractions and plain sorting."""

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coby.models import OrderBookSnapshot, PriceLevel, TradeEvent
from coby.models.base import to_datetime, to_nanoseconds

PRICES = st.floats(1e-300, 1e300)
SIZES = st.floats(0, 1e300)
SIDES = st.dictionaries(PRICES, SIZES, max_size=12).map(lambda side: list(side.items()))
INT64 = st.integers(-(2**63), 2**63 - 1)


@given(SIDES, SIDES, st.integers(0, 15))
def test_a_book_is_its_levels_best_first(bids: Any, asks: Any, levels: int) -> None:
    book = OrderBookSnapshot("X", "v", ts_event=0, bids=bids, asks=asks)  # type: ignore[call-arg]
    assert [(level.price, level.size) for level in book.bids] == sorted(bids, reverse=True)
    assert [(level.price, level.size) for level in book.asks] == sorted(asks)
    if bids and asks:
        bid, ask = max(price for price, _ in bids), min(price for price, _ in asks)
        assert book.spread == ask - bid
        assert book.mid_price is not None
        assert min(bid, ask) <= book.mid_price <= max(bid, ask)
    else:
        assert book.mid_price is book.spread is None
    bid_sum = sum((Fraction(level.size) for level in book.bids[:levels]), Fraction())
    ask_sum = sum((Fraction(level.size) for level in book.asks[:levels]), Fraction())
    imbalance = book.imbalance_of(levels)
    if bid_sum + ask_sum == 0:
        assert imbalance is None
    else:
        assert imbalance is not None
        assert abs(imbalance - float((bid_sum - ask_sum) / (bid_sum + ask_sum))) < 1e-12


@given(SIDES, SIDES, INT64)
def test_json_and_back_is_the_same_book(bids: Any, asks: Any, ns: int) -> None:
    book = OrderBookSnapshot("X", "v", ts_recv=ns, bids=bids, asks=asks)  # type: ignore[call-arg]
    assert OrderBookSnapshot.model_validate_json(book.model_dump_json()) == book
    assert OrderBookSnapshot.model_validate_json(book.model_dump_json(by_alias=True)) == book


@given(INT64)
def test_times_lose_nothing_but_their_last_three_digits(ns: int) -> None:
    assert to_nanoseconds(to_datetime(ns)) == ns // 1000 * 1000
    trade = TradeEvent("X", "v", ns, 1.0, 1.0, "buy")  # type: ignore[arg-type]
    assert trade.timestamp_ns == ns


@given(PRICES, SIZES)
def test_in_order_and_by_name_are_the_same(price: float, size: float) -> None:
    assert PriceLevel(price, size) == PriceLevel(size=size, price=price) == PriceLevel(repr(price), repr(size))  # type: ignore[arg-type]
