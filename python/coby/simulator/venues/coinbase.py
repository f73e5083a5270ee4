"""Coinbase: whole books and 50 ms batches without a sequence, trades with the maker's side; and the second feed."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

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
    iso,
)
from coby.simulator.feeds import Batch
from coby.simulator.limits import Quota
from coby.simulator.market import Fill, Instrument, Market, Temper, Update
from coby.simulator.venues.coinbase_advanced import ROOT, AdvancedFeed

_CHANNELS = ("level2_batch", "matches", "heartbeat", "status")
_SIGNED = ("level2", "level3", "full")
_GRANULARITIES = (60, 300, 900, 3_600, 21_600, 86_400)
_BATCH_NS = 50 * MS
_PATIENCE_NS = 5 * SECOND


class Coinbase(Venue):
    """`ws-feed.exchange.coinbase.com` and `api.exchange.coinbase.com`, and at the same paths the second feed's hosts.

    Which feed a connection reads shows in its messages: they name `channels`, or one `channel`.
    """

    name = "coinbase"
    instruments = (
        Instrument("BTC-USD", "BTC", "USD", 2, 1, 8, 1),
        Instrument("ETH-USD", "ETH", "USD", 2, 1, 8, 1),
        Instrument("SOL-USD", "SOL", "USD", 2, 1, 8, 1),
        Instrument("XRP-USD", "XRP", "USD", 4, 1, 6, 1),
        Instrument("BTC-USDT", "BTC", "USDT", 2, 1, 8, 1),
        Instrument("ETH-USDT", "ETH", "USDT", 2, 1, 8, 1),
    )
    temper = Temper(lag_ns=120_000_000, wander=50_000, levels=1_600, pace=90)
    level = re.compile(r'(?:\[|"(?:buy|sell)",|"price_level":)"([\d.]+)",(?:"new_quantity":)?"([\d.]+)"')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._batches = {symbol: Batch(market) for symbol, market in self.markets.items()}
        self.clock.every(_BATCH_NS, self._push_books)
        self.clock.every(SECOND, self._heartbeats, 7 * MS)
        self._dials = Quota(8, SECOND)
        self._advanced = AdvancedFeed(self)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One path, for so many clients a second."""
        if path != "/":
            return 404
        return 101 if self._dials.spend(self.clock.now_ns) >= 0 else 429

    def opened(self, connection: Connection) -> None:
        """Who does not subscribe in time has to go."""

        def check() -> None:
            if not connection.topics:
                connection.close(1008, "no subscription within 5 seconds")

        self.clock.at(self.clock.now_ns + _PATIENCE_NS, check)

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe and unsubscribe."""
        try:
            message = json.loads(text)
            if "channel" in message:
                self._advanced.received(connection, message)
                return
            kind = message["type"]
            wanted = _wanted(message)
        except (ValueError, KeyError, TypeError, AttributeError):
            connection.say({"type": "error", "message": "Malformed JSON"})
            return
        if kind not in {"subscribe", "unsubscribe"}:
            connection.say({"type": "error", "message": "Invalid message", "reason": f"{kind} is not a valid type"})
            return
        for channel, symbol in wanted:
            reason = None
            if channel in _SIGNED:
                reason = "level2, level3, and full channels now require authentication."
            elif channel not in _CHANNELS:
                reason = f"{channel} is not a valid channel"
            elif channel != "status" and symbol not in self.markets:
                reason = f"{symbol} is not a valid product"
            if reason:
                connection.say({"type": "error", "message": f"Failed to {kind}", "reason": reason})
                return
        if kind == "unsubscribe":
            for topic in wanted:
                self.unsubscribe(connection, topic)
            connection.say(_subscriptions(set(connection.topics)))
            return
        connection.say(_subscriptions({*connection.topics, *wanted}))
        for channel, symbol in wanted:
            self._join(connection, channel, symbol)

    def _join(self, connection: Connection, channel: str, symbol: str) -> None:
        if channel == "status":
            self.subscribe(connection, (channel, ""))
            products = [self._listed(market.instrument) for market in self.markets.values()]
            connection.say({"type": "status", "products": products, "currencies": []})
            return
        market = self.markets[symbol]
        if channel == "level2_batch":
            self.join(
                connection,
                (channel, symbol),
                market,
                lambda: connection.send(Frame(compact(self._snapshot(market)), "book", market)),
            )
        elif self.subscribe(connection, (channel, symbol)) and channel == "matches" and market.fills:
            connection.send(Frame(compact(self._match(market, market.fills[-1], "last_match")), "trade", market))

    def _heartbeats(self) -> None:
        for symbol, market in self.markets.items():
            beat = {
                "type": "heartbeat",
                "sequence": market.sequence,
                "last_trade_id": market.fills[-1].number if market.fills else 0,
                "product_id": symbol,
                "time": iso(self.now),
            }
            self.publish(("heartbeat", symbol), Frame(compact(beat), "other", market))

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, changes with their batch."""
        symbol = market.instrument.symbol
        self._advanced.changed(market, update)
        self._batches[symbol].add(update)
        if update.fills and self.wanted(("matches", symbol)):
            for fill in update.fills:
                self.publish(("matches", symbol), Frame(compact(self._match(market, fill, "match")), "trade", market))

    def _push_books(self) -> None:
        for symbol, market in self.markets.items():
            push = self._batches[symbol].take()
            topic = ("level2_batch", symbol)
            if push is None or not self.wanted(topic) or not (push.bids or push.asks):
                continue
            level = market.instrument.level
            changes = [["buy", *level(*pair)] for pair in push.bids] + [["sell", *level(*pair)] for pair in push.asks]
            time = iso(self.stamp(push.time_ns))
            text = compact({"type": "l2update", "product_id": symbol, "changes": changes, "time": time})
            self.publish(topic, Frame(text, "book", market))

    def _snapshot(self, market: Market) -> dict[str, Any]:
        picture, level = self.picture(market), market.instrument.level
        return {
            "type": "snapshot",
            "product_id": market.instrument.symbol,
            "asks": [level(*pair) for pair in picture.asks],
            "bids": [level(*pair) for pair in picture.bids],
            "time": iso(self.stamp(picture.time_ns)),
        }

    def _match(self, market: Market, fill: Fill, kind: str) -> dict[str, Any]:
        instrument = market.instrument
        return {
            "type": kind,
            "trade_id": fill.number,
            "maker_order_id": _order(fill.number, 1),
            "taker_order_id": _order(fill.time_ns, 2),
            # The maker's: who rested in the book.
            "side": "buy" if fill.taker_sells else "sell",
            "size": instrument.size(fill.lots),
            "price": instrument.price(fill.ticks),
            "product_id": instrument.symbol,
            "sequence": market.sequence,
            "time": iso(self.stamp(fill.time_ns)),
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Products, books, trades and candles."""
        if request.path.startswith(ROOT):
            return self._advanced.answer(request)
        parts = request.path.strip("/").split("/")
        if parts == ["products"]:
            return Response.of([self._listed(market.instrument) for market in self.markets.values()])
        if parts == ["time"]:
            return Response.of({"iso": iso(self.now, 3), "epoch": self.now / SECOND})
        if parts[0] != "products" or len(parts) > 3:
            raise Refusal(404, "NotFound")
        market = self.markets.get(parts[1])
        if market is None:
            raise Refusal(404, "NotFound")
        match parts[2:]:
            case []:
                return Response.of(self._listed(market.instrument))
            case ["book"]:
                return Response.of(self._book(market, request.number("level", 1)))
            case ["trades"]:
                fills = list(market.fills)[::-1][: request.number("limit", 100, 1_000)]
                keys = ("time", "trade_id", "price", "size", "side")
                matches = [self._match(market, fill, "match") for fill in fills]
                return Response.of([{key: found[key] for key in keys} for found in matches])
            case ["candles"]:
                return Response.of(self._candles(market, request))
            case _:
                raise Refusal(404, "NotFound")

    def _book(self, market: Market, level: int) -> dict[str, Any]:
        picture = self.picture(market)
        depth = None if level == 2 else 1
        sides = {"bids": picture.bids[:depth], "asks": picture.asks[:depth]}
        rows = {name: [[*market.instrument.level(*pair), 1] for pair in side] for name, side in sides.items()}
        return {"sequence": picture.sequence, **rows, "auction_mode": False, "time": iso(self.stamp(picture.time_ns))}

    def _candles(self, market: Market, request: Request) -> list[list[Any]]:
        seconds = request.number("granularity", 60)
        if seconds not in _GRANULARITIES:
            raise Refusal(400, "Unsupported granularity")
        length = seconds * SECOND
        now = self.clock.now_ns
        since = _time(request.query.get("start"), now - 299 * length)
        until = _time(request.query.get("end"), now)
        if (until - since) // length > 300:
            raise Refusal(
                400, "granularity too small for the requested time range. Count of aggregations requested exceeds 300"
            )
        found = [candle for candle in market.candles(length, since, until + 1) if candle.count]
        instrument = market.instrument
        return [
            [
                self.stamp(candle.open_ns) // SECOND,
                *(float(instrument.price(t)) for t in (candle.low, candle.high, candle.open, candle.close)),
                float(instrument.size(candle.lots)),
            ]
            for candle in reversed(found)
        ]

    def _listed(self, instrument: Instrument) -> dict[str, Any]:
        return {
            "id": instrument.symbol,
            "base_currency": instrument.base,
            "quote_currency": instrument.quote,
            "quote_increment": instrument.price(1),
            "base_increment": instrument.size(1),
            "display_name": f"{instrument.base}/{instrument.quote}",
            "min_market_funds": "1",
            "margin_enabled": False,
            "post_only": False,
            "limit_only": False,
            "cancel_only": False,
            "status": "online",
            "status_message": "",
            "trading_disabled": False,
            "fx_stablecoin": False,
            "auction_mode": False,
        }

    def refuse(self, refusal: Refusal) -> Response:
        """A message alone."""
        return Response.of({"message": refusal.message}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection for all."""
        symbols = [market.instrument.symbol for market in markets]
        channels = ["level2_batch", "matches", "heartbeat"]
        message = compact({"type": "subscribe", "product_ids": symbols, "channels": channels})
        return Plan(
            "https://api.exchange.coinbase.com",
            [Request.get("/products")],
            [Dial("wss://ws-feed.exchange.coinbase.com", [message])],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        rest = {"product_ids": [market.instrument.symbol], "channels": ["level2_batch"]}
        return [compact({"type": kind, **rest}) for kind in ("unsubscribe", "subscribe")]


class CoinbaseAdvanced(Coinbase):
    """The same venue, read by its second feed: `advanced-trade-ws.coinbase.com`."""

    sequenced = True
    numbers_connections = True

    def skip(self, market: Market) -> None:
        """Numbers of all connections are used up that follow the book."""
        self._advanced.skip(market)

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, one channel a message; heartbeats keep it open. The first feed's list will do for both."""
        products = {"product_ids": [market.instrument.symbol for market in markets]}
        wanted: list[dict[str, Any]] = [{"channel": "heartbeats"}]
        wanted += [{**products, "channel": channel} for channel in ("level2", "market_trades", "candles")]
        messages = [compact({"type": "subscribe", **one}) for one in wanted]
        return Plan(
            "https://api.exchange.coinbase.com",
            [Request.get("/products")],
            [Dial("wss://advanced-trade-ws.coinbase.com", messages)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        rest = {"product_ids": [market.instrument.symbol], "channel": "level2"}
        return [compact({"type": kind, **rest}) for kind in ("unsubscribe", "subscribe")]


def _wanted(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Channels and products that a message names; channels may bring products of their own."""
    common = message.get("product_ids", [])
    found: list[tuple[str, str]] = []
    for channel in message["channels"]:
        name = channel if isinstance(channel, str) else channel["name"]
        products = common if isinstance(channel, str) else channel.get("product_ids", common)
        found += [(name, product) for product in ([""] if name == "status" else products)]
    return found


def _subscriptions(topics: set[Any]) -> dict[str, Any]:
    channels = [
        {"name": name, "product_ids": sorted(product for channel, product in topics if channel == name)}
        for name in _CHANNELS
        if any(channel == name for channel, _ in topics)
    ]
    return {"type": "subscriptions", "channels": channels}


def _order(number: int, salt: int) -> str:
    return str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 * salt % 2**128, version=4))


def _time(text: str | None, default_ns: int) -> int:
    if not text:
        return default_ns
    if text.isdecimal():
        return int(text) * SECOND
    try:
        return round(datetime.fromisoformat(text).timestamp()) * SECOND
    except ValueError:
        raise Refusal(400, "Invalid start or end") from None
