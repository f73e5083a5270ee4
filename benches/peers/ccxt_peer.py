"""ccxt pro: `watch_order_book` subscribes, then its client's own message handler is given the frames.

The client is ccxt's, without a socket: what it sends is acknowledged as the venue would, REST answers come from the
recording at the moment they came then.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Iterator
from typing import Any

import uvloop
from ccxt import pro
from ccxt.async_support.base.ws.functions import gunzip
from worker import Case, RefusedError, Round, Seen, arrived, best, body, serve, timed_async

IDS = {
    "binance": "binance",
    "binance_futures": "binanceusdm",
    "bitfinex": "bitfinex",
    "bitget": "bitget",
    "bitstamp": "bitstamp",
    "bybit": "bybit",
    "coinbase": "coinbaseexchange",
    "coinbase_advanced": "coinbase",
    "cryptocom": "cryptocom",
    "deribit": "deribit",
    "dydx": "dydx",
    "gateio": "gate",
    "gemini": "gemini",
    "htx": "htx",
    "hyperliquid": "hyperliquid",
    "kraken": "kraken",
    "kucoin": "kucoin",
    "mexc": "mexc",
    "okx": "okx",
    "upbit": "upbit",
}
CHUNK = 64
# What the recordings have subscribed to.
LIMITS = {"kraken": 100, "bybit": 200, "bitfinex": 100, "htx": 400}
# It signs even public subscriptions where the venue takes signed ones.
COINBASE = {"apiKey": "a", "secret": "YQ==", "password": "c"}
KEYS = {"coinbase": COINBASE, "coinbase_advanced": COINBASE}
# Where it counts requests by address: with one client for all addresses their numbers would be the same.
BY_ADDRESS = {"binance", "binance_futures"}


def acknowledged(venue: str, message: Any) -> Any:
    """What the venue says to a subscription, where ccxt does something only then."""
    if venue in {"binance", "binance_futures"}:
        return {"result": None, "id": message["id"]}
    if venue == "kucoin":
        return {"id": message["id"], "type": "ack"}
    if venue == "bitstamp":
        return {"event": "bts:subscription_succeeded", "channel": message["data"]["channel"], "data": {}}
    if venue == "htx" and "sub" in message:
        return {"id": message["id"], "status": "ok", "subbed": message["sub"], "ts": 0}
    return None


def unpacked(frame: str | bytes) -> str | bytes:
    """As its receive loop hands a frame on: it unpacks gzip, and knows of no other."""
    return gunzip(frame) if frame[:2] == b"\x1f\x8b" else frame


class Exchange:
    """A ccxt exchange whose sockets and requests are a recording."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.exchange = getattr(pro, IDS[case.venue])({"enableRateLimit": False, **KEYS.get(case.venue, {})})
        self.exchange.set_markets([self.market(native, symbol) for native, symbol in case.symbols.items()])
        self.symbols = {native: self.market(native, symbol)["symbol"] for native, symbol in case.symbols.items()}
        """Its names by the venue's."""
        self.exchange.fetch = self.fetch
        self.exchange.open()
        # A live client waits for some changes before it asks for a snapshot; here the answer has come by then.
        for options in (self.exchange.options, self.exchange.options.get("watchOrderBook", {})):
            if "snapshotDelay" in options or options is not self.exchange.options:
                options["snapshotDelay"] = 0
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.clients: list[Any] = []
        self.asked: dict[str, str] = {}
        """HTX: the id of each request for a snapshot, by topic."""
        if case.venue in BY_ADDRESS:
            ids = itertools.count(1)
            self.exchange.request_id = lambda *_: next(ids)
        make = self.exchange.client

        def client(url: str) -> Any:
            # One for all addresses: a frame of the recording does not say which of the peer's own it would come from.
            if not self.clients:
                self.connect(make(url))
            return self.clients[0]

        self.exchange.client = client

    def market(self, native: str, symbol: dict[str, str]) -> dict[str, Any]:
        """A market as `load_markets` would give it."""
        base, quote, swap = symbol["base"], symbol["quote"], symbol["kind"] == "perpetual"
        return self.exchange.safe_market_structure(
            {
                # Gemini's REST, from which it has its ids, writes small letters.
                "id": native.lower() if self.case.venue == "gemini" else native,
                "lowercaseId": native.lower(),
                "symbol": f"{base}/{quote}:{quote}" if swap else f"{base}/{quote}",
                "base": base,
                "baseName": base,
                "quote": quote,
                "baseId": base,
                "quoteId": quote,
                "settle": quote if swap else None,
                "settleId": quote if swap else None,
                "type": "swap" if swap else "spot",
                "spot": not swap,
                "swap": swap,
                "future": False,
                "option": False,
                "contract": swap,
                "linear": True if swap else None,
                "inverse": False if swap else None,
                "contractSize": 1.0 if swap else None,
                "active": True,
                "precision": {"amount": 1e-8, "price": 1e-8},
                "info": {"wsname": native},
            }
        )

    def connect(self, client: Any) -> None:
        """The client believes that it is connected."""
        self.clients.append(client)
        client.connecting = client.isConnected = True
        client.connected.resolve(client.url)

        async def send(message: Any) -> None:
            if self.case.venue == "htx" and "req" in message:
                self.asked[message["req"]] = message["id"]
            answer = acknowledged(self.case.venue, message)
            if answer is not None:
                asyncio.get_running_loop().call_soon(client.on_message_callback, client, answer)

        client.send = send

    async def fetch(self, url: str, method: str = "GET", headers: object = None, sent: object = None) -> Any:
        """The recorded answer, as soon as it has come."""
        if "bullet-public" in url:
            server = {"endpoint": "wss://recording", "pingInterval": 18000, "protocol": "websocket"}
            return {"code": "200000", "data": {"token": "", "instanceServers": [server]}}
        native = self.case.named(url)
        if native is None:
            raise RuntimeError(f"nothing recorded for {url}")
        return await self.waiting.setdefault(native, asyncio.get_running_loop().create_future())

    def answer(self, line: dict[str, Any]) -> None:
        """A REST answer has come."""
        native = self.case.named(line["url"])
        if native is not None:
            future = self.waiting.setdefault(native, asyncio.get_running_loop().create_future())
            if not future.done():
                future.set_result(json.loads(line["body"]))

    def addressed(self, text: str | bytes) -> str | bytes:
        """HTX: a recorded snapshot answers the recorder's request; here it answers ccxt's."""
        if self.case.venue != "htx" or isinstance(text, bytes) or '"rep"' not in text:
            return text
        message = json.loads(text)
        return json.dumps({**message, "id": self.asked.get(message["rep"], message.get("id"))})

    async def end(self, watching: list["asyncio.Future[Any]"]) -> None:
        """Nothing is waited for any more."""
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await self.exchange.close()

    async def begin(self, *, trades: bool = False) -> list["asyncio.Future[Any]"]:
        """Subscribes, as far as that can be done before anything has come."""
        exchange, limit = self.exchange, LIMITS.get(self.case.venue)
        symbols = self.symbols.values()
        watching = [asyncio.ensure_future(exchange.watch_order_book(symbol, limit)) for symbol in symbols]
        if trades:
            watching += [asyncio.ensure_future(exchange.watch_trades(symbol)) for symbol in symbols]
        await settled()
        for task in watching:
            error = task.exception() if task.done() else None
            if error is not None:
                raise error
        if not self.clients:
            raise RefusedError("watch_order_book made no connection")
        return watching

    def handle(self, frame: str | bytes) -> None:
        """Its client is given a frame."""
        self.clients[0].handle_text_or_binary_message(unpacked(frame))

    async def take(self, line: dict[str, Any]) -> None:
        """A line of the recording, with the time to do what follows from it."""
        if line["kind"] == "http":
            self.answer(line)
        elif arrived(line):
            self.handle(self.addressed(unpacked(body(line))))
        await settled()

    def books(self) -> Iterator[tuple[str, Any, Any]]:
        """The books it has, by the venue's symbols."""
        for native, symbol in self.symbols.items():
            book = self.exchange.orderbooks.get(symbol)
            if book is not None and book["asks"]:
                yield native, book["bids"], book["asks"]


