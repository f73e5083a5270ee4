"""cryptofeed: `Feed.message_handler`, with callbacks that do nothing; REST answers come from the recording.

Runs with 3.x and, for protocols that 3.x no longer speaks, with 2.4.1.
"""

import importlib
import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import uvloop
from cryptofeed.defines import L2_BOOK, PERPETUAL, SPOT, TRADES
from cryptofeed.symbols import Symbol, Symbols
from worker import Case, RefusedError, Round, Seen, arrived, best, body, serve, timed_async

CURRENT = int(version("cryptofeed").split(".")[0]) >= 3

# What this version's book channel is called on the wire, and so what must be in a recording for it to be read.
CLASSES = {
    "binance": ("binance", "Binance", "@depth"),
    "binance_futures": ("binance_futures", "BinanceFutures", "@depth"),
    "bitfinex": ("bitfinex", "Bitfinex", '"book"'),
    "bitget": ("bitget", "Bitget", '"books'),
    "bitstamp": ("bitstamp", "Bitstamp", '"order_book_' if CURRENT else "diff_order_book_"),
    "bybit": ("bybit", "Bybit", '"orderbook.'),
    "coinbase": ("coinbase", "Coinbase", '"l2_data"'),
    "coinbase_advanced": ("coinbase", "Coinbase", '"l2_data"'),
    "cryptocom": ("cryptodotcom", "CryptoDotCom", "book."),
    "deribit": ("deribit", "Deribit", '"book.'),
    "dydx": ("dydx", "dYdX", "v4_orderbook"),
    "gemini": ("gemini", "Gemini", "l2_updates"),
    "hyperliquid": ("hyperliquid", "Hyperliquid", "l2Book"),
    "kraken": ("kraken", "Kraken", '"channel":"book"' if CURRENT else '"book-'),
    "kucoin": ("kucoin", "KuCoin", '"obu.' if CURRENT else "/market/level2:"),
    "okx": ("okx", "OKX", '"books"'),
    "upbit": ("upbit", "Upbit", "orderbook"),
}
REFUSED = {
    "htx": "it reads depth snapshots (market.*.depth.*), not the incremental book (market.*.mbp.*) of the recording",
    "bitfinex": "it takes the last field for the sequence, which is a time with the flags of the recording",
}
OPTIONS = {
    "kraken": {"max_depth": 100},
    "kucoin": {} if CURRENT else {"config": {"kucoin": {"key_id": "a", "key_secret": "b", "key_passphrase": "c"}}},
}


def said(line: dict[str, Any]) -> str:
    """What a frame says, if it says it plainly."""
    frame = body(line)
    return frame.decode(errors="replace") if isinstance(frame, bytes) else frame


class Connection:
    """What a handler needs of its connection; what it writes goes nowhere."""

    def __init__(self, subscription: dict[str, list[str]], address: str) -> None:
        self.subscription, self.address, self.uuid = subscription, address, "recording"

    async def write(self, data: object) -> None:
        """Nobody listens."""

    async def close(self) -> None:
        """A feed closes a connection to begin anew: a recording cannot."""
        raise RuntimeError("the feed closed its connection")


class Answers:
    """Stands for the feed's HTTP connection: depth snapshots by the symbol in the URL."""

    def __init__(self, case: Case) -> None:
        self.case, self.answers = case, case.snapshots()

    async def read(self, url: str, *_: object, **__: object) -> str:
        """The recorded answer."""
        native = self.case.named(url)
        if native not in self.answers:
            raise RuntimeError(f"nothing recorded for {url}")
        return self.answers[native]


def kucoin_token(feed: Any) -> None:
    """2.x asks for a token when a feed is made."""
    bullet = '{"data":{"token":"","instanceServers":[{"endpoint":"wss://recording","pingInterval":18000}]}}'
    feed.http_sync = type("Answer", (), {"write": staticmethod(lambda *_, **__: json.loads(bullet))})


