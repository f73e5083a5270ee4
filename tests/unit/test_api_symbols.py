"""Looking instruments up: lists of thousands are read when they change, not for every question."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from coby.api.errors import NotLiveError
from coby.api.history import History
from coby.api.state import State
from coby.api.symbols import ALL, Directory
from coby.api.view import LiveView
from coby.config import Settings
from coby.utils.exceptions import EngineError, UnknownSymbolError
from support.serving import FakeLive, instrument


@dataclass
class Engine(FakeLive):
    """Notes which lists are asked for, and on which thread."""

    asked: list[str | None] = field(default_factory=list)
    busy: bool = False

    def instruments(self, venue: str | None = None) -> list[dict[str, Any]]:
        assert threading.current_thread() is not threading.main_thread(), "the event loop waits for a list"
        self.asked.append(venue)
        if self.busy:
            raise EngineError("the engine does not answer within a second")
        return super().instruments(venue)


def directory_of(engine: Engine) -> Directory:
    view = LiveView()
    state = State(Settings(), engine, None, view, None, None, 0)  # type: ignore[arg-type]
    return Directory(state, History(None, view))


def live_engine() -> Engine:
    engine = Engine([instrument("kraken", "XBT/USD", "BTC-USD"), instrument("okx", "BTC-USD", "BTC-USD")])
    engine.told = {venue: {"state": "live"} for venue in ("kraken", "okx")}
    return engine


def test_a_list_is_read_again_only_where_the_engine_tells_of_a_change() -> None:
    async def run() -> None:
        engine = live_engine()
        directory = directory_of(engine)
        for _ in range(3):
            found = await directory.chosen(ALL, "BTC")
            assert [(of.venue, of.native_symbol) for of in found] == [("kraken", "XBT/USD"), ("okx", "BTC-USD")]
        assert sorted(map(str, engine.asked)) == ["kraken", "okx"]
        engine.asked.clear()
        engine.listed.append(instrument("okx", "ETH-USD", "ETH-USD"))
        engine.told["okx"]["instruments"] = 4
        assert (await directory.one("okx", "eth/usd")).native_symbol == "ETH-USD"
        assert engine.asked == ["okx"]

    asyncio.run(run())


def test_a_list_that_the_engine_was_too_busy_for_is_asked_for_again() -> None:
    async def run() -> None:
        engine = live_engine()
        directory = directory_of(engine)
        engine.busy = True
        with pytest.raises(NotLiveError):
            await directory.one("okx", "BTC")
        engine.busy = False
        assert (await directory.one("okx", "BTC")).native_symbol == "BTC-USD"

    asyncio.run(run())


def test_of_what_is_subscribed_and_what_is_not_the_first_is_meant() -> None:
    async def run() -> None:
        engine = live_engine()
        engine.listed += [
            instrument("kraken", "XBT/USDT", "BTC-USDT", subscribed=False),
            instrument("kraken", "ADA/USD", "ADA-USD", subscribed=False),
        ]
        directory = directory_of(engine)
        assert {of.name for of in await directory.every("BTC")} == {"BTC-USD"}
        assert {of.name for of in await directory.every("BTC-USDT")} == {"BTC-USDT"}
        assert {of.name for of in await directory.every("ADA")} == {"ADA-USD"}
        with pytest.raises(UnknownSymbolError):
            await directory.every("NOPE")

    asyncio.run(run())
