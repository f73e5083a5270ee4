"""Readers of each venue's feed, straight from its fact sheet, that share nothing with the simulator or with COBY.

A reader follows the published procedure for one kind of feed, and compares its books with the truth on the way.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.naive import NaiveBook, exact

Levels = Iterable[tuple[str, str]]
MS, US = 1_000_000, 1_000


class Reader:
    """Books of one venue. `breaks` lists the symbols whose rules were broken, in order; such a book starts anew."""

    depth: int | None = None

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        self.books: dict[str, NaiveBook] = {}
        self.known: dict[str, tuple[Decimal, Decimal]] = {}
        self.breaks: list[str] = []
        self.compared: defaultdict[str, int] = defaultdict(int)
        self.trades: defaultdict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
        self._truth: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for entry in truth:
            if entry["kind"] == "book":
                self._truth[entry["symbol"]].append(entry)

    def text(self, body: str) -> None:
        """Takes a frame; one that is no JSON is a break of everything that may be in it."""
        raise NotImplementedError

    def http(self, url: str, body: str) -> None:
        """Takes a REST answer."""

    def reset(self) -> None:
        """A connection has ended."""
        self.books.clear()

    def apply(self, symbol: str, time_ns: int, bids: Levels, asks: Levels, *, snapshot: bool = False) -> None:
        """Changes a book, after comparing it with what was true before that time."""
        self.compare(symbol, time_ns)
        bids, asks = list(bids), list(asks)
        if snapshot:
            self.books[symbol] = NaiveBook()
        self.books[symbol].apply(bids, asks, snapshot=snapshot, depth=self.depth)

    def compare(self, symbol: str, time_ns: int) -> None:
        """Compares with all pictures older than a time."""
        waiting = self._truth[symbol]
        while waiting and waiting[0]["t"] < time_ns:
            entry = waiting.pop(0)
            if symbol not in self.books or (waiting and waiting[0]["t"] < time_ns):
                continue
            assert self.cut(symbol, self.books[symbol].bids, self.books[symbol].asks) == self.cut(
                symbol, exact(entry["bids"]), exact(entry["asks"])
            ), f"{symbol} at {entry['t']}"
            self.compared[symbol] += 1

    def cut(self, symbol: str, bids: Any, asks: Any) -> Any:
        """What of a book can be known."""
        low, high = self.known.get(symbol, (Decimal(0), Decimal("Infinity")))
        bids = [level for level in bids if level[0] >= low][: self.depth]
        asks = [level for level in asks if level[0] <= high][: self.depth]
        assert len(bids) + len(asks) > 10
        return bids, asks

    def broken(self, symbol: str) -> None:
        """A rule is broken: the book is nothing until the next snapshot."""
        self.breaks.append(symbol)
        self.books.pop(symbol, None)


class Buffering(Reader):
    """A reader whose snapshots come by REST: until then updates are kept."""

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.last: dict[str, int] = {}
        self.kept: defaultdict[str, list[Any]] = defaultdict(list)

    def update(self, symbol: str, message: Any) -> None:
        if symbol not in self.books:
            self.kept[symbol].append(message)
        else:
            self.follow(symbol, message, first=False)

    def join(self, symbol: str, number: int, time_ns: int, bids: Levels, asks: Levels) -> None:
        bids, asks = list(bids), list(asks)
        # What was true before the snapshot cannot be seen any more.
        self._truth[symbol] = [entry for entry in self._truth[symbol] if entry["t"] >= time_ns]
        kept = self.kept.pop(symbol, [])
        self.known[symbol] = (Decimal(bids[-1][0]), Decimal(asks[-1][0]))
        self.books[symbol] = NaiveBook()
        self.books[symbol].apply(bids, asks, snapshot=True)
        self.last[symbol] = number
        first = True
        for message in kept:
            first = not self.follow(symbol, message, first=first) and first
        self.first(symbol, first)

    def first(self, symbol: str, waiting: bool) -> None:
        """Whether the next update is the first after the snapshot."""
        self._waiting = getattr(self, "_waiting", {})
        self._waiting[symbol] = waiting

    def is_first(self, symbol: str) -> bool:
        waiting: dict[str, bool] = getattr(self, "_waiting", {})
        return waiting.pop(symbol, False)

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        """Applies an update by the venue's rule; False if it was too old."""
        raise NotImplementedError

    def reset(self) -> None:
        super().reset()
        self.kept.clear()


class BinanceFutures(Buffering):
    def text(self, body: str) -> None:
        message = json.loads(body)
        data = message.get("data", message)
        if data.get("e") == "depthUpdate":
            self.update(data["s"], data)
        elif data.get("e") == "aggTrade":
            side = "sell" if data["m"] else "buy"
            self.trades[data["s"]].append((data["p"], data["q"], side, str(data["a"])))

    def http(self, url: str, body: str) -> None:
        if "/depth" in url:
            symbol = parse_qs(urlsplit(url).query)["symbol"][0]
            data = json.loads(body)
            self.join(symbol, data["lastUpdateId"], data["T"] * MS, data["bids"], data["asks"])

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        last = self.last[symbol]
        if first or self.is_first(symbol):
            if message["u"] < last:
                self.first(symbol, True)
                return False
            good = message["U"] <= last <= message["u"] or message["pu"] == last
        elif message["u"] == last:
            return False
        else:
            good = message["pu"] == last
        if not good:
            self.broken(symbol)
            self.kept[symbol].append(message)
            return True
        self.last[symbol] = message["u"]
        self.apply(symbol, message["T"] * MS, message["b"], message["a"])
        return True