class Reader:
    """The feed of a recording's venue, its connection and its symbols."""

    def __init__(self, case: Case) -> None:
        if case.venue in REFUSED:
            raise RefusedError(REFUSED[case.venue])
        if case.venue not in CLASSES:
            raise RefusedError("no such venue")
        module, name, spelled = CLASSES[case.venue]
        try:
            self.feed_class = getattr(importlib.import_module(f"cryptofeed.exchanges.{module}"), name)
        except ModuleNotFoundError:
            raise RefusedError("no such venue") from None
        if not any(spelled in said(line) or spelled in line["url"] for line in case.lines if arrived(line)):
            raise RefusedError(f"another protocol: it reads {spelled} messages, the recording has none")
        self.case = case
        self.names: dict[str, str] = {}
        """The venue's symbols by the feed's."""
        natives = {}
        for native, symbol in case.symbols.items():
            kind = PERPETUAL if symbol["kind"] == "perpetual" else SPOT
            # It tells Bybit's spot pairs from its perpetuals by a slash of its own.
            own = f"{symbol['base']}/{symbol['quote']}" if case.venue == "bybit" else native
            normal = Symbol(symbol["base"], symbol["quote"], type=kind).normalized
            natives[normal], self.names[normal] = own, native
        kinds = {normal: PERPETUAL if normal.endswith("PERP") else SPOT for normal in natives}
        steps = dict.fromkeys(natives, "0.00000001")
        Symbols.set(self.feed_class.id, natives, {"instrument_type": kinds, "tick_size": steps})
        if case.venue == "kucoin" and not CURRENT:
            kucoin_token(self.feed_class)
        self.address = next(line["url"] for line in case.lines if line["kind"] == "open")

    async def begin(self, channels: list[str], **options: Any) -> tuple[Any, Connection]:
        """A feed that has subscribed."""
        options |= OPTIONS.get(self.case.venue, {})
        feed = self.feed_class(symbols=list(self.names), channels=channels, **options)
        feed.http_conn = Answers(self.case)
        connection = Connection(dict(feed.subscription), self.address)
        await feed.subscribe(connection)
        return feed, connection

    def books(self, feed: Any) -> Iterator[tuple[str, Any, Any]]:
        """The books it has, by the venue's symbols."""
        for normal, native in self.names.items():
            if normal in feed._l2_book:  # noqa: SLF001 it hands books out to callbacks only
                book = feed._l2_book[normal].book  # noqa: SLF001
                yield native, book.bids.to_dict().items(), book.asks.to_dict().items()


def load(case: Case) -> Any:
    """Makes what does a round."""
    reader = Reader(case)

    async def play() -> Round:
        feed, connection = await reader.begin([L2_BOOK])
        for line in case.warm:
            if arrived(line):
                await feed.message_handler(body(line), connection, line["recv_ns"] / 1e9)
        nanos = await timed_async(case.frames, lambda frame: feed.message_handler(frame, connection, 0.0))
        return nanos, {native: [best(bids), best(asks)] for native, bids, asks in reader.books(feed)}

    return lambda: uvloop.run(play())


def read(case: Case, seen: Seen) -> None:
    """Reads the whole recording."""
    reader = Reader(case)

    async def traded(trade: Any, _: float) -> None:
        seen.trade(reader.names[trade.symbol], trade.price, trade.amount, trade.side, trade.id)

    async def play() -> None:
        feed, connection = await reader.begin([L2_BOOK, TRADES], callbacks={TRADES: traded})
        for number, line in enumerate(case.lines):
            # It has sent no ping, and so expects no answer to one.
            if arrived(line) and body(line) != "pong":
                await feed.message_handler(body(line), connection, line["recv_ns"] / 1e9)
            seen.books(number, lambda: reader.books(feed))

    uvloop.run(play())


if __name__ == "__main__":
    logging.disable(logging.INFO)
    serve(load, read)
