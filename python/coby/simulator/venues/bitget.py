"""Bitget spot: the public sockets V3 (UTA) and V2 (classic) over the same books, with a chain of numbers in V3."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from coby.simulator.exchange import (
    MS,
    SECOND,
    Channel,
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
from coby.simulator.feeds import Images, Pairs, due
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_BARS = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "4H": 240, "6H": 360, "12H": 720, "1D": 1_440, "3D": 4_320,
}  # fmt: skip
_GRANULARITIES = {
    "1min": 1, "5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "6h": 360, "12h": 720, "1day": 1_440,
    "3day": 4_320,
}  # fmt: skip
_ELSEWHERE = frozenset({"usdt-futures", "coin-futures", "usdc-futures"})
_CANDLES_NS = 500 * MS
_HISTORY_BARS = 500
_HISTORY_TRADES = 50
_PATIENCE_NS = 120 * SECOND
_MESSAGE_BYTES = 4_096
_ARGUMENTS_A_MESSAGE = 25
_CHANNELS_A_CONNECTION = 1_000
_HOUR_NS = 60 * MINUTE_NS
_FUTURES = ("USDT-FUTURES", "COIN-FUTURES", "USDC-FUTURES")


@dataclass(frozen=True)
class _Version:
    """How one of the sockets names things, and what its books are."""

    path: str
    kind: str
    channel: str
    symbol: str
    sides: tuple[str, str]
    trades: str
    depth: int
    push_ms: int
    images: Mapping[str, int]
    """The best levels, in full every time, by the name of the channel."""


_V2 = _Version(
    "/v2/ws/public",
    "SPOT",
    "channel",
    "instId",
    ("bids", "asks"),
    "trade",
    400,
    100,
    {"books1": 1, "books5": 5, "books15": 15},
)
_V3 = _Version(
    "/v3/ws/public",
    "spot",
    "topic",
    "symbol",
    ("b", "a"),
    "publicTrade",
    1_000,
    50,
    {"books1": 1, "books5": 5, "books50": 50},
)
_VERSIONS = {version.path: version for version in (_V2, _V3)}

_Topic = tuple[str, str, str, str]
"""The socket's path, the symbol, the channel, and the bar of a candle."""