def load(case: Case) -> Any:
    """Makes what does a round."""
    if case.venue not in IDS:
        raise RefusedError("no such venue in ccxt pro")

    async def play() -> Round:
        peer = Exchange(case)
        watching = await peer.begin()
        for line in case.warm:
            await peer.take(line)
        chunks = [case.frames[start : start + CHUNK] for start in range(0, len(case.frames), CHUNK)]

        async def several(frames: list[Any]) -> None:
            for frame in frames:
                peer.handle(frame)
            # As its receive loop does, which drains what waits and then lets other tasks run.
            await asyncio.sleep(0)

        nanos = await timed_async(chunks, several)
        books = {native: [best(bids), best(asks)] for native, bids, asks in peer.books()}
        await peer.end(watching)
        return nanos, books

    return lambda: uvloop.run(play())


def read(case: Case, seen: Seen) -> None:
    """Reads the whole recording."""
    if case.venue not in IDS:
        raise RefusedError("no such venue in ccxt pro")

    async def play() -> None:
        peer = Exchange(case)
        peer.exchange.options["tradesLimit"] = len(case.lines) * 10
        watching = await peer.begin(trades=True)
        told: dict[str, tuple[Any, int]] = {}
        for number, line in enumerate(case.lines):
            try:
                await peer.take(line)
            except Exception as error:  # noqa: BLE001 what a peer cannot read is a line of the table
                seen.failed(number, error)
            seen.books(number, peer.books)
            for native, symbol in peer.symbols.items():
                # Some of its exchanges begin a new list with each message.
                trades = peer.exchange.trades.get(symbol, ())
                before, count = told.get(symbol, (None, 0))
                for trade in trades[count if before is trades else 0 :]:
                    seen.trade(native, trade["price"], trade["amount"], trade["side"], trade["id"])
                told[symbol] = trades, len(trades)
        await peer.end(watching)

    uvloop.run(play())


async def settled() -> None:
    """Lets every task that can go on do so."""
    for _ in range(12):
        await asyncio.sleep(0)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(load, read)
