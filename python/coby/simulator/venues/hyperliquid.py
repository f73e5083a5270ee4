"""Hyperliquid: whole books of few levels at a slow beat, trades that begin with a replay."""

import json
import re
from collections.abc import Mapping
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

_INTERVALS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "8h": 480, "12h": 720, "1d": 1_440,
}  # fmt: skip
_SLOW, _FAST = (20, 5_400), (5, 540)
_CANDLES_NS = 500 * MS
_SILENCE_NS = 60 * SECOND
_REPLAYED = 30


class Hyperliquid(Venue):
    """`api.hyperliquid.xyz`: perpetuals."""

    name = "hyperliquid"
    instruments = (
        Instrument("BTC", "BTC", "USDC", 1, 10, 5, 1, perpetual=True),
        Instrument("ETH", "ETH", "USDC", 1, 1, 4, 1, perpetual=True),
        Instrument("SOL", "SOL", "USDC", 2, 1, 2, 1, perpetual=True),
        Instrument("XRP", "XRP", "USDC", 4, 1, 0, 1, perpetual=True),
    )
    temper = Temper(lag_ns=150_000_000, wander=70_000, pace=80)
    level = re.compile(r'"px":"([\d.]+)","sz":"([\d.]+)","n"')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tops: dict[str, tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self.clock.every(_SLOW[1] * MS, lambda: self._push_books(*_SLOW, fast=False))
        self.clock.every(_FAST[1] * MS, lambda: self._push_books(*_FAST, fast=True))
        self.clock.every(70 * MS, self._push_bests)
        self.clock.every(_CANDLES_NS, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One socket."""
        return 101 if path == "/ws" else 404

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        try:
            message = json.loads(text)
            method = message["method"]
            wanted = message.get("subscription", {})
            kind = wanted.get("type")
        except (ValueError, KeyError, TypeError, AttributeError):
            problem = f"Error parsing JSON into valid websocket request: {text}"
            connection.say({"channel": "error", "data": problem})
            return
        if method == "ping":
            connection.say({"channel": "pong"})
            return
        market = self.markets.get(wanted.get("coin", ""))
        known = kind in {"l2Book", "trades", "bbo"} or (kind == "candle" and wanted.get("interval") in _INTERVALS)
        if market is None or not known or method not in {"subscribe", "unsubscribe"}:
            # Not a word: the socket is dropped.
            connection.close(1006)
            return
        if kind == "l2Book":
            fast = bool(wanted.get("fast"))
            wanted = {"type": kind, "coin": wanted["coin"], "nSigFigs": None, "mantissa": None, "fast": fast}
        topic = (kind, market.instrument.symbol, wanted.get("fast"), wanted.get("interval"))
        if method == "unsubscribe":
            if self.unsubscribe(connection, topic):
                connection.say({"channel": "subscriptionResponse", "data": {"method": method, "subscription": wanted}})
            else:
                connection.say({"channel": "error", "data": f"Already unsubscribed: {compact(wanted)}"})
            return
        if topic in connection.topics:
            connection.say({"channel": "error", "data": f"Already subscribed: {compact(wanted)}"})
            return
        connection.say({"channel": "subscriptionResponse", "data": {"method": method, "subscription": wanted}})
        self._begin(connection, topic, market)

    def _begin(self, connection: Connection, topic: tuple[Any, ...], market: Market) -> None:
        def start() -> None:
            if topic[0] == "l2Book":
                depth = _FAST[0] if topic[2] else _SLOW[0]
                connection.send(Frame(self._book_text(market, depth, fast=bool(topic[2])), "book", market))
            elif topic[0] == "trades" and market.fills:
                trades = [self._trade(market, fill) for fill in list(market.fills)[-_REPLAYED:]]
                connection.send(Frame(compact({"channel": "trades", "data": trades}), "trade", market))

        if topic[0] == "l2Book":
            self.join(connection, topic, market, start)
        else:
            self.subscribe(connection, topic)
            start()

    def _watch(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self and self.clock.now_ns - connection.said_ns > _SILENCE_NS:
                connection.close(1000, "Inactive")

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once."""
        symbol = market.instrument.symbol
        if not update.fills:
            return
        self._traded.add(symbol)
        topic = ("trades", symbol, None, None)
        if self.wanted(topic):
            data = [self._trade(market, fill) for fill in update.fills]
            self.publish(topic, Frame(compact({"channel": "trades", "data": data}), "trade", market))

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument = market.instrument
        mixed = fill.number * 0x9E3779B97F4A7C15
        return {
            "coin": instrument.symbol,
            "side": "A" if fill.taker_sells else "B",
            "px": instrument.price(fill.ticks),
            "sz": instrument.size(fill.lots),
            "time": self.stamp(fill.time_ns) // MS,
            "hash": f"0x{mixed % 2**256:064x}",
            "tid": mixed % 2**50,
            "users": [f"0x{mixed * 3 % 2**160:040x}", f"0x{mixed * 5 % 2**160:040x}"],
        }

    def _push_books(self, depth: int, interval_ms: int, *, fast: bool) -> None:
        for symbol, market in self.markets.items():
            topic = ("l2Book", symbol, fast, None)
            if self.wanted(topic):
                self.publish(topic, Frame(self._book_text(market, depth, fast=fast), "book", market))

    def _book_text(self, market: Market, depth: int, *, fast: bool) -> str:
        picture = self.picture(market)
        levels = [_levels(market, side[:depth]) for side in (picture.bids, picture.asks)]
        data: dict[str, Any] = {"coin": market.instrument.symbol, "time": self.now // MS, "levels": levels}
        if fast:
            data["fast"] = True
        return compact({"channel": "l2Book", "data": data})

    def _push_bests(self) -> None:
        for symbol, market in self.markets.items():
            topic = ("bbo", symbol, None, None)
            tops = (market.bids.top(1), market.asks.top(1))
            if self.wanted(topic) and self._tops.get(symbol) != tops:
                self._tops[symbol] = tops
                best = [_levels(market, side)[0] for side in tops]
                data = {"coin": symbol, "time": self.now // MS, "bbo": best}
                self.publish(topic, Frame(compact({"channel": "bbo", "data": data}), "other", market))

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        now = self.clock.now_ns
        for symbol in [symbol for symbol in self.markets if symbol in traded]:
            market = self.markets[symbol]
            for interval, minutes in _INTERVALS.items():
                topic = ("candle", symbol, None, interval)
                if self.wanted(topic):
                    # Every trade is told, also the last ones of a candle that has ended since the last push.
                    for candle in market.candles(minutes * MINUTE_NS, now - _CANDLES_NS, now):
                        if candle.count:
                            data = self._candle(market.instrument, candle, interval)
                            self.publish(topic, Frame(compact({"channel": "candle", "data": data}), "candle", market))

    def _candle(self, instrument: Instrument, candle: Candle, interval: str) -> dict[str, Any]:
        start = self.stamp(candle.open_ns) // MS
        return {
            "t": start,
            "T": start + _INTERVALS[interval] * 60_000 - 1,
            "s": instrument.symbol,
            "i": interval,
            "o": instrument.price(candle.open),
            "c": instrument.price(candle.close),
            "h": instrument.price(candle.high),
            "l": instrument.price(candle.low),
            "v": instrument.size(candle.lots),
            "n": candle.count,
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Everything is a POST to one path."""
        try:
            asked = json.loads(request.body)
            kind = asked["type"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(422, "Failed to deserialize the JSON body into the target type") from None
        if request.path != "/info" or request.method != "POST":
            raise Refusal(404, "not found")
        if kind == "meta":
            universe = [_listed(market.instrument) for market in self.markets.values()]
            return Response.of({"universe": universe})
        if kind == "spotMeta":
            return Response.of({"tokens": [], "universe": []})
        if kind == "perpDexs":
            return Response.of([None])
        arguments = asked.get("req", asked)
        market = self.markets.get(arguments.get("coin", ""))
        if market is None:
            raise Refusal(500, "null")
        if kind == "l2Book":
            return Response.of(json.loads(self._book_text(market, _SLOW[0], fast=False))["data"])
        if kind == "recentTrades":
            return Response.of([self._trade(market, fill) for fill in list(market.fills)[-10:]])
        if kind == "candleSnapshot" and arguments.get("interval") in _INTERVALS:
            length = _INTERVALS[arguments["interval"]] * MINUTE_NS
            since, until = int(arguments["startTime"]) * MS, int(arguments.get("endTime", 2**43)) * MS
            found = market.candles(length, since, until + 1)[-5_000:]
            return Response.of([self._candle(market.instrument, c, arguments["interval"]) for c in found])
        raise Refusal(422, "Failed to deserialize the JSON body into the target type")

    def refuse(self, refusal: Refusal) -> Response:
        """Plain text."""
        return Response(refusal.message, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, one subscription a message."""
        symbols = [market.instrument.symbol for market in markets]
        wanted: list[dict[str, Any]] = []
        for symbol in symbols:
            wanted += [
                {"type": "l2Book", "coin": symbol},
                {"type": "trades", "coin": symbol},
                {"type": "candle", "coin": symbol, "interval": "1m"},
            ]
        messages = [compact({"method": "subscribe", "subscription": one}) for one in wanted]
        return Plan(
            "https://api.hyperliquid.xyz",
            [Request("POST", "/info", body=f'{{"type":"{kind}"}}') for kind in ("meta", "spotMeta")],
            [Dial("wss://api.hyperliquid.xyz/ws", messages)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """The next push is whole anyway."""
        return []

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"method": "ping"})


def _levels(market: Market, pairs: Pairs) -> list[dict[str, Any]]:
    price, size = market.instrument.price, market.instrument.size
    return [{"px": price(ticks), "sz": size(lots), "n": 1 + (ticks + lots) % 9} for ticks, lots in pairs]


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {"szDecimals": instrument.size_digits, "name": instrument.symbol, "maxLeverage": 40, "marginTableId": 56}
