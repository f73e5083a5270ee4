"""Hosting connectors, against a scripted engine."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from coby.config import Settings
from coby.connectors import Host, loaded
from coby.models import OrderBookSnapshot, TradeEvent
from coby.utils.exceptions import ConfigError, ConnectorError
from examples.connector import RandomWalk

ROOT = Path(__file__).parents[2]


class FakeFeed:
    """Takes every third text until it is ended."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lists: list[str] = []
        self.asked = 0
        self.ended = False
        self.closed = False

    def _take(self, text: str, into: list[str]) -> bool:
        self.asked += 1
        if self.ended or self.asked % 3:
            return False
        into.append(text)
        return True

    def push(self, text: str) -> bool:
        return self._take(text, self.texts)

    def instruments(self, text: str) -> bool:
        return self._take(text, self.lists)

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    def __init__(self) -> None:
        self.feeds: list[FakeFeed] = []

    def external(self, exchange: str, /) -> FakeFeed:
        assert all(feed.closed for feed in self.feeds), "one connection at a time"
        self.feeds.append(FakeFeed())
        return self.feeds[-1]


class Scripted(RandomWalk):
    """Sends given frames, then waits for the end of its connection."""

    first_delay = 0.001
    exchange = "scripted"

    def __init__(self, frames: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        self.frames = frames

    async def wait_closed(self) -> None:
        for frame in self.frames:
            await self.notify(frame)
        await self.ended.wait()

    async def get_supported_symbols(self) -> list[str]:
        return ["BTC-USDT", "ETH-USD-PERP", "ETH-USD-261225"]


def frames(feed: FakeFeed) -> list[Any]:
    return [json.loads(text) for text in feed.texts]


async def until(reached: Any) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.001)


def test_frames_wait_for_room_and_come_in_order() -> None:
    sent = [{"kind": "trade", "price": Decimal("1E+2"), "more": MappingProxyType({"n": n})} for n in range(50)]

    async def run() -> FakeFeed:
        engine, connector = FakeEngine(), Scripted(sent)
        hosting = asyncio.create_task(Host(engine, connector, ["BTC", "eth/usd-perp"]).run())
        await until(lambda: engine.feeds and len(engine.feeds[0].texts) == 50 + 6)
        await connector.stop()
        await hosting
        assert engine.feeds[0].closed
        return engine.feeds[0]

    feed = asyncio.run(run())
    told = frames(feed)
    subscribed = [(frame["symbol"], frame["channel"]) for frame in told[:6] if frame["kind"] == "subscribed"]
    assert subscribed == [(symbol, kind) for symbol in ("BTC-USDT", "ETH-USD-PERP") for kind in ("book", "trades")]
    assert told[6:] == [{"kind": "trade", "price": "100", "more": {"n": n}} for n in range(50)]
    [listed] = map(json.loads, feed.lists)
    assert listed == [
        {"symbol": "BTC-USDT", "base": "BTC", "quote": "USDT"},
        {"symbol": "ETH-USD-PERP", "base": "ETH", "quote": "USD", "kind": "perpetual"},
        {"symbol": "ETH-USD-261225", "base": "ETH", "quote": "USD", "kind": "future", "expiry": "1798156800000000000"},
    ]


def test_a_connection_that_the_engine_ends_is_made_anew() -> None:
    async def run() -> FakeEngine:
        engine, connector = FakeEngine(), Scripted()
        hosting = asyncio.create_task(Host(engine, connector, ["BTC"]).run())
        for number in (1, 2, 3):
            await until(lambda: len(engine.feeds) == number and len(engine.feeds[-1].texts) == 3)  # noqa: B023
            # It has nothing to say, and hears of it all the same.
            engine.feeds[-1].ended = True
        await until(lambda: len(engine.feeds) == 4)
        hosting.cancel()
        await asyncio.gather(hosting, return_exceptions=True)
        assert connector.ended.is_set()
        return engine

    engine = asyncio.run(run())
    assert all(feed.closed for feed in engine.feeds)


