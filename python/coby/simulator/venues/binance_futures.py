"""Binance USD-M futures: routed streams, ids shared by all symbols, `pu` chains."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from coby.simulator.exchange import (
    MS,
    SECOND,
    Connection,
    Dial,
    Frame,
    Picture,
    Plan,
    Refusal,
    Request,
    Response,
    Venue,
    compact,
)
from coby.simulator.fair import MINUTE_NS
from coby.simulator.feeds import Batch, Pairs, Push
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_INTERVALS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720,
    "1d": 1_440,
}  # fmt: skip
_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
_PARTIAL = ("depth5", "depth10", "depth20")
_SPEEDS = {"": 250, "@100ms": 100, "@500ms": 500}
_MAX_STREAMS = 1_024


class BinanceFutures(Venue):
    """`fstream.binance.com` and `fapi.binance.com`."""

    name = "binance_futures"
    sequenced = True
    instruments = (
        Instrument("BTCUSDT", "BTC", "USDT", 2, 10, 3, 1, perpetual=True),
        Instrument("ETHUSDT", "ETH", "USDT", 2, 1, 3, 1, perpetual=True),
        Instrument("SOLUSDT", "SOL", "USDT", 4, 100, 0, 1, perpetual=True),
        Instrument("XRPUSDT", "XRP", "USDT", 4, 1, 1, 1, perpetual=True),
    )
    temper = Temper(lag_ns=20_000_000, wander=60_000, levels=1_500, pace=150)

    rest: ClassVar[str] = "https://fapi.binance.com"
    sockets: ClassVar[str] = "wss://fstream.binance.com"
    api: ClassVar[str] = "/fapi/v1"
    speeds: ClassVar[Mapping[str, int]] = _SPEEDS
    intervals: ClassVar[Mapping[str, int]] = _INTERVALS
    kline_ms: ClassVar[int] = 250
    messages_a_second: ClassVar[int] = 10
    weight_a_minute: ClassVar[int] = 2_400
    ping_s: ClassVar[int] = 180

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._batches = {
            (symbol, speed): Batch(market) for symbol, market in self.markets.items() for speed in self.speeds.values()
        }
        self._tops: dict[str, tuple[Pairs, Pairs]] = {}
        self._traded: set[tuple[str, str]] = set()
        self._weights: tuple[int, int] = (0, 0)
        for speed in self.speeds.values():
            self.clock.every(speed * MS, lambda speed=speed: self._push_books(speed))  # type: ignore[misc]
        self.clock.every(self.kline_ms * MS, self._push_candles, 3 * MS)
        self.clock.every(self.ping_s * SECOND, self._ping)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Routed and legacy paths, as streams or raw."""
        family = path.split("/")[1] if path.startswith(("/public/", "/market/", "/private/")) else ""
        kind = path.removeprefix(f"/{family}" if family else "").split("/")[1]
        return 101 if kind in {"ws", "stream"} else 404

    def family(self, connection: Connection) -> str | None:
        """What a connection's path delivers: everything else is acknowledged and never sent."""
        return "market" if connection.path.startswith("/market/") else "public"

    def opened(self, connection: Connection) -> None:
        """Streams named in the URL start at once."""
        connection.notes["combined"] = "/stream" in connection.path
        streams = connection.query.get("streams", "").split("/")
        _, raw, path = connection.path.partition("/ws/")
        if raw:
            streams += path.split("/")
        for stream in filter(None, streams):
            self._start(connection, stream)

    def received(self, connection: Connection, text: str) -> None:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY."""
        second = self.clock.now_ns // SECOND
        at, count = connection.notes.get("heard", (second, 0))
        connection.notes["heard"] = (second, count + 1 if at == second else 1)
        if connection.notes["heard"][1] > self.messages_a_second:
            connection.close(1008, "Too many requests")
            return
        try:
            message = json.loads(text)
            method, number = message["method"], message["id"]
        except (ValueError, KeyError, TypeError) as error:
            connection.say({"code": 2, "msg": f"Invalid request: {_reason(error)}"})
            return
        params = message.get("params", [])
        result: Any = None
        match method:
            case "SUBSCRIBE":
                if len(connection.notes.setdefault("streams", {})) + len(params) > _MAX_STREAMS:
                    connection.close(1008, "Too many streams")
                    return
                for stream in params:
                    self._start(connection, stream)
            case "UNSUBSCRIBE":
                for stream in params:
                    connection.notes.get("streams", {}).pop(stream, None)
                    self.unsubscribe(connection, stream)
            case "LIST_SUBSCRIPTIONS":
                result = list(connection.notes.get("streams", {}))
            case "SET_PROPERTY" if params[:1] == ["combined"]:
                connection.notes["combined"] = bool(params[1])
            case _:
                connection.say({"code": 2, "msg": f"Invalid request: unknown variant `{method}`", "id": number})
                return
        connection.say({"result": result, "id": number})

    def _start(self, connection: Connection, stream: str) -> None:
        connection.notes.setdefault("streams", {})[stream] = None
        symbol, _, channel = stream.partition("@")
        market = self.markets.get(symbol.upper())
        family = "public" if channel.startswith(("depth", "bookTicker")) else "market"
        if market and self.family(connection) in (None, family):
            self.subscribe(connection, stream)

    def _ping(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self:
                connection.ping(str(self.now // MS).encode())

    def _send(self, stream: str, data: Mapping[str, Any], frame: Frame) -> None:
        raw = compact(data)
        combined = f'{{"stream":"{stream}","data":{raw}}}'
        for connection in list(self.exchange.listeners.get((self.name, stream), ())):
            text = combined if connection.notes["combined"] else raw
            connection.send(Frame(text, frame.channel, frame.market))

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, depth and candles when their time comes."""
        symbol = market.instrument.symbol
        for speed in self.speeds.values():
            self._batches[symbol, speed].add(update)
        stream = symbol.lower()
        for fill in update.fills:
            self._trade(stream, market, fill)
        if update.fills:
            self._traded.update((symbol, interval) for interval in self.intervals)
        if self.wanted(f"{stream}@bookTicker"):
            tops = (market.bids.top(1), market.asks.top(1))
            if self._tops.get(symbol) != tops:
                self._tops[symbol] = tops
                self._send(f"{stream}@bookTicker", self.ticker(market), Frame("", "book", market))

    def _trade(self, stream: str, market: Market, fill: Fill) -> None:
        if self.wanted(f"{stream}@aggTrade"):
            self._send(f"{stream}@aggTrade", self.aggregate(market, fill), Frame("", "trade", market))

    def aggregate(self, market: Market, fill: Fill) -> dict[str, Any]:
        """A fill as `aggTrade`."""
        instrument = market.instrument
        return {
            "e": "aggTrade",
            "E": self.stamp(fill.time_ns) // MS + 2,
            "a": fill.number,
            "s": instrument.symbol,
            "p": instrument.price(fill.ticks),
            "q": instrument.size(fill.lots),
            "nq": instrument.size(fill.lots),
            "f": fill.first_id,
            "l": fill.last_id,
            "T": self.stamp(fill.time_ns) // MS,
            "m": fill.taker_sells,
        }

    def ticker(self, market: Market) -> dict[str, Any]:
        """The best levels as `bookTicker`."""
        instrument = market.instrument
        (bid, bid_lots), (ask, ask_lots) = market.bids.top(1)[0], market.asks.top(1)[0]
        times = {"E": self.now // MS, "T": self.now // MS}
        return {
            "e": "bookTicker",
            "u": self.number(market.sequence),
            **times,
            "s": instrument.symbol,
            "b": instrument.price(bid),
            "B": instrument.size(bid_lots),
            "a": instrument.price(ask),
            "A": instrument.size(ask_lots),
        }

    def number(self, sequence: int) -> int:
        """An update id: all symbols share them, so a symbol's own have holes."""
        return sequence * 17 + sequence * 7_919 % 13

    def skip(self, market: Market) -> None:
        """The next event follows on one that was never sent."""
        super().skip(market)
        for speed in self.speeds.values():
            self._batches[market.instrument.symbol, speed].skip()

    def _push_books(self, speed: int) -> None:
        names = [f"@{name}" for name in self.speeds if self.speeds[name] == speed]
        suffixes = [name.removeprefix("@") for name in names]
        for symbol, market in self.markets.items():
            push = self._batches[symbol, speed].take()
            if push is None:
                continue
            for suffix in suffixes:
                stream = f"{symbol.lower()}@depth{suffix}"
                if self.wanted(stream):
                    self._send(stream, self.depth(market, push), Frame("", "book", market))
                for partial in _PARTIAL:
                    stream = f"{symbol.lower()}@{partial}{suffix}"
                    if self.wanted(stream):
                        self._send(stream, self.partial(market, push, int(partial[5:])), Frame("", "book", market))

    def depth(self, market: Market, push: Push) -> dict[str, Any]:
        """Changes as `depthUpdate`."""
        level = market.instrument.level
        return {
            "e": "depthUpdate",
            "E": self.now // MS,
            "T": self.stamp(push.time_ns) // MS,
            "s": market.instrument.symbol,
            "U": self.number(push.first),
            "u": self.number(push.last),
            "pu": self.number(push.previous),
            "b": [level(*pair) for pair in push.bids],
            "a": [level(*pair) for pair in push.asks],
        }

    def partial(self, market: Market, push: Push, levels: int) -> dict[str, Any]:
        """The best levels, as a `depthUpdate` that replaces."""
        best = Push(
            market.bids.top(levels), market.asks.top(levels), push.first, push.last, push.previous, push.time_ns
        )
        return self.depth(market, best)

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol, market in self.markets.items():
            for interval, minutes in self.intervals.items():
                stream = f"{symbol.lower()}@kline_{interval}"
                if not self.wanted(stream):
                    continue
                length = minutes * MINUTE_NS
                begin = self.clock.now_ns // length * length
                if self.clock.now_ns - begin < self.kline_ms * MS:
                    for candle in market.candles(length, begin - length, begin):
                        self._send(
                            stream, self.kline(market, candle, interval, final=True), Frame("", "candle", market)
                        )
                if (symbol, interval) in traded:
                    for candle in market.candles(length, begin, begin + 1):
                        self._send(
                            stream, self.kline(market, candle, interval, final=False), Frame("", "candle", market)
                        )

    def kline(self, market: Market, candle: Candle, interval: str, *, final: bool) -> dict[str, Any]:
        """A candle as `kline`."""
        instrument = market.instrument
        open_ms = self.stamp(candle.open_ns) // MS
        return {
            "e": "kline",
            "E": self.now // MS,
            "s": instrument.symbol,
            "k": {
                "t": open_ms,
                "T": open_ms + self.intervals[interval] * 60_000 - 1,
                "s": instrument.symbol,
                "i": interval,
                "f": candle.first_id,
                "L": candle.last_id,
                "o": instrument.price(candle.open),
                "c": instrument.price(candle.close),
                "h": instrument.price(candle.high),
                "l": instrument.price(candle.low),
                "v": instrument.size(candle.lots),
                "n": candle.count,
                "x": final,
                "q": instrument.notional(candle.notional),
                "V": instrument.size(candle.bought),
                "Q": instrument.notional(candle.bought_notional),
                "B": "0",
            },
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Listings, depth, candles and trades."""
        path = request.path.removeprefix(self.api)
        if path == "/ping":
            return self._weighed({}, 1)
        if path == "/time":
            return self._weighed({"serverTime": self.now // MS}, 1)
        if path == "/exchangeInfo":
            return self._weighed(self.listing(), 1)
        market = self.markets.get(request.query.get("symbol", ""))
        if path not in {"/depth", "/klines", "/aggTrades"}:
            raise Refusal(404, "Not found")
        if market is None:
            raise Refusal(400, "Invalid symbol.")
        if path == "/depth":
            limit = request.number("limit", 500)
            return self._weighed(self.snapshot(self.picture(market), market, limit), self.depth_weight(limit))
        if path == "/klines":
            return self._weighed(self._klines(market, request), 5)
        limit = request.number("limit", 500, 1_000)
        first = request.number("fromId", 0)
        fills = [fill for fill in market.fills if fill.number >= first]
        chosen = fills[:limit] if first else fills[-limit:]
        rows = [self.aggregate(market, fill) for fill in chosen]
        return self._weighed([{k: v for k, v in row.items() if k not in {"e", "E", "s"}} for row in rows], 20)

    def depth_weight(self, limit: int) -> int:
        """What a depth request costs; only some limits are allowed."""
        if limit not in _WEIGHTS:
            raise Refusal(400, "Illegal parameter 'limit'.")
        return _WEIGHTS[limit]

    def snapshot(self, picture: Picture, market: Market, limit: int) -> dict[str, Any]:
        """The book as `/depth` shows it."""
        level = market.instrument.level
        return {
            "lastUpdateId": self.number(picture.sequence),
            "E": self.now // MS,
            "T": self.stamp(picture.time_ns) // MS,
            "bids": [level(*pair) for pair in picture.bids[:limit]],
            "asks": [level(*pair) for pair in picture.asks[:limit]],
        }

    def _klines(self, market: Market, request: Request) -> list[list[Any]]:
        interval = request.query.get("interval", "")
        if interval not in self.intervals:
            raise Refusal(400, "Invalid interval.")
        length = self.intervals[interval] * MINUTE_NS
        limit = request.number("limit", 500, 1_500)
        since = request.number("startTime", 0) * MS
        until = (request.number("endTime", 2**43) + 1) * MS
        candles = market.candles(length, since, until)
        rows = []
        for candle in candles[:limit] if since else candles[-limit:]:
            k = self.kline(market, candle, interval, final=True)["k"]
            rows.append([k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], "0"])
        return rows

    def _weighed(self, value: object, weight: int) -> Response:
        minute = self.clock.now_ns // MINUTE_NS
        used = weight + (self._weights[1] if self._weights[0] == minute else 0)
        self._weights = (minute, used)
        headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
        if used > self.weight_a_minute:
            wait = (minute + 1) * 60 - self.clock.now_ns // SECOND
            error = {"code": -1003, "msg": "Too many requests; please use the websocket for live updates."}
            return Response.of(error, 429, headers | {"Retry-After": str(wait)})
        return Response.of(value, 200, headers)

    def refuse(self, refusal: Refusal) -> Response:
        """Binance's negative codes."""
        return Response.of(
            {"code": -1121 if "symbol" in refusal.message else -1100, "msg": refusal.message}, refusal.status
        )

    def listing(self) -> dict[str, Any]:
        """`exchangeInfo`."""
        return {
            "timezone": "UTC",
            "serverTime": self.now // MS,
            "symbols": [self.listed(market.instrument) for market in self.markets.values()],
        }

    def listed(self, instrument: Instrument) -> dict[str, Any]:
        """One symbol of `exchangeInfo`."""
        price_step, size_step = instrument.price(1), instrument.size(1)
        return {
            "symbol": instrument.symbol,
            "pair": instrument.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000,
            "status": "TRADING",
            "baseAsset": instrument.base,
            "quoteAsset": instrument.quote,
            "marginAsset": instrument.quote,
            "pricePrecision": instrument.price_digits,
            "quantityPrecision": instrument.size_digits,
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": price_step, "minPrice": price_step, "maxPrice": "1000000"},
                {"filterType": "LOT_SIZE", "stepSize": size_step, "minQty": size_step, "maxQty": "1000000"},
                {"filterType": "MIN_NOTIONAL", "notional": "5"},
            ],
        }

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """Depth on one connection, trades and candles on the other."""
        symbols = [market.instrument.symbol.lower() for market in markets]
        depth = "/".join(f"{symbol}@depth@100ms" for symbol in symbols)
        trades = "/".join(f"{symbol}@aggTrade/{symbol}@kline_1m" for symbol in symbols)
        snapshots = [request for market in markets for request in self.resync(market) if isinstance(request, Request)]
        return Plan(
            self.rest,
            [Request.get(f"{self.api}/exchangeInfo")],
            [
                Dial(f"{self.sockets}/public/stream?streams={depth}", [], snapshots),
                Dial(f"{self.sockets}/market/stream?streams={trades}", []),
            ],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """A snapshot joins the running stream."""
        return [Request.get(f"{self.api}/depth?symbol={market.instrument.symbol}&limit=1000")]


def _reason(error: Exception) -> str:
    return "missing field `id`" if isinstance(error, KeyError) else "expected value at line 1 column 1"
