"""Kraken spot v2: numbers whose digits count, books cut to a depth by the client, a checksum with each message."""

import json
import re
import zlib
from typing import Any

from coby.simulator.exchange import (
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
from coby.simulator.fair import MINUTE_NS
from coby.simulator.feeds import Pairs, Window
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_DEPTHS = (10, 25, 100, 500, 1_000)
_INTERVALS = (1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600)
_CHECKED = 10
_LEGACY = {"BTC": "XBT", "DOGE": "XDG"}
_PREFIXED = {"XBT": "XXBT", "ETH": "XETH", "XRP": "XXRP", "USD": "ZUSD"}
_IDLE_NS = 60 * SECOND


class Kraken(Venue):
    """`ws.kraken.com/v2` and `api.kraken.com`."""

    name = "kraken"
    instruments = (
        Instrument("BTC/USD", "BTC", "USD", 1, 1, 8, 1),
        Instrument("ETH/USD", "ETH", "USD", 2, 1, 8, 1),
        Instrument("SOL/USD", "SOL", "USD", 2, 1, 8, 1),
        Instrument("XRP/USD", "XRP", "USD", 5, 1, 8, 1),
        Instrument("BTC/USDT", "BTC", "USDT", 1, 1, 8, 1),
        Instrument("ETH/USDT", "ETH", "USDT", 2, 1, 8, 1),
    )
    temper = Temper(lag_ns=180_000_000, wander=90_000, levels=1_450, pace=60)
    level = re.compile(r'"price":([\d.]+),"qty":([\d.]+)')

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._windows: dict[tuple[str, int], Window] = {}
        self.clock.every(SECOND, self._heartbeats)

    # Sockets

    def opened(self, connection: Connection) -> None:
        """The server speaks first."""
        data = {"version": "2.0.10", "system": "online", "api_version": "v2"}
        number = 806_193_442_143_087_786 + connection.number
        connection.say({"channel": "status", "type": "update", "data": [{**data, "connection_id": number}]})

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, ping."""
        began = iso(self.now)
        try:
            message = json.loads(text)
            method = message["method"]
            params = message.get("params", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            connection.say(
                {"error": "Malformed request", "success": False, "time_in": began, "time_out": iso(self.now)}
            )
            return
        ending = {"time_in": began, "time_out": iso(self.now)}
        if "req_id" in message:
            ending["req_id"] = message["req_id"]
        if method == "ping":
            ending.pop("req_id", None)
            connection.say(
                {"method": "pong", **({"req_id": message["req_id"]} if "req_id" in message else {}), **ending}
            )
        elif method in {"subscribe", "unsubscribe"}:
            self._change(connection, method, params, ending)
        else:
            connection.say({"error": "Unsupported method", "method": method, "success": False, **ending})

    def _change(self, connection: Connection, method: str, params: dict[str, Any], ending: dict[str, Any]) -> None:
        channel = str(params.get("channel"))
        if channel == "instrument":
            connection.say({"method": method, "result": {"channel": channel}, "success": True, **ending})
            if method == "subscribe":
                connection.say(self._instruments())
            return
        option: int | None = None
        problem = None
        if channel == "book":
            option = params.get("depth", 10)
            problem = None if option in _DEPTHS else f"Subscription depth not supported {option}"
        elif channel == "ohlc":
            option = params.get("interval", 1)
            problem = None if option in _INTERVALS else f"Subscription ohlc interval not supported {option}"
        elif channel != "trade":
            problem = f"Channel not supported {channel}"
        for symbol in params.get("symbol", []):
            error = problem or (None if symbol in self.markets else f"Currency pair not supported {symbol}")
            topic = (channel, symbol, option)
            if error is None and method == "subscribe" and topic in connection.topics:
                error = "Already subscribed"
            if error is None and method == "unsubscribe" and topic not in connection.topics:
                error = "Subscription Not Found"
            if error:
                connection.say({"error": error, "method": method, "success": False, "symbol": symbol, **ending})
                continue
            result: dict[str, Any] = {"channel": channel}
            if channel != "trade":
                result["depth" if channel == "book" else "interval"] = option
            if method == "subscribe":
                result["snapshot"] = params.get("snapshot", channel != "trade")
            connection.say({"method": method, "result": {**result, "symbol": symbol}, "success": True, **ending})
            if method == "unsubscribe":
                self.unsubscribe(connection, topic)
            else:
                self._join(connection, channel, self.markets[symbol], option or 0, told=result["snapshot"])

    def _join(self, connection: Connection, channel: str, market: Market, option: int, *, told: bool) -> None:
        symbol = market.instrument.symbol
        match channel:
            case "book":

                def start() -> None:
                    self._windows.setdefault((symbol, option), Window(market, option))
                    if told:
                        connection.send(Frame(self._snapshot(market, option), "book", market))

                self.join(connection, (channel, symbol, option), market, start)
            case "trade":
                self.subscribe(connection, (channel, symbol, None))
                if told:
                    connection.send(Frame(self._trades(market, list(market.fills)[-50:], "snapshot"), "trade", market))
            case _:
                self.subscribe(connection, (channel, symbol, option))
                if told:
                    length = option * MINUTE_NS
                    since = self.clock.now_ns - 60 * length
                    candles = market.candles(length, since, self.clock.now_ns)
                    connection.send(Frame(self._candles(market, candles, option, "snapshot"), "candle", market))

    def _heartbeats(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            if connection.topics:
                if self.clock.now_ns - connection.said_ns >= SECOND:
                    connection.say({"channel": "heartbeat"})
            elif self.clock.now_ns - max(connection.heard_ns, connection.opened_ns) >= _IDLE_NS:
                connection.close(1000, "idle")

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Everything goes out at once."""
        symbol = market.instrument.symbol
        for depth in _DEPTHS:
            window = self._windows.get((symbol, depth))
            if window is None:
                continue
            if not self.wanted(("book", symbol, depth)):
                del self._windows[symbol, depth]
                continue
            bids, asks = window.changes(update)
            if bids or asks:
                text = self._book(market, "update", (bids, asks), checksum(market), update.time_ns)
                self.publish(("book", symbol, depth), Frame(text, "book", market))
        if not update.fills:
            return
        if self.wanted(("trade", symbol, None)):
            frame = Frame(self._trades(market, update.fills, "update"), "trade", market)
            self.publish(("trade", symbol, None), frame)
        for interval in _INTERVALS:
            if self.wanted(("ohlc", symbol, interval)):
                length = interval * MINUTE_NS
                begin = self.clock.now_ns // length * length
                text = self._candles(market, market.candles(length, begin, begin + 1), interval, "update")
                self.publish(("ohlc", symbol, interval), Frame(text, "candle", market))

    def _snapshot(self, market: Market, depth: int) -> str:
        picture = self.picture(market)
        bids, asks = picture.bids[:depth], picture.asks[:depth]
        return self._book(market, "snapshot", (bids, asks), _checksum(market, bids, asks), picture.time_ns)

    def _book(self, market: Market, kind: str, sides: tuple[Pairs, Pairs], check: int, time_ns: int) -> str:
        levels = [
            ",".join(
                f'{{"price":{price},"qty":{size}}}' for price, size in (market.instrument.level(*p) for p in pairs)
            )
            for pairs in sides
        ]
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{market.instrument.symbol}","bids":[{levels[0]}],'
            f'"asks":[{levels[1]}],"checksum":{check},"timestamp":"{iso(self.stamp(time_ns))}"}}]}}'
        )

    def _trades(self, market: Market, fills: list[Fill], kind: str) -> str:
        instrument = market.instrument
        rows = ",".join(
            f'{{"symbol":"{instrument.symbol}","side":"{"sell" if fill.taker_sells else "buy"}",'
            f'"price":{instrument.price(fill.ticks)},"qty":{instrument.size(fill.lots)},"ord_type":"market",'
            f'"trade_id":{fill.number},"timestamp":"{iso(self.stamp(fill.time_ns))}"}}'
            for fill in fills
        )
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def _candles(self, market: Market, candles: list[Candle], interval: int, kind: str) -> str:
        instrument = market.instrument
        price = instrument.price
        rows = []
        for candle in candles:
            begin = self.stamp(candle.open_ns)
            vwap = price(candle.notional // candle.lots if candle.lots else candle.open)
            rows.append(
                f'{{"symbol":"{instrument.symbol}","open":{price(candle.open)},"high":{price(candle.high)},'
                f'"low":{price(candle.low)},"close":{price(candle.close)},"trades":{candle.count},'
                f'"volume":{instrument.size(candle.lots)},"vwap":{vwap},"interval_begin":"{iso(begin, 9)}",'
                f'"interval":{interval},"timestamp":"{iso(begin + interval * MINUTE_NS)}"}}'
            )
        return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{iso(self.now)}","data":[{",".join(rows)}]}}'

    def _instruments(self) -> dict[str, Any]:
        pairs = [
            {
                "symbol": i.symbol,
                "base": i.base,
                "quote": i.quote,
                "status": "online",
                "qty_precision": i.size_digits,
                "qty_increment": float(i.size(1)),
                "price_precision": i.price_digits,
                "price_increment": float(i.price(1)),
                "cost_min": 0.5,
                "qty_min": float(i.size(1)),
            }
            for i in (market.instrument for market in self.markets.values())
        ]
        return {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": pairs}}

    # REST

    def answer(self, request: Request) -> Response:
        """Listings, candles, depth and trades."""
        path = request.path.removeprefix("/0/public/")
        if path == "AssetPairs":
            return _result({_key(m.instrument): self._listed(m.instrument) for m in self.markets.values()})
        if path == "Time":
            return _result({"unixtime": self.now // SECOND})
        pair = request.query.get("pair", "")
        market = next((m for m in self.markets.values() if pair in _names(m.instrument)), None)
        if path not in {"OHLC", "Depth", "Trades"}:
            raise Refusal(404, "EGeneral:Unknown method")
        if market is None:
            raise Refusal(200, "EQuery:Unknown asset pair")
        instrument = market.instrument
        key = _key(instrument)
        if path == "Depth":
            count = request.number("count", 100, 500)
            picture = self.picture(market)
            second = self.now // SECOND
            sides = {"asks": picture.asks, "bids": picture.bids}
            return _result({key: {n: [[*instrument.level(*p), second] for p in s[:count]] for n, s in sides.items()}})
        since = request.number("since", 0)
        if path == "OHLC":
            interval = request.number("interval", 1)
            if interval not in _INTERVALS:
                raise Refusal(200, "EGeneral:Invalid arguments")
            length = interval * MINUTE_NS
            candles = market.candles(length, since * SECOND, self.clock.now_ns)[-720:]
            rows = [self._row(instrument, candle) for candle in candles]
            return _result({key: rows, "last": self.stamp(candles[-2 if len(candles) > 1 else -1].open_ns) // SECOND})
        fills = [fill for fill in market.fills if self.stamp(fill.time_ns) > since]
        trades = [
            [
                *instrument.level(fill.ticks, fill.lots),
                self.stamp(fill.time_ns) / SECOND,
                "s" if fill.taker_sells else "b",
                "m",
                "",
                fill.number,
            ]
            for fill in fills
        ]
        return _result({key: trades, "last": str(self.stamp(fills[-1].time_ns) if fills else since)})

    def _row(self, instrument: Instrument, candle: Candle) -> list[Any]:
        prices = (candle.open, candle.high, candle.low, candle.close)
        vwap = candle.notional // candle.lots if candle.lots else 0
        return [
            self.stamp(candle.open_ns) // SECOND,
            *(instrument.price(ticks) for ticks in (*prices, vwap)),
            instrument.size(candle.lots),
            candle.count,
        ]

    def _listed(self, instrument: Instrument) -> dict[str, Any]:
        base = _LEGACY.get(instrument.base, instrument.base)
        return {
            "altname": f"{base}{instrument.quote}",
            "wsname": f"{base}/{instrument.quote}",
            "aclass_base": "currency",
            "base": _PREFIXED.get(base, base),
            "aclass_quote": "currency",
            "quote": _PREFIXED.get(instrument.quote, instrument.quote),
            "pair_decimals": instrument.price_digits,
            "lot_decimals": instrument.size_digits,
            "ordermin": "0.00005",
            "costmin": "0.5",
            "tick_size": instrument.price(1),
            "status": "online",
        }

    def refuse(self, refusal: Refusal) -> Response:
        """Errors come in a list, mostly with status 200."""
        return Response.of({"error": [refusal.message]}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection for all."""
        symbols = [market.instrument.symbol for market in markets]
        channels: list[dict[str, Any]] = [
            {"channel": "book", "symbol": symbols, "depth": 100},
            {"channel": "trade", "symbol": symbols},
            {"channel": "ohlc", "symbol": symbols, "interval": 1, "snapshot": False},
        ]
        messages = [
            compact({"method": "subscribe", "params": params, "req_id": number + 1})
            for number, params in enumerate(channels)
        ]
        return Plan(
            "https://api.kraken.com",
            [Request.get("/0/public/AssetPairs")],
            [Dial("wss://ws.kraken.com/v2", messages, greeted=True)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        params = {"channel": "book", "symbol": [market.instrument.symbol], "depth": 100}
        return [compact({"method": method, "params": params}) for method in ("unsubscribe", "subscribe")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"method": "ping", "req_id": 42})


def checksum(market: Market) -> int:
    """CRC-32 over the ten best asks, then bids: price and size without point and leading zeros."""
    return _checksum(market, market.bids.top(_CHECKED), market.asks.top(_CHECKED))


def _checksum(market: Market, bids: Pairs, asks: Pairs) -> int:
    # Without its point and leading zeros a printed number is its mantissa.
    tick, lot = market.instrument.tick, market.instrument.lot
    pairs = asks[:_CHECKED] + bids[:_CHECKED]
    return zlib.crc32("".join(f"{ticks * tick}{lots * lot}" for ticks, lots in pairs).encode())


def _result(result: object) -> Response:
    return Response.of({"error": [], "result": result})


def _key(instrument: Instrument) -> str:
    base = _LEGACY.get(instrument.base, instrument.base)
    prefixed = instrument.quote == "USD" and base in _PREFIXED
    return f"{_PREFIXED[base]}ZUSD" if prefixed else f"{base}{instrument.quote}"


def _names(instrument: Instrument) -> set[str]:
    base = _LEGACY.get(instrument.base, instrument.base)
    return {_key(instrument), f"{base}{instrument.quote}", f"{base}/{instrument.quote}", instrument.symbol}
