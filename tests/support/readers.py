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
        self.now_ns = 0
        """When what comes next has come; no frame tells more than what was true then."""
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
        past = max(time_ns, self.now_ns)
        self._truth[symbol] = [entry for entry in self._truth[symbol] if entry["t"] >= past]
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


class Numbered(Reader):
    """Of a feed that numbers all messages of a connection: a hole there costs every book."""

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.number = -1

    def reset(self) -> None:
        super().reset()
        self.number = -1

    def count(self, number: int) -> None:
        """Takes the number of the next message."""
        if number != self.number + 1:
            self.breaks += list(self.books)
            self.books.clear()
        self.number = number


class CoinbaseAdvanced(Numbered):
    def text(self, body: str) -> None:
        message = json.loads(body)
        self.count(message["sequence_num"])
        for event in message["events"]:
            if message["channel"] == "l2_data":
                self.book(event)
            elif message["channel"] == "market_trades" and event["type"] == "update":
                for trade in event["trades"]:
                    side = {"BUY": "sell", "SELL": "buy"}[trade["side"]]
                    row = (trade["price"], trade["size"], side, trade["trade_id"])
                    self.trades[trade["product_id"]].append(row)

    def book(self, event: Mapping[str, Any]) -> None:
        symbol, snapshot = event["product_id"], event["type"] == "snapshot"
        if symbol not in self.books and not snapshot:
            return
        sides = [
            [(level["price_level"], level["new_quantity"]) for level in event["updates"] if level["side"] == side]
            for side in ("bid", "offer")
        ]
        times = [nanoseconds(level["event_time"]) for level in event["updates"]]
        self.apply(symbol, max(times), *sides, snapshot=snapshot)


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


class Binance(BinanceFutures):
    def text(self, body: str) -> None:
        data = json.loads(body)["data"]
        if data["e"] == "depthUpdate":
            self.update(data["s"], data)
        elif data["e"] == "aggTrade":
            super().text(body)

    def http(self, url: str, body: str) -> None:
        if "/depth" in url:
            symbol = parse_qs(urlsplit(url).query)["symbol"][0]
            data = json.loads(body)
            self.join(symbol, data["lastUpdateId"], 0, data["bids"], data["asks"])

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        last = self.last[symbol]
        if message["u"] <= last:
            return False
        if message["U"] > last + 1:
            self.broken(symbol)
            self.kept[symbol].append(message)
            return True
        self.last[symbol] = message["u"]
        # All there is is the time of the push, which follows what it tells.
        self.apply(symbol, message["E"] * MS, message["b"], message["a"])
        return True


class Chained(Reader):
    """A reader whose updates name the number of the one before; snapshots come in the socket."""

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.last: dict[str, int] = {}

    def step(self, symbol: str, numbers: tuple[int, int | None], time_ns: int, bids: Levels, asks: Levels) -> None:
        """Takes an update with its number and the previous one's, or a snapshot, which has none."""
        number, previous = numbers
        if previous is None:
            self.apply(symbol, time_ns, bids, asks, snapshot=True)
        elif symbol not in self.books:
            return
        elif previous != self.last[symbol]:
            self.broken(symbol)
            return
        else:
            self.apply(symbol, time_ns, bids, asks)
        self.last[symbol] = number


class Okx(Chained):
    depth = 400

    def text(self, body: str) -> None:
        if body == "pong":
            return
        message = json.loads(body)
        channel = message["arg"]["channel"]
        for data in message.get("data", ()):
            symbol = message["arg"]["instId"]
            if channel == "books":
                sides = [[(level[0], level[1]) for level in data[side]] for side in ("bids", "asks")]
                previous = None if message["action"] == "snapshot" else data["prevSeqId"]
                self.step(symbol, (data["seqId"], previous), int(data["ts"]) * MS, *sides)
            elif channel == "trades":
                self.trades[symbol].append((data["px"], data["sz"], data["side"], data["tradeId"]))


class Bybit(Chained):
    depth = 200

    def text(self, body: str) -> None:
        message = json.loads(body)
        topic, data = message.get("topic", ""), message.get("data")
        if topic.startswith("orderbook."):
            previous = None if message["type"] == "snapshot" else data["u"] - 1
            self.step(data["s"], (data["u"], previous), message["cts"] * MS, data["b"], data["a"])
        elif topic.startswith("publicTrade."):
            for trade in data:
                self.trades[trade["s"]].append((trade["p"], trade["v"], trade["S"].lower(), trade["i"]))


