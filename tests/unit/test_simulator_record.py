"""Recordings of all venues: read by the fact sheets' rules they give the true books; faults do what they say."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from coby import recording
from coby.recording import RecordedFrame
from coby.simulator.command import main
from coby.simulator.faults import KINDS, Fault, load, parse, to_json
from coby.simulator.venues import ALL_FEEDS, VENUES
from coby.utils.exceptions import ConfigError
from support.readers import READERS, Reader
from support.recorded import BATCHES_NS, GRIDS, Entries, recorded, text_of
from support.simulated import Client


def read(venue: str, frames: list[RecordedFrame], truth: Entries) -> Reader:
    reader = READERS[venue](truth)
    for frame in frames:
        text = text_of(frame)
        reader.now_ns = frame["recv_ns"]
        if text is not None:
            reader.text(text)
        elif frame["kind"] == "http" and frame["status"] == 200:
            reader.http(frame["url"] or "", frame["body"] or "")
        elif frame["kind"] == "close":
            reader.reset()
    return reader


@pytest.mark.parametrize("venue", ALL_FEEDS)
def test_a_recording_read_by_the_rules_gives_the_true_books_and_trades(venue: str) -> None:
    slow = venue in GRIDS
    frames, truth = recorded(venue, 12 if slow else 7)
    reader = read(venue, frames, truth)
    assert reader.breaks == []
    symbols = [market["symbol"] for market in truth[0]["venues"][ALL_FEEDS[venue].name]]
    assert len(symbols) >= 2
    for symbol in symbols:
        assert reader.compared[symbol] >= (2 if slow else 5)
        entries = [entry for entry in truth if entry["kind"] == "trade" and entry["symbol"] == symbol]
        true = [(float(entry["price"]), float(entry["size"]), entry["side"]) for entry in entries]
        seen = [(float(price), float(size), side) for price, size, side, _ in reader.trades[symbol]]
        assert len(seen) > 3
        start = next(i for i in range(len(true)) if true[i : i + len(seen)] == seen)
        late = frames[-1]["recv_ns"] - 50_000_000 - BATCHES_NS.get(venue, 0)
        assert all(entry["t"] > late for entry in entries[start + len(seen) :]), "only the last may be on their way"
        ids = [trade[3] for trade in reader.trades[symbol]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("venue", VENUES)
def test_recordings_are_the_same_to_the_byte_and_in_time_order(venue: str, tmp_path: Any) -> None:
    files = []
    for number, seed in enumerate(("5", "5", "6")):
        file = tmp_path / f"{number}.jsonl.gz"
        main(["--venues", venue, "--symbols", "ETH", "--seed", seed, "--seconds", "3", "--record", str(file)])
        files.append(file.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]
    frames = list(recording.read(tmp_path / "0.jsonl.gz"))
    times = [frame["recv_ns"] for frame in frames]
    assert times == sorted(set(times))
    opened = [frame["conn"] for frame in frames if frame["kind"] == "open"]
    assert len(opened) == len(set(opened))


def test_the_command_records_several_venues_into_a_directory_with_one_truth(tmp_path: Any) -> None:
    truth = tmp_path / "truth.jsonl"
    arguments = ["--venues", "kraken", "bitstamp", "--symbols", "BTC-USD", "--seconds", "2", "--truth", str(truth)]
    assert main([*arguments, "--record", str(tmp_path / "all"), "--truth-every", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["bitstamp.jsonl.gz", "kraken.jsonl.gz"]
    entries = [json.loads(line) for line in truth.read_text().splitlines()]
    assert {(e["venue"], e["symbol"]) for e in entries if e["kind"] == "book"} == {
        ("kraken", "BTC/USD"),
        ("bitstamp", "btcusd"),
    }
    assert main([*arguments, "--record", str(tmp_path / "all.jsonl")]) == 2


# Faults

BTC = {"binance_futures": "BTCUSDT", "kucoin": "BTC-USDT", "kraken": "BTC/USD", "coinbase": "BTC-USD"}


def listen(venue: str, *faults: Fault) -> Client:
    """A client that follows the book of BTC."""
    client = Client(venue, faults=faults)
    if venue == "binance_futures":
        return client.dial("/public/ws/btcusdt@depth@100ms")
    if venue == "kraken":
        client.dial("/v2").say({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"]}})
    else:
        client.dial("/").say({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch"]})
    return client


def both(*faults: Fault, seconds: float = 3.0) -> tuple[list[str | bytes], list[str | bytes], Client]:
    """What comes with and without faults."""
    with_, without = (listen("binance_futures", *given).wait(seconds) for given in (faults, ()))
    return with_.ear.payloads, without.ear.payloads, with_


def test_drop_duplicate_and_reorder() -> None:
    got, all_, client = both(Fault("drop", at=1.0, count=2))
    index = next(i for i, (a, b) in enumerate(zip(got, all_, strict=False)) if a != b)
    assert got == all_[:index] + all_[index + 2 :]
    assert [(e["fault"], e["venue"], e["symbol"]) for e in client.log] == [("drop", "binance_futures", "BTCUSDT")] * 2
    assert client.log[0]["t"] - client.exchange.clock.start_ns == 1_000_000_000
    got, all_, _ = both(Fault("duplicate", at=1.0))
    assert got == all_[: index + 1] + all_[index:]
    got, all_, _ = both(Fault("reorder", at=1.0))
    assert got == [*all_[:index], all_[index + 1], all_[index], *all_[index + 2 :]]


def test_corrupt_and_truncate() -> None:
    got, all_, client = both(Fault("corrupt", at=1.0, within=5))
    (wrong, right), *rest = [(a, b) for a, b in zip(got, all_, strict=True) if a != b]
    assert rest == []
    entry = client.log[0]
    assert (
        str(wrong).replace(f'"{entry["price"]}","{entry["wrong"]}"', f'"{entry["price"]}","{entry["size"]}"') == right
    )
    got, all_, _ = both(Fault("truncate", at=1.0))
    (half, whole), *rest = [(a, b) for a, b in zip(got, all_, strict=True) if a != b]
    assert rest == []
    assert half == whole[: len(whole) // 2]


def test_the_nth_frame_of_a_target() -> None:
    got, all_, _ = both(Fault("drop", frame=7))
    assert got == all_[:6] + all_[7:]
    got, all_, _ = both(Fault("drop", venue="kraken"), Fault("drop", symbol="ETHUSDT"), Fault("drop", channel="trade"))
    assert got == all_


def test_freeze_is_silence_on_an_open_socket_and_close_is_not() -> None:
    got, all_, client = both(Fault("freeze", at=1.0, seconds=0))
    assert got == all_[: len(got)]
    assert len(got) < len(all_) / 2
    assert client.ear.closed is None
    assert client.connection is not None
    client.connection.ping()
    assert client.ear.pings == []
    got, all_, _ = both(Fault("freeze", at=1.0, seconds=1.0))
    missing = [payload for payload in all_ if payload not in got]
    assert 5 < len(missing) <= 11
    assert got[-1] == all_[-1]
    got, all_, client = both(Fault("close", at=1.0, code=1013))
    assert client.ear.closed == 1013
    assert got == all_[: len(got)]


def test_skip_leaves_a_hole_in_the_numbers_only() -> None:
    frames = [json.loads(text) for text in both(Fault("skip", at=1.0, symbol="BTC-USDT-PERP"))[0]]
    breaks = [n for n, (a, b) in enumerate(pairwise(frames)) if b["pu"] != a["u"]]
    assert len(breaks) == 1
    assert both(Fault("skip", at=1.0, venue="binance_futures", symbol="ETHUSDT"))[0] == both()[1]
    assert listen("kraken", Fault("skip", at=1.0)).wait(2).log == [], "there are no numbers to skip"


def test_a_time_jump_moves_the_venues_clock() -> None:
    got, all_, client = both(Fault("time_jump", at=1.0, seconds=-30.0))
    moved = [json.loads(a)["E"] - json.loads(b)["E"] for a, b in zip(got, all_, strict=True)]
    assert set(moved) == {0, -30_000}
    assert moved == sorted(moved, reverse=True)
    assert [entry["symbol"] for entry in client.log] == [None]


def test_doors() -> None:
    from coby.simulator.exchange import Request

    faults = (
        Fault("refuse", at=1.0, seconds=1.0),
        Fault("http", at=3.0, seconds=1.0, status=418, retry_after=7, path="/depth"),
        Fault("slow_handshake", at=5.0, seconds=1.0, delay=4.0),
    )
    client = Client("binance_futures", faults=faults)
    depth = Request.get("/fapi/v1/depth?symbol=BTCUSDT&limit=5")

    def meet() -> tuple[int | None, bool, int]:
        door = client.exchange.faults.door(client.venue, "/public/ws/x", socket=True)
        answer = client.exchange.ask(client.venue, depth)
        return answer.status if answer else None, door.refused, door.delay_ns

    assert meet() == (200, False, 0)
    client.wait(1.5)
    assert meet() == (None, True, 0)
    client.wait(2.0)
    assert meet() == (418, False, 0)
    assert client.answer(depth).headers["Retry-After"] == "7"
    assert client.answer(Request.get("/fapi/v1/ping")).status == 200
    client.wait(2.0)
    assert meet() == (200, False, 4_000_000_000)
    client.wait(2.0)
    assert meet() == (200, False, 0)
    assert {entry["fault"] for entry in client.log} == {"refuse", "http", "slow_handshake"}


def test_late_and_stale_snapshots_over_rest_and_in_the_socket() -> None:
    from coby.simulator.exchange import Request

    depth = Request.get("/fapi/v1/depth?symbol=BTCUSDT&limit=5")
    client = Client("binance_futures", faults=[Fault("late_snapshot", at=1.0, delay=3.0)])
    assert client.wait(2).answer(depth).delay_ns == 3_000_000_000
    assert client.answer(depth).delay_ns == 0
    client = Client("binance_futures", faults=[Fault("stale_snapshot", at=3.0, delay=2.0)])
    before = json.loads(client.wait(1).answer(depth).body)
    stale, now = (json.loads(client.wait(2.5).answer(depth).body) for _ in range(2))
    assert stale["lastUpdateId"] == before["lastUpdateId"] < now["lastUpdateId"]
    assert (stale["bids"], stale["asks"]) == (before["bids"], before["asks"])
    client = listen("coinbase", Fault("late_snapshot", delay=2.0))
    assert [frame["type"] for frame in client.wait(1.5).heard()] == ["subscriptions"]
    assert client.wait(1.5).heard()[0]["type"] == "snapshot"
    client = Client("coinbase", faults=[Fault("stale_snapshot", at=4.0, delay=3.0)])
    before = client.wait(1).get("/products/BTC-USD/book?level=2")
    client.wait(4).dial("/").say({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch"]})
    snapshot = client.heard()[1]
    assert snapshot["bids"] == [level[:2] for level in before["bids"]]


def test_scripts_are_files_or_names(tmp_path: Any) -> None:
    exchange = Client("kraken").exchange
    file = tmp_path / "faults.json"
    file.write_text('[{"kind": "drop", "at": 3, "venue": "kraken", "symbol": "BTC-USD", "within": 10}]')
    (fault,) = load(str(file), exchange)
    assert fault == Fault("drop", 3, "kraken", "BTC-USD", within=10)
    assert parse(to_json(fault), exchange) == fault
    assert load("none", exchange) == []
    assert {fault.kind for fault in load("all", exchange)} == set(KINDS)
    assert len(load("flaky", exchange)) > 100


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("drop", "object"),
        ({"kind": "dorp"}, "dorp"),
        ({"kind": "drop", "venue": "krakn"}, "krakn"),
        ({"kind": "drop", "symbol": "BTC-EUR"}, "BTC-EUR"),
        ({"kind": "drop", "when": 3}, "when"),
        ({"kind": "drop", "at": "3"}, '"3"'),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(entry: object, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        parse(entry, Client("kraken").exchange)


@pytest.mark.parametrize(
    "arguments", [["--venues", "krakn"], ["--speed", "0"], ["--faults", "nothing"], ["--seconds", "0"]]
)
def test_a_wrong_argument_ends_with_one_line_that_names_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--record", str(tmp_path / "recordings")]) == 2
    error = capsys.readouterr().err
    assert arguments[1] in error
    assert error.count("\n") == 1
