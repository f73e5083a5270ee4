"""MEXC spot: pushes in Protobuf, answers to messages in JSON, books that join a REST snapshot by version."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

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
from coby.simulator.feeds import Batch, Pairs, due
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update
from coby.simulator.protobuf import Schema, encode

_LEVEL = Schema({"price": 1, "quantity": 2})
_DEAL = Schema({"price": 1, "quantity": 2, "tradeType": 3, "time": 4, "tradeId": 5})
_DEPTH = {"asks": _LEVEL, "bids": _LEVEL}
_BODIES = {
    "publicLimitDepths": Schema(
        {"asks": 1, "bids": 2, "eventType": 3, "version": 4, "lastOrderCreateTime": 5},
        _DEPTH,
    ),
    "publicSpotKline": Schema(
        {
            "interval": 1,
            "windowStart": 2,
            "openingPrice": 3,
            "closingPrice": 4,
            "highestPrice": 5,
            "lowestPrice": 6,
            "volume": 7,
            "amount": 8,
            "windowEnd": 9,
        }
    ),
    "publicAggreDepths": Schema(
        {"asks": 1, "bids": 2, "eventType": 3, "fromVersion": 4, "toVersion": 5, "lastOrderCreateTime": 6},
        _DEPTH,
    ),
    "publicAggreDeals": Schema({"deals": 1, "eventType": 2}, {"deals": _DEAL}),
    "publicAggreBookTicker": Schema(
        {"bidPrice": 1, "bidQuantity": 2, "askPrice": 3, "askQuantity": 4, "version": 5, "lastOrderCreateTime": 6}
    ),
}
WRAPPER = Schema(
    {
        "channel": 1,
        "symbol": 3,
        "createTime": 5,
        "sendTime": 6,
        "publicLimitDepths": 303,
        "publicSpotKline": 308,
        "publicAggreDepths": 313,
        "publicAggreDeals": 314,
        "publicAggreBookTicker": 315,
    },
    _BODIES,
)
"""`PushDataV3ApiWrapper`."""

_INTERVALS = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "4h": 240, "1d": 1_440, "1W": 10_080,
}  # fmt: skip
_WINDOWS = {
    "Min1": 1, "Min5": 5, "Min15": 15, "Min30": 30, "Min60": 60, "Hour4": 240, "Hour8": 480, "Day1": 1_440,
    "Week1": 10_080,
}  # fmt: skip
_SPEEDS = {"10ms": 10, "100ms": 100}
_LIMITS = ("5", "10", "20")
_WEIGHTS = {"exchangeInfo": 10, "trades": 5}
_MOST_LEVELS = 5_000
_STREAMS = 30
_AGGREGATED = re.compile(r"spot@public\.aggre\.(depth|deals|bookTicker)\.v3\.api\.pb@(10ms|100ms)@([A-Z0-9]+)")
_PLAIN = re.compile(r"spot@public\.(limit\.depth|kline)\.v3\.api\.pb@([A-Z0-9]+)@(\w+)")
_UNSUBSCRIBED_NS = 30 * SECOND
_SILENT_NS = 60 * SECOND
_LIFE_NS = 24 * 60 * MINUTE_NS


class _Stream(NamedTuple):
    """A channel: `depth`, `deals`, `bookTicker`, `limit.depth` or `kline`, a symbol, and a speed, depth or window."""

    kind: str
    symbol: str
    detail: str

    @property
    def event(self) -> str:
        """The channel without its symbol, as some bodies repeat it."""
        if self.kind in {"limit.depth", "kline"}:
            return f"spot@public.{self.kind}.v3.api.pb"
        return f"spot@public.aggre.{self.kind}.v3.api.pb@{self.detail}"

    @property
    def channel(self) -> str:
        """As it is subscribed to."""
        last = f"@{self.detail}" if self.kind in {"limit.depth", "kline"} else ""
        return f"{self.event}@{self.symbol}{last}"


class Mexc(Venue):
    """`wbs-api.mexc.com` and `api.mexc.com`."""

    name = "mexc"
    sequenced = True
    instruments = (
        Instrument("BTCUSDT", "BTC", "USDT", 2, 1, 8, 100),
        Instrument("ETHUSDT", "ETH", "USDT", 2, 1, 5, 1),
        Instrument("SOLUSDT", "SOL", "USDT", 2, 1, 3, 1),
        Instrument("XRPUSDT", "XRP", "USDT", 4, 1, 2, 1),
    )
    temper = Temper(lag_ns=260_000_000, wander=130_000, levels=1_600, pace=80)
    level = re.compile(r'\{"price":"([\d.]+)","quantity":"([\d.]+)"')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._batches = {(symbol, speed): Batch(market) for symbol, market in self.markets.items() for speed in _SPEEDS}
        self._deals: defaultdict[tuple[str, str], list[Fill]] = defaultdict(list)
        self._tops: dict[_Stream, tuple[Pairs, Pairs]] = {}
        self._heard = Quota(100, SECOND)
        self._requests = Quota(300, 10 * SECOND)
        for speed, ms in _SPEEDS.items():
            self.clock.every(ms * MS, partial(self._push, speed))
        self.clock.every(100 * MS, self._push_images)
        self.clock.every(SECOND, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    def wire(self, text: str) -> str | bytes:
        """Pushes, which have a channel, in Protobuf; everything else as it is."""
        return encode(WRAPPER, json.loads(text)) if text.startswith('{"channel":') else text

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One socket."""
        return 101 if path == "/ws" else 404

    def received(self, connection: Connection, text: str) -> None:
        """SUBSCRIPTION, UNSUBSCRIPTION, PING."""
        if self._heard.spend(self.clock.now_ns, connection.number) < 0:
            connection.close(1008, "too many messages")
            return
        try:
            message = json.loads(text)
            method, params = message["method"], [str(param) for param in message.get("params", ())]
            number = int(message.get("id", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            method, params, number = "", [], 0
        if method == "PING":
            connection.say({"id": number, "code": 0, "msg": "PONG"})
        elif method not in {"SUBSCRIPTION", "UNSUBSCRIPTION"} or not params:
            connection.say({"id": number, "code": 1, "msg": "invalid message"})
        else:
            self._obey(connection, number, method, params)

    def _obey(self, connection: Connection, number: int, method: str, channels: list[str]) -> None:
        done: list[_Stream] = []
        for channel in channels:
            stream = self._stream(channel)
            full = method == "SUBSCRIPTION" and len(connection.topics) >= _STREAMS and stream not in connection.topics
            if stream is None or full:
                # The code says that all is well; only the words do not.
                problem = f"Not Subscribed successfully! [{channel}]. Reason: {'Over limit' if full else 'Blocked'}!"
                connection.say({"id": number, "code": 0, "msg": problem})
                continue
            done.append(stream)
            if method == "SUBSCRIPTION":
                self.subscribe(connection, stream)
            else:
                self.unsubscribe(connection, stream)
        if done:
            connection.say({"id": number, "code": 0, "msg": ",".join(stream.channel for stream in done)})
        for stream in done if method == "SUBSCRIPTION" else ():
            self._say_nothing(connection, stream)

    def _say_nothing(self, connection: Connection, stream: _Stream) -> None:
        """A wrapper without a body, or with an empty one: both occur."""
        body: dict[str, Any] = {"publicAggreDeals": {}} if stream.kind == "deals" else {}
        if stream.kind in {"deals", "depth"}:
            connection.send(Frame(self._wrapped(stream, body)))

    def _stream(self, channel: str) -> _Stream | None:
        """What a channel asks for; None if there is no such thing."""
        if match := _AGGREGATED.fullmatch(channel):
            found = _Stream(match[1], match[3], match[2])
        elif match := _PLAIN.fullmatch(channel):
            found = _Stream(match[1], match[2], match[3])
            if found.detail not in (_WINDOWS if found.kind == "kline" else _LIMITS):
                return None
        else:
            return None
        return found if found.symbol in self.markets else None

    def _watch(self) -> None:
        """Ends what has no subscription, carries nothing, or is a day old."""
        now = self.clock.now_ns
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            if connection.topics:
                connection.notes["idle_ns"] = now
            idle_ns = connection.notes.setdefault("idle_ns", connection.opened_ns)
            if now - idle_ns > _UNSUBSCRIBED_NS:
                connection.close(1000, "no subscription")
            elif now - connection.said_ns > _SILENT_NS or now - connection.opened_ns > _LIFE_NS:
                connection.close(1000, "no data")

    def skip(self, market: Market) -> None:
        """What was about to be pushed is lost, and some numbers after it."""
        super().skip(market)
        for speed in _SPEEDS:
            self._batches[market.instrument.symbol, speed].take()

    # What happens

    def _wrapped(self, stream: _Stream, body: Mapping[str, Any], time: str = "sendTime") -> str:
        return compact({"channel": stream.channel, "symbol": stream.symbol, time: self.now // MS, **body})

    def _send(self, stream: _Stream, body: Mapping[str, Any], kind: Channel, time: str = "sendTime") -> None:
        self.publish(stream, Frame(self._wrapped(stream, body, time), kind, self.markets[stream.symbol]))

    def changed(self, market: Market, update: Update) -> None:
        """Everything waits for its beat."""
        for speed in _SPEEDS:
            self._batches[market.instrument.symbol, speed].add(update)
            self._deals[market.instrument.symbol, speed] += update.fills

    def _push(self, speed: str) -> None:
        for symbol, market in self.markets.items():
            push = self._batches[symbol, speed].take()
            stream = _Stream("depth", symbol, speed)
            if push is not None and self.wanted(stream):
                body = {
                    **self._sides(market, push.bids, push.asks),
                    "eventType": stream.event,
                    "fromVersion": str(push.first),
                    "toVersion": str(push.last),
                    "lastOrderCreateTime": self.stamp(push.time_ns) // MS,
                }
                self._send(stream, {"publicAggreDepths": body}, "book")
            fills, stream = self._deals.pop((symbol, speed), []), _Stream("deals", symbol, speed)
            if fills and self.wanted(stream):
                deals = {"deals": [self._deal(market, fill) for fill in fills], "eventType": stream.event}
                self._send(stream, {"publicAggreDeals": deals}, "trade")
            stream = _Stream("bookTicker", symbol, speed)
            tops = (market.bids.top(1), market.asks.top(1))
            if push is not None and self.wanted(stream) and self._tops.get(stream) != tops:
                self._tops[stream] = tops
                self._send(stream, {"publicAggreBookTicker": self._ticker(market)}, "book")

    def _sides(self, market: Market, bids: Pairs, asks: Pairs) -> dict[str, list[dict[str, str]]]:
        instrument = market.instrument
        both = (("asks", asks), ("bids", bids))
        return {
            name: [{"price": instrument.price(ticks), "quantity": instrument.size(lots)} for ticks, lots in pairs]
            for name, pairs in both
        }

    def _deal(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument = market.instrument
        return {
            "price": instrument.price(fill.ticks),
            "quantity": instrument.size(fill.lots),
            "tradeType": 2 if fill.taker_sells else 1,
            "time": self.stamp(fill.time_ns) // MS,
            "tradeId": f"{698_165_549_000_000_000 + fill.first_id}X0_{698_165_549_000_000_001 + fill.last_id}X0",
        }

    def _ticker(self, market: Market) -> dict[str, Any]:
        bid, ask = (market.instrument.level(*side.top(1)[0]) for side in (market.bids, market.asks))
        return {
            "bidPrice": bid[0],
            "bidQuantity": bid[1],
            "askPrice": ask[0],
            "askQuantity": ask[1],
            "version": str(market.sequence),
            "lastOrderCreateTime": self.stamp(market.changed_ns) // MS,
        }

    def _push_images(self) -> None:
        for symbol, market in self.markets.items():
            for limit in _LIMITS:
                stream = _Stream("limit.depth", symbol, limit)
                if self.wanted(stream):
                    sides = self._sides(market, market.bids.top(int(limit)), market.asks.top(int(limit)))
                    body = {**sides, "eventType": stream.event, "version": str(market.sequence)}
                    self._send(stream, {"publicLimitDepths": body}, "book")

    def _push_candles(self) -> None:
        for symbol, market in self.markets.items():
            for window, minutes in _WINDOWS.items():
                stream = _Stream("kline", symbol, window)
                if not self.wanted(stream):
                    continue
                for candle, _ in due(market, minutes * MINUTE_NS, self.clock.now_ns, SECOND, traded=True):
                    body = self._candle(market.instrument, candle, window)
                    self._send(stream, {"publicSpotKline": body}, "candle", "createTime")

    def _candle(self, instrument: Instrument, candle: Candle, window: str) -> dict[str, Any]:
        start = self.stamp(candle.open_ns) // SECOND
        return {
            "interval": window,
            "windowStart": start,
            "openingPrice": instrument.price(candle.open),
            "closingPrice": instrument.price(candle.close),
            "highestPrice": instrument.price(candle.high),
            "lowestPrice": instrument.price(candle.low),
            "volume": instrument.size(candle.lots),
            "amount": instrument.notional(candle.notional),
            "windowEnd": start + _WINDOWS[window] * 60,
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Listings, depth, candles and trades; each endpoint counts its weights."""
        path = request.path.removeprefix("/api/v3/")
        known = {"ping", "time", "exchangeInfo", "defaultSymbols", "depth", "trades", "klines"}
        if path not in known:
            raise Refusal(404, "Not found")
        if self._requests.spend(self.clock.now_ns, path, _WEIGHTS.get(path, 1)) < 0:
            wait = (self._requests.reset_ns(self.clock.now_ns) - self.clock.now_ns) // SECOND + 1
            return Response.of({"code": 429, "msg": "Too Many Requests"}, 429, {"Retry-After": str(wait)})
        return Response.of(self._asked(path, request))

    def _asked(self, path: str, request: Request) -> object:
        if path == "ping":
            return {}
        if path == "time":
            return {"serverTime": self.now // MS}
        if path == "exchangeInfo":
            symbols = [_listed(market.instrument) for market in self.markets.values()]
            return {"timezone": "CST", "serverTime": self.now // MS, "rateLimits": [], "symbols": symbols}
        if path == "defaultSymbols":
            return {"code": 0, "data": list(self.markets), "msg": None}
        market = self.markets.get(request.query.get("symbol", ""))
        if market is None:
            raise Refusal(400, "Invalid symbol.")
        if path == "depth":
            limit, picture = request.number("limit", 100, _MOST_LEVELS), self.picture(market)
            level = market.instrument.level
            return {
                "lastUpdateId": picture.sequence,
                "bids": [level(*pair) for pair in picture.bids[:limit]],
                "asks": [level(*pair) for pair in picture.asks[:limit]],
                "timestamp": self.now // MS,
            }
        if path == "klines":
            return self._klines(market, request)
        fills = list(market.fills)[::-1][: request.number("limit", 500, 1_000)]
        return [self._trade(market.instrument, fill) for fill in fills]

    def _trade(self, instrument: Instrument, fill: Fill) -> dict[str, Any]:
        return {
            "id": None,
            "price": instrument.price(fill.ticks),
            "qty": instrument.size(fill.lots),
            "quoteQty": instrument.notional(fill.ticks * fill.lots),
            "time": self.stamp(fill.time_ns) // MS,
            "isBuyerMaker": fill.taker_sells,
            "isBestMatch": True,
            "tradeType": "ASK" if fill.taker_sells else "BID",
        }

    def _klines(self, market: Market, request: Request) -> list[list[Any]]:
        interval = request.query.get("interval", "")
        if interval not in _INTERVALS:
            raise Refusal(400, "Invalid interval.")
        length = _INTERVALS[interval] * MINUTE_NS
        limit = request.number("limit", 500, 1_000)
        since, until = request.number("startTime", 0), request.number("endTime", 2**43)
        found = market.candles(length, since * MS, until * MS + 1)
        instrument = market.instrument
        rows: list[list[Any]] = []
        for candle in found[:limit] if since else found[-limit:]:
            prices = (instrument.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close))
            start, end = self.stamp(candle.open_ns) // MS, self.stamp(candle.open_ns + length) // MS
            rows.append([start, *prices, instrument.size(candle.lots), end, instrument.notional(candle.notional)])
        return rows

    def refuse(self, refusal: Refusal) -> Response:
        """Negative codes."""
        code = -1121 if "symbol" in refusal.message else -1100
        return Response.of({"code": code, "msg": refusal.message}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """Three streams for each symbol, ten symbols on a connection; snapshots join them."""
        dials = []
        for at in range(0, len(markets), _STREAMS // 3):
            chosen = markets[at : at + _STREAMS // 3]
            wanted = (("depth", "100ms"), ("deals", "100ms"), ("kline", "Min1"))
            streams = [_Stream(k, m.instrument.symbol, detail).channel for m in chosen for k, detail in wanted]
            snapshots = [step for market in chosen for step in self.resync(market) if isinstance(step, Request)]
            message = compact({"method": "SUBSCRIPTION", "params": streams})
            dials.append(Dial("wss://wbs-api.mexc.com/ws", [message], snapshots))
        return Plan("https://api.mexc.com", [Request.get("/api/v3/exchangeInfo")], dials)

    def resync(self, market: Market) -> list[str | Request]:
        """A snapshot joins the running stream."""
        return [Request.get(f"/api/v3/depth?symbol={market.instrument.symbol}&limit={_MOST_LEVELS}")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"method": "PING"})


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "status": "1",
        "baseAsset": instrument.base,
        "baseAssetPrecision": instrument.size_digits,
        "quoteAsset": instrument.quote,
        "quotePrecision": instrument.price_digits,
        "quoteAssetPrecision": instrument.price_digits,
        "baseSizePrecision": instrument.size(1),
        "quoteAmountPrecision": "1",
        "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "st": False,
    }
