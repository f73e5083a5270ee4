"""OKX v5: 400 levels with a chain of numbers, a checksum that is always 0, candles on a socket of their own."""

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

_BARS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240, "6Hutc": 360, "12Hutc": 720,
    "1Dutc": 1_440,
}  # fmt: skip
_DEPTH = 400
_IMAGES = {"books5": (5, 100), "bbo-tbt": (1, 10)}
_PUSH_MS = 100
_IDLE_NS = 30 * SECOND
_QUIET_NS = 60 * SECOND


class Okx(Venue):
    """`ws.okx.com:8443` and `www.okx.com`."""

    name = "okx"
    sequenced = True
    instruments = (
        Instrument("BTC-USDT", "BTC", "USDT", 1, 1, 8, 1),
        Instrument("ETH-USDT", "ETH", "USDT", 2, 1, 6, 1),
        Instrument("SOL-USDT", "SOL", "USDT", 2, 1, 6, 1),
        Instrument("XRP-USDT", "XRP", "USDT", 4, 1, 6, 1),
    )
    temper = Temper(lag_ns=60_000_000, wander=60_000, pace=110)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images: dict[str, Image] = {}
        self._pushed_ns: dict[str, int] = {}
        self._tops: dict[tuple[str, str], tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self.clock.every(_PUSH_MS * MS, self._push_books)
        self.clock.every(_PUSH_MS * MS, lambda: self._push_images("books5"))
        self.clock.every(10 * MS, lambda: self._push_images("bbo-tbt"))
        self.clock.every(500 * MS, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Two sockets."""
        return 101 if path in {"/ws/v5/public", "/ws/v5/business"} else 404

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, and a ping that is no JSON."""
        if text == "ping":
            connection.send(Frame("pong"))
            return
        ending = {"connId": f"a4d3{connection.number:04x}"}
        try:
            message = json.loads(text)
            operation, arguments = message["op"], message["args"]
        except (ValueError, KeyError, TypeError):
            operation, arguments, message = "", [], {}
        if operation not in {"subscribe", "unsubscribe"}:
            connection.say({"event": "error", "code": "60012", "msg": f"Invalid request: {text[:100]}", **ending})
            return
        number = {"id": message["id"]} if "id" in message else {}
        for argument in arguments:
            channel, symbol = argument.get("channel", ""), argument.get("instId", "")
            if not self._known(connection, channel) or symbol not in self.markets:
                problem = f"Wrong URL or channel:{channel},instId:{symbol} doesn't exist."
                connection.say({"event": "error", "code": "60018", "msg": problem, **ending})
                continue
            connection.say({**number, "event": operation, "arg": argument, **ending})
            if operation == "unsubscribe":
                self.unsubscribe(connection, (channel, symbol))
            elif channel == "books":
                market = self.markets[symbol]
                self.join(connection, (channel, symbol), market, partial(self._snapshot, connection, market))
            else:
                self.subscribe(connection, (channel, symbol))

    def _known(self, connection: Connection, channel: str) -> bool:
        if connection.path.endswith("business"):
            return channel == "trades-all" or channel.removeprefix("candle") in _BARS
        return channel in {"books", "trades", *_IMAGES}

    def _watch(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self and self.clock.now_ns - connection.said_ns > _IDLE_NS:
                connection.close(4004, "No data received in 30s.")

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        if image := self._images.get(market.instrument.symbol):
            image.sequence += 1
        market.sequence += 2

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once."""
        symbol = market.instrument.symbol
        for fill in update.fills:
            self._traded.add(symbol)
            for channel in ("trades", "trades-all"):
                if self.wanted((channel, symbol)):
                    self._send(channel, symbol, [self._trade(market, fill, channel)], Frame("", "trade", market))

    def _send(self, channel: str, symbol: str, data: list[Any], frame: Frame, **more: str) -> None:
        text = compact({"arg": {"channel": channel, "instId": symbol}, **more, "data": data})
        self.publish((channel, symbol), Frame(text, frame.channel, frame.market))

    def _trade(self, market: Market, fill: Fill, channel: str) -> dict[str, Any]:
        instrument = market.instrument
        told = {
            "instId": instrument.symbol,
            "tradeId": str(fill.last_id),
            "px": instrument.price(fill.ticks),
            "sz": instrument.size(fill.lots),
            "side": "sell" if fill.taker_sells else "buy",
            "ts": str(self.stamp(fill.time_ns) // MS),
        }
        if channel == "trades":
            told["count"] = str(fill.last_id - fill.first_id + 1)
        return {**told, "source": "0", "seqId": market.sequence}

    def _push_books(self) -> None:
        for symbol, image in list(self._images.items()):
            if not self.wanted(("books", symbol)):
                del self._images[symbol]
                continue
            push = image.push()
            quiet = self.clock.now_ns - self._pushed_ns.get(symbol, self.clock.start_ns) >= _QUIET_NS
            if push is None and not quiet:
                continue
            self._pushed_ns[symbol] = self.clock.now_ns
            market = self.markets[symbol]
            bids, asks, previous = (push.bids, push.asks, push.previous) if push else ([], [], image.sequence)
            data = self._book(market, bids, asks, image.time_ns)
            data.update(checksum=0, seqId=image.sequence, prevSeqId=previous)
            self._send("books", symbol, [data], Frame("", "book", market), action="update")

    def _snapshot(self, connection: Connection, market: Market) -> None:
        symbol = market.instrument.symbol
        image = self._images.setdefault(symbol, Image(market, _DEPTH))
        old = self.exchange.faults.stale(self, market)
        shown = old or image
        data = self._book(market, shown.bids[:_DEPTH], shown.asks[:_DEPTH], shown.time_ns)
        data.update(checksum=0, seqId=shown.sequence, prevSeqId=-1)
        arg = {"channel": "books", "instId": symbol}
        connection.send(Frame(compact({"arg": arg, "action": "snapshot", "data": [data]}), "book", market))

    def _book(self, market: Market, bids: Pairs, asks: Pairs, time_ns: int) -> dict[str, Any]:
        def rows(pairs: Pairs) -> list[list[str]]:
            return [
                [*market.instrument.level(ticks, lots), "0", str(1 + (ticks + lots) % 9)]
                if lots
                else [market.instrument.price(ticks), "0", "0", "0"]
                for ticks, lots in pairs
            ]

        return {"asks": rows(asks), "bids": rows(bids), "ts": str(self.stamp(time_ns) // MS)}

    def _push_images(self, channel: str) -> None:
        depth, _ = _IMAGES[channel]
        for symbol, market in self.markets.items():
            if not self.wanted((channel, symbol)):
                continue
            tops = (market.bids.top(depth), market.asks.top(depth))
            if self._tops.get((channel, symbol)) != tops:
                self._tops[channel, symbol] = tops
                data = {**self._book(market, *tops, market.changed_ns), "seqId": market.sequence}
                self._send(channel, symbol, [data], Frame("", "book", market))

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        now = self.clock.now_ns
        for symbol, market in self.markets.items():
            for bar, minutes in _BARS.items():
                channel = f"candle{bar}"
                if not self.wanted((channel, symbol)):
                    continue
                length = minutes * MINUTE_NS
                begin = now // length * length
                ended = market.candles(length, begin - length, begin) if now - begin < 500 * MS else []
                running = market.candles(length, begin, begin + 1) if symbol in traded else []
                for candle in ended + running:
                    row = self._row(market.instrument, candle, final=candle in ended)
                    self._send(channel, symbol, [row], Frame("", "candle", market))

    def _row(self, instrument: Instrument, candle: Candle, *, final: bool) -> list[str]:
        prices = (instrument.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close))
        volume, notional = instrument.size(candle.lots), instrument.notional(candle.notional)
        return [str(self.stamp(candle.open_ns) // MS), *prices, volume, notional, notional, "1" if final else "0"]

    # REST

    def answer(self, request: Request) -> Response:
        """Instruments, books, trades and candles."""
        path = request.path.removeprefix("/api/v5/")
        if path == "public/instruments":
            spot = request.query.get("instType") == "SPOT"
            return _data([_listed(market.instrument) for market in self.markets.values()] if spot else [])
        if path == "public/time":
            return _data([{"ts": str(self.now // MS)}])
        if path not in {"market/books", "market/trades", "market/candles", "market/history-candles"}:
            raise Refusal(404, "Invalid URL")
        market = self.markets.get(request.query.get("instId", ""))
        if market is None:
            raise Refusal(200, "Instrument ID doesn't exist.")
        if path == "market/books":
            depth = request.number("sz", 1, _DEPTH)
            picture = self.picture(market)
            book = self._book(market, picture.bids[:depth], picture.asks[:depth], picture.time_ns)
            return _data([{**book, "seqId": picture.sequence}])
        if path == "market/trades":
            fills = list(market.fills)[::-1][: request.number("limit", 100, 500)]
            return _data([self._trade(market, fill, "trades") for fill in fills])
        return _data(self._candles(market, request))

    def _candles(self, market: Market, request: Request) -> list[list[str]]:
        bar = request.query.get("bar", "1m")
        if bar not in _BARS:
            raise Refusal(200, "Parameter bar error")
        length = _BARS[bar] * MINUTE_NS
        # After means older and before means newer.
        since = (request.number("before", -1) + 1) * MS
        until = request.number("after", 2**43) * MS
        found = market.candles(length, since, until)[::-1][: request.number("limit", 100, 300)]
        now = self.clock.now_ns
        return [self._row(market.instrument, c, final=c.open_ns + length <= now) for c in found]

    def refuse(self, refusal: Refusal) -> Response:
        """An envelope with a code."""
        return Response.of({"code": "51001", "msg": refusal.message, "data": []}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """Books and trades on one connection, candles on another."""
        symbols = [market.instrument.symbol for market in markets]
        books = [{"channel": channel, "instId": symbol} for symbol in symbols for channel in ("books", "trades")]
        candles = [{"channel": "candle1m", "instId": symbol} for symbol in symbols]
        public, business = (compact({"id": "1", "op": "subscribe", "args": args}) for args in (books, candles))
        return Plan(
            "https://www.okx.com",
            [Request.get("/api/v5/public/instruments?instType=SPOT")],
            [
                Dial("wss://ws.okx.com:8443/ws/v5/public", [public]),
                Dial("wss://ws.okx.com:8443/ws/v5/business", [business]),
            ],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        args = [{"channel": "books", "instId": market.instrument.symbol}]
        return [compact({"op": operation, "args": args}) for operation in ("unsubscribe", "subscribe")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping that is no JSON."""
        return "ping"


def _data(data: list[Any]) -> Response:
    return Response.of({"code": "0", "msg": "", "data": data})


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "instType": "SPOT",
        "instId": instrument.symbol,
        "uly": "",
        "instFamily": "",
        "baseCcy": instrument.base,
        "quoteCcy": instrument.quote,
        "settleCcy": "",
        "ctVal": "",
        "ctMult": "",
        "ctValCcy": "",
        "ctType": "",
        "tickSz": instrument.price(1),
        "lotSz": instrument.size(1),
        "minSz": instrument.size(1),
        "state": "live",
    }
