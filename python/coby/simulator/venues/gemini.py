"""Gemini: diffs that overlap by one id and begin with a frame like any other; beside them the archived v2 feed."""

import json
import re
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
from coby.simulator.feeds import Batch, Pairs
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update, plain

_SPEEDS = {"@100ms": 100, "": 1_000}
_STREAM = re.compile(r"([a-z0-9]+)@(depth(?:5|10|20)?|bookTicker|trade)((?:@100ms)?)")
_PERIODS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "6h": 360, "1d": 1_440}
_REST_PERIODS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1hr": 60, "6hr": 360, "1day": 1_440}
_PING_NS = 20 * SECOND
_BEAT_NS = 5 * SECOND
_V2 = "/v2/marketdata"
_TRADES = 2_840_000_000_000_000
"""Trade ids are long; these have fewer digits to change."""


class Gemini(Venue):
    """`ws.gemini.com`, `api.gemini.com/v2/marketdata` and REST at `api.gemini.com`."""

    name = "gemini"
    sequenced = True
    marks_snapshots = False
    # The wire pads numbers with zeros beyond the tick and the lot.
    instruments = (
        Instrument("BTCUSD", "BTC", "USD", 5, 1_000, 10, 100),
        Instrument("ETHUSD", "ETH", "USD", 5, 1_000, 9, 1_000),
        Instrument("SOLUSD", "SOL", "USD", 5, 100, 8, 100),
        Instrument("XRPUSD", "XRP", "USD", 7, 100, 8, 100),
        Instrument("BTCUSDT", "BTC", "USDT", 5, 1_000, 10, 100),
    )
    temper = Temper(lag_ns=170_000_000, wander=80_000, levels=1_300, pace=50)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._batches = {(symbol, speed): Batch(self.markets[symbol]) for symbol in self.markets for speed in _SPEEDS}
        self._tops: dict[str, tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self._dials = Quota(300, 300 * SECOND)
        self._old_dials = Quota(12, 60 * SECOND)
        self._weight = Quota(7_000, 10 * SECOND)
        self._requests = Quota(120, 60 * SECOND)
        for speed, ms in _SPEEDS.items():
            self.clock.every(ms * MS, partial(self._push_books, speed))
        self.clock.every(_PING_NS, self._ping, 13 * MS)
        self.clock.every(_BEAT_NS, self._beat, 29 * MS)
        self.clock.every(SECOND, self._push_candles, 5 * MS)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """The new socket and the archived one, each for so many clients a time."""
        if path not in {"/", _V2}:
            return 404
        quota = self._old_dials if path == _V2 else self._dials
        return 101 if quota.spend(self.clock.now_ns) >= 0 else 429

    def received(self, connection: Connection, text: str) -> None:
        """Requests with an id, or v2's subscriptions."""
        try:
            message = json.loads(text)
            if connection.path == _V2:
                self._received_v2(connection, message)
                return
            method, number, params = message["method"], message["id"], message.get("params", [])
        except (ValueError, KeyError, TypeError, AttributeError):
            self._fail(connection, None, 400, -1000, "Malformed request")
            return
        if self._weight.spend(self.clock.now_ns, connection.number) < 0:
            self._fail(connection, number, 429, -1003, "Too many requests")
            return
        result: Any = None
        match method:
            case "ping":
                pass
            case "time":
                result = {"serverTime": self.now // MS}
            case "conninfo":
                limits = {"connections": self._dials.most, "requestWeight": self._weight.most}
                result = {"connectionId": str(connection.number), "rateLimits": limits}
            case "list_subscriptions":
                result = list(connection.topics)
            case "depth" if isinstance(params, dict) and str(params.get("symbol")).upper() in self.markets:
                result = self._partial(self.markets[params["symbol"].upper()], int(params.get("limit", 100)))
            case "subscribe" | "unsubscribe" if isinstance(params, list):
                wrong = next((stream for stream in params if self._market(str(stream)) is None), None)
                if wrong is not None:
                    self._fail(connection, number, 400, -1013, f"Invalid stream name: {wrong}")
                    return
                for stream in params:
                    if method == "unsubscribe":
                        self.unsubscribe(connection, stream)
                    else:
                        self._join(connection, stream)
            case _:
                self._fail(connection, number, 400, -1020, f"Unsupported operation: {method}")
                return
        connection.say({"id": number, "status": 200, **({} if result is None else {"result": result})})

    def _fail(self, connection: Connection, number: Any, status: int, code: int, problem: str) -> None:
        connection.say({"id": number, "status": status, "error": {"code": code, "msg": problem}})

    def _market(self, stream: str) -> Market | None:
        match = _STREAM.fullmatch(stream)
        if match is None or (match[3] and not match[2].startswith("depth")):
            return None
        return self.markets.get(match[1].upper())

    def _join(self, connection: Connection, stream: str) -> None:
        """The snapshot comes before the answer, if the URL has asked for one."""
        symbol, _, channel = stream.partition("@")
        market = self.markets[symbol.upper()]
        depth = int(connection.query.get("snapshot") or 0)

        def start() -> None:
            if not depth:
                return
            picture = self.picture(market)
            cut = None if depth < 0 else depth
            sides = (picture.bids[:cut], picture.asks[:cut])
            text = self._diff(market, picture.time_ns, picture.sequence, picture.sequence, sides)
            connection.send(Frame(text, "book", market))

        if channel.partition("@")[0] == "depth":
            self.join(connection, stream, market, start)
        else:
            self.subscribe(connection, stream)

    def _ping(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self:
                connection.ping()

    def skip(self, market: Market) -> None:
        """Ids are used up that nobody is told of."""
        super().skip(market)
        for speed in _SPEEDS:
            self._batches[market.instrument.symbol, speed].skip()

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades and v2 go out at once, diffs at their beat."""
        symbol = market.instrument.symbol
        if update.changes:
            # What changes no level is no part of a diff, and no link of the chain.
            for speed in _SPEEDS:
                self._batches[symbol, speed].add(update)
        if self.wanted(stream := f"{_lower(market)}@bookTicker"):
            self._push_best(stream, market)
        for fill in update.fills:
            self._traded.add(symbol)
            told = {
                "E": self.stamp(fill.time_ns),
                "s": _lower(market),
                "t": _TRADES + fill.number,
                "p": market.instrument.price(fill.ticks),
                "q": market.instrument.size(fill.lots),
                "m": fill.taker_sells,
            }
            self.publish(f"{_lower(market)}@trade", Frame(compact(told), "trade", market))
        self._changed_v2(market, update)

    def _push_books(self, speed: str) -> None:
        for symbol, market in self.markets.items():
            push = self._batches[symbol, speed].take()
            stream = f"{symbol.lower()}@depth{speed}"
            if push is not None and self.wanted(stream):
                # Each frame begins with the last id of the one before.
                sides = (_mixed(push.bids), _mixed(push.asks))
                text = self._diff(market, push.time_ns, push.previous, push.last, sides)
                self.publish(stream, Frame(text, "book", market))
            for depth in (5, 10, 20):
                stream = f"{symbol.lower()}@depth{depth}{speed}"
                if self.wanted(stream):
                    told = self._partial(market, depth)
                    text = compact({"lastUpdateId": told["lastUpdateId"], "symbol": symbol.lower(), **_sides(told)})
                    self.publish(stream, Frame(text, "book", market))

    def _diff(self, market: Market, time_ns: int, first: int, last: int, sides: tuple[Pairs, Pairs]) -> str:
        level = market.instrument.level
        bids, asks = ([level(*pair) for pair in pairs] for pairs in sides)
        told = {"e": "depthUpdate", "E": self.stamp(time_ns), "s": _lower(market), "U": first, "u": last}
        return compact({**told, "b": bids, "a": asks})

    def _partial(self, market: Market, depth: int) -> dict[str, Any]:
        level = market.instrument.level
        sides = {"bids": market.bids.top(depth), "asks": market.asks.top(depth)}
        return {
            "lastUpdateId": market.sequence,
            **{name: [level(*pair) for pair in pairs] for name, pairs in sides.items()},
        }

    def _push_best(self, stream: str, market: Market) -> None:
        tops = (market.bids.top(1), market.asks.top(1))
        if self._tops.get(stream) == tops:
            return
        self._tops[stream] = tops
        (bid, bid_size), (ask, ask_size) = (market.instrument.level(*side[0]) for side in tops)
        told = {"u": market.sequence, "E": self.now, "s": _lower(market), "b": bid, "B": bid_size}
        self.publish(stream, Frame(compact({**told, "a": ask, "A": ask_size}), "other", market))

    # v2

    def _received_v2(self, connection: Connection, message: dict[str, Any]) -> None:
        for wanted in message["subscriptions"]:
            name, symbols = wanted["name"], wanted["symbols"]
            known = name == "l2" or name.removeprefix("candles_") in _PERIODS
            markets = [self.markets.get(symbol) for symbol in symbols]
            if not known or not all(markets):
                connection.say({"reason": "NoValidTradingPairs", "result": "error"})
                continue
            for market in filter(None, markets):
                topic = (name, market.instrument.symbol)
                if message["type"] == "unsubscribe":
                    self.unsubscribe(connection, topic)
                elif name == "l2":
                    self.join(connection, topic, market, partial(self._begin_v2, connection, market))
                elif self.subscribe(connection, topic):
                    length = _PERIODS[name.removeprefix("candles_")] * MINUTE_NS
                    now = self.clock.now_ns
                    found = market.candles(length, now - 1_440 * MINUTE_NS, now)[::-1]
                    connection.send(Frame(self._candles_v2(name, market, found), "candle", market))

    def _begin_v2(self, connection: Connection, market: Market) -> None:
        picture = self.picture(market)
        changes = [["buy", *_plain(market, *pair)] for pair in picture.bids]
        changes += [["sell", *_plain(market, *pair)] for pair in picture.asks]
        trades = [self._trade_v2(market, fill) for fill in list(market.fills)[:-51:-1]]
        told = {"type": "l2_updates", "symbol": market.instrument.symbol, "changes": changes}
        connection.send(Frame(compact({**told, "trades": trades, "auction_events": []}), "book", market))

    def _changed_v2(self, market: Market, update: Update) -> None:
        topic = ("l2", market.instrument.symbol)
        if not self.wanted(topic):
            return
        changes = [[("buy", "sell")[side], *_plain(market, ticks, lots)] for side, ticks, lots in update.changes]
        if changes:
            told = {"type": "l2_updates", "symbol": market.instrument.symbol, "changes": changes}
            self.publish(topic, Frame(compact(told), "book", market))
        for fill in update.fills:
            self.publish(topic, Frame(compact(self._trade_v2(market, fill)), "trade", market))

    def _trade_v2(self, market: Market, fill: Fill) -> dict[str, Any]:
        price, size = _plain(market, fill.ticks, fill.lots)
        return {
            "type": "trade",
            "symbol": market.instrument.symbol,
            "event_id": _TRADES + fill.number,
            "timestamp": self.stamp(fill.time_ns) // MS,
            "price": price,
            "quantity": size,
            "side": "sell" if fill.taker_sells else "buy",
        }

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol, market in self.markets.items():
            for period, minutes in _PERIODS.items():
                topic = (f"candles_{period}", symbol)
                if symbol in traded and self.wanted(topic):
                    now = self.clock.now_ns
                    # What has ended since the last push is told once more.
                    found = market.candles(minutes * MINUTE_NS, now - SECOND, now)[::-1]
                    self.publish(topic, Frame(self._candles_v2(topic[0], market, found), "candle", market))

    def _candles_v2(self, name: str, market: Market, candles: list[Candle]) -> str:
        rows = [self._row(market.instrument, candle) for candle in candles]
        return compact({"type": f"{name}_updates", "symbol": market.instrument.symbol, "changes": rows})

    def _beat(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self and connection.path == _V2:
                connection.say({"type": "heartbeat", "timestamp": self.now // MS})

    # REST

    def answer(self, request: Request) -> Response:
        """Symbols, books, trades and candles."""
        if self._requests.spend(self.clock.now_ns) < 0:
            raise Refusal(429, "RateLimit")
        match request.path.strip("/").split("/"):
            case ["v1", "symbols"]:
                return Response.of([symbol.lower() for symbol in self.markets])
            case ["v1", "symbols", "details", "all"]:
                return Response(f"[{','.join(_details(market.instrument) for market in self.markets.values())}]")
            case ["v1", "symbols", "details", symbol]:
                return Response(_details(self._named(symbol).instrument))
            case ["v1", "book", symbol]:
                depths = (request.number(f"limit_{side}", 50) for side in ("bids", "asks"))
                return Response.of(self._book(self._named(symbol), *depths))
            case ["v1", "trades", symbol]:
                return Response.of(self._trades(self._named(symbol), request))
            case ["v2", "candles", symbol, period] if period in _REST_PERIODS:
                market, length = self._named(symbol), _REST_PERIODS[period] * MINUTE_NS
                found = market.candles(length, self.clock.now_ns - 1_440 * length, self.clock.now_ns)
                return Response.of([self._row(market.instrument, candle) for candle in found[::-1]])
            case _:
                raise Refusal(404, "EndpointNotFound")

    def _named(self, symbol: str) -> Market:
        if symbol.upper() not in self.markets:
            raise Refusal(400, "InvalidSymbol")
        return self.markets[symbol.upper()]

    def _book(self, market: Market, bids: int, asks: int) -> dict[str, Any]:
        picture, time = self.picture(market), str(self.now // SECOND)
        sides = {"bids": picture.bids[: bids or None], "asks": picture.asks[: asks or None]}

        def row(ticks: int, lots: int) -> dict[str, str]:
            price, size = _plain(market, ticks, lots)
            return {"price": price, "amount": size, "timestamp": time}

        return {name: [row(*pair) for pair in pairs] for name, pairs in sides.items()}

    def _trades(self, market: Market, request: Request) -> list[dict[str, Any]]:
        since_ms, since_id = request.number("timestamp", 0), request.number("since_tid", 0)
        found = []
        for fill in list(market.fills)[::-1]:
            time_ms, number = self.stamp(fill.time_ns) // MS, _TRADES + fill.number
            if time_ms < since_ms or number <= since_id:
                break
            price, size = _plain(market, fill.ticks, fill.lots)
            told = {"timestamp": time_ms // 1_000, "timestampms": time_ms, "tid": number, "price": price}
            kind = "sell" if fill.taker_sells else "buy"
            found.append({**told, "amount": size, "exchange": "gemini", "type": kind})
        return found[: request.number("limit_trades", 50, 500)]

    def _row(self, instrument: Instrument, candle: Candle) -> list[Any]:
        prices = (candle.open, candle.high, candle.low, candle.close)
        volume = float(instrument.size(candle.lots))
        return [self.stamp(candle.open_ns) // MS, *(float(instrument.price(ticks)) for ticks in prices), volume]

    def refuse(self, refusal: Refusal) -> Response:
        """A reason and a result."""
        return Response.of({"result": "error", "reason": refusal.message, "message": ""}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, whose URL asks for whole snapshots."""
        symbols = [market.instrument.symbol for market in markets]
        params = [f"{symbol.lower()}@{channel}" for symbol in symbols for channel in ("depth@100ms", "trade")]
        message = compact({"id": 1, "method": "subscribe", "params": params})
        return Plan(
            "https://api.gemini.com",
            [Request.get("/v1/symbols/details/all")],
            [Dial("wss://ws.gemini.com/?snapshot=-1", [message])],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        params = [f"{_lower(market)}@depth@100ms"]
        return [
            compact({"id": number, "method": method, "params": params})
            for number, method in enumerate(("unsubscribe", "subscribe"), 2)
        ]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"id": 100, "method": "ping"}) if connection.path == "/" else None


def _lower(market: Market) -> str:
    """A symbol as the new streams spell it."""
    return market.instrument.symbol.lower()


def _sides(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("bids", "asks")}


def _mixed(pairs: Pairs) -> Pairs:
    """In no order, as levels of a diff are."""
    return pairs[1::2] + pairs[::2]


def _plain(market: Market, ticks: int, lots: int) -> tuple[str, str]:
    """Price and size without zeros at the end."""
    return plain(market.instrument.price(ticks)), plain(market.instrument.size(lots))


def _details(instrument: Instrument) -> str:
    """By hand: the sheet's `1e-8` is no number that Python would write."""
    lot = f"1e-{len(instrument.size(1).partition('.')[2].rstrip('0'))}"
    quoted = {"symbol": instrument.symbol, "base_currency": instrument.base, "quote_currency": instrument.quote}
    rest = {"min_order_size": "0.00001", "status": "open", "wrap_enabled": False, "product_type": "spot"}
    start, end = compact(quoted)[:-1], compact(rest)[1:]
    return f'{start},"tick_size":{lot},"quote_increment":{float(instrument.price(1))!r},{end}'
