"""Events against books that share no code with the core, on synthetic and on real traffic."""

import json
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

import coby
from coby import recording
from coby._core import Event
from coby.recording import RecordedFrame
from coby.simulator.generate import Fault, Generator
from coby.utils.exceptions import RecordingError, UnknownVenueError
from support.captures import NAMES, capture
from support.naive import NaiveBook, exact


def synthetic(seconds: float, *faults: Fault) -> tuple[list[RecordedFrame], Generator]:
    generator = Generator(11, seconds=seconds, faults=faults)
    return list(generator), generator


def follow(events: list[Event]) -> Iterator[tuple[Event, NaiveBook]]:
    """Each change of a book, with what the book is after it."""
    books: defaultdict[str | None, NaiveBook] = defaultdict(NaiveBook)
    for event in events:
        if event.kind == "book":
            book = books[event.native_symbol]
            book.apply(event.bids or [], event.asks or [], snapshot=bool(event.snapshot), depth=event.depth)
            yield event, book


def opened(events: list[Event], symbol: str | None = None) -> list[Event]:
    return [
        e for e in events if e.kind == "gap" and e.phase == "opened" and e.cause != "end" and e.native_symbol == symbol
    ]


def test_books_are_the_true_ones_after_every_frame() -> None:
    frames, generator = synthetic(5)
    tops = {(index, symbol): top for index, symbol, *top in generator.truth.tops}
    seen = 0
    books: dict[str | None, NaiveBook] = {}
    for event, book in follow(list(coby.decode("binance_futures", frames))):
        books[event.native_symbol] = book
        top = tops.get((event.frame, str(event.native_symbol)))
        if top is not None:
            seen += 1
            bid, bid_size, ask, ask_size = top
            assert [book.bids[0], book.asks[0]] == exact([(bid, bid_size), (ask, ask_size)])
    assert seen > 100
    for symbol, sides in generator.truth.books.items():
        assert books[symbol].bids == exact(sides["bids"])
        assert books[symbol].asks == exact(sides["asks"])


def test_trades_are_the_ones_on_the_wire() -> None:
    frames, generator = synthetic(3)
    events = [e for e in coby.decode("binance_futures", frames) if e.kind == "trade"]
    counts = {symbol: len([e for e in events if e.native_symbol == symbol]) for symbol in generator.truth.trades}
    assert counts == generator.truth.trades
    for event in events:
        body = frames[event.frame]["body"] or ""
        assert Decimal(event.price or "") == Decimal(body.split('"p":"')[1].split('"')[0])
        assert event.side == ("sell" if '"m":true' in body else "buy")
        assert event.ts_recv == frames[event.frame]["recv_ns"]
        assert event.symbol in {"BTC-USDT-PERP", "ETH-USDT-PERP", "SOL-USDT-PERP"}


@pytest.mark.parametrize(
    ("fault", "channel"), [("lost", "book"), ("malformed", "book"), ("lost_trade", "trades"), ("reconnect", "book")]
)
def test_a_fault_is_a_gap_of_what_it_hit_and_the_book_is_true_again(fault: Any, channel: str) -> None:
    frames, generator = synthetic(8, Fault(fault, 3.0, "ETHUSDT"))
    events = list(coby.decode("binance_futures", frames))
    (known,) = generator.truth.faults
    gaps = [gap for gap in opened(events, "ETHUSDT") if gap.channel == channel]
    assert len(gaps) == 1
    assert known["frame"] <= gaps[0].frame
    assert gaps[0].ts_recv - known["recv_ns"] < 500_000_000
    if fault != "reconnect":
        assert opened(events, "BTCUSDT") == []
    books = {event.native_symbol: book for event, book in follow(events)}
    assert books["ETHUSDT"].bids == exact(generator.truth.books["ETHUSDT"]["bids"])
    assert books["ETHUSDT"].asks == exact(generator.truth.books["ETHUSDT"]["asks"])


def test_a_duplicate_changes_nothing() -> None:
    frames, generator = synthetic(4, Fault("duplicate", 2.0))
    (known,) = generator.truth.faults
    once = frames[: known["frame"] + 1] + frames[known["frame"] + 2 :]

    def state(frames: list[RecordedFrame]) -> list[Any]:
        return [(e.native_symbol, e.bids, e.asks) for e in coby.decode("binance_futures", frames) if e.kind == "book"]

    assert state(frames) == state(once)


def test_an_endless_iterator_gives_events_as_frames_come() -> None:
    frames, _ = synthetic(1)
    taken = 0

    def endless() -> Iterator[RecordedFrame]:
        nonlocal taken
        for taken in count(1):
            yield frames[min(taken, len(frames)) - 1]

    events = coby.decode("binance_futures", endless())
    first = next(e for e in events if e.kind == "trade")
    assert taken == first.frame + 1


@pytest.mark.parametrize("how", [list, iter])
def test_the_events_do_not_depend_on_how_frames_are_handed_over(how: Any) -> None:
    frames, _ = synthetic(2)
    events = [e.to_dict() for e in coby.decode("binance_futures", how(frames))]
    assert events == [e.to_dict() for e in coby.decode("binance_futures", tuple(frames))]
    indexes = [e["frame"] for e in events]
    assert indexes == sorted(indexes)


def test_without_sync_each_book_message_stands_for_itself() -> None:
    frames, _ = synthetic(1)
    depth = next(frame for frame in reversed(frames) if "depthUpdate" in (frame.get("body") or ""))
    (event,) = (e for e in coby.decode("binance_futures", [depth], sync=False) if e.kind == "book")
    data = json.loads(depth["body"] or "")["data"]
    assert not event.snapshot
    assert event.native_symbol == data["s"]
    assert exact(event.bids or []) == exact(data["b"])
    assert exact(event.asks or []) == exact(data["a"])


def test_wrong_use_is_told_at_once() -> None:
    with pytest.raises(UnknownVenueError):
        coby.decode("nowhere", [])
    for frame in ({"kind": "text", "body": "{}"}, {"recv_ns": 1, "kind": "smoke"}, {"recv_ns": "1", "kind": "text"}):
        with pytest.raises(RecordingError):
            list(coby.decode("binance_futures", [frame]))


@pytest.mark.parametrize("venue", NAMES)
def test_the_native_book_equals_the_naive_one_on_real_traffic(venue: str) -> None:
    native: defaultdict[str | None, coby.OrderBook] = defaultdict(coby.OrderBook)
    changes = 0
    for event, book in follow(list(coby.decode(venue, recording.read(capture(venue))))):
        changes += 1
        mine = native[event.native_symbol]
        mine.apply(event.bids, event.asks, snapshot=bool(event.snapshot), depth=event.depth)
        # The whole book every 50 changes, the best levels after each: the naive book sorts all of it each time.
        levels = None if changes % 50 == 0 else 10
        assert exact(mine.bids(levels)) == book.bids[:levels]
        assert exact(mine.asks(levels)) == book.asks[:levels]
    assert changes > 300
