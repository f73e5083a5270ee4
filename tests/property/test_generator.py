"""The synthetic recording obeys the venue's rules, checked by a reader that shares no code with it or with COBY."""

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coby import recording
from coby.recording import RecordedFrame
from coby.simulator.generate import Fault, Generator, main
from support.naive import NaiveBook, exact

SEEDS = st.integers(0, 2**32)


def generate(seed: int, seconds: float, faults: list[Fault] | None = None) -> tuple[list[RecordedFrame], Generator]:
    generator = Generator(seed, seconds=seconds, faults=faults or [])
    return list(generator), generator


def bodies(frames: list[RecordedFrame], event: str) -> list[tuple[int, dict[str, Any]]]:
    """Index and data of the stream frames of one event type; broken frames are left out."""
    found = []
    for index, frame in enumerate(frames):
        if frame["kind"] == "text":
            try:
                data = json.loads(frame["body"] or "")["data"]
            except ValueError:
                continue
            if data["e"] == event:
                found.append((index, data))
    return found


def read_books(frames: list[RecordedFrame]) -> tuple[dict[str, NaiveBook], list[tuple[object, ...]], int]:
    """Follows the venue's published procedure; gives the books, the tops while live, and the number of breaks."""
    books: dict[str, NaiveBook] = {}
    last: dict[str, int] = {}
    buffered: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    tops: list[tuple[object, ...]] = []
    depths = dict(bodies(frames, "depthUpdate"))
    breaks = 0
    for index, frame in enumerate(frames):
        url = frame["url"] or ""
        if frame["kind"] == "http" and "/depth?" in url:
            snapshot = json.loads(frame["body"] or "")
            symbol = url.split("symbol=")[1].split("&")[0]
            assert symbol not in books, "a snapshot comes only where it is needed"
            books[symbol] = NaiveBook()
            books[symbol].apply(snapshot["bids"], snapshot["asks"], snapshot=True)
            at = snapshot["lastUpdateId"]
            events = [e for e in buffered.pop(symbol) if e["u"] >= at]
            assert events[0]["U"] <= at <= events[0]["u"]
            for event in events:
                books[symbol].apply(event["b"], event["a"])
            last[symbol] = events[-1]["u"]
        if frame["kind"] == "close":
            books.clear()
            buffered.clear()
        data = depths.get(index)
        if data is None or data["u"] == last.get(data["s"]):
            continue
        symbol = data["s"]
        if symbol in books and data["pu"] != last[symbol]:
            breaks += 1
            del books[symbol]
        if symbol not in books:
            buffered[symbol].append(data)
            continue
        last[symbol] = data["u"]
        books[symbol].apply(data["b"], data["a"])
        tops.append((index, symbol, books[symbol].bids[0], books[symbol].asks[0]))
    return books, tops, breaks


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_the_feed_leads_to_the_true_books(seed: int) -> None:
    frames, generator = generate(seed, 4)
    books, tops, breaks = read_books(frames)
    assert breaks == 0
    truth = generator.truth
    expected = {(i, s): exact([(b, bs), (a, as_)]) for i, s, b, bs, a, as_ in truth.tops}
    assert len(tops) > 90
    for index, symbol, bid, ask in tops:
        assert [bid, ask] == expected[index, symbol]  # type: ignore[index]
    assert books.keys() == truth.books.keys()
    for symbol, book in books.items():
        assert book.bids == exact(truth.books[symbol]["bids"])
        assert book.asks == exact(truth.books[symbol]["asks"])
        assert book.bids[0][0] < book.asks[0][0]
        assert min(len(book.bids), len(book.asks)) >= 500
        assert max(len(book.bids), len(book.asks)) <= 1_000


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_a_seed_gives_the_same_frames_in_time_order(seed: int) -> None:
    frames, generator = generate(seed, 2)
    again, other = generate(seed, 2)
    assert (frames, generator.truth) == (again, other.truth)
    assert generate(seed + 1, 2)[0] != frames
    times = [frame["recv_ns"] for frame in frames]
    assert times == sorted(times)


