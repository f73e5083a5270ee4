"""The native order book beside a dict and exact decimals."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coby._core import OrderBook
from coby.utils.exceptions import ConfigError, NumberError
from support.naive import NaiveBook, exact

Side = list[tuple[str, str]]


def decimals(low: int, high: int) -> st.SearchStrategy[str]:
    """Decimal text of up to 6 fraction digits, trailing zeros included."""
    parts = st.tuples(st.integers(low, high), st.integers(0, 6))
    return parts.map(lambda p: format(Decimal(p[0]).scaleb(-p[1]), "f"))


# Few different prices, so that levels are changed and removed, and several spellings of each.
PRICES = st.one_of(decimals(1, 40), st.sampled_from(["1", "1.0", "1.00", "10", "0.5", "0.500000"]))
LEVELS = st.lists(st.tuples(PRICES, st.one_of(decimals(0, 3), decimals(0, 10**9))), max_size=12)
MESSAGES = st.lists(st.tuples(LEVELS, LEVELS, st.booleans(), st.none() | st.integers(1, 8)), max_size=12)


@given(MESSAGES, st.integers(0, 8), st.integers(0, 8))
def test_equals_a_dict_of_decimals_after_every_message(
    messages: list[tuple[Side, Side, bool, int | None]], price_scale: int, size_scale: int
) -> None:
    book, naive = OrderBook(price_scale, size_scale), NaiveBook()
    for bids, asks, snapshot, depth in messages:
        book.apply(bids, asks, snapshot=snapshot, depth=depth)
        naive.apply(bids, asks, snapshot=snapshot, depth=depth)
        assert (exact(book.bids()), exact(book.asks())) == (naive.bids, naive.asks)
        assert (exact(book.bids(3)), exact(book.asks(3))) == (naive.bids[:3], naive.asks[:3])
        for best, levels in ((book.best_bid, naive.bids), (book.best_ask, naive.asks)):
            assert (None if best is None else exact([best])) == (levels[:1] or None)
        if naive.bids and naive.asks:
            bid, ask = naive.bids[0][0], naive.asks[0][0]
            assert (book.mid_price, book.spread) == (float((bid + ask) / 2), float(ask - bid))
        else:
            assert book.mid_price is book.spread is None


@given(LEVELS, LEVELS)
def test_a_refused_message_leaves_the_book_as_it_was(before: Side, good: Side) -> None:
    book = OrderBook()
    book.apply(before, before)
    whole = book.bids(), book.asks()
    for bad in (("1", "-1"), ("0", "1"), ("-1", "1"), ("1", "NaN"), ("1e400", "1"), ("1", "0.1e-18"), ("", "1")):
        for snapshot in (False, True):
            with pytest.raises(NumberError):
                book.apply(good, [*good, bad], snapshot=snapshot)
            assert (book.bids(), book.asks()) == whole


def test_what_widening_cannot_hold_is_refused_whole() -> None:
    book = OrderBook()
    book.apply([("900000000000000000", "1")])
    with pytest.raises(NumberError):
        book.apply([("1", "1"), ("0.001", "1")])
    assert book.bids() == [("900000000000000000", "1")]
    book.apply([("0.001", "0"), ("900000000000000001", "0")])
    assert book.bids() == [("900000000000000000", "1")], "what cannot be in the book needs no removal"
    book.apply([("0.000000000000000001", "9.223372036854775807")], snapshot=True)
    assert book.bids() == [("0.000000000000000001", "9.223372036854775807")], (
        "a snapshot is not held up by what it ends"
    )


def test_takes_what_json_gives_and_any_iterable() -> None:
    book = OrderBook()
    book.apply((level for level in [["1", "2.50"]]), iter([("3e0", "1E-2")]))
    assert (book.bids(), book.asks()) == ([("1", "2.5")], [("3", "0.01")])


@pytest.mark.parametrize("bad", [[("1",)], [("1", 2)], [(1.5, "2")], [["1", "2", "3"]], ["1"], [None], 5])
def test_other_shapes_are_type_errors(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        OrderBook().apply(bad)  # type: ignore[arg-type]


def test_an_iterable_that_uses_the_book_or_raises_does_no_harm() -> None:
    book = OrderBook()

    def levels() -> "list[tuple[str, str]]":
        book.apply([("7", "7")])
        return [("8", "8")]

    book.apply(level for part in [levels] for level in part())
    assert book.bids() == [("8", "8"), ("7", "7")]
    with pytest.raises(ZeroDivisionError):
        book.apply((str(1 // n), "1") for n in (1, 0))
    assert len(book.bids()) == 2


@pytest.mark.parametrize("scale", [-1, 19, 256])
def test_scales_have_bounds(scale: int) -> None:
    with pytest.raises(ConfigError, match="is not in"):
        OrderBook(scale)
    with pytest.raises(ConfigError, match="is not in"):
        OrderBook(0, scale)


def test_depth_and_levels_have_bounds() -> None:
    with pytest.raises(ConfigError):
        OrderBook().apply(depth=0)
    with pytest.raises(ConfigError):
        OrderBook().bids(-1)
    assert OrderBook().bids(0) == []
