"""The comparison of what other clients read with the truth: it sees a level or a trade that is not true."""

from collections.abc import Callable
from typing import Any

import pytest

from support.independent import Reading, Recording
from support.recorded import Entries, recorded


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Entries]:
    frames, truth = recorded("kraken", 12, symbols=("BTC/USD",), every=2.0)
    return Recording("kraken", frames, truth, tmp_path_factory.mktemp("readers")), truth


def true_reading(case: tuple[Recording, Entries]) -> Reading:
    """What a client without a fault would say."""
    recording, truth = case
    books = [
        (
            recording.windows[entry["t"]].start,
            ([[*level] for level in entry["bids"]], [[*level] for level in entry["asks"]]),
        )
        for entry in truth
        if entry["kind"] == "book" and entry["t"] in recording.windows
    ]
    trades = [{**entry, "id": str(entry["number"])} for entry in truth if entry["kind"] == "trade"]
    return Reading(None, {"BTC/USD": books}, {"BTC/USD": trades}, [])


def test_the_truth_is_equal_to_itself(case: tuple[Recording, Entries]) -> None:
    found = case[0].compared(true_reading(case))
    assert (found.equal, found.ids, found.differences) == (True, "same ids", [])


def altered(what: list[Any], at: int, value: Any) -> None:
    what[at] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda books, trades: altered(books[0][1][0][3], 1, "0.00000001"),
        lambda books, trades: books[-1][1][1].pop(7),
        lambda books, trades: books.pop(),
        lambda books, trades: altered(trades, -90, {**trades[-90], "size": "0.00000001"}),
        lambda books, trades: altered(trades, -90, {**trades[-90], "side": "none"}),
        lambda books, trades: trades.pop(-90),
        lambda books, trades: trades.append(trades[-1]),
        lambda books, trades: trades.clear(),
    ],
    ids=["size", "level", "book", "trade's size", "trade's side", "lost trade", "repeated trade", "no trades"],
)
def test_a_difference_is_seen(case: tuple[Recording, Entries], change: Callable[[Any, Any], Any]) -> None:
    reading = true_reading(case)
    change(reading.books["BTC/USD"], reading.trades["BTC/USD"])
    assert not case[0].compared(reading).equal


def test_a_client_that_failed_is_not_equal(case: tuple[Recording, Entries]) -> None:
    reading = true_reading(case)
    reading.errors.append("ValueError")
    assert not case[0].compared(reading).equal