@pytest.mark.parametrize("seed", [1, 2])
def test_candles_sum_up_the_trades(seed: int) -> None:
    frames, generator = generate(seed, 61)
    trades = [data for _, data in bodies(frames, "aggTrade")]
    final = {data["s"]: data["k"] for _, data in bodies(frames, "kline") if data["k"]["x"]}
    assert final.keys() == generator.truth.books.keys()
    for symbol, candle in final.items():
        inside = [t for t in trades if t["s"] == symbol and t["E"] <= candle["T"] + 1]
        assert Decimal(candle["v"]) == sum(Decimal(t["q"]) for t in inside)
        assert Decimal(candle["q"]) == sum(Decimal(t["q"]) * Decimal(t["p"]) for t in inside)
        assert Decimal(candle["V"]) == sum(Decimal(t["q"]) for t in inside if not t["m"])
        assert candle["n"] == sum(t["l"] - t["f"] + 1 for t in inside)
        prices = [Decimal(t["p"]) for t in inside]
        assert [Decimal(candle[k]) for k in "ohlc"] == [prices[0], max(prices), min(prices), prices[-1]]
        assert generator.truth.trades[symbol] == len([t for t in trades if t["s"] == symbol])
        ids = [t["a"] for t in trades if t["s"] == symbol]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize("kind", ["lost", "malformed"])
def test_a_missing_frame_breaks_one_chain_and_is_mended(kind: Any) -> None:
    frames, generator = generate(5, 6, [Fault(kind, 2.0, "ETHUSDT")])
    books, _, breaks = read_books(frames)
    assert breaks == 1
    assert books["ETHUSDT"].bids == exact(generator.truth.books["ETHUSDT"]["bids"])
    (fault,) = generator.truth.faults
    assert (fault["kind"], fault["symbol"]) == (kind, "ETHUSDT")
    if kind == "malformed":
        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            json.loads(frames[fault["frame"]]["body"] or "")


def test_a_duplicate_stands_right_after_its_original() -> None:
    frames, generator = generate(5, 3, [Fault("duplicate", 1.0)])
    (fault,) = generator.truth.faults
    assert frames[fault["frame"]]["body"] == frames[fault["frame"] + 1]["body"]
    assert read_books(frames)[2] == 0


def test_a_lost_trade_leaves_a_hole() -> None:
    frames, generator = generate(5, 5, [Fault("lost_trade", 2.0)])
    ids = [data["a"] for _, data in bodies(frames, "aggTrade") if data["s"] == "BTCUSDT"]
    assert ids[-1] - ids[0] == len(ids)
    assert len(generator.truth.faults) == 1


def test_a_reconnect_is_a_close_and_an_open_a_second_later() -> None:
    frames, generator = generate(5, 6, [Fault("reconnect", 2.0)])
    (close,) = [i for i, frame in enumerate(frames) if frame["kind"] == "close"]
    opened = [(i, frame["conn"]) for i, frame in enumerate(frames) if frame["kind"] == "open"]
    assert generator.truth.faults[0]["frame"] == close
    assert [conn for _, conn in opened] == [1, 2, 3]
    assert 0.9e9 < frames[opened[-1][0]]["recv_ns"] - frames[close]["recv_ns"] < 1.1e9
    books, _, breaks = read_books(frames)
    assert breaks == 0
    assert books.keys() == generator.truth.books.keys()


def test_the_command_writes_a_recording_and_its_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, truth = tmp_path / "r.jsonl.gz", tmp_path / "truth.json"
    main([str(file), "--seed", "9", "--seconds", "2", "--fault", "lost@1:SOLUSDT", "--truth", str(truth)])
    assert list(recording.read(file)) == generate(9, 2, [Fault("lost", 1.0, "SOLUSDT")])[0]
    assert json.loads(truth.read_text())["faults"][0]["symbol"] == "SOLUSDT"
    assert "frames" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["lots@1", "lost", "lost@x"])
def test_a_fault_that_makes_no_sense_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["x", "--fault", text])
    assert caught.value.code == 2
    assert text in capsys.readouterr().err
