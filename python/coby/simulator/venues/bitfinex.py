"""Bitfinex v2: arrays on numbered channels, a count of all frames of a connection, checksums as frames of their own."""

import json
import re
import zlib
from dataclasses import dataclass
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
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_FRAMES = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "3h": 180, "6h": 360, "12h": 720, "1D": 1_440,
}  # fmt: skip
_LENGTHS = (1, 25, 100, 250)
_CHECKED = 25
_CHANNELS = 36
_DEC_S, _TIMESTAMP, _SEQ_ALL, _CHECKSUM = 8, 32_768, 65_536, 131_072
_ALIASES = {"UST": "USDt"}


@dataclass
class _Channel:
    """One subscription of one connection."""

    number: int
    kind: str
    market: Market
    option: str
    """Length of a book, key of candles."""


class Bitfinex(Venue):
    """`api-pub.bitfinex.com`."""

    name = "bitfinex"
    sequenced = True
    numbers_connections = True
    notice_ns = 4 * SECOND
    # Prices have five significant digits.
    instruments = (
        Instrument("tBTCUSD", "BTC", "USD", 0, 1, 8, 1),
        Instrument("tETHUSD", "ETH", "USD", 1, 1, 8, 1),
        Instrument("tSOLUSD", "SOL", "USD", 2, 1, 8, 1),
        Instrument("tXRPUSD", "XRP", "USD", 4, 1, 8, 1),
        Instrument("tBTCUST", "BTC", "USDT", 0, 1, 8, 1),
    )
    temper = Temper(lag_ns=200_000_000, wander=120_000, pace=50)
    level = re.compile(r"\[([\d.e-]+),[1-9]\d*,-?([\d.e-]+)\]")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images: dict[tuple[str, int], Image] = {}
        self._unchecked: dict[tuple[str, int], None] = {}
        self.clock.every(15 * SECOND, self._beat, 11 * MS)
        self.clock.every(2_500 * MS, self._check)
        self.clock.every(SECOND, self._watch)

    # Sockets

    def opened(self, connection: Connection) -> None:
        """The server speaks first."""
        connection.notes.update(flags=0, sequence=0, channels={})
        server = f"c4e1{connection.number:04x}-5b1e-4d0f-9c4f-{self.exchange.seed % 16**12:012x}"
        connection.say({"event": "info", "version": 2, "serverId": server, "platform": {"status": 1}})

    def received(self, connection: Connection, text: str) -> None:
        """Configure, subscribe, unsubscribe, ping."""
        try:
            message = json.loads(text)
        except ValueError:
            return
        event = message.get("event") if isinstance(message, dict) else None
        match event:
            case "conf":
                connection.notes["flags"] = int(message.get("flags", 0))
                connection.say({"event": "conf", "status": "OK", "flags": connection.notes["flags"]})
            case "ping":
                connection.say({"event": "pong", "ts": self.now // MS, "cid": message.get("cid")})
            case "subscribe":
                self._subscribe(connection, message)
            case "unsubscribe":
                channel = connection.notes["channels"].pop(message.get("chanId"), None)
                if channel is None:
                    connection.say({"event": "error", "msg": "unsubscribe: invalid", "code": 10400})
                    return
                self.unsubscribe(connection, (channel.kind, channel.market.instrument.symbol, channel.option))
                connection.say({"event": "unsubscribed", "status": "OK", "chanId": channel.number})
            case _:
                connection.say({"event": "error", "msg": "Unknown event", "code": 10000})

    def _subscribe(self, connection: Connection, message: dict[str, Any]) -> None:
        kind = message.get("channel", "")
        told = ("channel", "symbol", "prec", "freq", "len", "key", "subId")
        echo: dict[str, Any] = {key: message[key] for key in told if key in message}
        symbol, option, problem = str(message.get("symbol", "")), "", None
        if kind == "book":
            echo = {**echo, "prec": message.get("prec", "P0"), "freq": message.get("freq", "F0")}
            option = echo["len"] = str(message.get("len", "25"))
            if echo["prec"] != "P0":
                problem = (10300, "precision: invalid")
            elif not option.isdecimal() or int(option) not in _LENGTHS:
                problem = (10300, "length: invalid")
        elif kind == "candles":
            option = str(message.get("key", ""))
            name, _, rest = option.partition(":")
            frame, _, symbol = rest.partition(":")
            if name != "trade" or frame not in _FRAMES:
                problem = (10300, "key: invalid")
        elif kind != "trades":
            problem = (10302, "channel: unknown")
        market = self.markets.get(symbol)
        channels: dict[int, _Channel] = connection.notes["channels"]
        if problem is None and market is None:
            problem = (10300, "symbol: invalid")
        same = next((c for c in channels.values() if (c.kind, c.market, c.option) == (kind, market, option)), None)
        if problem is None and same is not None:
            problem = (10301, "subscribe: dup")
            echo["chanId"] = same.number
        if problem is None and len(channels) >= _CHANNELS:
            problem = (10305, "subscribe: limit")
        pair = {"pair": symbol[1:]} if kind != "candles" else {}
        if problem is not None or market is None:
            code, text = problem or (10300, "symbol: invalid")
            connection.say({**echo, "event": "error", "msg": text, "code": code, **pair})
            return
        # No number comes twice on a connection, whatever is unsubscribed in between.
        made = connection.notes["made"] = connection.notes.get("made", 0) + 1
        number = (connection.number * 7_919 + made * 613) % 900_000 + 10_000
        channel = _Channel(number, kind, market, option)
        channels[number] = channel
        connection.say({"event": "subscribed", "channel": kind, "chanId": number, **_without(echo, "channel"), **pair})
        self._begin(connection, channel)

    def _begin(self, connection: Connection, channel: _Channel) -> None:
        market, topic = channel.market, (channel.kind, channel.market.instrument.symbol, channel.option)

        def start() -> None:
            if channel.kind == "book":
                length = int(channel.option)
                image = self._images.setdefault((topic[1], length), Image(market, length))
                shown = self.exchange.faults.stale(self, market) or image
                rows = [_entry(market, 0, *pair) for pair in shown.bids[:length]]
                rows += [_entry(market, 1, *pair) for pair in shown.asks[:length]]
                self._number(connection, channel, f"[{','.join(rows)}]", "book")
            elif channel.kind == "trades":
                rows = [self._trade(market, fill) for fill in list(market.fills)[::-1][:30]]
                self._number(connection, channel, f"[{','.join(rows)}]", "trade")
            else:
                length_ns = _FRAMES[channel.option.split(":")[1]] * MINUTE_NS
                candles = market.candles(length_ns, self.clock.now_ns - 60 * length_ns, self.clock.now_ns)
                rows = [self._candle(market.instrument, candle) for candle in candles[::-1] if candle.count]
                self._number(connection, channel, f"[{','.join(rows)}]", "candle")

        if channel.kind == "book":
            self.join(connection, topic, market, start)
        else:
            self.subscribe(connection, topic)
            start()

    def _number(self, connection: Connection, channel: _Channel, body: str, what: str) -> None:
        """Sends an array: every one of a connection has its number, if it was asked for."""
        flags = connection.notes["flags"]
        ending = ""
        if flags & _SEQ_ALL:
            connection.notes["sequence"] += 1
            ending += f",{connection.notes['sequence']}"
        if flags & _TIMESTAMP:
            ending += f",{self.now // MS}"
        frame = {"book": "book", "trade": "trade", "candle": "candle"}.get(what, "other")
        text = f"[{channel.number},{body}{ending}]"
        connection.send(Frame(text, frame, channel.market))  # type: ignore[arg-type]

    def _tell(self, topic: tuple[str, str, str], body: str, what: str) -> None:
        for connection in list(self.exchange.listeners.get((self.name, topic), ())):
            for channel in connection.notes["channels"].values():
                if (channel.kind, channel.market.instrument.symbol, channel.option) == topic:
                    self._number(connection, channel, body, what)

    def skip(self, market: Market) -> None:
        """Numbers of all connections are used up that listen to the market."""
        for connection in self.exchange.connections.values():
            if connection.venue is self and any(c.market is market for c in connection.notes["channels"].values()):
                connection.notes["sequence"] += 2

    def _beat(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is self:
                for channel in list(connection.notes["channels"].values()):
                    self._number(connection, channel, '"hb"', "other")

    def _watch(self) -> None:
        for connection in list(self.exchange.connections.values()):
            idle = connection.venue is self and not connection.topics
            if idle and self.clock.now_ns - max(connection.heard_ns, connection.opened_ns) > 60 * SECOND:
                connection.close(1006)

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Everything goes out at once, a frame for each level."""
        symbol = market.instrument.symbol
        for length in _LENGTHS:
            image = self._images.get((symbol, length))
            if image is None:
                continue
            topic = ("book", symbol, str(length))
            if not self.wanted(topic):
                del self._images[symbol, length]
                continue
            push = image.push()
            if push is None:
                continue
            # Levels that leave go first: the book never exceeds its length.
            changes = [(0, *pair) for pair in push.bids] + [(1, *pair) for pair in push.asks]
            for side, ticks, lots in sorted(changes, key=lambda change: change[2] > 0):
                self._unchecked[symbol, length] = None
                self._tell(topic, _entry(market, side, ticks, lots), "book")
        for fill in update.fills:
            trade = self._trade(market, fill)
            for kind in ("te", "tu"):
                self._tell(("trades", symbol, ""), f'"{kind}",{trade}', "trade" if kind == "te" else "other")
        if update.fills:
            for frame, minutes in _FRAMES.items():
                topic = ("candles", symbol, f"trade:{frame}:{symbol}")
                if self.wanted(topic):
                    length_ns = minutes * MINUTE_NS
                    begin = self.clock.now_ns // length_ns * length_ns
                    for candle in market.candles(length_ns, begin, begin + 1):
                        self._tell(topic, self._candle(market.instrument, candle), "candle")

    def _check(self) -> None:
        unchecked, self._unchecked = self._unchecked, {}
        for symbol, length in unchecked:
            image = self._images.get((symbol, length))
            if image is None:
                continue
            topic = ("book", symbol, str(length))
            body = f'"cs",{checksum(self.markets[symbol], image.bids, image.asks)}'
            for connection in list(self.exchange.listeners.get((self.name, topic), ())):
                for channel in connection.notes["channels"].values():
                    same = (channel.kind, channel.market.instrument.symbol, channel.option) == topic
                    if same and connection.notes["flags"] & _CHECKSUM:
                        self._number(connection, channel, body, "other")

    def _trade(self, market: Market, fill: Fill) -> str:
        sign = "-" if fill.taker_sells else ""
        size, price = _lots(market, fill.lots), _ticks(market, fill.ticks)
        return f"[{fill.number},{self.stamp(fill.time_ns) // MS},{sign}{size},{price}]"

    def _candle(self, instrument: Instrument, candle: Candle) -> str:
        prices = (candle.open, candle.close, candle.high, candle.low)
        texts = ",".join(number(ticks * instrument.tick, instrument.price_digits) for ticks in prices)
        volume = number(candle.lots * instrument.lot, instrument.size_digits)
        return f"[{self.stamp(candle.open_ns) // MS},{texts},{volume}]"

    # REST

    def answer(self, request: Request) -> Response:
        """Lists, books, trades and candles."""
        match request.path.removeprefix("/v2/").split("/"):
            case ["conf", names]:
                return Response.of([self._list(name) for name in names.split(",")])
            case ["book", symbol, "P0"]:
                market, length = self._named(symbol), request.number("len", 25, 250)
                picture = self.picture(market)
                rows = [_entry(market, 0, *pair) for pair in picture.bids[:length]]
                rows += [_entry(market, 1, *pair) for pair in picture.asks[:length]]
                return Response(f"[{','.join(rows)}]")
            case ["trades", symbol, "hist"]:
                market = self._named(symbol)
                fills = list(market.fills)[::-1][: request.number("limit", 125, 10_000)]
                return Response(f"[{','.join(self._trade(market, fill) for fill in fills)}]")
            case ["candles", key, "hist"]:
                _, frame, symbol = (*key.split(":", 2), "", "")[:3]
                market = self._named(symbol)
                if frame not in _FRAMES:
                    raise Refusal(500, "key: invalid")
                since, until = request.number("start", 0) * MS, (request.number("end", 2**43) + 1) * MS
                found = [c for c in market.candles(_FRAMES[frame] * MINUTE_NS, since, until) if c.count]
                if request.query.get("sort", "-1") != "1":
                    found.reverse()
                limit = request.number("limit", 100, 10_000)
                return Response(f"[{','.join(self._candle(market.instrument, c) for c in found[:limit])}]")
            case _:
                raise Refusal(404, "not found")

    def _named(self, symbol: str) -> Market:
        if symbol not in self.markets:
            raise Refusal(500, "symbol: invalid")
        return self.markets[symbol]

    def _list(self, name: str) -> list[Any]:
        pairs = [symbol[1:] for symbol in self.markets]
        match name:
            case "pub:list:pair:exchange":
                return pairs
            case "pub:list:pair:futures":
                return []
            case "pub:list:currency":
                return sorted({pair[:3] for pair in pairs} | {pair[3:] for pair in pairs})
            case "pub:map:currency:sym":
                return [[code, name] for code, name in _ALIASES.items()]
            case "pub:info:pair":
                return [[pair, [None, None, None, "0.00004", "2000", None, None, None, None, None]] for pair in pairs]
            case _:
                raise Refusal(404, "conf: invalid")

    def refuse(self, refusal: Refusal) -> Response:
        """An array."""
        return Response.of(["error", 10020, refusal.message], refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, configured first."""
        messages: list[dict[str, Any]] = [{"event": "conf", "flags": _TIMESTAMP | _SEQ_ALL | _CHECKSUM}]
        for market in markets:
            symbol = market.instrument.symbol
            book = {"event": "subscribe", "channel": "book", "symbol": symbol, "prec": "P0", "freq": "F0", "len": "100"}
            messages += [
                book,
                {"event": "subscribe", "channel": "trades", "symbol": symbol},
                {"event": "subscribe", "channel": "candles", "key": f"trade:1m:{symbol}"},
            ]
        return Plan(
            "https://api-pub.bitfinex.com",
            [Request.get(f"/v2/conf/pub:list:pair:{kind}") for kind in ("exchange", "futures")],
            [Dial("wss://api-pub.bitfinex.com/ws/2", [compact(message) for message in messages], greeted=True)],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """Leaving and joining brings a new snapshot."""
        symbol = market.instrument.symbol
        channels = [
            channel
            for connection in self.exchange.connections.values()
            for channel in connection.notes.get("channels", {}).values()
            if channel.kind == "book" and channel.market is market
        ]
        steps = [compact({"event": "unsubscribe", "chanId": channel.number}) for channel in channels]
        book = {"event": "subscribe", "channel": "book", "symbol": symbol, "prec": "P0", "freq": "F0", "len": "100"}
        return [*steps, compact(book)]

    def keep_alive(self, connection: Connection) -> str | None:
        """A ping of the protocol's own."""
        return compact({"event": "ping", "cid": 123})


def checksum(market: Market, bids: Pairs, asks: Pairs) -> int:
    """Signed CRC-32 over price and amount of the 25 best bids and asks in turn, an ask's amount negative."""
    parts = []
    for index in range(_CHECKED):
        if index < len(bids):
            parts += [_ticks(market, bids[index][0]), _lots(market, bids[index][1])]
        if index < len(asks):
            parts += [_ticks(market, asks[index][0]), f"-{_lots(market, asks[index][1])}"]
    value = zlib.crc32(":".join(parts).encode())
    return value - 2**32 if value >= 2**31 else value


def number(mantissa: int, digits: int) -> str:
    """A number as JavaScript prints it: no trailing zeros, an exponent below a millionth."""
    text = str(mantissa)
    if digits and mantissa and len(text) - digits <= -6:
        # The first digit stands at the seventh place or further behind the point.
        exponent = digits - len(text) + 1
        first, rest = text[0], text[1:].rstrip("0")
        return f"{first}{'.' if rest else ''}{rest}e-{exponent}"
    if digits:
        text = f"{text:0>{digits + 1}}"
        whole, part = text[:-digits], text[-digits:].rstrip("0")
        return f"{whole}.{part}" if part else whole
    return text


def _ticks(market: Market, ticks: int) -> str:
    return number(ticks * market.instrument.tick, market.instrument.price_digits)


def _lots(market: Market, lots: int) -> str:
    return number(lots * market.instrument.lot, market.instrument.size_digits)


def _entry(market: Market, side: int, ticks: int, lots: int) -> str:
    sign = "-" if side else ""
    if not lots:
        return f"[{_ticks(market, ticks)},0,{sign}1]"
    return f"[{_ticks(market, ticks)},{1 + (ticks + lots) % 9},{sign}{_lots(market, lots)}]"


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