class Htx(Buffering):
    depth = 400

    def text(self, body: str) -> None:
        message = json.loads(body, parse_float=str)
        topic = message.get("ch", message.get("rep", "")).split(".")
        if topic[2:3] == ["mbp"] and "rep" in message:
            data = message["data"]
            self.join(topic[1], data["seqNum"], message["ts"] * MS, data["bids"], data["asks"])
            del self.known[topic[1]]
        elif topic[2:3] == ["mbp"]:
            self.update(topic[1], {**message["tick"], "ts": message["ts"]})
        elif topic[2:3] == ["trade"]:
            for trade in message["tick"]["data"]:
                row = (trade["price"], trade["amount"], trade["direction"], str(trade["tradeId"]))
                self.trades[topic[1]].append(row)

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        if message["seqNum"] <= self.last[symbol]:
            return False
        if message["prevSeqNum"] != self.last[symbol]:
            self.broken(symbol)
            self.kept[symbol].append(message)
            return True
        self.last[symbol] = message["seqNum"]
        # The time is that of the push, which follows what it tells.
        self.apply(symbol, message["ts"] * MS, message["bids"], message["asks"])
        return True


class Bitfinex(Reader):
    depth = 100

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.channels: dict[int, tuple[str, str]] = {}
        self.number = 0
        self.checked = 0

    def text(self, body: str) -> None:
        message = json.loads(body, parse_float=str, parse_int=str)
        if isinstance(message, dict):
            if message["event"] == "subscribed":
                symbol = message.get("symbol") or message["key"].split(":")[2]
                self.channels[int(message["chanId"])] = (message["channel"], symbol)
            return
        *items, number, time = message
        self.number += 1
        if int(number) != self.number:
            self.breaks += [symbol for kind, symbol in self.channels.values() if kind == "book"]
            self.books.clear()
            self.number = int(number)
        kind, symbol = self.channels[int(items[0])]
        if kind == "trades" and items[1] == "te":
            number, _, amount, price = items[2]
            self.trades[symbol].append((price, amount.lstrip("-"), "sell" if amount[0] == "-" else "buy", number))
        elif kind == "book" and items[1] == "cs":
            self.checked += 1
            if symbol in self.books and self.checksum(symbol) != int(items[2]):
                self.broken(symbol)
        elif kind == "book" and items[1] != "hb":
            rows = items[1] if isinstance(items[1][0], list) else [items[1]]
            sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
            for price, count, amount in rows:
                side = amount.startswith("-")
                sides[side].append((price, amount.lstrip("-") if int(count) else "0"))
            snapshot = rows is items[1]
            if snapshot or symbol in self.books:
                self.apply(symbol, int(time) * MS, *sides, snapshot=snapshot)
                assert max(len(self.books[symbol].bids), len(self.books[symbol].asks)) <= 100

    def checksum(self, symbol: str) -> int:
        parts: list[str] = []
        bids, asks = self.books[symbol].bids, self.books[symbol].asks
        for index in range(25):
            for side, sign in ((bids, ""), (asks, "-")):
                if index < len(side):
                    parts += [javascript(side[index][0]), sign + javascript(side[index][1])]
        value = zlib.crc32(":".join(parts).encode())
        return value - 2**32 if value >= 2**31 else value


class Imaged(Reader):
    """A reader of whole books, each the truth of its own time and not of what follows."""

    def image(self, symbol: str, time_ns: int, bids: Levels, asks: Levels) -> None:
        self.apply(symbol, time_ns, bids, asks, snapshot=True)
        self.compare(symbol, time_ns + 1)

    def compare(self, symbol: str, time_ns: int) -> None:
        self._truth[symbol] = [entry for entry in self._truth[symbol] if entry["t"] >= time_ns - 1]
        super().compare(symbol, time_ns)


class Upbit(Imaged):
    depth = 30

    def text(self, body: str) -> None:
        message = json.loads(body, parse_float=str)
        symbol = message.get("code", "")
        if message.get("type") == "orderbook":
            units = message["orderbook_units"]
            sides = [[(unit[f"{side}_price"], unit[f"{side}_size"]) for unit in units] for side in ("bid", "ask")]
            self.image(symbol, message["timestamp"] * MS, *sides)
        elif message.get("type") == "trade" and message["stream_type"] == "REALTIME":
            side = {"ASK": "sell", "BID": "buy"}[message["ask_bid"]]
            row = (message["trade_price"], message["trade_volume"], side, str(message["sequential_id"]))
            self.trades[symbol].append(row)


