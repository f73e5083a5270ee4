"""Times and decimals, there and back."""

import json
from collections.abc import Callable
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from coby.utils.exceptions import CobyError
from coby.utils.redaction import redact, redact_value
from coby.utils.timing import format_time, parse_time
from coby.utils.validation import (
    known_symbol,
    known_venue,
    one_of,
    plain_decimal,
    positive_decimal,
    whole_number,
)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_time_is_the_same_after_its_text(ns: int) -> None:
    assert parse_time(format_time(ns)) == parse_time(str(ns)) == ns


@given(st.integers(1, 2**63 - 1), st.integers(0, 18))
def test_every_number_of_the_core_is_a_decimal(mantissa: int, scale: int) -> None:
    number = Decimal(mantissa).scaleb(-scale)
    assert positive_decimal(plain_decimal(number), "x") == number


@given(st.text(max_size=200))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


Ask = Callable[[], object]


@given(st.text(), st.lists(st.text("ABCUSDT-", max_size=9), max_size=5))
def test_whatever_is_asked_for_is_found_or_told_in_one_line(value: str, known: list[str]) -> None:
    asked: list[Ask] = [
        lambda: known_symbol(value, known),
        lambda: known_venue(value, ["okx", "kraken"]),
        lambda: whole_number(value, "depth", 1, 5),
        lambda: one_of(value, "side", ("bid", "ask")),
        lambda: parse_time(value),
    ]
    for ask in asked:
        try:
            ask()
        except CobyError as error:
            told = str(error)
        else:
            continue
        assert told.splitlines() == [told]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(VALUES)
def test_every_fact_has_a_form_in_json(value: object) -> None:
    json.dumps(redact_value("fact", value))
