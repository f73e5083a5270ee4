"""Coinbase's second feed, Advanced Trade: one channel a message, and a number on every frame of a connection."""

from collections.abc import Hashable
from functools import partial
from typing import Any

from coby.simulator.exchange import (
    MS,
    SECOND,
    Channel,
    Connection,
    Frame,
    Picture,
    Refusal,
    Request,
    Response,
    Venue,
    compact,
    iso,
)
from coby.simulator.fair import MINUTE_NS
from coby.simulator.feeds import Pairs
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Update, plain

ROOT = "/api/v3/brokerage/market/"
"""Where its REST begins."""

_CHANNELS = ("heartbeats", "candles", "status", "ticker", "ticker_batch", "level2", "market_trades")
_GRANULARITIES = {
    "ONE_MINUTE": 1, "FIVE_MINUTE": 5, "FIFTEEN_MINUTE": 15, "THIRTY_MINUTE": 30, "ONE_HOUR": 60, "TWO_HOUR": 120,
    "SIX_HOUR": 360, "ONE_DAY": 1_440,
}  # fmt: skip
_BUCKET_NS = 5 * MINUTE_NS
_TRADES_NS = 250 * MS
_SILENCE_NS = 75 * SECOND
_STRAY = 20
"""One update in so many deletes a level that nobody knows."""


