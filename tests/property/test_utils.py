"""Times and decimals, there and back."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from coby.utils.redaction import redact, redact_value
from coby.utils.timing import format_time, parse_time
from coby.utils.validation import plain_decimal, positive_decimal


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


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(VALUES)
def test_every_fact_has_a_form_in_json(value: object) -> None:
    import json

    json.dumps(redact_value("fact", value))