class Kucoin(Buffering):
    def text(self, body: str) -> None:
        message = json.loads(body)
        data = message.get("data")
        if message.get("subject") == "trade.l2update":
            self.update(data["symbol"], data)
        elif message.get("subject") == "trade.l3match":
            self.trades[data["symbol"]].append((data["price"], data["size"], data["side"], data["tradeId"]))

    def http(self, url: str, body: str) -> None:
        if "/orderbook/" in url:
            symbol = parse_qs(urlsplit(url).query)["symbol"][0]
            data = json.loads(body)["data"]
            self.join(symbol, int(data["sequence"]), data["time"] * MS, data["bids"], data["asks"])

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        last = self.last[symbol]
        if message["sequenceEnd"] <= last:
            return False
        if message["sequenceStart"] > last + 1:
            self.broken(symbol)
            self.kept[symbol].append(message)
            return True
        self.last[symbol] = message["sequenceEnd"]
        sides = [[(p, s) for p, s, _ in message["changes"][side] if p != "0"] for side in ("bids", "asks")]
        self.apply(symbol, message["time"] * MS, *sides)
        return True


class Bitstamp(Buffering):
    def text(self, body: str) -> None:
        message = json.loads(body)
        channel, data = message["channel"], message["data"]
        if message["event"] == "data":
            self.update(channel.removeprefix("diff_order_book_"), data)
        elif message["event"] == "trade":
            side = "sell" if data["type"] else "buy"
            symbol = channel.removeprefix("live_trades_")
            self.trades[symbol].append((data["price_str"], data["amount_str"], side, str(data["id"])))

    def http(self, url: str, body: str) -> None:
        if "/order_book/" in url:
            symbol = urlsplit(url).path.strip("/").split("/")[-1]
            data = json.loads(body)
            at = int(data["microtimestamp"])
            self.join(symbol, at, at * US, data["bids"], data["asks"])
            self.known.pop(symbol)

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        at = int(message["microtimestamp"])
        if at <= self.last[symbol]:
            return False
        self.last[symbol] = at
        self.apply(symbol, at * US, message["bids"], message["asks"])
        return True


class Coinbase(Reader):
    def text(self, body: str) -> None:
        message = json.loads(body)
        symbol = message.get("product_id", "")
        if message["type"] == "snapshot":
            self.apply(symbol, nanoseconds(message["time"]), message["bids"], message["asks"], snapshot=True)
        elif message["type"] == "l2update" and symbol in self.books:
            sides = [[(p, s) for side, p, s in message["changes"] if side == wanted] for wanted in ("buy", "sell")]
            self.apply(symbol, nanoseconds(message["time"]), *sides)
        elif message["type"] == "match":
            side = {"buy": "sell", "sell": "buy"}[message["side"]]
            self.trades[symbol].append((message["price"], message["size"], side, str(message["trade_id"])))


class Kraken(Reader):
    depth = 100

    def text(self, body: str) -> None:
        message = json.loads(body, parse_float=str, parse_int=str)
        if message.get("channel") == "trade" and message["type"] == "update":
            for trade in message["data"]:
                self.trades[trade["symbol"]].append((trade["price"], trade["qty"], trade["side"], trade["trade_id"]))
        if message.get("channel") != "book":
            return
        for data in message["data"]:
            symbol = data["symbol"]
            snapshot = message["type"] == "snapshot"
            if not snapshot and symbol not in self.books:
                continue
            sides = [[(level["price"], level["qty"]) for level in data[side]] for side in ("bids", "asks")]
            self.apply(symbol, nanoseconds(data["timestamp"]), *sides, snapshot=snapshot)
            self.texts = getattr(self, "texts", {})
            self.texts.update({(symbol, Decimal(p)): (p, s) for side in sides for p, s in side if Decimal(s)})
            if self.checksum(symbol) != int(data["checksum"]):
                self.broken(symbol)

    def checksum(self, symbol: str) -> int:
        parts = []
        for side in (self.books[symbol].asks, self.books[symbol].bids):
            for price, _ in side[:10]:
                parts += [text.replace(".", "").lstrip("0") for text in self.texts[symbol, price]]
        return zlib.crc32("".join(parts).encode())


def nanoseconds(text: str) -> int:
    """RFC 3339 with any number of digits."""
    from datetime import datetime

    whole, _, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(f"{rest:0<9}"[:9])


READERS: dict[str, type[Reader]] = {
    "binance_futures": BinanceFutures,
    "bitstamp": Bitstamp,
    "coinbase": Coinbase,
    "kraken": Kraken,
    "kucoin": Kucoin,
}