def test_a_connector_whose_disconnect_fails_is_tried_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Scripted):
        refusals = 2

        async def disconnect(self) -> None:
            if self.sent and self.refusals:
                self.refusals -= 1
                raise RuntimeError("not now")
            await super().disconnect()

    async def run() -> None:
        engine, connector = FakeEngine(), Stubborn()
        hosting = asyncio.create_task(Host(engine, connector, ["BTC"]).run())
        await until(lambda: engine.feeds and len(engine.feeds[0].texts) == 3)
        engine.feeds[0].ended = True
        await until(lambda: len(engine.feeds) == 2)
        hosting.cancel()
        await asyncio.gather(hosting, return_exceptions=True)

    asyncio.run(run())
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in told] == [
        "connector scripted cannot be disconnected, which is tried again"
    ]


def test_what_is_no_json_ends_the_connector() -> None:
    with pytest.raises(ConnectorError, match="scripted: a frame is no JSON"):
        asyncio.run(asyncio.wait_for(Host(FakeEngine(), Scripted([{"price": float("nan")}]), []).run(), 10))


def test_symbols_that_it_does_not_have_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        engine = FakeEngine()
        hosting = asyncio.create_task(Host(engine, Scripted(), ["SOL"]).run())
        await until(lambda: engine.feeds and engine.feeds[0].lists)
        engine.feeds[0].ended = True
        await until(lambda: len(engine.feeds) == 2 and engine.feeds[1].lists)
        assert not engine.feeds[1].texts
        hosting.cancel()
        await asyncio.gather(hosting, return_exceptions=True)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    [record] = caplog.records
    assert record.getMessage() == ("connector scripted has none of SOL; it has BTC-USDT, ETH-USD-PERP, ETH-USD-261225")


def test_frames_are_what_the_models_read() -> None:
    async def run() -> list[Any]:
        engine, connector = FakeEngine(), RandomWalk()
        hosting = asyncio.create_task(Host(engine, connector, ["BTC"]).run())
        await until(lambda: engine.feeds and len(engine.feeds[0].texts) >= 5)
        await connector.stop()
        await hosting
        return frames(engine.feeds[0])

    told = asyncio.run(run())
    book = next(frame for frame in told if frame["kind"] == "book" and frame["snapshot"])
    named = ("symbol", "bids", "asks", "ts_event", "price", "size", "side", "trade_id")
    head = {"exchange": "random_walk", "ts_recv": 1}
    snapshot = OrderBookSnapshot.model_validate(head | {name: book[name] for name in named if name in book})
    assert (snapshot.mid_price, len(snapshot.bids)) == (50_000.0, 10)
    trade = next(frame for frame in told if frame["kind"] == "trade")
    event = TradeEvent.model_validate(head | {name: trade[name] for name in named if name in trade})
    assert (event.size, event.trade_id, event.ts_event) == (0.1, "1", int(trade["ts_event"]))


class NeedsKey(RandomWalk):
    def __init__(self, key: str) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (["no.such.module:Class"], "ModuleNotFoundError"),
        (["examples.connector:Walk"], "AttributeError"),
        (["pathlib:Path"], "is no ExchangeConnector"),
        (["decimal:Context.create"], "AttributeError"),
        ([f"{__name__}:NeedsKey"], "TypeError"),
        (["examples.connector:RandomWalk"] * 2, 'two of them are called "random_walk"'),
    ],
)
def test_connectors_that_cannot_be_used(specs: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"^connectors: ") as caught:
        loaded(specs)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_the_venue_of_connectors_is_none_to_connect_to() -> None:
    with pytest.raises(ConfigError, match=r'venues names "external".*COBY_CONNECTORS'):
        Settings(venues=("kraken", "External")).chosen_venues(["kraken"])
