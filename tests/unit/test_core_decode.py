"""Recorded frames to events through the native module: whole, typed, and without holding up other threads."""

import json
import threading
import time
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest

from coby._core import Decoder, Event, OrderBook
from coby.utils.exceptions import RecordingError, UnknownVenueError
from support.mishaps import MISHAPS, VENUE, frames
from support.naive import NaiveBook, exact

FIXTURES = Path(__file__).parents[2] / "rust" / "coby-venues" / "fixtures"


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]


# A line of a fixture's .events, written as the core's own golden test writes it.
def line(event: Event) -> str:
    fields = event.to_dict()
    for name in ("native_symbol", "symbol", "ts_event", "notional", "taker_buy"):
        if fields.get(name, "") is None:
            fields[name] = "-"

    def option(value: object) -> str:
        return "None" if value is None else f"Some({value})"

    def flag(value: object) -> str:
        return str(value).lower()

    def side(levels: list[tuple[str, str]]) -> str:
        return " ".join(f"{size}@{price}" for price, size in levels)

    head = "{frame} {kind} {native_symbol} {symbol} {ts_event}".format(**fields)
    match event.kind:
        case "trade":
            return head + " {side} {size}@{price} id={trade_id}".format(**fields) + f" history={flag(event.history)}"
        case "book":
            assert event.bids is not None
            assert event.asks is not None
            sides = f"bids[{side(event.bids)}] asks[{side(event.asks)}]"
            return head + f" snapshot={flag(event.snapshot)} depth={option(event.depth)} {sides}"
        case "gap":
            return head + " {phase} {channel} {cause}: {evidence}".format(**fields)
        case "checksum":
            return head + f" ok={flag(event.ok)}"
        case "candle":
            assert event.interval is not None
            return (
                head
                + f" {event.interval // 10**9}s open={event.open_time}"
                + " {open} {high} {low} {close} volume={volume} notional={notional}".format(**fields)
                + f" count={option(event.count)} taker_buy={fields['taker_buy']} closed={flag(event.closed)}"
            )
        case _:
            return head + " {status} {message}".format(**fields)


@pytest.mark.parametrize("case", sorted(FIXTURES.glob("*/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_fixtures_decode_to_the_events_that_stand_beside_them(case: Path) -> None:
    decoder = Decoder(case.parent.name, sync=not case.stem.endswith(".nosync"))
    events = decoder.feed([json.loads(text) for text in case.read_text().splitlines()])
    assert [line(event) for event in events] == case.with_suffix(".events").read_text().splitlines()


def test_native_and_naive_books_follow_a_faulty_recording_alike() -> None:
    events = Decoder(VENUE).feed(frames(6.0, faults=MISHAPS))
    books: dict[str | None, tuple[OrderBook, NaiveBook]] = {}
    for event in of(events, "book"):
        assert event.bids is not None
        assert event.asks is not None
        native, naive = books.setdefault(event.native_symbol, (OrderBook(), NaiveBook()))
        native.apply(event.bids, event.asks, snapshot=event.snapshot is True, depth=event.depth)
        naive.apply(event.bids, event.asks, snapshot=event.snapshot is True, depth=event.depth)
        assert (exact(native.bids()), exact(native.asks())) == (naive.bids, naive.asks)
        assert naive.bids[0] < naive.asks[0]
    assert books.keys() == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    gaps = of(events, "gap")
    found = {(gap.native_symbol, gap.channel, gap.cause) for gap in gaps}
    # The half message named no symbol: it cost every book of the connection, and only BTCUSDT's was back at the close.
    assert {("BTCUSDT", "book", "sequence"), ("BTCUSDT", "trades", "sequence"), ("BTCUSDT", "book", "closed")} <= found
    assert {(native, "book", "malformed") for native in ("ETHUSDT", "SOLUSDT")} <= found
    for gap in gaps:
        assert gap.from_ is not None
        assert (gap.to is None) == (gap.phase == "opened")
    assert {event.symbol for event in of(events, "trade")} == {"BTC-USDT-PERP", "ETH-USDT-PERP", "SOL-USDT-PERP"}
    assert any(event.status == "error" and event.message for event in of(events, "status"))
    assert of(events, "candle")


def test_batches_make_no_difference() -> None:
    every = frames(4.0, faults=MISHAPS)
    one = Decoder(VENUE)
    whole = one.feed(every)
    single = Decoder(VENUE)
    assert [event for frame in every for event in single.feed([frame])] == whole
    assert [event.frame for event in whole] == sorted(event.frame for event in whole)
    assert whole[-1].frame <= len(every) - 1
    assert whole != one.feed(every)


def test_an_event_shows_what_its_kind_has_and_none_elsewhere() -> None:
    events = Decoder(VENUE).feed(frames(6.0, faults=MISHAPS))
    attributes = {name for event in events for name in event.to_dict()} - {"from"} | {"from_"}
    kinds = {event.kind for event in events}
    assert kinds == {"trade", "book", "gap", "candle", "status"}
    for event in events:
        fields = event.to_dict()
        assert json.loads(json.dumps(fields)).keys() == fields.keys()
        for name in attributes:
            key = name.rstrip("_")
            if key in fields:
                assert getattr(event, name) == fields[key]
            else:
                assert getattr(event, name) is None
        assert event.kind in repr(event)
    with pytest.raises(AttributeError):
        events[0].frame = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        _ = events[0].nonsense  # type: ignore[attr-defined]


def test_without_synchronisation_a_lone_message_is_an_event() -> None:
    body = (
        '{"e":"depthUpdate","E":1626992741424,"T":1626992741424,"s":"XYZUSDT","U":5,"u":9,"pu":4,'
        '"b":[["1.50","2.0"]],"a":[["1.60","0.000"]]}'
    )
    frame = {"recv_ns": 1626992741500000000, "kind": "text", "url": "wss://fstream.binance.com/ws", "body": body}
    [event] = of(Decoder(VENUE, sync=False).feed([frame]), "book")
    assert (event.snapshot, event.bids, event.asks) == (False, [("1.5", "2")], [("1.6", "0")])
    assert (event.native_symbol, event.symbol, event.ts_event) == ("XYZUSDT", None, 1626992741424000000)
    assert not of(Decoder(VENUE).feed([frame]), "book")


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"kind": "text"}, "recv_ns"),
        ({"recv_ns": "1", "kind": "text"}, "recv_ns"),
        ({"recv_ns": 1.5, "kind": "text"}, "recv_ns"),
        ({"recv_ns": 2**63, "kind": "text"}, "recv_ns"),
        ({"recv_ns": 2**63 - 1, "kind": "text"}, "recv_ns"),
        ({"recv_ns": -1, "kind": "text"}, "recv_ns"),
        ({"recv_ns": 1}, "kind"),
        ({"recv_ns": 1, "kind": "Text"}, "kind"),
        ({"recv_ns": 1, "kind": 3}, "kind"),
        ({"recv_ns": 1, "kind": "text", "body": 5}, "body"),
        ({"recv_ns": 1, "kind": "text", "body": "\ud800"}, "body"),
        ({"recv_ns": 1, "kind": "binary_b64", "body": "*"}, "body"),
        ({"recv_ns": 1, "kind": "text", "url": 5}, "url"),
        ({"recv_ns": 1, "kind": "http", "status": "200"}, "status"),
        ({"recv_ns": 1, "kind": "http", "status": 99999}, "status"),
        ({"recv_ns": 1, "kind": "http", "method": 1}, "method"),
        ({"recv_ns": 1, "kind": "http", "request": 1}, "request"),
        ([1], "frame"),
        (None, "frame"),
    ],
)
def test_a_wrong_mapping_is_named_and_nothing_of_its_batch_is_decoded(frame: Any, field: str) -> None:
    good = frames(3.0)
    decoder, other = Decoder(VENUE), Decoder(VENUE)
    decoder.feed(good[:40])
    other.feed(good[:40])
    with pytest.raises(RecordingError) as caught:
        decoder.feed([*good[40:60], frame])
    assert caught.value.code == "recording.frame"
    assert caught.value.context == {"frame": 60, "field": field}
    assert decoder.feed(good[40:]) == other.feed(good[40:])


