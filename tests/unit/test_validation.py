from decimal import Decimal

import pytest

from coby.utils.exceptions import AmbiguousSymbolError, InvalidValueError, UnknownSymbolError, UnknownVenueError
from coby.utils.validation import (
    known_symbol,
    known_venue,
    one_of,
    plain_decimal,
    positive_decimal,
    symbol_key,
    time_range,
    whole_number,
)

SYMBOLS = ["ETH-USD", "BTC-USD", "BTC-USDC", "BTC-USDT", "BTC-USDT-PERP", "A-BCUSD", "AB-CUSD", "SOL-EUR"]


@pytest.mark.parametrize("text", ["BTC-USDT", "btc_usdt", "BTC/USDT", " btcusdt ", "BTC", "btc"])
def test_every_spelling_means_the_canonical_symbol(text: str) -> None:
    assert known_symbol(text, SYMBOLS) == "BTC-USDT"


def test_a_bare_asset_is_its_first_spot_pair_in_dollars() -> None:
    assert known_symbol("ETH", SYMBOLS) == "ETH-USD"
    assert known_symbol("BTC", ["BTC-USD", "BTC-USDC"]) == "BTC-USDC"
    with pytest.raises(UnknownSymbolError, match="SOL"):
        known_symbol("SOL", SYMBOLS)


def test_other_kinds_are_named_in_full() -> None:
    assert known_symbol("btcusdtperp", SYMBOLS) == "BTC-USDT-PERP"


def test_unknown_and_ambiguous_symbols_name_what_may_be_meant() -> None:
    with pytest.raises(UnknownSymbolError, match='symbol is "BTCUSTD", which is not known; did you mean BTC-USD'):
        known_symbol("BTCUSTD", SYMBOLS)
    with pytest.raises(UnknownSymbolError, match="8 symbols are known"):
        known_symbol("ZZZZZZ", SYMBOLS)
    with pytest.raises(AmbiguousSymbolError, match="may be A-BCUSD or AB-CUSD") as raised:
        known_symbol("abcusd", SYMBOLS)
    assert raised.value.context["allowed"] == ["A-BCUSD", "AB-CUSD"]
    assert known_symbol("A-BCUSD", SYMBOLS) == "A-BCUSD"


def test_venues() -> None:
    assert known_venue(" Kraken", ["kraken", "okx"]) == "kraken"
    with pytest.raises(UnknownVenueError, match='--venues is "krakem", which is no venue; did you mean kraken'):
        known_venue("krakem", ["kraken", "okx"], "--venues")
    with pytest.raises(UnknownVenueError, match="there are kraken, okx"):
        known_venue("xyz", ["okx", "kraken"])


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("+5", 5), (" 10 ", 10), (7, 7)])
def test_whole_numbers(text: str | int, number: int) -> None:
    assert whole_number(text, "depth", 1, 10) == number


@pytest.mark.parametrize("text", ["0", "11", "5.0", "1e1", "", "٣", "9" * 30, True])
def test_what_is_no_whole_number_in_range(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"depth is .*: it must be a whole number from 1 to 10"):
        whole_number(text, "depth", 1, 10)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("10", "10"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("007", "7"),
        ("1000", "1000"),
        ("9.223372036854775807", None),
        ("0.000000000000000001", None),
        ("9223372036854775807", None),
        ("1." + "0" * 40, "1"),
    ],
)
def test_decimals(text: str, plain: str | None) -> None:
    number = positive_decimal(text, "bucket")
    assert number == Decimal(text)
    assert plain_decimal(number) == (plain or text)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0.0",
        "-1",
        "1e3",
        "nan",
        "inf",
        "",
        "1,5",
        "0x1",
        "1_000",
        "9223372036854775808",
        "10.000000000000000001",
        "0.0000000000000000001",
    ],
)
def test_what_the_core_cannot_hold(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"bucket is .*: it must be a decimal number above 0"):
        positive_decimal(text, "bucket")


def test_ranges_are_half_open() -> None:
    assert time_range("5", "1970-01-01T00:00:01Z") == (5, 1_000_000_000)
    with pytest.raises(InvalidValueError, match="to is"):
        time_range(5, 5)


def test_words() -> None:
    assert one_of("bid", "side", ("bid", "ask")) == "bid"
    with pytest.raises(InvalidValueError, match='side is "bidd": it must be one of bid, ask; did you mean bid'):
        one_of("bidd", "side", ("bid", "ask"))


def test_keys_of_symbols() -> None:
    assert {symbol_key(text) for text in ("BTC-USDT", "btc_usdt", "BTC/USDT", "btcusdt", "BTC:USDT")} == {"BTCUSDT"}
