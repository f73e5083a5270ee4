"""Crypto.com Exchange v1: books of 10 or 50 levels as deltas in a chain, spot and perpetuals on one socket."""

import json
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from coby.simulator.exchange import (
    MS,
    SECOND,
    Channel,
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
from coby.simulator.feeds import Image, Images, Pairs, due
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_BARS = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "12h": 720, "1D": 1_440, "7D": 10_080,
    "14D": 20_160,
}  # fmt: skip
_DEPTHS = {"10": 10, "50": 50, "150": 150}
_LEGACY = "150"
_FREQUENCIES = (10, 100)
_SNAPSHOTS_NS = 500 * MS
_FIRST_NS = SECOND
"""How long after its acknowledgement a book begins."""
_IDLE_NS = 5 * SECOND
_CANDLES_NS = 500 * MS
_BEAT_NS = 30 * SECOND
_UNANSWERED = 2
_MESSAGES = 100
_CHANNELS = 400
_HISTORY = 50

_Topic = tuple[str, str, str, int]
"""`book`, `trade` or `candlestick`, the symbol, the depth or bar, and of a book the beat in ms; 0: only snapshots."""


class _Asked(NamedTuple):
    """What the parameters of a request say of its books."""

    kind: Any
    frequency: Any


class CryptoCom(Venue):
    """`stream.crypto.com` and `api.crypto.com`."""

    name = "cryptocom"
    sequenced = True
    instruments = (
        Instrument("BTC_USDT", "BTC", "USDT", 2, 1, 5, 1),
        Instrument("ETH_USDT", "ETH", "USDT", 2, 1, 4, 1),
        Instrument("SOL_USDT", "SOL", "USDT", 2, 1, 3, 1),
        Instrument("XRP_USDT", "XRP", "USDT", 4, 1, 0, 1),
        Instrument("BTC_USD", "BTC", "USD", 2, 1, 5, 1),
        Instrument("BTCUSD-PERP", "BTC", "USD", 1, 1, 4, 1, perpetual=True),
    )
    temper = Temper(lag_ns=200_000_000, wander=120_000, levels=1_200, pace=80)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images = Images()
        self._pushed_ns: dict[_Topic, int] = {}
        self._traded: set[str] = set()
        self._requests = Quota(_MESSAGES, SECOND)
        for frequency in _FREQUENCIES:
            self.clock.every(frequency * MS, partial(self._push_books, frequency))
        self.clock.every(_SNAPSHOTS_NS, self._push_snapshots)
        self.clock.every(_CANDLES_NS, self._push_candles, 5 * MS)
        self.clock.every(_BEAT_NS, self._beat, 7 * MS)
        self.clock.every(5 * SECOND, self._ping)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One socket for market data."""
        return 101 if path == "/exchange/v1/market" else 404

    def opened(self, connection: Connection) -> None:
        """Of the second in which a client connects, only what is left of it counts."""
        left = SECOND - self.clock.now_ns % SECOND
        spent = _MESSAGES - _MESSAGES * left // SECOND
        heard = Quota(_MESSAGES, SECOND)
        heard.spend(self.clock.now_ns, cost=spent)
        connection.notes.update(heard=heard, channels={}, beats=[])

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, answers to heartbeats; what is no JSON is not even refused."""
        try:
            message = json.loads(text)
            method, number = message["method"], message.get("id", -1)
            params = dict(message.get("params") or {})
            channels = [str(channel) for channel in params.get("channels") or ()]
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        told = {"id": number, "method": method}
        if connection.notes["heard"].spend(self.clock.now_ns) < 0:
            connection.say({**told, "code": 42901, "message": "TOO_MANY_REQUESTS"})
        elif method == "public/respond-heartbeat":
            if number in connection.notes["beats"]:
                connection.notes["beats"].clear()
        elif method == "subscribe":
            asked = _Asked(params.get("book_subscription_type", "SNAPSHOT"), params.get("book_update_frequency", 10))
            for channel in channels:
                self._join(connection, told, channel, asked)
        elif method == "unsubscribe":
            for channel in channels:
                if topic := connection.notes["channels"].pop(channel, None):
                    self.unsubscribe(connection, topic)
            connection.say({**told, "code": 0})
        else:
            connection.say({**told, "code": 40003, "message": "No such method"})

    def _join(self, connection: Connection, told: dict[str, Any], channel: str, asked: _Asked) -> None:
        topic, problem = self._topic(channel, asked)
        channels = connection.notes["channels"]
        full = channel not in channels and len(channels) >= _CHANNELS
        if full or topic is None:
            code, problem = (40107, "Maximum subscriptions exceeded") if full else (40003, problem)
            connection.say({**told, "code": code, "channel": channel, "message": problem})
            return
        connection.say({**told, "code": 0, "channel": channel})
        if channel in channels:
            return
        channels[channel] = topic
        if topic[0] == "book":
            self.clock.at(self.clock.now_ns + _FIRST_NS, partial(self._begin, connection, channel, topic))
        elif self.subscribe(connection, topic) and topic[0] == "trade":
            market = self.markets[topic[1]]
            fills = list(market.fills)[: -_HISTORY - 1 : -1]
            connection.send(self._frame(topic, "trade", [self._trade(market, fill) for fill in fills], "trade"))

    def _topic(self, channel: str, asked: _Asked) -> tuple[_Topic | None, str]:
        """What a channel means, or what is wrong with it."""
        match channel.split("."):
            case ["book", symbol, depth]:
                return self._book_topic(symbol, depth, asked)
            case ["trade", symbol]:
                topic: _Topic = ("trade", symbol, "", 0)
            case ["candlestick", bar, symbol] if bar in _BARS:
                topic = ("candlestick", symbol, bar, 0)
            case _:
                return None, "Unrecognized channel"
        return (topic, "") if symbol in self.markets else (None, "Unknown symbol")

    def _book_topic(self, symbol: str, depth: str, asked: _Asked) -> tuple[_Topic | None, str]:
        deltas = asked.kind == "SNAPSHOT_AND_UPDATE"
        if symbol not in self.markets:
            return None, "Unknown symbol"
        if depth not in _DEPTHS:
            return None, "Invalid depth"
        if asked.kind not in ("SNAPSHOT", "SNAPSHOT_AND_UPDATE"):
            return None, "Invalid book_subscription_type"
        if deltas and (depth == _LEGACY or asked.frequency not in _FREQUENCIES):
            return None, "Unsupported depth/interval combination"
        return ("book", symbol, depth, asked.frequency if deltas else 0), ""

    def _begin(self, connection: Connection, channel: str, topic: _Topic) -> None:
        if connection.open and connection.notes["channels"].get(channel) == topic:
            self.join(connection, topic, self.markets[topic[1]], partial(self._snapshot, connection, topic))

    def _beat(self) -> None:
        """Who leaves two heartbeats without an answer gets no third."""
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            if len(connection.notes["beats"]) >= _UNANSWERED:
                connection.close(1000, "heartbeat timeout")
                continue
            connection.notes["beats"].append(self.now // MS)
            connection.say({"id": self.now // MS, "method": "public/heartbeat", "code": 0})

    def _ping(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self:
                connection.ping()

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        self._images.skip(market)

    # What happens

    def _frame(self, topic: _Topic, name: str, data: list[Any], kind: Channel) -> Frame:
        family, symbol, detail, _ = topic
        ends = (detail, symbol) if family == "candlestick" else (symbol, *filter(None, [detail]))
        more: dict[str, Any] = {"interval": detail} if family == "candlestick" else {}
        if family == "book":
            more = {"depth": int(detail)}
        result = {"instrument_name": symbol, "subscription": ".".join((family, *ends)), "channel": name, **more}
        envelope = {"id": -1, "method": "subscribe", "code": 0, "result": {**result, "data": data}}
        return Frame(compact(envelope), kind, self.markets[symbol])

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, the latest first."""
        if not update.fills:
            return
        self._traded.add(market.instrument.symbol)
        topic = ("trade", market.instrument.symbol, "", 0)
        if self.wanted(topic):
            data = [self._trade(market, fill) for fill in reversed(update.fills)]
            self.publish(topic, self._frame(topic, "trade", data, "trade"))

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument, time_ns = market.instrument, self.stamp(fill.time_ns)
        return {
            # Trades of one moment share it: only the id of the match tells them apart.
            "d": str(4_611_686_018_000_000_000 + fill.time_ns // 1_000 % 10**12),
            "t": time_ns // MS,
            "tn": str(time_ns),
            "q": instrument.size(fill.lots),
            "p": instrument.price(fill.ticks),
            "s": "SELL" if fill.taker_sells else "BUY",
            "i": instrument.symbol,
            "m": str(4_611_686_018_500_000_000 + fill.number),
        }

    # Books

    def _number(self, sequence: int) -> int:
        """Numbers that grow in large steps, far beyond 32 bits."""
        return sequence * 38_528

    def _rows(self, market: Market, pairs: Pairs) -> list[list[str]]:
        instrument = market.instrument
        return [
            [*instrument.level(ticks, lots), str(1 + (ticks + lots) % 9)]
            if lots
            else [instrument.price(ticks), "0", "0"]
            for ticks, lots in pairs
        ]

    def _sides(self, market: Market, bids: Pairs, asks: Pairs) -> dict[str, list[list[str]]]:
        return {"asks": self._rows(market, asks), "bids": self._rows(market, bids)}

    def _times(self, changed_ns: int) -> dict[str, int]:
        return {"t": self.now // MS, "tt": self.stamp(changed_ns) // MS}

    def _check(self, number: int) -> dict[str, int]:
        """A checksum of which nobody knows what it is about."""
        return {"cs": zlib.crc32(str(number).encode()) - 2**31}

    def _full(self, topic: _Topic, sides: dict[str, list[list[str]]], changed_ns: int, sequence: int) -> Frame:
        number = self._number(sequence)
        data = {**sides, **self._times(changed_ns), "u": number, **self._check(number)}
        return self._frame(topic, "book", [data], "book")

    def _snapshot(self, connection: Connection, topic: _Topic) -> None:
        _, symbol, depth, beat = topic
        market, levels = self.markets[symbol], _DEPTHS[depth]
        shown: Picture | Image
        if beat:
            shown = self.exchange.faults.stale(self, market) or self._images.of(market, topic, levels)
            self._pushed_ns[topic] = self.clock.now_ns
        else:
            shown = self.picture(market)
        sides = self._sides(market, shown.bids[:levels], shown.asks[:levels])
        connection.send(self._full(topic, sides, shown.time_ns, shown.sequence))

    def _push_books(self, beat: int) -> None:
        for symbol, market in self.markets.items():
            for depth, levels in _DEPTHS.items():
                topic = ("book", symbol, depth, beat)
                if not self.wanted(topic):
                    self._images.end(market, topic)
                    continue
                image = self._images.of(market, topic, levels)
                push = image.push()
                if push is None and self.clock.now_ns - self._pushed_ns.get(topic, 0) < _IDLE_NS:
                    continue
                self._pushed_ns[topic] = self.clock.now_ns
                bids, asks, previous = (push.bids, push.asks, push.previous) if push else ([], [], image.sequence)
                number = self._number(image.sequence)
                numbers = {"u": number, "pu": self._number(previous), **self._check(number)}
                data = {"update": self._sides(market, bids, asks), **self._times(image.time_ns), **numbers}
                self.publish(topic, self._frame(topic, "book.update", [data], "book"))

    def _push_snapshots(self) -> None:
        for symbol, market in self.markets.items():
            for depth, levels in _DEPTHS.items():
                topic = ("book", symbol, depth, 0)
                if self.wanted(topic):
                    sides = self._sides(market, market.bids.top(levels), market.asks.top(levels))
                    self.publish(topic, self._full(topic, sides, market.changed_ns, market.sequence))

    # Candles

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol, market in self.markets.items():
            for bar, minutes in _BARS.items():
                topic = ("candlestick", symbol, bar, 0)
                if not self.wanted(topic):
                    continue
                length = minutes * MINUTE_NS
                for candle, _ in due(market, length, self.clock.now_ns, _CANDLES_NS, traded=symbol in traded):
                    data = {**self._candle(market.instrument, candle), "ut": self.now // MS}
                    self.publish(topic, self._frame(topic, "candlestick", [data], "candle"))

    def _candle(self, instrument: Instrument, candle: Candle) -> dict[str, Any]:
        return {
            "o": instrument.price(candle.open),
            "h": instrument.price(candle.high),
            "l": instrument.price(candle.low),
            "c": instrument.price(candle.close),
            "v": instrument.size(candle.lots),
            "t": self.stamp(candle.open_ns) // MS,
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Instruments, books, candles and trades; each method counts its requests."""
        method = request.path.removeprefix("/exchange/v1/")
        told = {"id": -1, "method": method}
        if self._requests.spend(self.clock.now_ns, method) < 0:
            return Response.of({**told, "code": 42901, "message": "TOO_MANY_REQUESTS"}, 429)
        try:
            return Response.of({**told, "code": 0, "result": self._asked(method, request)})
        except Refusal as refusal:
            return Response.of({**told, "code": 40003, "message": refusal.message}, refusal.status)

    def _asked(self, method: str, request: Request) -> dict[str, Any]:
        if method == "public/get-instruments":
            return {"data": [_listed(market.instrument) for market in self.markets.values()]}
        if method not in {"public/get-book", "public/get-trades", "public/get-candlestick"}:
            raise Refusal(404, "No such method")
        symbol = request.query.get("instrument_name", "")
        market = self.markets.get(symbol)
        if market is None:
            raise Refusal(400, "Unknown symbol")
        if method == "public/get-book":
            depth, picture = request.number("depth", 50, 150), self.picture(market)
            sides = self._sides(market, picture.bids[:depth], picture.asks[:depth])
            numbers = {**self._times(picture.time_ns), "u": self._number(picture.sequence)}
            return {"depth": depth, "data": [{**sides, **numbers}], "instrument_name": symbol}
        since, until = request.number("start_ts", 0) * MS, request.number("end_ts", 2**43) * MS
        if method == "public/get-trades":
            fills = [fill for fill in reversed(market.fills) if since <= fill.time_ns < until]
            return {"data": [self._trade(market, fill) for fill in fills[: request.number("count", 25, 150)]]}
        bar = request.query.get("timeframe", "1m")
        if bar not in _BARS:
            raise Refusal(400, "Invalid timeframe")
        found = market.candles(_BARS[bar] * MINUTE_NS, since, until)[-request.number("count", 25, 300) :]
        rows = [self._candle(market.instrument, candle) for candle in found]
        return {"interval": bar, "data": rows, "instrument_name": symbol}

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection: books in one request, whose parameters concern only them, and the rest in another."""
        symbols = [market.instrument.symbol for market in markets]
        rest = [channel for symbol in symbols for channel in (f"trade.{symbol}", f"candlestick.1m.{symbol}")]
        messages = [
            self._books("subscribe", 1, symbols),
            compact({"id": 2, "method": "subscribe", "params": {"channels": rest}, "nonce": self.now // MS}),
        ]
        return Plan(
            "https://api.crypto.com",
            [Request.get("/exchange/v1/public/get-instruments")],
            [Dial("wss://stream.crypto.com/exchange/v1/market", messages)],
        )

    def _books(self, method: Literal["subscribe", "unsubscribe"], number: int, symbols: list[str]) -> str:
        params: dict[str, Any] = {"channels": [f"book.{symbol}.50" for symbol in symbols]}
        if method == "subscribe":
            params.update(book_subscription_type="SNAPSHOT_AND_UPDATE", book_update_frequency=10)
        return compact({"id": number, "method": method, "params": params, "nonce": self.now // MS})

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        symbols = [market.instrument.symbol]
        return [self._books("unsubscribe", 3, symbols), self._books("subscribe", 4, symbols)]

    def pong(self, text: str) -> str | None:
        """The same number back."""
        if '"method":"public/heartbeat"' not in text:
            return None
        return compact({"id": json.loads(text)["id"], "method": "public/respond-heartbeat"})


def _listed(instrument: Instrument) -> dict[str, Any]:
    swap = instrument.perpetual
    pair = f"{instrument.base}{instrument.quote}"
    return {
        "symbol": instrument.symbol,
        "inst_type": "PERPETUAL_SWAP" if swap else "CCY_PAIR",
        "display_name": f"{pair} Perpetual" if swap else f"{instrument.base}/{instrument.quote}",
        "base_ccy": instrument.base,
        "quote_ccy": instrument.quote,
        "quote_decimals": instrument.price_digits,
        "quantity_decimals": instrument.size_digits,
        "price_tick_size": instrument.price(1),
        "qty_tick_size": instrument.size(1),
        "max_leverage": "100" if swap else "50",
        "tradable": True,
        "expiry_timestamp_ms": 0,
        "underlying_symbol": f"{pair}-INDEX" if swap else "",
        "contract_size": "1" if swap else "",
        "product_type": "PERPETUAL" if swap else "SPOT",
    }
