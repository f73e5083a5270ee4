"""Upbit: whole books in pairs of levels, JSON in binary frames, and requests of which only the last counts."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
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
    iso,
)
from coby.simulator.fair import MINUTE_NS
from coby.simulator.feeds import Pairs
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_DEPTHS = (1, 5, 15, 30)
_UNITS = (1, 3, 5, 10, 15, 30, 60, 240)
_CANDLES = {f"candle.{unit}m": unit for unit in _UNITS}
_FORMATS = ("DEFAULT", "SIMPLE", "JSON_LIST", "SIMPLE_LIST")
_PUSH_NS = 100 * MS
_BEAT_NS = 10 * SECOND
_IDLE_NS = 120 * SECOND
_SEOUL_NS = 9 * 3_600 * SECOND
_SHORT = {
    "type": "ty", "code": "cd", "timestamp": "tms", "stream_type": "st",
    "total_ask_size": "tas", "total_bid_size": "tbs", "orderbook_units": "obu",
    "ask_price": "ap", "bid_price": "bp", "ask_size": "as", "bid_size": "bs",
    "trade_date": "td", "trade_time": "ttm", "trade_timestamp": "ttms", "trade_price": "tp", "trade_volume": "tv",
    "ask_bid": "ab", "prev_closing_price": "pcp", "change": "c", "change_price": "cp", "sequential_id": "sid",
    "candle_date_time_utc": "cdttmu", "candle_date_time_kst": "cdttmk", "opening_price": "op", "high_price": "hp",
    "low_price": "lp", "candle_acc_trade_volume": "catv", "candle_acc_trade_price": "catp",
}  # fmt: skip
"""Names in the simple formats; what has none is left out there."""

_Told = dict[str, Any]
_Topic = tuple[str, str]
"""Type and code."""


class Upbit(Venue):
    """`api.upbit.com`, socket and REST: the markets in Tether."""

    name = "upbit"
    instruments = (
        Instrument("USDT-BTC", "BTC", "USDT", 2, 1, 8, 1),
        Instrument("USDT-ETH", "ETH", "USDT", 2, 1, 8, 1),
        Instrument("USDT-SOL", "SOL", "USDT", 3, 1, 8, 1),
        Instrument("USDT-XRP", "XRP", "USDT", 5, 1, 8, 1),
    )
    temper = Temper(lag_ns=300_000_000, wander=180_000, levels=1_050, pace=55)
    level = re.compile(r'"ask_price":([\d.e-]+),"bid_price":[\d.e-]+,"ask_size":([\d.e-]+)')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._traded: set[str] = set()
        self._closes: dict[str, int] = {}
        for symbol, market in self.markets.items():
            start_ns = market.fair.start_ns
            self._closes[symbol] = market.candles(MINUTE_NS, start_ns - MINUTE_NS, start_ns)[0].close
        self._dials = (Quota(5, SECOND), Quota(100, 60 * SECOND))
        self._messages = (Quota(5, SECOND), Quota(100, 60 * SECOND))
        self._requests = Quota(10, SECOND)
        self.clock.every(_PUSH_NS, self._push_books)
        self.clock.every(SECOND, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    def wire(self, text: str) -> str | bytes:
        """All frames are called binary."""
        return text.encode()

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One path, for so many clients a time."""
        if path != "/websocket/v1":
            return 404
        return 101 if all(quota.spend(self.clock.now_ns) >= 0 for quota in self._dials) else 429

    def opened(self, connection: Connection) -> None:
        """Nobody has asked for anything."""
        connection.notes.update(format="DEFAULT", depths={}, beaten_ns=None)

    def received(self, connection: Connection, text: str) -> None:
        """A ping, or a request that replaces all that was asked for before."""
        if not all(quota.spend(self.clock.now_ns, connection.number) >= 0 for quota in self._messages):
            connection.close(1008, "too many messages")
            return
        if text == "PING":
            connection.notes["beaten_ns"] = self.clock.now_ns
            connection.say({"status": "UP"})
            return
        try:
            form, wanted = self._understood(json.loads(text))
        except Refusal as refusal:
            name, _, message = refusal.message.partition(": ")
            connection.say({"error": {"name": name, "message": message}})
            return
        except (ValueError, TypeError, AttributeError):
            connection.say({"error": {"name": "WRONG_FORMAT", "message": "Format of request is wrong."}})
            return
        for topic in list(connection.topics):
            self.unsubscribe(connection, topic)
        connection.notes.update(format=form, depths={})
        for kind, symbol, depth, option in wanted:
            self._start(connection, (kind, symbol), depth, option)

    def _understood(self, request: Any) -> tuple[str, list[tuple[str, str, int, Mapping[str, Any]]]]:
        """The format, and of each thing asked for its type, code, depth and options.

        Raises:
            Refusal: Something is missing or not known.
        """
        parts: list[_Told] = list(request)
        if not any("ticket" in part for part in parts):
            raise Refusal(400, "NO_TICKET: Ticket is missing.")
        form = next((str(part["format"]) for part in parts if "format" in part), "DEFAULT")
        if form not in _FORMATS:
            raise Refusal(400, f"INVALID_PARAM: Unknown format {form}.")
        asked = [part for part in parts if "ticket" not in part and "format" not in part]
        if not asked or any("type" not in part for part in asked):
            raise Refusal(400, "NO_TYPE: Type is missing.")
        wanted: list[tuple[str, str, int, Mapping[str, Any]]] = []
        for part in asked:
            kind = str(part["type"])
            if kind not in {"orderbook", "trade", *_CANDLES}:
                raise Refusal(400, f"INVALID_PARAM: Unknown type {kind}.")
            if not part.get("codes"):
                raise Refusal(400, "NO_CODES: Codes are missing.")
            for code in part["codes"]:
                symbol, _, depth = str(code).partition(".")
                if depth and (kind != "orderbook" or depth not in map(str, _DEPTHS)):
                    raise Refusal(400, f"INVALID_PARAM: Unknown code {code}.")
                # Codes that do not exist are left out without a word.
                if symbol in self.markets:
                    wanted.append((kind, symbol, int(depth or _DEPTHS[-1]), part))
        if not wanted:
            raise Refusal(400, "INVALID_PARAM: No such codes.")
        return form, wanted

    def _start(self, connection: Connection, topic: _Topic, depth: int, option: Mapping[str, Any]) -> None:
        def chosen(name: str, older: str) -> bool:
            return bool(option.get(name, option.get(older, False)))

        market = self.markets[topic[1]]
        connection.notes["depths"][topic] = depth
        snapshot = partial(self._snapshot, connection, topic, market)
        if chosen("is_only_snapshot", "isOnlySnapshot"):
            snapshot()
        elif chosen("is_only_realtime", "isOnlyRealtime"):
            self.subscribe(connection, topic)
        elif topic[0] == "orderbook":
            self.join(connection, topic, market, snapshot)
        elif self.subscribe(connection, topic):
            snapshot()

    def _snapshot(self, connection: Connection, topic: _Topic, market: Market) -> None:
        """What is known at once: a book, the last trade, the running candle."""
        kind, now = topic[0], self.clock.now_ns
        if kind == "orderbook":
            picture = self.picture(market)
            time_ns = now if picture.sequence == market.sequence else picture.time_ns
            sides = (picture.bids, picture.asks)
            depth = connection.notes["depths"][topic]
            connection.notes.setdefault("shown", {})[topic] = (market.bids.top(depth), market.asks.top(depth))
            told = self._book(market, sides, depth, time_ns)
            self._send(connection, told, "SNAPSHOT", "book", market)
        elif kind == "trade" and market.fills:
            self._send(connection, self._trade(market, market.fills[-1]), "SNAPSHOT", "trade", market)
        elif kind in _CANDLES:
            length = _CANDLES[kind] * MINUTE_NS
            for candle in market.candles(length, now // length * length, now):
                if candle.count:
                    self._send(connection, self._candle(market.instrument, candle, kind), "SNAPSHOT", "candle", market)

    def _send(self, connection: Connection, told: _Told, stream: str, channel: Channel, market: Market) -> None:
        form = connection.notes["format"]
        whole: _Told = {**told, "stream_type": stream}
        if told["type"] == "orderbook":
            whole["level"] = 0
        if form.startswith("SIMPLE"):
            whole = _simple(whole)
        connection.send(Frame(compact([whole] if form.endswith("LIST") else whole), channel, market))

    def _tell(self, topic: _Topic, told: _Told, channel: Channel, market: Market) -> None:
        for connection in list(self.exchange.listeners.get((self.name, topic), ())):
            self._send(connection, told, "REALTIME", channel, market)

    def _watch(self) -> None:
        """Signs of life for those who have asked for one, and an end for the idle."""
        now = self.clock.now_ns
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            beaten_ns = connection.notes["beaten_ns"]
            if now - max(connection.heard_ns, connection.said_ns) >= _IDLE_NS:
                connection.close(1000, "idle")
            elif beaten_ns is not None and now - beaten_ns >= _BEAT_NS:
                connection.notes["beaten_ns"] = now
                connection.say({"status": "UP"})

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once."""
        for fill in update.fills:
            self._traded.add(market.instrument.symbol)
            topic = ("trade", market.instrument.symbol)
            if self.wanted(topic):
                self._tell(topic, self._trade(market, fill), "trade", market)

    def _push_books(self) -> None:
        """Whole books where a level that somebody sees has changed."""
        now = self.clock.now_ns
        for symbol, market in self.markets.items():
            topic = ("orderbook", symbol)
            tops = (market.bids.top(_DEPTHS[-1]), market.asks.top(_DEPTHS[-1]))
            for connection in list(self.exchange.listeners.get((self.name, topic), ())):
                depth = connection.notes["depths"][topic]
                shown = connection.notes.setdefault("shown", {})
                now_shown = (tops[0][:depth], tops[1][:depth])
                if shown.get(topic) != now_shown:
                    shown[topic] = now_shown
                    self._send(connection, self._book(market, tops, depth, now), "REALTIME", "book", market)

    def _book(self, market: Market, sides: tuple[Pairs, Pairs], depth: int, time_ns: int) -> _Told:
        price, size = market.instrument.price, market.instrument.size
        bids, asks = (side[:depth] for side in sides)
        missing = [(0, 0)] * depth
        units = [
            {
                "ask_price": float(price(ask[0])),
                "bid_price": float(price(bid[0])),
                "ask_size": float(size(ask[1])),
                "bid_size": float(size(bid[1])),
            }
            # A side that is shorter is filled up with zeros.
            for ask, bid in zip((asks + missing)[:depth], (bids + missing)[:depth], strict=True)
        ]
        return {
            "type": "orderbook",
            "code": market.instrument.symbol,
            "timestamp": self.stamp(time_ns) // MS,
            "total_ask_size": float(size(sum(lots for _, lots in asks))),
            "total_bid_size": float(size(sum(lots for _, lots in bids))),
            "orderbook_units": units,
        }

    def _trade(self, market: Market, fill: Fill) -> _Told:
        price, size = market.instrument.price, market.instrument.size
        time_ns = self.stamp(fill.time_ns)
        date, _, time = iso(time_ns, 3).partition("T")
        closed = self._closes[market.instrument.symbol]
        (ask, ask_lots), (bid, bid_lots) = market.asks.top(1)[0], market.bids.top(1)[0]
        return {
            "type": "trade",
            "code": market.instrument.symbol,
            "timestamp": self.now // MS,
            "trade_date": date,
            "trade_time": time[:8],
            "trade_timestamp": time_ns // MS,
            "trade_price": float(price(fill.ticks)),
            "trade_volume": float(size(fill.lots)),
            "ask_bid": "ASK" if fill.taker_sells else "BID",
            "prev_closing_price": float(price(closed)),
            "change": "RISE" if fill.ticks > closed else "FALL" if fill.ticks < closed else "EVEN",
            "change_price": float(price(abs(fill.ticks - closed))),
            "sequential_id": time_ns // MS * 1_000 + fill.number % 1_000,
            "best_ask_price": float(price(ask)),
            "best_ask_size": float(size(ask_lots)),
            "best_bid_price": float(price(bid)),
            "best_bid_size": float(size(bid_lots)),
        }

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        now = self.clock.now_ns
        for symbol in [symbol for symbol in self.markets if symbol in traded]:
            market = self.markets[symbol]
            for kind, unit in _CANDLES.items():
                if not self.wanted((kind, symbol)):
                    continue
                # What has ended since the last push is told once more.
                for candle in market.candles(unit * MINUTE_NS, now - SECOND, now):
                    if candle.count:
                        self._tell((kind, symbol), self._candle(market.instrument, candle, kind), "candle", market)

    def _candle(self, instrument: Instrument, candle: Candle, kind: str) -> _Told:
        return {
            "type": kind,
            "code": instrument.symbol,
            **self._amounts(instrument, candle),
            "timestamp": self.now // MS,
        }

    def _amounts(self, instrument: Instrument, candle: Candle) -> _Told:
        begin_ns = self.stamp(candle.open_ns)
        names = {"opening_price": candle.open, "high_price": candle.high, "low_price": candle.low}
        names["trade_price"] = candle.close
        return {
            "candle_date_time_utc": iso(begin_ns, 3)[:19],
            "candle_date_time_kst": iso(begin_ns + _SEOUL_NS, 3)[:19],
            **{name: float(instrument.price(ticks)) for name, ticks in names.items()},
            "candle_acc_trade_volume": float(instrument.size(candle.lots)),
            "candle_acc_trade_price": float(instrument.notional(candle.notional)),
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Markets, books, trades and candles, each group for so many requests a second."""
        path = request.path.removeprefix("/v1/")
        group = {"market": "market", "trades": "trade", "candles": "candle"}.get(path.split("/")[0], "orderbook")
        left = self._requests.spend(self.clock.now_ns, group)
        if left < 0:
            # Who does not stop is shut out for a while.
            raise Refusal(429 if left >= -self._requests.most else 418, "too_many_requests: Too many API requests.")
        response = Response.of(self._answered(path, request))
        response.headers["Remaining-Req"] = f"group={group}; min=600; sec={left}"
        return response

    def _answered(self, path: str, request: Request) -> list[_Told]:
        match path.split("/"):
            case ["market", "all"]:
                return [
                    self._listed(market, detailed="is_details" in request.query) for market in self.markets.values()
                ]
            case ["orderbook", "instruments"]:
                return [_instrument(market.instrument) for market in self._named(request, "markets")]
            case ["orderbook"]:
                depth = request.number("count", _DEPTHS[-1], _DEPTHS[-1])
                return [self._rest_book(market, depth) for market in self._named(request, "markets")]
            case ["trades", "ticks"]:
                (market, *_) = self._named(request, "market")
                cursor = request.number("cursor", 2**62)
                found = [self._rest_trade(market, fill) for fill in list(market.fills)[::-1]]
                found = [trade for trade in found if trade["sequential_id"] < cursor]
                return found[: request.number("count", 1, 500)]
            case ["candles", "minutes", unit] if unit in map(str, _UNITS):
                (market, *_) = self._named(request, "market")
                return self._rest_candles(market, int(unit), request)
            case _:
                raise Refusal(404, "not_found: No such path.")

    def _named(self, request: Request, key: str) -> list[Market]:
        codes = request.query.get(key, "").split(",")
        if not all(code in self.markets for code in codes):
            raise Refusal(404, "not_found: Code not found")
        return [self.markets[code] for code in codes]

    def _listed(self, market: Market, *, detailed: bool) -> _Told:
        base = market.instrument.base
        told = {"market": market.instrument.symbol, "korean_name": base, "english_name": base}
        cautions = ("PRICE_FLUCTUATIONS", "TRADING_VOLUME_SOARING", "DEPOSIT_AMOUNT_SOARING")
        event = {"warning": False, "caution": dict.fromkeys(cautions, False)}
        return {**told, "market_event": event} if detailed else told

    def _rest_book(self, market: Market, depth: int) -> _Told:
        picture = self.picture(market)
        told = self._book(market, (picture.bids, picture.asks), depth, picture.time_ns)
        kept = {key: value for key, value in told.items() if key not in {"type", "code"}}
        return {"market": told["code"], **kept, "level": 0}

    def _rest_trade(self, market: Market, fill: Fill) -> _Told:
        told = self._trade(market, fill)
        return {
            "market": told["code"],
            "trade_date_utc": told["trade_date"],
            "trade_time_utc": told["trade_time"],
            "timestamp": told["trade_timestamp"],
            **{key: told[key] for key in ("trade_price", "trade_volume", "prev_closing_price", "change_price")},
            **{key: told[key] for key in ("ask_bid", "sequential_id")},
        }

    def _rest_candles(self, market: Market, unit: int, request: Request) -> list[_Told]:
        """Newest first, and none that begins at `to` or later."""
        until_ns = self.clock.now_ns
        if text := request.query.get("to"):
            try:
                until_ns = _moment(text)
            except ValueError:
                raise Refusal(400, "invalid_parameter: to is no time") from None
        found = market.candles(unit * MINUTE_NS, 0, until_ns)[::-1]
        rows = [
            {
                "market": market.instrument.symbol,
                **self._amounts(market.instrument, candle),
                "timestamp": self.stamp(candle.open_ns) // MS,
                "unit": unit,
            }
            for candle in found
            if candle.count
        ]
        return rows[: request.number("count", 1, 200)]

    def refuse(self, refusal: Refusal) -> Response:
        """A name and a message."""
        name, _, message = refusal.message.partition(": ")
        return Response.of({"error": {"name": name, "message": message}}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, one request."""
        symbols = [market.instrument.symbol for market in markets]
        kinds = [{"type": kind, "codes": symbols} for kind in ("orderbook", "trade", "candle.1m")]
        message = compact([{"ticket": "1"}, *kinds, {"format": "DEFAULT"}])
        codes = ",".join(symbols)
        return Plan(
            "https://api.upbit.com",
            [
                Request.get(f"/v1/{path}")
                for path in ("market/all?is_details=true", f"orderbook/instruments?markets={codes}")
            ],
            [Dial("wss://api.upbit.com/websocket/v1", [message])],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """The next message is whole anyway."""
        return []

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping that is no JSON."""
        return "PING"


def _simple(told: _Told) -> _Told:
    """The same with short names, as far as there are any."""
    short = {_SHORT[key]: value for key, value in told.items() if key in _SHORT}
    if "obu" in short:
        short["obu"] = [_simple(unit) for unit in short["obu"]]
    return short


def _instrument(instrument: Instrument) -> _Told:
    tick = instrument.price(1)
    return {
        "market": instrument.symbol,
        "quote_currency": instrument.quote,
        "tick_size": tick,
        "supported_levels": ["0"],
    }


def _moment(text: str) -> int:
    """UTC, unless the text says otherwise."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000) * MS
