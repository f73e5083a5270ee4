"""Bybit v5 spot: topics by depth, an update id that counts the messages of a topic."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from coby.simulator.exchange import (
    MS,
    SECOND,
    Connection,
    Dial,
    Frame,
    Plan,
    Refusal,
    Request,
    Response,
    Venue,
    compact,
)
from coby.simulator.fair import MINUTE_NS
from coby.simulator.feeds import Image, Pairs
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_DEPTHS = {1: 10, 50: 20, 200: 100, 1_000: 200}
_INTERVALS = {
    "1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360, "720": 720, "D": 1_440,
}  # fmt: skip
_ARGUMENTS = 10
_REPEAT_NS = 3 * SECOND
_NO_BLOCK = False


class _Topic:
    """A book topic: its image and the number of its last message."""

    def __init__(self, market: Market, depth: int, now_ns: int) -> None:
        self.image = Image(market, depth)
        self.number = 200_000_000 + now_ns // SECOND % 10**8
        self.sent_ns = now_ns


class Bybit(Venue):
    """`stream.bybit.com/v5/public/spot` and `api.bybit.com`."""

    name = "bybit"
    sequenced = True
    instruments = (
        Instrument("BTCUSDT", "BTC", "USDT", 1, 1, 6, 1),
        Instrument("ETHUSDT", "ETH", "USDT", 2, 1, 5, 1),
        Instrument("SOLUSDT", "SOL", "USDT", 2, 1, 3, 1),
        Instrument("XRPUSDT", "XRP", "USDT", 4, 1, 2, 1),
    )
    temper = Temper(lag_ns=50_000_000, wander=60_000, pace=120)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._books: dict[tuple[int, str], _Topic] = {}
        self._traded: set[str] = set()
        for depth, interval in _DEPTHS.items():
            self.clock.every(interval * MS, lambda depth=depth: self._push_books(depth))  # type: ignore[misc]
        self.clock.every(SECOND, self._push_candles, 5 * MS)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Spot only."""
        return 101 if path == "/v5/public/spot" else 404

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        name = f"d9avrao7pl3bpiuoku0g-{connection.number:x}"
        try:
            message = json.loads(text)
            operation = message["op"]
            topics = message.get("args", [])
        except (ValueError, KeyError, TypeError):
            connection.say({"success": False, "ret_msg": "Json error", "conn_id": name, "op": ""})
            return
        number = {"req_id": message["req_id"]} if "req_id" in message else {}
        if operation == "ping":
            connection.say({"success": True, "ret_msg": "pong", "conn_id": name, "req_id": "", **number, "op": "ping"})
            return
        problem = f"unknown op {operation}" if operation not in {"subscribe", "unsubscribe"} else None
        if problem is None and len(topics) > _ARGUMENTS:
            problem = f"args size >{_ARGUMENTS}"
        bad = next((topic for topic in topics if self._market(topic) is None), None)
        if problem is None and bad is not None:
            problem = f"Invalid topic:{bad}"
        if problem is not None:
            connection.say({"success": False, "ret_msg": problem, "conn_id": name, **number, "op": operation})
            return
        connection.say({"success": True, "ret_msg": operation, "conn_id": name, **number, "op": operation})
        for topic in topics:
            market = self._market(topic)
            if market is None or operation == "unsubscribe":
                self.unsubscribe(connection, topic)
            elif topic.startswith("orderbook."):
                self.join(connection, topic, market, partial(self._snapshot, connection, topic, market))
            else:
                self.subscribe(connection, topic)

    def _market(self, topic: str) -> Market | None:
        match topic.split("."):
            case ["orderbook", depth, symbol] if depth.isdecimal() and int(depth) in _DEPTHS:
                return self.markets.get(symbol)
            case ["publicTrade", symbol]:
                return self.markets.get(symbol)
            case ["kline", interval, symbol] if interval in _INTERVALS:
                return self.markets.get(symbol)
            case _:
                return None

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, one message for what a taker did."""
        symbol = market.instrument.symbol
        if not update.fills:
            return
        self._traded.add(symbol)
        topic = f"publicTrade.{symbol}"
        if self.wanted(topic):
            data = [self._trade(market, fill) for fill in update.fills]
            text = compact({"topic": topic, "ts": self.now // MS + 2, "type": "snapshot", "data": data})
            self.publish(topic, Frame(text, "trade", market))

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument = market.instrument
        return {
            "i": str(2_290_000_000_000_000_000 + fill.number),
            "T": self.stamp(fill.time_ns) // MS,
            "p": instrument.price(fill.ticks),
            "v": instrument.size(fill.lots),
            "S": "Sell" if fill.taker_sells else "Buy",
            "s": instrument.symbol,
            "BT": _NO_BLOCK,
        }

    def _push_books(self, depth: int) -> None:
        for (at, symbol), book in list(self._books.items()):
            topic = f"orderbook.{at}.{symbol}"
            if at != depth:
                continue
            if not self.wanted(topic):
                del self._books[at, symbol]
                continue
            market = self.markets[symbol]
            push = book.image.push()
            changed = push is not None and (push.bids or push.asks)
            if depth == 1:
                # The best level is always a snapshot, and repeated when nothing has changed for a while.
                if changed or self.clock.now_ns - book.sent_ns >= _REPEAT_NS:
                    book.number += bool(changed)
                    self._send(topic, market, book, "snapshot", (book.image.bids, book.image.asks))
            elif push is not None and changed:
                book.number += 1
                self._send(topic, market, book, "delta", (push.bids, push.asks))

    def _send(self, topic: str, market: Market, book: _Topic, kind: str, sides: tuple[Pairs, Pairs]) -> None:
        book.sent_ns = self.clock.now_ns
        self.publish(topic, Frame(self._text(topic, market, book, kind, sides), "book", market))

    def _text(self, topic: str, market: Market, book: _Topic, kind: str, sides: tuple[Pairs, Pairs]) -> str:
        data = {
            "s": market.instrument.symbol,
            "b": _rows(market, sides[0]),
            "a": _rows(market, sides[1]),
            "u": book.number,
            "seq": book.image.sequence,
        }
        cts = self.stamp(book.image.time_ns) // MS
        return compact({"topic": topic, "ts": self.now // MS, "type": kind, "data": data, "cts": cts})

    def _snapshot(self, connection: Connection, topic: str, market: Market) -> None:
        depth = int(topic.split(".")[1])
        key = (depth, market.instrument.symbol)
        if key not in self._books:
            self._books[key] = _Topic(market, depth, self.clock.now_ns)
        book = self._books[key]
        old = self.exchange.faults.stale(self, market)
        shown = old or book.image
        sides = (shown.bids[:depth], shown.asks[:depth])
        connection.send(Frame(self._text(topic, market, book, "snapshot", sides), "book", market))

    def skip(self, market: Market) -> None:
        """Numbers of all the market's topics are used up."""
        for (_, symbol), book in self._books.items():
            if symbol == market.instrument.symbol:
                book.number += 3

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        now = self.clock.now_ns
        for symbol, market in self.markets.items():
            for interval, minutes in _INTERVALS.items():
                topic = f"kline.{interval}.{symbol}"
                if not self.wanted(topic):
                    continue
                length = minutes * MINUTE_NS
                begin = now // length * length
                ended = market.candles(length, begin - length, begin) if now - begin < SECOND else []
                running = market.candles(length, begin, begin + 1) if symbol in traded else []
                for candle in ended + running:
                    data = self._kline(market.instrument, candle, interval, final=candle in ended)
                    text = compact({"topic": topic, "type": "snapshot", "ts": self.now // MS, "data": [data]})
                    self.publish(topic, Frame(text, "candle", market))

    def _kline(self, instrument: Instrument, candle: Candle, interval: str, *, final: bool) -> dict[str, Any]:
        start = self.stamp(candle.open_ns) // MS
        return {
            "start": start,
            "end": start + _INTERVALS[interval] * 60_000 - 1,
            "interval": interval,
            "open": instrument.price(candle.open),
            "close": instrument.price(candle.close),
            "high": instrument.price(candle.high),
            "low": instrument.price(candle.low),
            "volume": instrument.size(candle.lots),
            "turnover": instrument.notional(candle.notional),
            "confirm": final,
            "timestamp": self.now // MS,
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Instruments, books, trades and candles."""
        path = request.path.removeprefix("/v5/market/")
        spot = request.query.get("category") == "spot"
        if path == "time":
            return self._result({"timeSecond": str(self.now // SECOND), "timeNano": str(self.now)})
        if path == "instruments-info":
            listed = [_listed(market.instrument) for market in self.markets.values()] if spot else []
            category = request.query.get("category", "")
            return self._result({"category": category, "list": listed, "nextPageCursor": ""})
        if path not in {"orderbook", "recent-trade", "kline"}:
            raise Refusal(404, "Not found")
        market = self.markets.get(request.query.get("symbol", "")) if spot else None
        if market is None:
            raise Refusal(200, "Not supported symbols")
        symbol = market.instrument.symbol
        if path == "orderbook":
            limit = request.number("limit", 1, 1_000)
            picture = self.picture(market)
            bids, asks = _rows(market, picture.bids[:limit]), _rows(market, picture.asks[:limit])
            numbers = {"ts": self.now // MS, "u": picture.sequence % 10**9, "seq": picture.sequence}
            return self._result(
                {"s": symbol, "b": bids, "a": asks, **numbers, "cts": self.stamp(picture.time_ns) // MS}
            )
        if path == "recent-trade":
            fills = list(market.fills)[::-1][: request.number("limit", 60, 60)]
            rows = [_recent(self._trade(market, fill)) for fill in fills]
            return self._result({"category": "spot", "list": rows})
        return self._result({"category": "spot", "symbol": symbol, "list": self._candles(market, request)})

    def _candles(self, market: Market, request: Request) -> list[list[str]]:
        interval = request.query.get("interval", "")
        if interval not in _INTERVALS:
            raise Refusal(200, "Invalid period!")
        since, until = request.number("start", 0) * MS, (request.number("end", 2**43) + 1) * MS
        found = market.candles(_INTERVALS[interval] * MINUTE_NS, since, until)
        instrument = market.instrument
        return [
            [
                str(self.stamp(c.open_ns) // MS),
                *(instrument.price(ticks) for ticks in (c.open, c.high, c.low, c.close)),
                instrument.size(c.lots),
                instrument.notional(c.notional),
            ]
            for c in found[::-1][: request.number("limit", 200, 1_000)]
        ]

    def _result(self, result: object) -> Response:
        return Response.of({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.now // MS})

    def refuse(self, refusal: Refusal) -> Response:
        """An envelope with a code."""
        wrong = {"retCode": 10001, "retMsg": refusal.message, "result": {}, "retExtInfo": {}, "time": self.now // MS}
        return Response.of(wrong, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection; at most ten topics a message."""
        symbols = [market.instrument.symbol for market in markets]
        topics = [f"{kind}.{symbol}" for symbol in symbols for kind in ("orderbook.200", "publicTrade", "kline.1")]
        messages = [
            compact({"req_id": str(at), "op": "subscribe", "args": topics[at : at + _ARGUMENTS]})
            for at in range(0, len(topics), _ARGUMENTS)
        ]
        return Plan(
            "https://api.bybit.com",
            [Request.get("/v5/market/instruments-info?category=spot&limit=1000")],
            [Dial("wss://stream.bybit.com/v5/public/spot", messages)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        args = [f"orderbook.200.{market.instrument.symbol}"]
        return [compact({"op": operation, "args": args}) for operation in ("unsubscribe", "subscribe")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"req_id": "100001", "op": "ping"})


def _rows(market: Market, pairs: Pairs) -> list[list[str]]:
    price, size = market.instrument.price, market.instrument.size
    return [[price(ticks), size(lots) if lots else "0"] for ticks, lots in pairs]


def _recent(trade: dict[str, Any]) -> dict[str, Any]:
    return {
        "execId": trade["i"],
        "symbol": trade["s"],
        "price": trade["p"],
        "size": trade["v"],
        "side": trade["S"],
        "time": str(trade["T"]),
        "isBlockTrade": trade["BT"],
    }


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "both",
        "lotSizeFilter": {
            "basePrecision": instrument.size(1),
            "quotePrecision": "0.0000001",
            "minOrderQty": instrument.size(1),
            "maxOrderQty": "83",
            "minOrderAmt": "5",
            "maxOrderAmt": "8000000",
        },
        "priceFilter": {"tickSize": instrument.price(1)},
    }