class Hyperliquid(Imaged):
    depth = 20

    def text(self, body: str) -> None:
        message = json.loads(body)
        data = message.get("data")
        if message["channel"] == "l2Book":
            sides = [[(level["px"], level["sz"]) for level in side] for side in data["levels"]]
            self.image(data["coin"], data["time"] * MS, *sides)
        elif message["channel"] == "trades":
            for trade in data:
                side = {"A": "sell", "B": "buy"}[trade["side"]]
                row = (trade["px"], trade["sz"], side, str(trade["tid"]))
                if row not in self.trades[trade["coin"]][-40:]:
                    self.trades[trade["coin"]].append(row)


class Deribit(Chained):
    def text(self, body: str) -> None:
        message = json.loads(body, parse_float=str)
        channel = message.get("params", {}).get("channel", "").partition(".")[0]
        data = message.get("params", {}).get("data")
        if channel == "book":
            symbol = data["instrument_name"]
            for side in ("bids", "asks"):
                for action, price, size in data[side]:
                    known = symbol in self.books and Decimal(price) in dict(getattr(self.books[symbol], side))
                    assert data["type"] == "snapshot" or symbol not in self.books or known == (action != "new")
                    assert (action == "delete") == (size == "0.0")
            sides = [[(price, size) for _, price, size in data[side]] for side in ("bids", "asks")]
            previous = data["prev_change_id"] if data["type"] == "change" else None
            self.step(symbol, (data["change_id"], previous), data["timestamp"] * MS, *sides)
        elif channel == "trades":
            for trade in data:
                row = (trade["price"], trade["amount"], trade["direction"], str(trade["trade_seq"]))
                self.trades[trade["instrument_name"]].append(row)


class Dydx(Numbered):
    def text(self, body: str) -> None:
        message = json.loads(body)
        self.count(message["message_id"])
        symbol, contents = message.get("id", ""), message.get("contents", {})
        if message.get("channel") == "v4_trades" and message["type"] == "channel_data":
            for trade in contents["trades"]:
                self.trades[symbol].append((trade["price"], trade["size"], trade["side"].lower(), trade["id"]))
        elif message.get("channel") == "v4_orderbook" and contents:
            snapshot = message["type"] == "subscribed"
            sides: list[list[tuple[str, str]]] = [
                [(level["price"], level["size"]) if snapshot else tuple(level) for level in contents.get(side, ())]
                for side in ("bids", "asks")
            ]
            if snapshot:
                assert [len(side) for side in sides] == [100, 100]
                self._truth[symbol] = [entry for entry in self._truth[symbol] if entry["t"] >= self.now_ns]
                self.known[symbol] = (Decimal(sides[0][-1][0]), Decimal(sides[1][-1][0]))
            if snapshot or symbol in self.books:
                self.apply(symbol, self.now_ns, *sides, snapshot=snapshot)

    def compare(self, symbol: str, time_ns: int) -> None:
        """No message has a time: a picture must be true at some moment before the next one is due."""
        waiting = self._truth[symbol]
        while symbol in self.books and waiting and waiting[0]["t"] < time_ns:
            book, entry = self.books[symbol], waiting[0]
            found = self.cut(symbol, book.bids, book.asks)
            true = self.cut(symbol, exact(entry["bids"]), exact(entry["asks"]))
            if found != true:
                assert len(waiting) < 2 or waiting[1]["t"] >= time_ns, f"{symbol} at {entry['t']}"
                return
            waiting.pop(0)
            self.compared[symbol] += 1


class Gemini(Reader):
    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.last: dict[str, int] = {}

    def text(self, body: str) -> None:
        message = json.loads(body)
        symbol = message.get("s", "").upper()
        if message.get("e") == "depthUpdate":
            sides = (message["b"], message["a"])
            if symbol not in self.books:
                assert message["U"] == message["u"], "nothing else marks a snapshot"
                self.apply(symbol, message["E"], *sides, snapshot=True)
            elif message["u"] <= self.last[symbol]:
                return
            elif message["U"] > self.last[symbol]:
                self.broken(symbol)
                return
            else:
                self.apply(symbol, message["E"], *sides)
            self.last[symbol] = message["u"]
        elif "t" in message:
            side = "sell" if message["m"] else "buy"
            self.trades[symbol].append((message["p"], message["q"], side, str(message["t"])))


class Gateio(Chained):
    depth = 400

    def text(self, body: str) -> None:
        message = json.loads(body)
        result = message.get("result")
        if message["event"] != "update":
            return
        if message["channel"] == "spot.obu":
            symbol = result["s"].split(".")[1]
            previous = None if result.get("full") else result["U"] - 1
            sides = [result.get(side, []) for side in "ba"]
            self.step(symbol, (result["u"], previous), result["t"] * MS, *sides)
        elif message["channel"] == "spot.trades":
            row = (result["price"], result["amount"], result["side"], str(result["id"]))
            self.trades[result["currency_pair"]].append(row)