class AdvancedFeed:
    """The feed and its REST; the markets are those of `venue`."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._clock = venue.clock
        self._fills: dict[str, list[Fill]] = {symbol: [] for symbol in venue.markets}
        self._messages = Quota(8, SECOND)
        self._beats = 0
        self._clock.every(SECOND, self._beat, 9 * MS)
        self._clock.every(SECOND, self._push_candles, 5 * MS)
        self._clock.every(_TRADES_NS, self._push_trades)

    # Sockets

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        """Subscribe and unsubscribe."""
        connection.notes.setdefault("sequence", -1)
        kind, channel = message.get("type"), message["channel"]
        products = message.get("product_ids") or []
        symbols = [_without_alias(str(product)) for product in products]
        problem = None
        if self._messages.spend(self._clock.now_ns, connection.number) < 0:
            problem = "rate limit exceeded"
        elif kind not in {"subscribe", "unsubscribe"}:
            problem = f"{kind} is not a valid type"
        elif channel not in _CHANNELS:
            problem = f"{channel} is not a valid channel"
        elif any(symbol not in self._venue.markets for symbol in symbols):
            problem = f"{', '.join(map(str, products))} is not a valid product"
        elif not symbols and channel not in {"heartbeats", "status"}:
            problem = "product_ids are missing"
        if problem is not None:
            connection.say({"type": "error", "message": problem})
            return
        for symbol in symbols if channel != "heartbeats" and symbols else [""]:
            if kind == "unsubscribe":
                self._venue.unsubscribe(connection, _topic(channel, symbol))
            else:
                self._join(connection, channel, symbol)
        # Data may come before the answer.
        self._send(connection, "subscriptions", compact([{"subscriptions": self._subscriptions(connection)}]))

    def _join(self, connection: Connection, channel: str, symbol: str) -> None:
        topic, market = _topic(channel, symbol), self._venue.markets.get(symbol)
        if market is not None and channel == "level2":
            self._venue.join(connection, topic, market, partial(self._snapshot, connection, market))
        elif not self._venue.subscribe(connection, topic):
            return
        elif market is not None and channel == "market_trades":
            waiting = len(self._fills[symbol])
            known = list(market.fills)[: len(market.fills) - waiting][::-1]
            events = self._trades(market, known, "snapshot")
            self._send(connection, channel, events, "trade", market)
        elif market is not None and channel == "candles":
            now = self._clock.now_ns
            events = self._candles(market, now - 100 * _BUCKET_NS, "snapshot")
            self._send(connection, channel, events, "candle", market)
        elif channel == "status":
            products = [_listed(market.instrument) for market in self._venue.markets.values()]
            self._send(connection, channel, compact([{"type": "snapshot", "products": products}]))

    def _subscriptions(self, connection: Connection) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for topic in connection.topics:
            if isinstance(topic, tuple):
                _, channel, symbol = topic
                found.setdefault(channel, []).append(symbol or channel)
        return found

    def _send(
        self, connection: Connection, channel: str, events: str, kind: Channel = "other", market: Market | None = None
    ) -> None:
        """Numbers a frame: one count for all that a connection carries."""
        connection.notes["sequence"] += 1
        head = f'"channel":"{channel}","timestamp":"{iso(self._venue.now, 9)}"'
        text = f'{{{head},"sequence_num":{connection.notes["sequence"]},"events":{events}}}'
        connection.send(Frame(text, kind, market))

    def _publish(self, topic: Hashable, channel: str, events: str, kind: Channel, market: Market | None) -> None:
        for connection in list(self._venue.exchange.listeners.get((self._venue.name, topic), ())):
            self._send(connection, channel, events, kind, market)

    def _beat(self) -> None:
        self._beats += 1
        time = iso(self._venue.now, 9).replace("T", " ").replace("Z", "+00:00")
        events = compact([{"current_time": time, "heartbeat_counter": self._beats}])
        self._publish(_topic("heartbeats", ""), "heartbeats", events, "other", None)
        for connection in list(self._venue.exchange.connections.values()):
            silent = self._clock.now_ns - connection.said_ns >= _SILENCE_NS
            if connection.venue is self._venue and silent and "sequence" in connection.notes:
                connection.close(1006)

    def skip(self, market: Market) -> None:
        """Numbers of all connections are used up that follow the book."""
        for connection in self._venue.exchange.connections.values():
            if _topic("level2", market.instrument.symbol) in connection.topics:
                connection.notes["sequence"] += 2

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Changes go out at once, trades with their batch."""
        symbol = market.instrument.symbol
        self._fills[symbol] += update.fills
        topic = _topic("level2", symbol)
        if not update.changes or not self._venue.wanted(topic):
            return
        bids = [(ticks, lots) for side, ticks, lots in update.changes if not side]
        asks = [(ticks, lots) for side, ticks, lots in update.changes if side]
        if update.last % _STRAY == 0:
            bids.append((-market.bids.keys[-1] - 1, 0))
        events = self._book(market, "update", bids, asks, update.time_ns)
        self._publish(topic, "l2_data", events, "book", market)

    def _snapshot(self, connection: Connection, market: Market) -> None:
        picture: Picture = self._venue.picture(market)
        events = self._book(market, "snapshot", picture.bids, picture.asks, picture.time_ns)
        self._send(connection, "l2_data", events, "book", market)

    def _book(self, market: Market, kind: str, bids: Pairs, asks: Pairs, time_ns: int) -> str:
        time, price, size = iso(self._venue.stamp(time_ns)), market.instrument.price, market.instrument.size
        rows = ",".join(
            f'{{"side":"{side}","event_time":"{time}","price_level":"{plain(price(ticks))}",'
            f'"new_quantity":"{plain(size(lots))}"}}'
            for side, pairs in (("bid", bids), ("offer", asks))
            for ticks, lots in pairs
        )
        return f'[{{"type":"{kind}","product_id":"{market.instrument.symbol}","updates":[{rows}]}}]'

    def _push_trades(self) -> None:
        for symbol, fills in self._fills.items():
            if fills:
                self._fills[symbol] = []
                market, topic = self._venue.markets[symbol], _topic("market_trades", symbol)
                if self._venue.wanted(topic):
                    events = self._trades(market, fills, "update")
                    self._publish(topic, "market_trades", events, "trade", market)

    def _trades(self, market: Market, fills: list[Fill], kind: str) -> str:
        instrument = market.instrument
        trades = [
            {
                "trade_id": str(fill.number),
                "product_id": instrument.symbol,
                "price": plain(instrument.price(fill.ticks)),
                "size": plain(instrument.size(fill.lots)),
                # The maker's: who rested in the book.
                "side": "BUY" if fill.taker_sells else "SELL",
                "time": iso(self._venue.stamp(fill.time_ns)),
            }
            for fill in fills
        ]
        return compact([{"type": kind, "trades": trades}])

    def _push_candles(self) -> None:
        now = self._clock.now_ns
        for symbol, market in self._venue.markets.items():
            topic = _topic("candles", symbol)
            if self._venue.wanted(topic):
                self._publish(topic, "candles", self._candles(market, now - SECOND, "update"), "candle", market)

    def _candles(self, market: Market, since_ns: int, kind: str) -> str:
        found = market.candles(_BUCKET_NS, since_ns, self._clock.now_ns)[::-1]
        symbol = market.instrument.symbol
        rows = [{**self._candle(market.instrument, candle), "product_id": symbol} for candle in found if candle.count]
        return compact([{"type": kind, "candles": rows}])

    def _candle(self, instrument: Instrument, candle: Candle) -> dict[str, str]:
        prices = {"high": candle.high, "low": candle.low, "open": candle.open, "close": candle.close}
        return {
            "start": str(self._venue.stamp(candle.open_ns) // SECOND),
            **{name: plain(instrument.price(ticks)) for name, ticks in prices.items()},
            "volume": plain(instrument.size(candle.lots)),
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Products, books and candles."""
        match request.path.removeprefix(ROOT).split("/"):
            case ["products"]:
                listed = [_listed(market.instrument) for market in self._venue.markets.values()]
                listed += [_alias(entry) for entry in listed if entry["quote_currency_id"] == "USD"]
                return Response.of({"products": listed, "num_products": len(listed)})
            case ["products", product]:
                return Response.of(_listed(self._named(product).instrument))
            case ["product_book"]:
                market = self._named(request.query.get("product_id", ""))
                return Response.of({"pricebook": self._pricebook(market, request.number("limit", 2**31))})
            case ["products", product, "candles"]:
                return Response.of({"candles": self._history(self._named(product), request)})
            case _:
                raise Refusal(404, "NOT_FOUND")

    def _named(self, product: str) -> Market:
        market = self._venue.markets.get(_without_alias(product))
        if market is None:
            raise Refusal(404, "NOT_FOUND")
        return market

    def _pricebook(self, market: Market, limit: int) -> dict[str, Any]:
        picture, instrument = self._venue.picture(market), market.instrument
        sides = {"bids": picture.bids[:limit], "asks": picture.asks[:limit]}
        rows = {
            name: [{"price": plain(instrument.price(t)), "size": plain(instrument.size(n))} for t, n in pairs]
            for name, pairs in sides.items()
        }
        return {"product_id": instrument.symbol, **rows, "time": iso(self._venue.stamp(picture.time_ns))}

    def _history(self, market: Market, request: Request) -> list[dict[str, str]]:
        granularity = request.query.get("granularity", "")
        if granularity not in _GRANULARITIES:
            raise Refusal(400, "INVALID_ARGUMENT: granularity")
        length = _GRANULARITIES[granularity] * MINUTE_NS
        now_s = self._clock.now_ns // SECOND
        since, until = request.number("start", now_s - 349 * length // SECOND), request.number("end", now_s)
        if (until - since) * SECOND // length > 350:
            raise Refusal(400, "INVALID_ARGUMENT: number of candles requested should be less than 350")
        found = market.candles(length, since * SECOND, until * SECOND + 1)[::-1]
        return [self._candle(market.instrument, candle) for candle in found if candle.count]


def _topic(channel: str, symbol: str) -> tuple[str, str, str]:
    return ("advanced", channel, symbol)


def _without_alias(product: str) -> str:
    """Products in USDC are those in dollars, under another name."""
    return f"{product.removesuffix('-USDC')}-USD" if product.endswith("-USDC") else product


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "product_id": instrument.symbol,
        "base_currency_id": instrument.base,
        "quote_currency_id": instrument.quote,
        "base_increment": instrument.size(1),
        "price_increment": instrument.price(1),
        "quote_increment": instrument.price(1),
        "status": "online",
        "alias": "",
        "is_disabled": False,
        "trading_disabled": False,
        "product_type": "SPOT",
    }


def _alias(listed: dict[str, Any]) -> dict[str, Any]:
    base = listed["base_currency_id"]
    return {**listed, "product_id": f"{base}-USDC", "quote_currency_id": "USDC", "alias": listed["product_id"]}