def test_any_mapping_will_do_and_null_is_missing() -> None:
    every = frames(3.0)
    dressed = [UserDict(frame, method=frame.get("method"), conn=frame.get("conn"), request=None) for frame in every]
    assert Decoder(VENUE).feed(dressed) == Decoder(VENUE).feed(every)


def test_an_unknown_venue_is_named() -> None:
    with pytest.raises(UnknownVenueError, match="nowhere") as caught:
        Decoder("nowhere")
    assert caught.value.context == {"venue": "nowhere"}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[" * 100_000,
        (
            '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT","U":9223372036854775808,'
            '"u":1,"pu":1,"b":[["NaN","1e400"]],"a":[["-1","0"]]}}'
        ),
        '{"e":"aggTrade","E":1,"a":1,"s":"BTCUSDT","p":"0","q":"-1","T":1,"m":true}',
        "\x00" * 1000,
    ],
)
@pytest.mark.parametrize("kind", ["text", "http"])
def test_what_a_venue_sends_never_raises(body: str, kind: str) -> None:
    decoder = Decoder(VENUE)
    url = "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT" if kind == "http" else "wss://fstream.binance.com/ws"
    good = frames(3.0)
    decoder.feed(good)
    decoder.feed([{"recv_ns": good[-1]["recv_ns"], "kind": kind, "url": url, "body": body}])
    assert isinstance(decoder.feed([]), list)


def test_other_threads_run_while_frames_are_decoded() -> None:
    every = frames(10.0) * 4
    decoder = Decoder(VENUE)
    gaps: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    time.sleep(0.01)
    gaps.clear()
    decoder.feed(every)
    ticks = len(gaps)
    stop.set()
    thread.join()
    # With the GIL held for the whole call there would be none at all.
    assert ticks > 10


def test_two_threads_may_share_a_decoder() -> None:
    every = frames(3.0)
    decoder = Decoder(VENUE)
    results: list[int] = []

    def work() -> None:
        results.extend(len(decoder.feed(every[start : start + 20])) for start in range(0, len(every), 20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(results) == 4 * -(-len(every) // 20)