class Bitget(Chained):
    depth = 1_000

    def text(self, body: str) -> None:
        message = {} if body == "pong" else json.loads(body)
        topic, symbol = message.get("arg", {}).get("topic"), message.get("arg", {}).get("symbol")
        for data in message.get("data", ()):
            if topic == "books":
                previous = None if message["action"] == "snapshot" else data["pseq"]
                self.step(symbol, (data["seq"], previous), int(data["ts"]) * MS, data["b"], data["a"])
        if topic == "publicTrade" and message.get("action") == "update":
            for trade in reversed(message["data"]):
                self.trades[symbol].append((trade["p"], trade["v"], trade["S"], trade["i"]))


class Mexc(Buffering):
    def text(self, body: str) -> None:
        message = json.loads(body)
        if depth := message.get("publicAggreDepths"):
            self.update(message["symbol"], {**depth, "sendTime": message["sendTime"]})
        for deal in message.get("publicAggreDeals", {}).get("deals", ()):
            row = (deal["price"], deal["quantity"], {1: "buy", 2: "sell"}[deal["tradeType"]], deal["tradeId"])
            self.trades[message["symbol"]].append(row)

    def http(self, url: str, body: str) -> None:
        if "/depth" in url:
            symbol = parse_qs(urlsplit(url).query)["symbol"][0]
            data = json.loads(body)
            self.join(symbol, data["lastUpdateId"], data["timestamp"] * MS, data["bids"], data["asks"])

    def follow(self, symbol: str, message: Any, *, first: bool) -> bool:
        last = self.last[symbol]
        start, end = int(message["fromVersion"]), int(message["toVersion"])
        if end <= last:
            return False
        if start > last + 1 or not (first or self.is_first(symbol) or start == last + 1):
            self.broken(symbol)
            self.kept[symbol].append(message)
            return True
        self.last[symbol] = end
        sides = ([(level["price"], level["quantity"]) for level in message.get(side, ())] for side in ("bids", "asks"))
        # The time is that of the push, which follows what it tells.
        self.apply(symbol, message["sendTime"] * MS, *sides)
        return True


class CryptoCom(Chained):
    depth = 50

    def text(self, body: str) -> None:
        message = json.loads(body)
        result = message.get("result")
        if result is None:
            return
        symbol, channel = result["instrument_name"], result["channel"]
        if channel in {"book", "book.update"}:
            (data,) = result["data"]
            levels = data if channel == "book" else data["update"]
            sides = [[(price, size) for price, size, _ in levels[side]] for side in ("bids", "asks")]
            self.step(symbol, (data["u"], None if channel == "book" else data["pu"]), data["tt"] * MS, *sides)
            assert symbol not in self.books or len(self.books[symbol].asks) == 50
        elif channel == "trade" and symbol in self.joined:
            for trade in reversed(result["data"]):
                self.trades[symbol].append((trade["p"], trade["q"], trade["s"].lower(), trade["m"]))
        elif channel == "trade":
            self.joined.add(symbol)

    def __init__(self, truth: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(truth)
        self.joined: set[str] = set()
        """Whose first trades, which are history, have come."""


def javascript(number: Decimal) -> str:
    """As JavaScript's `String(number)`."""
    if number < Decimal("0.000001"):
        _, digits, exponent = number.normalize().as_tuple()
        assert isinstance(exponent, int)
        text = "".join(map(str, digits))
        point = f".{text[1:]}" if len(text) > 1 else ""
        return f"{text[0]}{point}e{exponent + len(text) - 1}"
    return f"{number.normalize():f}"


READERS: dict[str, type[Reader]] = {
    "binance": Binance,
    "binance_futures": BinanceFutures,
    "bitfinex": Bitfinex,
    "bitget": Bitget,
    "bitstamp": Bitstamp,
    "bybit": Bybit,
    "coinbase": Coinbase,
    "coinbase_advanced": CoinbaseAdvanced,
    "cryptocom": CryptoCom,
    "deribit": Deribit,
    "dydx": Dydx,
    "gateio": Gateio,
    "gemini": Gemini,
    "htx": Htx,
    "hyperliquid": Hyperliquid,
    "kraken": Kraken,
    "kucoin": Kucoin,
    "mexc": Mexc,
    "okx": Okx,
    "upbit": Upbit,
}
