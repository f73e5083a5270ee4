"""The API over the real live engine: simulated exchanges on sockets, tape, store, view and server together."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coby import _core
from coby.api import LiveView, State, create_app
from coby.config import Settings
from coby.engine import drained
from coby.monitoring.monitor import ProcessMonitor
from coby.storage.embedded import StoreReader, StoreWriter
from coby.storage.select import Selection
from support.serving import UNLIMITED, Server

VENUES = ("binance", "kraken", "okx")


class Running:
    """What the daemon puts together, without its feeder's cares."""

    def __init__(self, directory: Path, simulator: str) -> None:
        settings = Settings(data_dir=directory, symbols=("BTC", "ETH"))
        self.writer = StoreWriter(directory / "store")
        self.reader = StoreReader(directory / "store")
        selection = Selection(self.reader)
        self.engine = _core.Engine.live(
            directory / "tape",
            settings.pipeline_settings(),
            venues=VENUES,
            symbols=("BTC", "ETH"),
            simulator=simulator,
        )
        self.view = LiveView(lambda: selection.watermark)
        self.state = State(
            settings=settings,
            engine=self.engine,
            store=selection,
            view=self.view,
            feeder=None,
            monitor=ProcessMonitor(self.engine, None, data_dir=directory, memory_limit_mib=2048),
            started=time.time_ns(),
            limits=UNLIMITED,
        )
        self.thread = threading.Thread(target=lambda: asyncio.run(self._feed()))
        self.thread.start()

    async def _feed(self) -> None:
        committed = time.monotonic()
        async with aclosing(drained(self.engine)) as wakes:
            async for cuts in wakes:
                for cut in cuts:
                    self.view.take(cut)
                    self.writer.append(cut)
                if time.monotonic() - committed > 0.5:
                    self.writer.commit(self.engine.durable_pos)
                    committed = time.monotonic()

    def close(self) -> None:
        self.engine.stop()
        self.thread.join()
        self.reader.close()
        self.writer.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = [sys.executable, "-m", "coby.simulator", "--venues", *VENUES, "--symbols", "BTC", "ETH", "--seed", "3"]
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(simulator.terminate)
        assert simulator.stdout is not None
        address = simulator.stdout.readline().removeprefix("listening on ").strip()
        running = Running(tmp_path_factory.mktemp("live"), address)
        stack.callback(running.close)
        yield stack.enter_context(Server(create_app(running.state)))


def until(ask: Any, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return answer


def test_a_start_becomes_ready_and_every_book_live(server: Server) -> None:
    until(lambda: server.ask("/api/v1/health/ready").status == 200)
    until(lambda: all(venue["state"] == "live" for venue in server.get("/venues")["items"] if venue["books"]))
    venues = {venue["venue"]: venue for venue in server.get("/venues")["items"]}
    assert {name for name, venue in venues.items() if venue["state"] == "live"} == set(VENUES)
    assert all(venues[name]["books_live"] == 2 for name in VENUES)
    assert venues["bybit"]["state"] == "off"


@pytest.mark.parametrize("venue", VENUES)
def test_books_are_uncrossed_and_buckets_add_up(server: Server, venue: str) -> None:
    def live() -> Any:
        book = server.get(f"/books/{venue}/btcusdt", depth=5000)
        return book if book["state"] == "live" else None

    book = until(live)
    assert book["symbol"] == "BTC-USDT"
    assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
    for side, descending in (("bids", True), ("asks", False)):
        prices = [Decimal(price) for price, _ in book[side]]
        assert prices == sorted(set(prices), reverse=descending)
    buckets = server.get(f"/buckets/{venue}/BTC", bucket="25", rows=400)
    best = int(Decimal(book["bids"][0][0]) // 25)
    assert abs(buckets["bids"][0]["index"] - best) <= 2
    assert int(buckets["pos"]) >= int(book["pos"])


def test_all_venues_are_one_book(server: Server) -> None:
    book = until(lambda: (b := server.get("/books/all/BTC", depth=50)) and len(b["included"]) == 3 and b)
    assert [venue["venue"] for venue in book["included"]] == list(VENUES)
    for levels, shares in zip(book["bids"], book["shares"]["bids"], strict=True):
        assert Decimal(levels[1]) == sum(map(Decimal, shares.values()))
    spreads = server.get("/spreads/BTC")
    assert len(spreads["matrix"]) == len(spreads["venues"]) == 3


def test_rows_come_from_store_and_memory_without_a_seam(server: Server) -> None:
    status = until(lambda: (s := server.get("/status")) and int(s["watermark"]) and s)
    assert int(status["watermark"]) <= int(status["durable_pos"])
    before = server.get("/trades/all/BTC-USDT", from_=0, limit=5000)["items"]
    # More has been stored since, and more has come.
    until(lambda: int(server.get("/status")["watermark"]) > int(status["watermark"]))
    items, cursor = [], None
    while True:
        page = server.get("/trades/all/BTC-USDT", from_=0, limit=50, cursor=cursor)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert items[: len(before)] == before, "what was told once stays, wherever it lies by now"
    assert len(items) > len(before)
    keys = [(int(item["pos"]), item["venue"], item["trade_id"]) for item in items]
    assert len(set(keys)) == len(keys)
    assert [pos for pos, _, _ in keys] == sorted(pos for pos, _, _ in keys)
    assert any(int(item["pos"]) <= int(status["watermark"]) for item in items)


def test_the_heatmap_grows_one_column_an_interval(server: Server) -> None:
    page = until(lambda: (p := server.get("/heatmap/all/ETH-USDT", limit=8)) and len(p["items"]) == 8 and p)
    numbers = [column["number"] for column in page["items"]]
    assert numbers == list(range(numbers[0], numbers[0] + 8))
    assert page["items"][-1]["venues_selected"] == 3
    assert Decimal(page["items"][-1]["best_bid"]) > 0
    assert server.get("/coverage/ETH-USDT")["venues"][0]["venue"] in VENUES
    assert "coby_venue_state" in server.ask("/metrics").body.decode()


def test_what_is_unknown_is_refused_with_the_core_s_words(server: Server) -> None:
    status, told = server.refused("/books/okx/BTC-USDTT")
    assert (status, told["code"]) == (404, "unknown_symbol")
    assert "BTC-USDT" in told["detail"]
    assert server.refused("/books/bybit/BTC")[1]["code"] == "not_live"
    other = next(item for item in server.get("/instruments", venue="kraken", subscribed="false")["items"])
    status, told = server.refused(f"/books/kraken/{other['symbol']}")
    assert (status, told["code"]) == (409, "not_live")
    assert "not subscribed" in told["detail"]
