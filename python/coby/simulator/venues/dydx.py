"""dYdX v4: books of which only the top is shown first, one level a message, all of a connection's messages counted."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

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
    iso,
)
from coby.simulator.fair import MINUTE_NS
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update, plain

_RESOLUTIONS = {"1MIN": 1, "5MINS": 5, "15MINS": 15, "30MINS": 30, "1HOUR": 60, "4HOURS": 240, "1DAY": 1_440}
_VERSIONS = {"v4_orderbook": "1.0.0", "v4_trades": "2.1.0", "v4_candles": "1.0.0", "v4_markets": "1.0.0"}
_KINDS: dict[str, Channel] = {"v4_orderbook": "book", "v4_trades": "trade", "v4_candles": "candle"}
_SHOWN = 100
_SUBSCRIPTIONS = 32
_BATCH_NS = 250 * MS
_BLOCK_NS, _BLOCK_AT_NS = SECOND, 310 * MS
"""Blocks are as long as that, and end so much after each multiple of it."""
_FIRST_BLOCK_NS = 1_698_000_000 * SECOND
_PING_NS, _PATIENCE_NS = 30 * SECOND, 10 * SECOND

_Topic = tuple[str, str, bool]
"""Channel, id, and whether its messages come in batches."""


class Dydx(Venue):
    """`indexer.dydx.trade`, socket and REST."""

    name = "dydx"
    sequenced = True
    numbers_connections = True
    instruments = (
        Instrument("BTC-USD", "BTC", "USD", 0, 1, 4, 1, perpetual=True),
        Instrument("ETH-USD", "ETH", "USD", 1, 1, 3, 1, perpetual=True),
        Instrument("SOL-USD", "SOL", "USD", 2, 1, 1, 1, perpetual=True),
        Instrument("XRP-USD", "XRP", "USD", 4, 1, 0, 10, perpetual=True),
    )
    temper = Temper(lag_ns=250_000_000, wander=130_000, levels=1_100, pace=70)
    level = re.compile(r'\["([\d.]+)","([\d.]+)"\]')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gathered: dict[_Topic, list[Any]] = {}
        self._fills: dict[str, list[Fill]] = {symbol: [] for symbol in self.markets}
        self._requests = Quota(100, 10 * SECOND)
        self._candle_requests = Quota(1_000, 10 * SECOND)
        self._quotas = {"subscribe": Quota(2, SECOND), "ping": Quota(5, SECOND), "invalid": Quota(2, SECOND)}
        self.clock.every(_BATCH_NS, self._push_batches)
        self.clock.every(_BLOCK_NS, self._push_block, _BLOCK_AT_NS)
        self.clock.every(_PING_NS, self._ping, 40 * MS)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One path."""
        return 101 if path == "/v4/ws" else 404

    def opened(self, connection: Connection) -> None:
        """The server speaks first."""
        identity = connection.number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128
        connection.notes.update(identity=str(UUID(int=identity, version=4)), number=-1)
        connection.say({"type": "connected", **self._count(connection)})

    def _count(self, connection: Connection) -> dict[str, Any]:
        """What every message says: whose it is, and which one."""
        connection.notes["number"] += 1
        return {"connection_id": connection.notes["identity"], "message_id": connection.notes["number"]}

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, KeyError, TypeError):
            kind, message = "", {}
        quota = self._quotas.get(kind, None if kind == "unsubscribe" else self._quotas["invalid"])
        if quota is not None and quota.spend(self.clock.now_ns, connection.number) < 0:
            connection.close(1013, "Rate limited")
            return
        channel, identity = str(message.get("channel", "")), str(message.get("id", ""))
        match kind:
            case "ping":
                number = {"id": message["id"]} if "id" in message else {}
                connection.say({"type": "pong", **self._count(connection), **number})
            case "unsubscribe":
                for batched in (False, True):
                    self.unsubscribe(connection, (channel, identity, batched))
                told = {"type": "unsubscribed", **self._count(connection), "channel": channel, "id": identity}
                connection.say(told)
            case "subscribe":
                self._subscribe(connection, (channel, identity, bool(message.get("batched", False))))
            case _:
                connection.say({"type": "error", "message": "Invalid message", **self._count(connection)})

    def _subscribe(self, connection: Connection, topic: _Topic) -> None:
        channel, identity, _ = topic
        market = self._market(channel, identity)
        held = [of for of in connection.topics if isinstance(of, tuple) and of[0] == channel]
        problem = None
        if channel not in _VERSIONS:
            problem = f"Invalid channel: ({channel})"
        elif market is None and channel != "v4_markets":
            problem = f"Invalid subscription id for channel: ({channel}-{identity})"
        elif any((channel, identity, batched) in connection.topics for batched in (False, True)):
            problem = f"Invalid subscribe message: already subscribed ({channel}-{identity})"
        elif len(held) >= _SUBSCRIPTIONS:
            problem = f"Per-connection subscription limit reached for {channel} (limit={_SUBSCRIPTIONS})."
        if problem is not None:
            told = {"type": "error", "message": problem, **self._count(connection)}
            connection.say({**told, "channel": channel, "id": identity})
        elif market is not None and channel == "v4_orderbook":
            self.join(connection, topic, market, partial(self._begin, connection, topic, market))
        else:
            self.subscribe(connection, topic)
            self._begin(connection, topic, market)

    def _market(self, channel: str, identity: str) -> Market | None:
        if channel == "v4_candles":
            identity, _, resolution = identity.partition("/")
            return self.markets.get(identity) if resolution in _RESOLUTIONS else None
        return self.markets.get(identity)

    def _begin(self, connection: Connection, topic: _Topic, market: Market | None) -> None:
        channel, identity, _ = topic
        contents: dict[str, Any]
        if market is None:
            contents = self._listed()
        elif channel == "v4_orderbook":
            contents = self._book(market)
        elif channel == "v4_trades":
            contents = {"trades": self._trades(market)}
        else:
            resolution = identity.partition("/")[2]
            length = _RESOLUTIONS[resolution] * MINUTE_NS
            now = self.clock.now_ns
            contents = {"candles": self._candles(market, resolution, now - 100 * length, now)}
        named = {"channel": channel, **({"id": identity} if market else {})}
        told = {"type": "subscribed", **self._count(connection), **named, "contents": contents}
        connection.send(Frame(compact(told), _KINDS.get(channel, "other"), market))

    def _ping(self) -> None:
        now = self.clock.now_ns
        asked = [connection for connection in self.exchange.connections.values() if connection.venue is self]

        def check() -> None:
            for connection in asked:
                if connection.ponged_ns < now:
                    connection.close(1011, "no pong")

        for connection in asked:
            connection.ping()
        self.clock.at(now + _PATIENCE_NS, check)

    def skip(self, market: Market) -> None:
        """Numbers of all connections are used up that follow the book."""
        for connection in self.exchange.connections.values():
            book = ("v4_orderbook", market.instrument.symbol)
            if any((*book, batched) in connection.topics for batched in (False, True)):
                connection.notes["number"] += 2

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """A message for each level; what is new comes before what it replaces has gone, and so books cross."""
        symbol = market.instrument.symbol
        self._fills[symbol] += update.fills
        for side, ticks, lots in sorted(update.changes, key=lambda change: not change[2]):
            price, size = _level(market, ticks, lots)
            self._tell("v4_orderbook", symbol, market, {("bids", "asks")[side]: [[price, size]]})

    def _tell(self, channel: str, identity: str, market: Market, contents: dict[str, Any]) -> None:
        topic = (channel, identity, False)
        for connection in list(self.exchange.listeners.get((self.name, topic), ())):
            self._data(connection, topic, market, contents)
        if self.wanted(topic := (channel, identity, True)):
            self._gathered.setdefault(topic, []).append(contents)

    def _data(self, connection: Connection, topic: _Topic, market: Market, contents: Any) -> None:
        channel, identity, batched = topic
        kind = "channel_batch_data" if batched else "channel_data"
        named = {"id": identity, "channel": channel, "version": _VERSIONS[channel]}
        told = {"type": kind, **self._count(connection), **named, "contents": contents}
        connection.send(Frame(compact(told), _KINDS[channel], market))

    def _push_batches(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for topic, contents in gathered.items():
            market = self._market(*topic[:2])
            for connection in list(self.exchange.listeners.get((self.name, topic), ())):
                if market is not None:
                    self._data(connection, topic, market, contents)

    def _push_block(self) -> None:
        """Trades are known when their block has ended."""
        now = self.clock.now_ns
        for symbol, fills in self._fills.items():
            if not fills:
                continue
            self._fills[symbol] = []
            market = self.markets[symbol]
            self._tell("v4_trades", symbol, market, {"trades": [self._trade(market, fill) for fill in fills]})
            for resolution, minutes in _RESOLUTIONS.items():
                identity = f"{symbol}/{resolution}"
                if any(self.wanted(("v4_candles", identity, batched)) for batched in (False, True)):
                    length = minutes * MINUTE_NS
                    # A block may end after the minute in which it has begun.
                    since = fills[0].time_ns // length * length
                    for candle in reversed(self._candles(market, resolution, since, now)):
                        self._tell("v4_candles", identity, market, candle)

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        price, size = _level(market, fill.ticks, fill.lots)
        end_ns = _block_end(fill.time_ns)
        height = (end_ns - _FIRST_BLOCK_NS) // _BLOCK_NS
        return {
            "id": f"{height:08x}{2:08x}{fill.number:08x}",
            "size": size,
            "price": price,
            "side": "SELL" if fill.taker_sells else "BUY",
            "createdAt": iso(self.stamp(end_ns), 3),
            "type": "LIQUIDATED" if fill.number % 97 == 0 else "LIMIT",
            "createdAtHeight": str(height),
        }

    def _trades(self, market: Market) -> list[dict[str, Any]]:
        """Those of ended blocks, newest first."""
        now = self.clock.now_ns
        return [self._trade(market, fill) for fill in list(market.fills)[::-1] if _block_end(fill.time_ns) <= now]

    def _candles(self, market: Market, resolution: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
        """Newest first; nothing for times without a trade."""
        found = market.candles(_RESOLUTIONS[resolution] * MINUTE_NS, since_ns, until_ns)[::-1]
        return [self._candle(market.instrument, resolution, candle) for candle in found if candle.count]

    def _candle(self, instrument: Instrument, resolution: str, candle: Candle) -> dict[str, Any]:
        names = {"low": candle.low, "high": candle.high, "open": candle.open, "close": candle.close}
        return {
            "startedAt": iso(self.stamp(candle.open_ns), 3),
            "ticker": instrument.symbol,
            "resolution": resolution,
            **{name: plain(instrument.price(ticks)) for name, ticks in names.items()},
            "baseTokenVolume": plain(instrument.size(candle.lots)),
            "usdVolume": plain(instrument.notional(candle.notional)),
            "trades": candle.count,
            "startingOpenInterest": plain(instrument.size(candle.lots * 3)),
            "orderbookMidPriceOpen": plain(instrument.price(candle.open)),
            "orderbookMidPriceClose": plain(instrument.price(candle.close)),
        }

    def _book(self, market: Market) -> dict[str, Any]:
        picture = self.picture(market)
        sides = {"bids": picture.bids[:_SHOWN], "asks": picture.asks[:_SHOWN]}
        return {
            name: [dict(zip(("price", "size"), _level(market, *pair), strict=True)) for pair in pairs]
            for name, pairs in sides.items()
        }

    def _listed(self) -> dict[str, Any]:
        return {"markets": {symbol: _listing(n, market) for n, (symbol, market) in enumerate(self.markets.items())}}

    # REST

    def answer(self, request: Request) -> Response:
        """Markets, books, trades and candles: the last under a name in the plural."""
        candles = request.path.startswith("/v4/candles/")
        if (self._candle_requests if candles else self._requests).spend(self.clock.now_ns) < 0:
            raise Refusal(429, "Too many requests")
        match request.path.strip("/").split("/"):
            case ["v4", "time"]:
                return Response.of({"iso": iso(self.now, 3), "epoch": self.now / SECOND})
            case ["v4", "perpetualMarkets"]:
                return Response.of(self._listed())
            case ["v4", "orderbooks", "perpetualMarket", symbol]:
                return Response.of(self._book(self._named(symbol)))
            case ["v4", "trades", "perpetualMarket", symbol]:
                before = request.query.get("createdBeforeOrAt", "~")
                height = request.number("createdBeforeOrAtHeight", 2**62)
                found = [
                    trade
                    for trade in self._trades(self._named(symbol))
                    if trade["createdAt"] <= before and int(trade["createdAtHeight"]) <= height
                ]
                return Response.of({"trades": found[: request.number("limit", 1_000, 1_000)]})
            case ["v4", "candles", "perpetualMarkets", symbol]:
                market, resolution = self._named(symbol), request.query.get("resolution", "")
                if resolution not in _RESOLUTIONS:
                    raise Refusal(400, "resolution must be a valid Candle Resolution")
                now = self.clock.now_ns
                since, until = _time(request.query.get("fromISO"), 0), _time(request.query.get("toISO"), now)
                found = self._candles(market, resolution, since, until)
                return Response.of({"candles": found[: request.number("limit", 100, 1_000)]})
            case _:
                raise Refusal(404, "Not Found")

    def _named(self, symbol: str) -> Market:
        if symbol not in self.markets:
            raise Refusal(400, "ticker must be a valid ticker (BTC-USD, etc)")
        return self.markets[symbol]

    def refuse(self, refusal: Refusal) -> Response:
        """A list of errors."""
        return Response.of({"errors": [{"msg": refusal.message}]}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, and no more than two subscriptions a second."""
        symbols = [market.instrument.symbol for market in markets]
        wanted = [("v4_orderbook", symbol) for symbol in symbols]
        wanted += [("v4_trades", symbol) for symbol in symbols]
        wanted += [("v4_candles", f"{symbol}/1MIN") for symbol in symbols]
        messages = [
            compact({"type": "subscribe", "channel": name, "id": one, "batched": False}) for name, one in wanted
        ]
        return Plan(
            "https://indexer.dydx.trade",
            [Request.get("/v4/perpetualMarkets")],
            [Dial("wss://indexer.dydx.trade/v4/ws", messages, greeted=True, pause_ms=550)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        book = {"channel": "v4_orderbook", "id": market.instrument.symbol}
        return [compact({"type": "unsubscribe", **book}), compact({"type": "subscribe", **book, "batched": False})]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"type": "ping", "id": 1})


def _level(market: Market, ticks: int, lots: int) -> tuple[str, str]:
    return plain(market.instrument.price(ticks)), plain(market.instrument.size(lots))


def _block_end(time_ns: int) -> int:
    return -(-(time_ns - _BLOCK_AT_NS) // _BLOCK_NS) * _BLOCK_NS + _BLOCK_AT_NS


def _time(text: str | None, default_ns: int) -> int:
    if not text:
        return default_ns
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1_000) * MS
    except ValueError:
        raise Refusal(400, "fromISO and toISO must be valid ISO strings") from None


def _listing(number: int, market: Market) -> dict[str, Any]:
    instrument = market.instrument
    return {
        "clobPairId": str(number),
        "ticker": instrument.symbol,
        "status": "ACTIVE",
        "oraclePrice": plain(instrument.price((market.bids.best + market.asks.best) // 2)),
        "tickSize": plain(instrument.price(1)),
        "stepSize": plain(instrument.size(1)),
        "atomicResolution": -10,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1_000_000,
        "subticksPerTick": 100_000,
        "marketType": "CROSS",
    }
