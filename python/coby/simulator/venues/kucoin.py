"""KuCoin spot: a token first, then increments with running numbers; only the best 100 levels without a key."""

import json
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
from coby.simulator.feeds import Pairs
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_MINUTES = {
    "1min": 1, "3min": 3, "5min": 5, "15min": 15, "30min": 30, "1hour": 60, "2hour": 120, "4hour": 240, "6hour": 360,
    "8hour": 480, "12hour": 720, "1day": 1_440, "1week": 10_080,
}  # fmt: skip
_PING_MS = 18_000
_PONG_MS = 10_000
_IMAGES = {"/spotMarket/level2Depth5": 5, "/spotMarket/level2Depth50": 50}
_TOPICS = ("/market/level2", "/market/match", "/market/candles", *_IMAGES)
_SYMBOLS_A_TOPIC = 100
_TOPICS_A_CONNECTION = 300


class Kucoin(Venue):
    """`ws-api-spot.kucoin.com`, behind `api.kucoin.com`."""

    name = "kucoin"
    sequenced = True
    instruments = (
        Instrument("BTC-USDT", "BTC", "USDT", 1, 1, 8, 1),
        Instrument("ETH-USDT", "ETH", "USDT", 2, 1, 7, 1),
        Instrument("SOL-USDT", "SOL", "USDT", 3, 1, 4, 1),
        Instrument("XRP-USDT", "XRP", "USDT", 5, 1, 4, 1),
    )
    temper = Temper(lag_ns=250_000_000, wander=110_000, levels=1_450, pace=80)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tokens: dict[str, int] = {}
        self._begun: dict[tuple[str, str], int] = {}
        self._moved: set[str] = set()
        self.clock.every(100 * MS, self._push_images)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def opened(self, connection: Connection) -> None:
        """Only who has a token is welcome."""
        number = connection.query.get("connectId", str(connection.number))
        if self._tokens.get(connection.query.get("token", ""), 0) < self.clock.now_ns:
            connection.say({"id": number, "type": "error", "code": 401, "data": "token is invalid"})
            connection.close(1000, "token is invalid")
            return
        connection.say({"id": number, "type": "welcome"})

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        try:
            message = json.loads(text)
            number, kind = str(message["id"]), message["type"]
        except (ValueError, KeyError, TypeError):
            connection.say({"type": "error", "code": 400, "data": "bad request"})
            return
        if kind == "ping":
            connection.say({"id": number, "type": "pong", "timestamp": self.now // MS})
        elif kind in {"subscribe", "unsubscribe"}:
            topic = str(message.get("topic", ""))
            name, _, symbols = topic.partition(":")
            chosen = symbols.split(",")
            error = self._problem(name, chosen)
            if error:
                connection.say({"id": number, "type": "error", "code": 404, "data": f"topic {topic} is not found"})
                return
            if len(connection.topics) + len(chosen) > _TOPICS_A_CONNECTION:
                connection.say({"id": number, "type": "error", "code": 509, "data": "exceed max subscription count"})
                return
            if message.get("response"):
                connection.say({"id": number, "type": "ack"})
            for symbol in chosen:
                if kind == "subscribe":
                    self.subscribe(connection, (name, symbol))
                else:
                    self.unsubscribe(connection, (name, symbol))
        else:
            connection.say({"id": number, "type": "error", "code": 400, "data": f"type {kind} is not supported"})

    def _problem(self, name: str, symbols: list[str]) -> bool:
        if name not in _TOPICS or len(symbols) > _SYMBOLS_A_TOPIC:
            return True
        if name == "/market/candles":
            symbol, _, interval = symbols[0].partition("_")
            return len(symbols) > 1 or symbol not in self.markets or interval not in _MINUTES
        return any(symbol not in self.markets for symbol in symbols)

    def _watch(self) -> None:
        """Who does not ping in time has to go."""
        for connection in list(self.exchange.connections.values()):
            silent_ms = (self.clock.now_ns - max(connection.heard_ns, connection.opened_ns)) // MS
            if connection.venue is self and silent_ms > _PING_MS + _PONG_MS:
                connection.close(1000, "ping timeout")

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Everything goes out at once, but for the images."""
        symbol = market.instrument.symbol
        self._moved.add(symbol)
        if self.wanted(("/market/level2", symbol)):
            self._send("/market/level2", symbol, "trade.l2update", self._update(market, update), market)
        if not update.fills:
            return
        if self.wanted(("/market/match", symbol)):
            for fill in update.fills:
                text = compact(
                    {
                        "data": self._match(market, fill),
                        "subject": "trade.l3match",
                        "topic": f"/market/match:{symbol}",
                        "type": "message",
                    }
                )
                self.publish(("/market/match", symbol), Frame(text, "trade", market))
        for interval, minutes in _MINUTES.items():
            topic = ("/market/candles", f"{symbol}_{interval}")
            if self.wanted(topic):
                self._push_candle(topic, market, minutes)

    def _send(self, name: str, symbol: str, subject: str, data: dict[str, Any], market: Market) -> None:
        text = compact({"type": "message", "topic": f"{name}:{symbol}", "subject": subject, "data": data})
        self.publish((name, symbol), Frame(text, "book", market))

    def _update(self, market: Market, update: Update) -> dict[str, Any]:
        changes: dict[str, list[list[str]]] = {"asks": [], "bids": []}
        for number, (side, ticks, lots) in enumerate(update.changes, update.first):
            size = market.instrument.size(lots) if lots else "0"
            changes["asks" if side else "bids"].append([market.instrument.price(ticks), size, str(number)])
        if not update.changes:
            # Something happened that moved no level: the number is used all the same.
            changes["asks"].append(["0", "0", str(update.first)])
        return {
            "changes": changes,
            "sequenceStart": update.first,
            "sequenceEnd": update.last,
            "symbol": market.instrument.symbol,
            "time": self.stamp(update.time_ns) // MS,
        }

    def _match(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument = market.instrument
        return {
            "symbol": instrument.symbol,
            "sequence": str(market.sequence),
            "side": "sell" if fill.taker_sells else "buy",
            "size": instrument.size(fill.lots),
            "price": instrument.price(fill.ticks),
            "takerOrderId": f"{fill.time_ns // SECOND:08x}{fill.time_ns % 2**63:016x}",
            "time": str(self.stamp(fill.time_ns)),
            "type": "match",
            "makerOrderId": f"{fill.time_ns // SECOND:08x}{fill.number:016x}",
            "tradeId": str(11_067_996_711_960_577 + fill.number),
        }

    def _push_candle(self, topic: tuple[str, str], market: Market, minutes: int) -> None:
        length = minutes * MINUTE_NS
        begin = self.clock.now_ns // length * length
        new = self._begun.get(topic) != begin
        self._begun[topic] = begin
        for candle in market.candles(length, begin, begin + 1):
            data = {
                "symbol": market.instrument.symbol,
                "candles": self._row(market.instrument, candle),
                "time": self.now,
            }
            subject = "trade.candles.add" if new else "trade.candles.update"
            text = compact({"data": data, "subject": subject, "topic": ":".join(topic), "type": "message"})
            self.publish(topic, Frame(text, "candle", market))

    def _row(self, instrument: Instrument, candle: Candle) -> list[str]:
        return [
            str(self.stamp(candle.open_ns) // SECOND),
            *(instrument.price(ticks) for ticks in (candle.open, candle.close, candle.high, candle.low)),
            instrument.size(candle.lots),
            instrument.notional(candle.notional),
        ]

    def _push_images(self) -> None:
        for symbol in [symbol for symbol in self.markets if symbol in self._moved]:
            market = self.markets[symbol]
            for name, depth in _IMAGES.items():
                if self.wanted((name, symbol)):
                    level = market.instrument.level
                    data = {
                        "asks": [level(*pair) for pair in market.asks.top(depth)],
                        "bids": [level(*pair) for pair in market.bids.top(depth)],
                        "timestamp": self.now // MS,
                    }
                    self._send(name, symbol, "level2", data, market)
        self._moved.clear()

    # REST

    def answer(self, request: Request) -> Response:
        """Tokens, listings, the best levels, candles and trades."""
        path = request.path.removeprefix("/api/v1/")
        if path == "bullet-public" and request.method == "POST":
            return self._bullet()
        if request.path == "/api/v2/symbols":
            return _data([_listed(market.instrument) for market in self.markets.values()])
        if path == "timestamp":
            return _data(self.now // MS)
        market = self.markets.get(request.query.get("symbol", ""))
        known = {"market/orderbook/level2_20", "market/orderbook/level2_100", "market/candles", "market/histories"}
        if path not in known:
            raise Refusal(404, "Not Found")
        if market is None:
            raise Refusal(400, "The symbol does not exist")
        if path.startswith("market/orderbook/"):
            depth = int(path.rpartition("_")[2])
            picture = self.picture(market)

            def rows(side: Pairs) -> list[list[str]]:
                return [market.instrument.level(*pair) for pair in side[:depth]]

            times = {"time": self.stamp(picture.time_ns) // MS, "sequence": str(picture.sequence)}
            return _data({**times, "bids": rows(picture.bids), "asks": rows(picture.asks)})
        if path == "market/candles":
            return _data(self._candles(market, request))
        keys = ("sequence", "price", "size", "side", "time")
        matches = [self._match(market, fill) for fill in list(market.fills)[-100:]]
        return _data([{key: int(m[key]) if key == "time" else m[key] for key in keys} for m in matches])

    def _bullet(self) -> Response:
        token = f"2neAiuYvAU61ZDXANAGAsiL4-{self.clock.now_ns:x}-{len(self._tokens):x}"
        self._tokens[token] = self.clock.now_ns + 24 * 3_600 * SECOND
        server = {
            "endpoint": "wss://ws-api-spot.kucoin.com/",
            "encrypt": True,
            "protocol": "websocket",
            "pingInterval": _PING_MS,
            "pingTimeout": _PONG_MS,
        }
        return _data({"token": token, "instanceServers": [server]})

    def _candles(self, market: Market, request: Request) -> list[list[str]]:
        interval = request.query.get("type", "")
        if interval not in _MINUTES:
            raise Refusal(400, "Bad type")
        length = _MINUTES[interval] * MINUTE_NS
        now_s = self.clock.now_ns // SECOND
        since, until = request.number("startAt", 0), request.number("endAt", now_s + 1)
        found = market.candles(length, since * SECOND, until * SECOND)
        return [self._row(market.instrument, candle) for candle in found[-1_500:][::-1]]

    def refuse(self, refusal: Refusal) -> Response:
        """A code of six digits."""
        return Response.of({"code": f"{refusal.status}000", "msg": refusal.message}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, three topics and one more for each candle."""
        symbols = ",".join(market.instrument.symbol for market in markets)
        topics = [f"/market/level2:{symbols}", f"/market/match:{symbols}"]
        topics += [f"/market/candles:{market.instrument.symbol}_1min" for market in markets]
        messages = [
            compact({"id": 1 + n, "type": "subscribe", "topic": topic, "privateChannel": False, "response": True})
            for n, topic in enumerate(topics)
        ]
        snapshots = [request for market in markets for request in self.resync(market) if isinstance(request, Request)]
        return Plan(
            "https://api.kucoin.com",
            [Request.get("/api/v2/symbols")],
            [
                Dial(
                    "wss://ws-api-spot.kucoin.com/?token={token}&connectId=1",
                    messages,
                    snapshots,
                    token=Request("POST", "/api/v1/bullet-public"),
                    greeted=True,
                )
            ],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """A snapshot joins the running stream."""
        return [Request.get(f"/api/v1/market/orderbook/level2_100?symbol={market.instrument.symbol}")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"id": str(self.now // MS), "type": "ping"})


def _data(data: object) -> Response:
    return Response.of({"code": "200000", "data": data})


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "name": instrument.symbol,
        "baseCurrency": instrument.base,
        "quoteCurrency": instrument.quote,
        "feeCurrency": instrument.quote,
        "market": instrument.quote,
        "baseMinSize": instrument.size(1),
        "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": instrument.size(1),
        "quoteIncrement": "0.000001",
        "priceIncrement": instrument.price(1),
        "priceLimitRate": "0.1",
        "minFunds": "0.1",
        "isMarginEnabled": True,
        "enableTrading": True,
    }
