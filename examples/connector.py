"""A connector of one's own: a market that walks at random. `COBY_CONNECTORS=examples.connector:RandomWalk` runs it."""

import asyncio
import random
import time

from coby.interfaces import Channel, ExchangeConnector
from coby.models import ConnectionStatus, OrderBookSnapshot


class RandomWalk(ExchangeConnector):
    """One symbol, ten levels a side around a price that moves twenty times a second."""

    exchange = "random_walk"

    def __init__(self) -> None:
        super().__init__()
        self.cents, self.sequence, self.since = 5_000_000, 0, time.time_ns()
        self.sent, self.ended = set[Channel](), asyncio.Event()

    def levels(self) -> list[dict[str, str]]:
        return [{f"{(self.cents + sign * n) / 100:.2f}": str(n) for n in range(1, 11)} for sign in (-1, 1)]

    async def connect(self) -> None:
        self.sent.clear()
        self.ended.clear()

    async def disconnect(self) -> None:
        self.ended.set()

    async def subscribe(self, symbol: str, channel: Channel) -> None:
        self.sent.add(channel)
        await self.notify({"kind": "subscribed", "symbol": symbol, "channel": channel})
        if channel == "book":
            bids, asks = ([*side.items()] for side in self.levels())
            book = {"symbol": symbol, "snapshot": True, "bids": bids, "asks": asks, "sequence": self.sequence}
            await self.notify({"kind": "book", **book})

    async def unsubscribe(self, symbol: str, channel: Channel) -> None:
        self.sent.discard(channel)

    async def wait_closed(self) -> None:
        while not self.ended.is_set():
            before = self.levels()
            self.cents, self.sequence = self.cents + random.choice((-1, 0, 1)), self.sequence + 1
            stamp = {"symbol": "BTC-USDT", "sequence": self.sequence, "ts_event": str(time.time_ns())}
            if "book" in self.sent:
                sides = zip(before, self.levels(), strict=True)
                bids, asks = ([(price, new.get(price, "0")) for price in old | new] for old, new in sides)
                await self.notify({"kind": "book", "snapshot": False, "bids": bids, "asks": asks, **stamp})
            if "trades" in self.sent:
                trade = {"price": f"{self.cents / 100:.2f}", "size": "0.1", "side": random.choice(("buy", "sell"))}
                await self.notify({"kind": "trade", "trade_id": self.sequence, **trade, **stamp})
            await asyncio.sleep(0.05)

    async def get_supported_symbols(self) -> list[str]:
        return ["BTC-USDT"]

    def normalize_symbol(self, symbol: str) -> str:
        return symbol

    async def get_orderbook_snapshot(self, symbol: str, depth: int = 50) -> OrderBookSnapshot:
        bids, asks = ([*side.items()][:depth] for side in self.levels())
        head = {"symbol": symbol, "exchange": self.exchange, "timestamp": time.time_ns()}
        return OrderBookSnapshot.model_validate({**head, "bids": bids, "asks": asks})

    def get_connection_status(self) -> ConnectionStatus:
        return ConnectionStatus(self.exchange, "disconnected" if self.ended.is_set() else "live", self.since)
