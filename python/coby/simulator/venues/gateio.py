"""Gate.io v4 spot: books of 400 levels that begin with a full frame, and the older increments without one."""

import json
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
from coby.simulator.feeds import Batch, Images, Pairs, due
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_INTERVALS = {
    "1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "4h": 14_400, "8h": 28_800, "1d": 86_400,
    "7d": 604_800, "30d": 2_592_000,
}  # fmt: skip
_OBU_MS = {"50": 20, "100": 100, "400": 100}
_MUTE = frozenset({"1", "5", "10", "200"})
"""Depths of `spot.obu` that are acknowledged and never delivered."""
_UPDATE_MS = {"20ms": 20, "100ms": 100}
_IMAGE_LEVELS = ("5", "10", "20", "50", "100")
_IMAGE_MS = {"100ms": 100, "1000ms": 1_000}
_DUMP = 100
_CANDLES_NS = 2 * SECOND
_POINTS = 1_000
_CLEAR_NS = 5 * MS

_Topic = tuple[str, ...]
"""A channel, then the pair, then what else tells one feed of it from another."""


class Gateio(Venue):
    """`api.gateio.ws`, for both sockets and REST."""

    name = "gateio"
    sequenced = True
    instruments = (
        Instrument("BTC_USDT", "BTC", "USDT", 1, 1, 6, 1),
        Instrument("ETH_USDT", "ETH", "USDT", 2, 1, 4, 1),
        Instrument("SOL_USDT", "SOL", "USDT", 2, 1, 3, 1),
        Instrument("XRP_USDT", "XRP", "USDT", 4, 1, 2, 1),
    )
    temper = Temper(lag_ns=180_000_000, wander=100_000, pace=90)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images = Images()
        self._batches = {
            (symbol, ms): Batch(market) for symbol, market in self.markets.items() for ms in _UPDATE_MS.values()
        }
        self._tops: dict[str, tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self._quota = Quota(200, 10 * SECOND)
        for ms in (20, 100):
            self.clock.every(ms * MS, partial(self._push_obu, ms))
        for ms in _UPDATE_MS.values():
            self.clock.every(ms * MS, partial(self._push_updates, ms))
        for ms in _IMAGE_MS.values():
            self.clock.every(ms * MS, partial(self._push_images, ms))
        self.clock.every(_CANDLES_NS, self._push_candles, _CLEAR_NS)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One socket; the slash at its end is part of the name."""
        return 101 if path == "/ws/v4/" else 404

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        try:
            message = json.loads(text)
            channel, event = str(message["channel"]), str(message.get("event", ""))
            payload = [str(item) for item in message.get("payload") or ()]
            wrong = "" if isinstance(message["time"], int) else "time"
        except (ValueError, KeyError, TypeError, AttributeError):
            channel, event, payload, wrong, message = "", "", [], "body", {}
        if wrong:
            self._refuse(connection, message, 1, f"Invalid request body format: {wrong}")
        elif channel == "spot.ping":
            connection.say({"time": self.now // SECOND, "channel": "spot.pong", "event": "", "result": None})
        elif event not in {"subscribe", "unsubscribe"}:
            self._refuse(connection, message, 2, f"unknown event {event}")
        else:
            self._serve(connection, message, payload)

    def _serve(self, connection: Connection, message: dict[str, Any], payload: list[str]) -> None:
        channel, event = message["channel"], message["event"]
        topics, problem = self._topics(channel, payload)
        if channel == "spot.obu" and event == "subscribe" and any(topic in connection.topics for topic in topics):
            problem = f"Alert sub {payload[0]}"
        if problem:
            self._refuse(connection, message, 2, problem)
            return
        request = f"{self.clock.now_ns:016x}{connection.number:016x}"
        number = {"id": message["id"]} if "id" in message else {}
        connection.say(
            {
                "time": self.now // SECOND,
                "time_ms": self.now // MS,
                **number,
                "conn_id": f"{connection.number:016x}",
                "trace_id": request,
                "channel": channel,
                "event": event,
                "payload": payload,
                "result": {"status": "success"},
                "requestId": request,
            }
        )
        for topic in topics:
            if event == "unsubscribe":
                self.unsubscribe(connection, topic)
            elif channel == "spot.obu" and topic[2] in _OBU_MS:
                market = self.markets[topic[1]]
                self.join(connection, topic, market, partial(self._full, connection, topic))
            elif self.subscribe(connection, topic) and channel == "spot.order_book_update":
                self._dump(connection, topic)

    def _topics(self, channel: str, payload: list[str]) -> tuple[list[_Topic], str]:
        """What a payload asks for, and what is wrong with it."""
        match channel, payload:
            case (("spot.trades" | "spot.book_ticker"), [_, *_]):
                found: list[_Topic] = [(channel, pair) for pair in payload]
            case "spot.obu", [stream] if stream.count(".") == 2 and stream.startswith("ob."):
                _, pair, level = stream.split(".")
                if level not in _OBU_MS and level not in _MUTE:
                    return [], f"unknown level {level}"
                found = [(channel, pair, level)]
            case "spot.order_book_update", [pair, speed] if speed in _UPDATE_MS:
                found = [(channel, pair, speed)]
            case "spot.order_book", [pair, level, speed] if level in _IMAGE_LEVELS and speed in _IMAGE_MS:
                found = [(channel, pair, level, speed)]
            case "spot.candlesticks", [interval, pair] if interval in _INTERVALS:
                found = [(channel, pair, interval)]
            case _:
                return [], f"unknown channel or payload: {channel} {compact(payload)}"
        unknown = next((topic[1] for topic in found if topic[1] not in self.markets), "")
        return found, f"unknown currency pair {unknown}" if unknown else ""

    def _refuse(self, connection: Connection, message: dict[str, Any], code: int, problem: str) -> None:
        error = {"code": code, "message": problem}
        told = {"channel": message.get("channel", ""), "event": message.get("event", "")}
        connection.say({"time": self.now // SECOND, **told, "error": error, "result": None})

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        self._images.skip(market)
        for ms in _UPDATE_MS.values():
            self._batches[market.instrument.symbol, ms].take()

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades and the best levels go out at once."""
        symbol = market.instrument.symbol
        for ms in _UPDATE_MS.values():
            self._batches[symbol, ms].add(update)
        for fill in update.fills:
            self._traded.add(symbol)
            self._send(("spot.trades", symbol), self._trade(market, fill), "trade")
        if self.wanted(("spot.book_ticker", symbol)):
            tops = (market.bids.top(1), market.asks.top(1))
            if self._tops.get(symbol) != tops:
                self._tops[symbol] = tops
                self._send(("spot.book_ticker", symbol), self._ticker(market), "book")

    def _send(self, topic: _Topic, result: object, kind: Any) -> None:
        channel, symbol = topic[:2]
        envelope = {"time": self.now // SECOND, "channel": channel, "event": "update", "result": result}
        self.publish(topic, Frame(compact(envelope), kind, self.markets[symbol]))

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        time_ns = self.stamp(fill.time_ns)
        # The id counts the trades of all pairs.
        return {
            "id": fill.number * 29 + fill.number * 104_729 % 23,
            "id_market": fill.number,
            "create_time": time_ns // SECOND,
            "create_time_ms": f"{time_ns // MS}.{time_ns % MS // 100:04d}",
            "side": "sell" if fill.taker_sells else "buy",
            "currency_pair": market.instrument.symbol,
            "amount": market.instrument.size(fill.lots),
            "price": market.instrument.price(fill.ticks),
            "range": f"{fill.number}-{fill.number}",
        }

    def _ticker(self, market: Market) -> dict[str, Any]:
        (bid, ask) = (market.instrument.level(*side.top(1)[0]) for side in (market.bids, market.asks))
        best = {"b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1]}
        symbol = market.instrument.symbol
        return {"t": self.stamp(market.changed_ns) // MS, "u": market.sequence, "s": symbol, **best}

    def _rows(self, market: Market, pairs: Pairs) -> list[list[str]]:
        instrument = market.instrument
        return [[instrument.price(ticks), instrument.size(lots) if lots else "0"] for ticks, lots in pairs]

    # spot.obu

    def _obu(self, topic: _Topic, numbers: dict[str, Any], time_ns: int, bids: Pairs, asks: Pairs) -> Frame:
        _, pair, level = topic
        market = self.markets[pair]
        sides = {key: self._rows(market, pairs) for key, pairs in (("b", bids), ("a", asks)) if pairs}
        result = {"t": self.stamp(time_ns) // MS, "s": f"ob.{pair}.{level}", **numbers, **sides}
        envelope = {"channel": "spot.obu", "result": result, "time_ms": self.now // MS, "event": "update"}
        return Frame(compact(envelope), "book", market)

    def _full(self, connection: Connection, topic: _Topic) -> None:
        market, depth = self.markets[topic[1]], int(topic[2])
        image = self._images.of(market, depth, depth)
        shown = self.exchange.faults.stale(self, market) or image
        numbers = {"full": True, "u": shown.sequence}
        connection.send(self._obu(topic, numbers, shown.time_ns, shown.bids[:depth], shown.asks[:depth]))

    def _push_obu(self, ms: int) -> None:
        for level in (level for level, every in _OBU_MS.items() if every == ms):
            for symbol, market in self.markets.items():
                topic = ("spot.obu", symbol, level)
                if not self.wanted(topic):
                    self._images.end(market, int(level))
                elif push := self._images.of(market, int(level), int(level)).push():
                    numbers = {"u": push.last, "U": push.first}
                    self.publish(topic, self._obu(topic, numbers, push.time_ns, push.bids, push.asks))

    # spot.order_book_update and spot.order_book

    def _push_updates(self, ms: int) -> None:
        for symbol in self.markets:
            self._push_update(symbol, f"{ms}ms")

    def _push_update(self, symbol: str, speed: str) -> None:
        push = self._batches[symbol, _UPDATE_MS[speed]].take()
        if push is not None and self.wanted(("spot.order_book_update", symbol, speed)):
            topic = ("spot.order_book_update", symbol, speed)
            result = self._update(self.markets[symbol], (push.first, push.last), push.bids, push.asks)
            self._send(topic, result, "book")

    def _update(self, market: Market, numbers: tuple[int, int], bids: Pairs, asks: Pairs) -> dict[str, Any]:
        return {
            "t": self.now // MS,
            "e": "depthUpdate",
            "E": self.now // SECOND,
            "s": market.instrument.symbol,
            "U": numbers[0],
            "u": numbers[1],
            "b": self._rows(market, bids),
            "a": self._rows(market, asks),
        }

    def _dump(self, connection: Connection, topic: _Topic) -> None:
        """The first push shows the book as it is, under the number that it has."""
        channel, symbol, speed = topic
        self._push_update(symbol, speed)
        market = self.markets[symbol]
        number = market.sequence
        result = self._update(market, (number, number), market.bids.top(_DUMP), market.asks.top(_DUMP))
        envelope = {"time": self.now // SECOND, "channel": channel, "event": "update", "result": result}
        connection.send(Frame(compact(envelope), "book", market))

    def _push_images(self, ms: int) -> None:
        for symbol, market in self.markets.items():
            for level in _IMAGE_LEVELS:
                topic = ("spot.order_book", symbol, level, f"{ms}ms")
                if self.wanted(topic):
                    sides = {
                        "bids": self._rows(market, market.bids.top(int(level))),
                        "asks": self._rows(market, market.asks.top(int(level))),
                    }
                    named = {"t": self.stamp(market.changed_ns) // MS, "lastUpdateId": market.sequence, "s": symbol}
                    self._send(topic, {**named, **sides}, "book")

    # Candles

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol, market in self.markets.items():
            for interval, seconds in _INTERVALS.items():
                topic = ("spot.candlesticks", symbol, interval)
                if not self.wanted(topic):
                    continue
                length = seconds * SECOND
                for candle, ended in due(market, length, self.clock.now_ns, _CANDLES_NS, traded=symbol in traded):
                    self._send(topic, self._candle(market.instrument, candle, interval, ended=ended), "candle")

    def _candle(self, instrument: Instrument, candle: Candle, interval: str, *, ended: bool) -> dict[str, Any]:
        return {
            "t": str(self.stamp(candle.open_ns) // SECOND),
            "v": instrument.notional(candle.notional),
            "c": instrument.price(candle.close),
            "h": instrument.price(candle.high),
            "l": instrument.price(candle.low),
            "o": instrument.price(candle.open),
            "n": f"{interval}_{instrument.symbol}",
            "a": instrument.size(candle.lots),
            "w": ended,
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Pairs, books with an id, candles, trades; each endpoint counts its requests."""
        path = request.path.removeprefix("/api/v4/spot/")
        if path not in {"currency_pairs", "order_book", "candlesticks", "trades"}:
            raise Refusal(404, "The endpoint was not found")
        left = self._quota.spend(self.clock.now_ns, path)
        headers = {
            "X-Gate-RateLimit-Requests-Remain": str(max(0, left)),
            "X-Gate-RateLimit-Limit": str(self._quota.most),
            "X-Gate-RateLimit-Reset-Timestamp": str(self.stamp(self._quota.reset_ns(self.clock.now_ns)) // SECOND),
        }
        if left < 0:
            error = {"label": "TOO_MANY_REQUESTS", "message": "Request Rate Limit Exceeded"}
            return Response.of(error, 429, headers)
        return Response.of(self._asked(path, request), 200, headers)

    def _asked(self, path: str, request: Request) -> object:
        if path == "currency_pairs":
            return [_listed(market.instrument) for market in self.markets.values()]
        pair = request.query.get("currency_pair", "")
        market = self.markets.get(pair)
        if market is None:
            raise Refusal(400, f"Invalid currency pair {pair}")
        if path == "order_book":
            return self._book(market, request)
        if path == "candlesticks":
            return self._candles(market, request)
        limit, last = request.number("limit", 100, 1_000), request.number("last_id", 2**62)
        trades = [self._trade(market, fill) for fill in reversed(market.fills)]
        return [trade for trade in trades if trade["id"] < last][:limit]

    def _book(self, market: Market, request: Request) -> dict[str, Any]:
        depth = request.number("limit", 10, 1_000)
        picture = self.picture(market)
        number = {"id": picture.sequence} if request.query.get("with_id") == "true" else {}
        return {
            **number,
            "current": self.now // MS,
            "update": self.stamp(picture.time_ns) // MS,
            "asks": self._rows(market, picture.asks[:depth]),
            "bids": self._rows(market, picture.bids[:depth]),
        }

    def _candles(self, market: Market, request: Request) -> list[list[str]]:
        interval = request.query.get("interval", "30m")
        if interval not in _INTERVALS:
            raise Refusal(400, f"Invalid interval {interval}")
        between = {"from", "to"} & request.query.keys()
        if between and "limit" in request.query:
            raise Refusal(400, "limit conflicts with from and to")
        length = _INTERVALS[interval] * SECOND
        now_s = self.clock.now_ns // SECOND
        since, until = request.number("from", 0), request.number("to", now_s)
        found = market.candles(length, since * SECOND, until * SECOND + 1)
        if between and len(found) > _POINTS:
            raise Refusal(400, f"Candlestick range too broad. Maximum {_POINTS} data points are allowed per request")
        rows = [self._candle(market.instrument, c, interval, ended=c.open_ns + length <= now_s * SECOND) for c in found]
        chosen = rows if between else rows[-request.number("limit", 100, _POINTS) :]
        return [[*(row[key] for key in "tvchloa"), "true" if row["w"] else "false"] for row in chosen]

    def refuse(self, refusal: Refusal) -> Response:
        """A label and a sentence."""
        pair = "INVALID_CURRENCY_PAIR" if "currency pair" in refusal.message else "INVALID_PARAM_VALUE"
        label = "NOT_FOUND" if refusal.status == 404 else pair
        return Response.of({"label": label, "message": refusal.message}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection; trades of all pairs in one message, books and candles in one for each."""
        symbols = [market.instrument.symbol for market in markets]
        asked = [
            *(("spot.obu", [f"ob.{symbol}.400"]) for symbol in symbols),
            ("spot.trades", symbols),
            *(("spot.candlesticks", ["1m", symbol]) for symbol in symbols),
        ]
        messages = [
            self._message("subscribe", channel, payload, number) for number, (channel, payload) in enumerate(asked, 1)
        ]
        return Plan(
            "https://api.gateio.ws",
            [Request.get("/api/v4/spot/currency_pairs")],
            [Dial("wss://api.gateio.ws/ws/v4/", messages)],
        )

    def _message(self, event: str, channel: str, payload: list[str], number: int) -> str:
        return compact(
            {"time": self.now // SECOND, "id": number, "channel": channel, "event": event, "payload": payload}
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new full frame."""
        stream = [f"ob.{market.instrument.symbol}.400"]
        return [self._message(event, "spot.obu", stream, 99) for event in ("unsubscribe", "subscribe")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"time": self.now // SECOND, "channel": "spot.ping"})


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "id": instrument.symbol,
        "base": instrument.base,
        "quote": instrument.quote,
        "fee": "0.2",
        "min_base_amount": instrument.size(1),
        "min_quote_amount": "3",
        "amount_precision": instrument.size_digits,
        "precision": instrument.price_digits,
        "trade_status": "tradable",
        "sell_start": 0,
        "buy_start": 0,
        "delisting_time": 0,
        "type": "normal",
        "st_tag": False,
    }
