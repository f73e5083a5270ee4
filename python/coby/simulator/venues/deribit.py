"""Deribit: JSON-RPC over a socket and over HTTP, whole books in a chain of ids, tests that a client has to answer."""

import json
import re
from collections.abc import Callable, Mapping
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
from coby.simulator.feeds import Image, Pairs
from coby.simulator.limits import Quota
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_SPEEDS = {"100ms": 100, "agg2": 1_000}
_RESOLUTIONS = {
    "1": 1, "3": 3, "5": 5, "10": 10, "15": 15, "30": 30, "60": 60, "120": 120, "180": 180, "360": 360, "720": 720,
    "1D": 1_440,
}  # fmt: skip
_DEPTHS = (1, 5, 10, 20, 50, 100, 1_000, 10_000)
_WINDOWS = (1, 10, 20)
_SOCKETS = 32
_GRACE_NS = 10 * SECOND
_IDLE_NS = 60 * SECOND
_NEVER_MS = 32_503_708_800_000
_STRIDE = 23
"""Ids count all instruments' changes, so that those of one are far apart."""

_Params = Mapping[str, Any]


class Deribit(Venue):
    """`www.deribit.com`, socket and HTTP."""

    name = "deribit"
    sequenced = True
    # Sizes of inverse perpetuals are dollars.
    instruments = (
        Instrument("BTC-PERPETUAL", "BTC", "USD", 1, 5, 0, 10, perpetual=True, inverse=True),
        Instrument("ETH-PERPETUAL", "ETH", "USD", 2, 5, 0, 1, perpetual=True, inverse=True),
        Instrument("SOL_USDC-PERPETUAL", "SOL", "USDC", 2, 1, 1, 1, perpetual=True),
        Instrument("XRP_USDC-PERPETUAL", "XRP", "USDC", 4, 1, 0, 1, perpetual=True),
        Instrument("BTC_USDC", "BTC", "USDC", 0, 1, 4, 1),
    )
    temper = Temper(lag_ns=90_000_000, wander=70_000, levels=1_200, pace=80)
    level = re.compile(r'\["(?:new|change)",([\d.e]+),([\d.e]+)\]')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images: dict[tuple[str, str], Image] = {}
        self._fills: dict[str, list[Fill]] = {symbol: [] for symbol in self.markets}
        self._windows: dict[str, tuple[Pairs, Pairs]] = {}
        self._traded: set[str] = set()
        self._calls = Quota(100, 5 * SECOND)
        self._subscribes = Quota(10, 3 * SECOND)
        for speed, ms in _SPEEDS.items():
            self.clock.every(ms * MS, partial(self._push_books, speed))
        self.clock.every(100 * MS, self._push_trades)
        self.clock.every(100 * MS, self._push_windows)
        self.clock.every(SECOND, self._push_candles, 5 * MS)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """One path, and so many clients."""
        if path.rstrip("/") != "/ws/api/v2":
            return 404
        mine = [connection for connection in self.exchange.connections.values() if connection.venue is self]
        return 101 if len(mine) < _SOCKETS else 429

    def received(self, connection: Connection, text: str) -> None:
        """Calls, of which some are about this connection."""
        began = self.now
        try:
            message = json.loads(text)
            method, params = message["method"], message.get("params") or {}
        except (ValueError, KeyError, TypeError):
            self._reply(connection, {}, began, error=(11_050, "bad_request"))
            return
        number = {"id": message["id"]} if "id" in message else {}
        subscribing = method == "public/subscribe"
        quota = self._subscribes if subscribing else self._calls
        if quota.spend(self.clock.now_ns, connection.number) < 0:
            self._reply(connection, number, began, error=(10_028, "too_many_requests"))
            return
        channels = [str(channel) for channel in params.get("channels", ())]
        match method:
            case "public/set_heartbeat":
                connection.notes.update(beat_ns=max(10, int(params["interval"])) * SECOND, beaten_ns=self.clock.now_ns)
                self._reply(connection, number, began, "ok")
            case "public/disable_heartbeat":
                connection.notes.clear()
                self._reply(connection, number, began, "ok")
            case "public/test":
                connection.notes.pop("asked_ns", None)
                self._reply(connection, number, began, {"version": "1.2.26"})
            case "public/subscribe":
                self._subscribe(connection, number, began, channels)
            case "public/unsubscribe":
                gone = [channel for channel in channels if self.unsubscribe(connection, channel)]
                self._reply(connection, number, began, gone)
            case "public/unsubscribe_all":
                for channel in list(connection.topics):
                    self.unsubscribe(connection, channel)
                self._reply(connection, number, began, "ok")
            case _:
                try:
                    self._reply(connection, number, began, self._call(method, params))
                except Refusal as refusal:
                    self._reply(connection, number, began, error=(refusal.status, refusal.message))

    def _reply(
        self,
        connection: Connection,
        number: _Params,
        began: int,
        result: Any = None,
        error: tuple[int, str] | None = None,
    ) -> None:
        connection.say({"jsonrpc": "2.0", **number, **_outcome(result, error), **self._times(began)})

    def _times(self, began: int) -> dict[str, Any]:
        took = 400 + began // MS % 1_700
        return {"usIn": began // 1_000, "usOut": began // 1_000 + took, "usDiff": took, "testnet": False}

    def _subscribe(self, connection: Connection, number: _Params, began: int, channels: list[str]) -> None:
        if any(channel.endswith(".raw") for channel in channels):
            error = (13_778, "raw_subscriptions_not_available_for_unauthorized")
            self._reply(connection, number, began, error=error)
            return
        # What is unknown is left out without a word, and the order is another.
        known = [channel for channel in channels if channel == "platform_state" or self._known(channel)]
        self._reply(connection, number, began, known[::-1])
        for channel in known:
            market = self._known(channel)
            kind, _, rest = channel.partition(".")
            if kind == "book" and market is not None and ".none." not in channel:
                speed = rest.rpartition(".")[2]
                self.join(connection, channel, market, partial(self._snapshot, connection, channel, market, speed))
            else:
                self.subscribe(connection, channel)

    def _known(self, channel: str) -> Market | None:
        """The market that a channel is about, or one of those; None if there is no such channel."""
        match channel.split("."):
            case ["book", symbol, speed] if speed in _SPEEDS:
                return self.markets.get(symbol)
            case ["book", symbol, "none", depth, "100ms"] if depth in map(str, _WINDOWS):
                return self.markets.get(symbol)
            case ["trades", symbol, "100ms"]:
                return self.markets.get(symbol)
            case ["trades", kind, currency, "100ms"]:
                return next(iter(self._listed(kind, currency)), None)
            case ["chart", "trades", symbol, resolution] if resolution in _RESOLUTIONS:
                return self.markets.get(symbol)
            case _:
                return None

    def _listed(self, kind: str, currency: str) -> list[Market]:
        return [
            market
            for market in self.markets.values()
            if kind in {"any", _kind(market.instrument)} and currency in {"any", _currency(market.instrument)}
        ]

    def _watch(self) -> None:
        """Asks for signs of life, and ends what gives none."""
        now = self.clock.now_ns
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            notes = connection.notes
            if "beat_ns" not in notes:
                if not connection.topics and now - max(connection.heard_ns, connection.opened_ns) >= _IDLE_NS:
                    connection.close(1000, "")
            elif now - notes.get("asked_ns", now) >= _GRACE_NS:
                connection.close(4000, "heartbeat close")
            elif now - notes["beaten_ns"] >= notes["beat_ns"]:
                notes.update(beaten_ns=now)
                notes.setdefault("asked_ns", now)
                for kind in ("heartbeat", "test_request"):
                    connection.say({"params": {"type": kind}, "method": "heartbeat", "jsonrpc": "2.0"})

    def pong(self, text: str) -> str | None:
        """A test request is answered by a test."""
        if '"test_request"' not in text:
            return None
        return compact({"jsonrpc": "2.0", "id": 12, "method": "public/test", "params": {}})

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        market.sequence += 7
        for speed in _SPEEDS:
            if image := self._images.get((market.instrument.symbol, speed)):
                image.sequence += 3

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Everything waits for its beat."""
        if update.fills:
            self._fills[market.instrument.symbol] += update.fills
            self._traded.add(market.instrument.symbol)

    def _send(self, channel: str, data: str, frame: Frame) -> None:
        text = f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'
        self.publish(channel, Frame(text, frame.channel, frame.market))

    def _push_books(self, speed: str) -> None:
        for (symbol, of), image in list(self._images.items()):
            channel = f"book.{symbol}.{speed}"
            if of != speed:
                continue
            if not self.wanted(channel):
                del self._images[symbol, of]
                continue
            market = self.markets[symbol]
            before = (dict(image.bids), dict(image.asks))
            previous = image.sequence
            push = image.push()
            if push is None:
                continue
            if not (push.bids or push.asks):
                # Not told, and so no link of the chain.
                image.sequence = previous
                continue
            rows = [
                ",".join(_row(market, "change" if pair[0] in old else "new", *pair) for pair in pairs)
                for pairs, old in zip((push.bids, push.asks), before, strict=True)
            ]
            head = {
                "timestamp": self.stamp(push.time_ns) // MS,
                "type": "change",
                "change_id": push.last * _STRIDE,
                "prev_change_id": previous * _STRIDE,
                "instrument_name": symbol,
            }
            self._send(channel, _book(head, rows), Frame("", "book", market))

    def _snapshot(self, connection: Connection, channel: str, market: Market, speed: str) -> None:
        symbol = market.instrument.symbol
        image = self._images.setdefault((symbol, speed), Image(market, None))
        shown = self.exchange.faults.stale(self, market) or image
        rows = [",".join(_row(market, "new", *pair) for pair in pairs) for pairs in (shown.bids, shown.asks)]
        head = {
            "timestamp": self.stamp(shown.time_ns) // MS,
            "type": "snapshot",
            "change_id": shown.sequence * _STRIDE,
            "instrument_name": symbol,
        }
        text = (
            f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{_book(head, rows)}}}}}'
        )
        connection.send(Frame(text, "book", market))

    def _push_windows(self) -> None:
        for symbol, market in self.markets.items():
            for depth in _WINDOWS:
                channel = f"book.{symbol}.none.{depth}.100ms"
                tops = (market.bids.top(depth), market.asks.top(depth))
                if not self.wanted(channel) or self._windows.get(channel) == tops:
                    continue
                self._windows[channel] = tops
                head = {
                    "timestamp": self.stamp(market.changed_ns) // MS,
                    "instrument_name": symbol,
                    "change_id": market.sequence * _STRIDE,
                }
                rows = [",".join(_pair(market, *pair) for pair in pairs) for pairs in tops]
                self._send(channel, _book(head, rows), Frame("", "book", market))

    def _push_trades(self) -> None:
        for symbol, fills in self._fills.items():
            if not fills:
                continue
            self._fills[symbol] = []
            market = self.markets[symbol]
            kind, currency = _kind(market.instrument), _currency(market.instrument)
            names = [f"{k}.{c}" for k in (kind, "any") for c in (currency, "any")]
            for name in (symbol, *names):
                channel = f"trades.{name}.100ms"
                if self.wanted(channel):
                    rows = ",".join(self._trade(market, fill) for fill in fills)
                    self._send(channel, f"[{rows}]", Frame("", "trade", market))

    def _trade(self, market: Market, fill: Fill) -> str:
        instrument = market.instrument
        index = number(instrument, market.fair.at(self.clock.now_ns) // 10 ** (8 - instrument.price_digits), price=True)
        price, amount = _price(market, fill.ticks), _size(market, fill.lots)
        contracts = f"{fill.lots}.0" if instrument.inverse else amount
        identity = f"{fill.number}" if _currency(instrument) == "BTC" else f"{_currency(instrument)}-{fill.number}"
        return (
            f'{{"timestamp":{self.stamp(fill.time_ns) // MS},"price":{price},"amount":{amount},'
            f'"direction":"{"sell" if fill.taker_sells else "buy"}","index_price":{index},'
            f'"instrument_name":"{instrument.symbol}","trade_seq":{fill.number},"mark_price":{index},'
            f'"tick_direction":{fill.number % 4},"contracts":{contracts},"trade_id":"{identity}"}}'
        )

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        for symbol in [symbol for symbol in self.markets if symbol in traded]:
            market = self.markets[symbol]
            for resolution, minutes in _RESOLUTIONS.items():
                channel = f"chart.trades.{symbol}.{resolution}"
                if self.wanted(channel):
                    now = self.clock.now_ns
                    # What has ended since the last push is told once more.
                    for candle in market.candles(minutes * MINUTE_NS, now - SECOND, now):
                        data = compact(self._candle(market.instrument, candle))
                        self._send(channel, data, Frame("", "candle", market))

    def _candle(self, instrument: Instrument, candle: Candle) -> dict[str, Any]:
        prices = (candle.open, candle.high, candle.low, candle.close)
        opened, high, low, close = (float(instrument.price(ticks)) for ticks in prices)
        volume, cost = float(instrument.size(candle.lots)), float(instrument.notional(candle.notional))
        if instrument.inverse:
            # The size is the cost; what it is in the base follows from the mean price.
            mean = candle.notional // candle.lots if candle.lots else candle.open
            volume, cost = round(volume / float(instrument.price(mean)), 8), volume
        times = {"tick": self.stamp(candle.open_ns) // MS, "open": opened, "high": high, "low": low, "close": close}
        return {**times, "volume": volume, "cost": cost}

    # Calls, over HTTP and the socket

    def answer(self, request: Request) -> Response:
        """Calls with their parameters in the query."""
        began = self.now
        if not request.path.startswith("/api/v2/"):
            raise Refusal(404, "not_found")
        if self._calls.spend(self.clock.now_ns) < 0:
            raise Refusal(10_028, "too_many_requests")
        result = self._call(request.path.removeprefix("/api/v2/"), request.query)
        return Response.of({"jsonrpc": "2.0", **_outcome(result), **self._times(began)})

    def refuse(self, refusal: Refusal) -> Response:
        """An error with a code of its own."""
        status = refusal.status if refusal.status in {404, 503} else 429 if refusal.status == 10_028 else 400
        outcome = _outcome(None, (refusal.status, refusal.message))
        return Response.of({"jsonrpc": "2.0", **outcome, **self._times(self.now)}, status)

    def _call(self, method: str, params: _Params) -> Any:
        calls: dict[str, Callable[[Market, _Params], Any]] = {
            "public/get_order_book": self._order_book,
            "public/get_last_trades_by_instrument": self._last_trades,
            "public/get_last_trades_by_instrument_and_time": self._last_trades,
            "public/get_tradingview_chart_data": self._chart,
        }
        match method:
            case "public/get_time":
                return self.now // MS
            case "public/test":
                return {"version": "1.2.26"}
            case "public/get_instruments":
                found = self._listed(params.get("kind", "any"), params.get("currency", "any"))
                return [_listing(market.instrument) for market in found]
            case _ if method in calls:
                market = self.markets.get(params.get("instrument_name", ""))
                if market is None:
                    raise Refusal(13_020, "instrument_not_found")
                try:
                    return calls[method](market, params)
                except (ValueError, KeyError):
                    raise Refusal(-32_602, "Invalid params") from None
            case _:
                raise Refusal(-32_601, "Method not found")

    def _order_book(self, market: Market, params: _Params) -> dict[str, Any]:
        depth = int(params.get("depth", 5))
        if depth not in _DEPTHS:
            raise Refusal(-32_602, "Invalid params")
        picture = self.picture(market)
        sides = {"bids": picture.bids[:depth], "asks": picture.asks[:depth]}
        return {
            "timestamp": self.stamp(picture.time_ns) // MS,
            "state": "open",
            "instrument_name": market.instrument.symbol,
            "change_id": picture.sequence * _STRIDE,
            **{name: [json.loads(_pair(market, *pair)) for pair in pairs] for name, pairs in sides.items()},
        }

    def _last_trades(self, market: Market, params: _Params) -> dict[str, Any]:
        first, last = int(params.get("start_seq", 0)), int(params.get("end_seq", 2**62))
        since, until = int(params.get("start_timestamp", 0)), int(params.get("end_timestamp", 2**62))
        found = [
            fill
            for fill in market.fills
            if first <= fill.number <= last and since <= self.stamp(fill.time_ns) // MS <= until
        ]
        count = min(int(params.get("count", 10)), 1_000)
        trades = [json.loads(self._trade(market, fill)) for fill in found[::-1][:count]]
        return {"trades": trades, "has_more": len(found) > count}

    def _chart(self, market: Market, params: _Params) -> dict[str, Any]:
        if params.get("resolution") not in _RESOLUTIONS:
            raise Refusal(-32_602, "Invalid params")
        length = _RESOLUTIONS[params["resolution"]] * MINUTE_NS
        since, until = int(params["start_timestamp"]) * MS, int(params["end_timestamp"]) * MS
        found = [self._candle(market.instrument, c) for c in market.candles(length, since, until + 1)]
        columns = {"ticks": "tick", **{name: name for name in ("open", "high", "low", "close", "volume", "cost")}}
        rows = {name: [candle[key] for candle in found] for name, key in columns.items()}
        return {**rows, "status": "ok" if found else "no_data"}

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection; the heartbeat comes first."""
        channels = [
            channel
            for symbol in (market.instrument.symbol for market in markets)
            for channel in (f"book.{symbol}.100ms", f"trades.{symbol}.100ms", f"chart.trades.{symbol}.1")
        ]
        messages = [
            _request(1, "public/set_heartbeat", {"interval": 30}),
            _request(3, "public/subscribe", {"channels": channels}),
        ]
        return Plan(
            "https://www.deribit.com",
            [Request.get("/api/v2/public/get_instruments?currency=any&expired=false")],
            [Dial("wss://www.deribit.com/ws/api/v2", messages)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Only leaving and joining brings a new snapshot."""
        params = {"channels": [f"book.{market.instrument.symbol}.100ms"]}
        return [_request(4, f"public/{method}", params) for method in ("unsubscribe", "subscribe")]


def number(instrument: Instrument, mantissa: int, *, price: bool = False) -> str:
    """A number as Erlang prints a float: the shortest there is, with an exponent where that is shorter."""
    digits = instrument.price_digits if price else instrument.size_digits
    if not mantissa:
        return "0.0"
    text = str(mantissa)
    zeros = len(text) - len(text.rstrip("0"))
    if zeros - digits > 1:
        head = text[: len(text) - zeros]
        return f"{head[0]}.{head[1:] or '0'}e{len(text) - digits - 1}"
    padded = f"{text:0>{digits + 1}}"
    whole, part = (padded[:-digits], padded[-digits:].rstrip("0")) if digits else (padded, "")
    return f"{whole}.{part or '0'}"


def _outcome(result: Any, error: tuple[int, str] | None = None) -> dict[str, Any]:
    return {"result": result} if error is None else {"error": {"code": error[0], "message": error[1]}}


def _request(identity: int, method: str, params: _Params) -> str:
    return compact({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


def _price(market: Market, ticks: int) -> str:
    return number(market.instrument, ticks * market.instrument.tick, price=True)


def _size(market: Market, lots: int) -> str:
    return number(market.instrument, lots * market.instrument.lot)


def _row(market: Market, action: str, ticks: int, lots: int) -> str:
    return f'["{action if lots else "delete"}",{_price(market, ticks)},{_size(market, lots)}]'


def _pair(market: Market, ticks: int, lots: int) -> str:
    return f"[{_price(market, ticks)},{_size(market, lots)}]"


def _book(head: Mapping[str, Any], rows: list[str]) -> str:
    return f'{compact(head)[:-1]},"bids":[{rows[0]}],"asks":[{rows[1]}]}}'


def _kind(instrument: Instrument) -> str:
    return "future" if instrument.perpetual else "spot"


def _currency(instrument: Instrument) -> str:
    """Under which currency an instrument is listed: what it settles in."""
    return instrument.base if instrument.inverse else instrument.quote


def _listing(instrument: Instrument) -> dict[str, Any]:
    perpetual = instrument.perpetual
    rest = {"settlement_period": "perpetual", "settlement_currency": _currency(instrument)} if perpetual else {}
    return {
        "instrument_name": instrument.symbol,
        "kind": _kind(instrument),
        "instrument_type": "reversed" if instrument.inverse else "linear",
        "base_currency": instrument.base,
        "quote_currency": instrument.quote,
        "counter_currency": instrument.quote,
        **rest,
        "tick_size": float(instrument.price(1)),
        "tick_size_steps": [],
        "min_trade_amount": float(instrument.size(1)),
        "contract_size": float(instrument.size(1)),
        "is_active": True,
        "state": "open",
        "creation_timestamp": 1_534_167_754_000,
        "expiration_timestamp": _NEVER_MS,
    }