class Bitget(Venue):
    """`ws.bitget.com` and `api.bitget.com`."""

    name = "bitget"
    sequenced = True
    instruments = (
        Instrument("BTCUSDT", "BTC", "USDT", 2, 1, 6, 1),
        Instrument("ETHUSDT", "ETH", "USDT", 2, 1, 4, 1),
        Instrument("SOLUSDT", "SOL", "USDT", 2, 1, 4, 1),
        Instrument("XRPUSDT", "XRP", "USDT", 4, 1, 4, 1),
    )
    temper = Temper(lag_ns=140_000_000, wander=90_000, pace=100)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images = Images()
        self._tops: dict[_Topic, tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self._messages = Quota(10, SECOND)
        self._subscribes = Quota(240, _HOUR_NS)
        self._requests = Quota(20, SECOND)
        for version in _VERSIONS.values():
            self.clock.every(version.push_ms * MS, partial(self._push_books, version))
            self.clock.every(20 * MS, partial(self._push_images, version, ("books1",)))
            self.clock.every(100 * MS, partial(self._push_images, version, tuple(version.images)[1:]))
        self.clock.every(_CANDLES_NS, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Two sockets; the first version's are gone."""
        return 101 if path in _VERSIONS else 404

    def opened(self, connection: Connection) -> None:
        """The time runs for the first ping."""
        connection.notes["pinged_ns"] = self.clock.now_ns

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, and a ping that is no JSON."""
        if self._messages.spend(self.clock.now_ns, connection.number) < 0:
            connection.close(1008, "request over limit")
            return
        if text == "ping":
            connection.notes["pinged_ns"] = self.clock.now_ns
            connection.send(Frame("pong"))
            return
        version = _VERSIONS[connection.path]
        try:
            message = json.loads(text)
            operation = message["op"]
            arguments = [{str(key): str(value) for key, value in arg.items()} for arg in message["args"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            operation, arguments = "", []
        if operation not in {"subscribe", "unsubscribe"} or len(text.encode()) > _MESSAGE_BYTES:
            self._refuse(connection, operation, None, 30016, "Param error")
            return
        if operation == "subscribe":
            if version is _V3 and len(arguments) >= _ARGUMENTS_A_MESSAGE:
                connection.close(1006)
                return
            if self._subscribes.spend(self.clock.now_ns, connection.number) < 0:
                self._refuse(connection, operation, None, 30006, "request too many")
                return
        for argument in arguments:
            self._obey(connection, version, operation, argument)

    def _obey(self, connection: Connection, version: _Version, operation: str, argument: dict[str, str]) -> None:
        kind, name = argument.get("instType", ""), argument.get(version.channel, "")
        symbol, bar = argument.get(version.symbol, ""), argument.get("interval", "")
        candles = name == "kline" and bar in _BARS if version is _V3 else name.removeprefix("candle") in _BARS
        elsewhere = kind.lower() in _ELSEWHERE
        if (kind != version.kind and not elsewhere) or not (
            candles or name in {"books", version.trades, *version.images}
        ):
            self._refuse(connection, operation, argument, 30016, "Param error")
            return
        if symbol not in self.markets:
            named = f"instType:{kind},channel:{name},instId:{symbol},precision:null"
            problem = compact(argument) if version is _V3 else named
            self._refuse(connection, operation, argument, 30001, f"{problem} doesn't exist")
            return
        if operation == "subscribe" and len(connection.topics) >= _CHANNELS_A_CONNECTION:
            self._refuse(connection, operation, argument, 30006, "request too many")
            return
        ending = {"connId": self._label(connection)} if version is _V3 else {}
        connection.say({"event": operation, "arg": argument, **ending})
        topic = (version.path, symbol, name, bar)
        if operation == "unsubscribe":
            self.unsubscribe(connection, topic)
        elif elsewhere:
            # A symbol of this name exists, but not there: acknowledged, and nothing ever comes.
            self.subscribe(connection, (*topic, kind))
        elif name == "books":
            self.join(connection, topic, self.markets[symbol], partial(self._snapshot, connection, topic))
        elif self.subscribe(connection, topic):
            self._history(connection, topic)

    def _refuse(
        self, connection: Connection, operation: str, argument: dict[str, str] | None, code: int, problem: str
    ) -> None:
        if connection.path == _V3.path:
            told = {"event": "error", "code": code, "msg": problem, "connId": self._label(connection)}
        else:
            told = {"event": "error", "arg": argument, "code": code, "msg": problem, "op": operation}
        connection.say(told)

    def _label(self, connection: Connection) -> str:
        return f"{connection.opened_ns // MS:x}{connection.number:04x}"

    def _watch(self) -> None:
        """Who does not ping has to go, whatever else is said."""
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self and self.clock.now_ns - connection.notes["pinged_ns"] > _PATIENCE_NS:
                connection.close(1000, "ping timeout")

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        self._images.skip(market)

    # What happens

    def _frame(self, topic: _Topic, action: str, data: Iterable[Any], kind: Channel) -> Frame:
        path, symbol, name, bar = topic
        version = _VERSIONS[path]
        interval = {"interval": bar} if bar else {}
        argument = {"instType": version.kind, version.channel: name, version.symbol: symbol, **interval}
        text = compact({"action": action, "arg": argument, "data": list(data), "ts": self.now // MS})
        return Frame(text, kind, self.markets[symbol])

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, the latest first."""
        if not update.fills:
            return
        self._traded.add(market.instrument.symbol)
        for version in _VERSIONS.values():
            topic = (version.path, market.instrument.symbol, version.trades, "")
            if self.wanted(topic):
                rows = [self._trade(version, market, fill) for fill in reversed(update.fills)]
                self.publish(topic, self._frame(topic, "update", rows, "trade"))

    def _trade(self, version: _Version, market: Market, fill: Fill) -> dict[str, str]:
        time, number = str(self.stamp(fill.time_ns) // MS), str(1_432_912_000_000_000_000 + fill.number)
        price, size = market.instrument.price(fill.ticks), market.instrument.size(fill.lots)
        side = "sell" if fill.taker_sells else "buy"
        if version is _V3:
            return {"i": number, "p": price, "v": size, "S": side, "T": time, "L": str(fill.last_id), "isRPI": "no"}
        return {"ts": time, "price": price, "size": size, "side": side, "tradeId": number}

    def _history(self, connection: Connection, topic: _Topic) -> None:
        """Trades and candles begin with what has been."""
        path, symbol, name, _ = topic
        market = self.markets[symbol]
        if name == _VERSIONS[path].trades:
            fills = list(market.fills)[: -_HISTORY_TRADES - 1 : -1]
            rows = [self._trade(_VERSIONS[path], market, fill) for fill in fills]
            connection.send(self._frame(topic, "snapshot", rows, "trade"))
        elif name not in _VERSIONS[path].images:
            length, now = self._length(topic), self.clock.now_ns
            found = market.candles(length, now - _HISTORY_BARS * length, now + 1)[-_HISTORY_BARS:]
            bars = [self._bar(topic, market.instrument, candle) for candle in found]
            connection.send(self._frame(topic, "snapshot", bars, "candle"))

    # Books

    def _sides(self, version: _Version, market: Market, bids: Pairs, asks: Pairs) -> dict[str, list[list[str]]]:
        instrument = market.instrument
        bid, ask = (
            [[instrument.price(ticks), instrument.size(lots) if lots else "0"] for ticks, lots in pairs]
            for pairs in (bids, asks)
        )
        return {version.sides[1]: ask, version.sides[0]: bid}

    def _book(
        self, topic: _Topic, sides: tuple[Pairs, Pairs], time_ns: int, numbers: tuple[int, int]
    ) -> dict[str, Any]:
        version, market = _VERSIONS[topic[0]], self.markets[topic[1]]
        # The spot books of V2 do not name the previous number.
        chain = {"pseq": numbers[1], "maxdepth": str(version.depth)} if version is _V3 else {}
        time = {"ts": str(self.stamp(time_ns) // MS), "seq": numbers[0]}
        return {**self._sides(version, market, *sides), **time, **chain}

    def _snapshot(self, connection: Connection, topic: _Topic) -> None:
        market, version = self.markets[topic[1]], _VERSIONS[topic[0]]
        depth = version.depth
        shown = self.exchange.faults.stale(self, market) or self._images.of(market, version.path, depth)
        sides = (shown.bids[:depth], shown.asks[:depth])
        data = self._book(topic, sides, shown.time_ns, (shown.sequence, 0))
        connection.send(self._frame(topic, "snapshot", [data], "book"))

    def _push_books(self, version: _Version) -> None:
        for symbol, market in self.markets.items():
            topic = (version.path, symbol, "books", "")
            if not self.wanted(topic):
                self._images.end(market, version.path)
            elif push := self._images.of(market, version.path, version.depth).push():
                data = self._book(topic, (push.bids, push.asks), push.time_ns, (push.last, push.previous))
                self.publish(topic, self._frame(topic, "update", [data], "book"))

    def _push_images(self, version: _Version, names: Iterable[str]) -> None:
        for symbol, market in self.markets.items():
            for name in names:
                topic = (version.path, symbol, name, "")
                if not self.wanted(topic):
                    continue
                depth = version.images[name]
                tops = (market.bids.top(depth), market.asks.top(depth))
                if self._tops.get(topic) != tops:
                    self._tops[topic] = tops
                    time = {"ts": str(self.stamp(market.changed_ns) // MS), "seq": market.sequence}
                    data = {**self._sides(version, market, *tops), **time}
                    self.publish(topic, self._frame(topic, "snapshot", [data], "book"))

    # Candles

    def _length(self, topic: _Topic) -> int:
        return _BARS[topic[3] or topic[2].removeprefix("candle")] * MINUTE_NS

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol, market in self.markets.items():
            topics = [(_V3.path, symbol, "kline", bar) for bar in _BARS]
            topics += [(_V2.path, symbol, f"candle{bar}", "") for bar in _BARS]
            for topic in filter(self.wanted, topics):
                length = self._length(topic)
                for candle, _ in due(market, length, self.clock.now_ns, _CANDLES_NS, traded=symbol in traded):
                    bar = self._bar(topic, market.instrument, candle)
                    self.publish(topic, self._frame(topic, "update", [bar], "candle"))

    def _bar(self, topic: _Topic, instrument: Instrument, candle: Candle) -> dict[str, str] | list[str]:
        row = self._row(instrument, candle)
        if topic[0] == _V2.path:
            return [*row, row[-1]]
        names = ("start", "open", "high", "low", "close", "volume", "turnover")
        return dict(zip(names, row, strict=True))

    def _row(self, instrument: Instrument, candle: Candle) -> list[str]:
        prices = (instrument.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close))
        time = str(self.stamp(candle.open_ns) // MS)
        return [time, *prices, instrument.size(candle.lots), instrument.notional(candle.notional)]

    # REST

    def answer(self, request: Request) -> Response:
        """Listings and candles of both versions, books of the second."""
        if self._requests.spend(self.clock.now_ns, request.path) < 0:
            raise Refusal(429, "Too Many Requests")
        path = request.path.removeprefix("/api/")
        spot = request.query.get("category") == "SPOT"
        if path in {"v2/spot/public/symbols", "v3/market/instruments"}:
            if path.startswith("v3") and not spot:
                if request.query.get("category") not in _FUTURES:
                    raise Refusal(400, "Parameter category error")
                return self._data([])  # these markets exist, and this exchange has none of them
            listed = _listed if path.startswith("v3") else _listed_v2
            return self._data([listed(market.instrument) for market in self.markets.values()])
        candles = {f"{stem}{name}candles" for stem in ("v2/spot/market/", "v3/market/") for name in ("", "history-")}
        if path not in {"v2/spot/market/orderbook", *candles}:
            raise Refusal(404, "Request URL NOT FOUND")
        market = self.markets.get(request.query.get("symbol", ""))
        if market is None or (path.startswith("v3") and not spot):
            raise Refusal(400, f"Parameter {request.query.get('symbol', '')} does not exist")
        if path == "v2/spot/market/orderbook":
            picture, depth = self.picture(market), request.number("limit", 150, 150)
            sides = self._sides(_V2, market, picture.bids[:depth], picture.asks[:depth])
            return self._data({**sides, "ts": str(self.stamp(picture.time_ns) // MS)})
        return self._data(self._candles(path, market, request))

    def _candles(self, path: str, market: Market, request: Request) -> list[list[str]]:
        lengths, name = (_BARS, "interval") if path.startswith("v3") else (_GRANULARITIES, "granularity")
        bar = request.query.get(name, "")
        if bar not in lengths:
            raise Refusal(400, f"Parameter {name} error")
        length = lengths[bar] * MINUTE_NS
        limit = request.number("limit", 100, 200 if "history" in path else 1_000)
        since, until = request.number("startTime", 0), request.number("endTime", self.clock.now_ns // MS + 1)
        rows = [self._row(market.instrument, c) for c in market.candles(length, since * MS, until * MS)[-limit:]]
        return rows if path.startswith("v3") else [[*row, row[-1]] for row in rows]

    def _data(self, data: object) -> Response:
        return Response.of({"code": "00000", "msg": "success", "requestTime": self.now // MS, "data": data})

    def refuse(self, refusal: Refusal) -> Response:
        """An envelope with a code that is a text."""
        code = {400: "40034", 404: "40404"}.get(refusal.status, str(refusal.status))
        told = {"code": code, "msg": refusal.message, "requestTime": self.now // MS, "data": None}
        return Response.of(told, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection to V3, no more than ten channels in a message."""
        wanted = ({"topic": "books"}, {"topic": "publicTrade"}, {"topic": "kline", "interval": "1m"})
        topics = [
            {"instType": "spot", "symbol": market.instrument.symbol, **topic} for market in markets for topic in wanted
        ]
        messages = [compact({"op": "subscribe", "args": topics[n : n + 10]}) for n in range(0, len(topics), 10)]
        return Plan(
            "https://api.bitget.com",
            [Request.get("/api/v3/market/instruments?category=SPOT")],
            [Dial(f"wss://ws.bitget.com{_V3.path}", messages)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        args = [{"instType": "spot", "topic": "books", "symbol": market.instrument.symbol}]
        return [compact({"op": operation, "args": args}) for operation in ("unsubscribe", "subscribe")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping that is no JSON."""
        return "ping"


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "category": "SPOT",
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "minOrderQty": instrument.size(1),
        "minOrderAmount": "1",
        "pricePrecision": str(instrument.price_digits),
        "quantityPrecision": str(instrument.size_digits),
        "quotePrecision": str(instrument.price_digits + instrument.size_digits),
        "status": "online",
    }


def _listed_v2(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "minTradeAmount": instrument.size(1),
        "pricePrecision": str(instrument.price_digits),
        "quantityPrecision": str(instrument.size_digits),
        "quotePrecision": str(instrument.price_digits + instrument.size_digits),
        "minTradeUSDT": "1",
        "status": "online",
        "areaSymbol": "no",
    }
