"""HTX spot: zipped frames, pings that must be answered, snapshots asked for inside the socket."""

import gzip
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
from coby.simulator.feeds import Image, Pairs
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_PERIODS = {
    "1min": 1, "5min": 5, "15min": 15, "30min": 30, "60min": 60, "4hour": 240, "1day": 1_440,
}  # fmt: skip
_LEVELS = (150, 400)
_PING_NS = 5 * SECOND
_CANDLES_NS = 500 * MS
_PATIENCE = 2


class Htx(Venue):
    """`api.huobi.pro`, with `/ws` and `/feed`."""

    name = "htx"
    sequenced = True
    instruments = (
        Instrument("btcusdt", "BTC", "USDT", 2, 1, 6, 1),
        Instrument("ethusdt", "ETH", "USDT", 2, 1, 4, 1),
        Instrument("solusdt", "SOL", "USDT", 4, 100, 4, 1),
        Instrument("xrpusdt", "XRP", "USDT", 5, 1, 2, 1),
    )
    temper = Temper(lag_ns=220_000_000, wander=110_000, pace=70)
    level = re.compile(r"\[([\d.E-]+),([\d.E-]+)\]")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._images: dict[tuple[str, int], Image] = {}
        self._traded: set[str] = set()
        self.clock.every(100 * MS, self._push_books)
        self.clock.every(SECOND, self._push_steps)
        self.clock.every(_CANDLES_NS, self._push_candles, 5 * MS)
        self.clock.every(_PING_NS, self._ping, 17 * MS)

    def wire(self, text: str) -> str | bytes:
        """Zipped, without a time: the same frames give the same bytes."""
        return gzip.compress(text.encode(), 6, mtime=0)

    # Sockets

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Two sockets."""
        return 101 if path in {"/ws", "/feed"} else 404

    def opened(self, connection: Connection) -> None:
        """Nobody has been pinged yet."""
        connection.notes.update(pings=[], asked_ns=0)

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, requests, pongs."""
        now_ms = self.now // MS
        try:
            message = json.loads(text)
            verb = next(verb for verb in ("pong", "sub", "unsub", "req") if verb in message)
        except (ValueError, TypeError, StopIteration):
            connection.say({"status": "error", "ts": now_ms, "err-code": "bad-request", "err-msg": "not json string"})
            return
        number = {"id": message["id"]} if "id" in message else {}
        if verb == "pong":
            if message["pong"] in connection.notes["pings"]:
                connection.notes["pings"].clear()
            return
        topics = message[verb] if isinstance(message[verb], list) else [message[verb]]
        for topic in topics:
            market = self._market(connection, topic)
            problem = None if market else f"invalid topic {topic}"
            if verb == "req" and self.clock.now_ns - connection.notes["asked_ns"] < 100 * MS:
                problem = "429 too many request"
            if verb == "unsub" and topic not in connection.topics:
                problem = "unsub with not subbed topic"
            if problem is not None or market is None:
                wrong = {"status": "error", "ts": now_ms, **number, "err-code": "bad-request", "err-msg": problem}
                connection.say(wrong)
                continue
            if verb == "req":
                connection.notes["asked_ns"] = self.clock.now_ns
                self._reply(connection, topic, market, number)
                continue
            connection.say({**number, "status": "ok", f"{verb}bed": topic, "ts": now_ms})
            if verb == "sub":
                if ".mbp." in topic:
                    key = (market.instrument.symbol, int(topic.rpartition(".")[2]))
                    self._images.setdefault(key, Image(market, key[1]))
                self.subscribe(connection, topic)
            else:
                self.unsubscribe(connection, topic)

    def _market(self, connection: Connection, topic: str) -> Market | None:
        feed = connection.path == "/feed"
        match topic.split("."):
            case ["market", symbol, "mbp", levels] if feed and levels.isdecimal() and int(levels) in _LEVELS:
                return self.markets.get(symbol)
            case ["market", symbol, "depth", "step0"] if not feed:
                return self.markets.get(symbol)
            case ["market", symbol, "trade", "detail"] if not feed:
                return self.markets.get(symbol)
            case ["market", symbol, "kline", period] if not feed and period in _PERIODS:
                return self.markets.get(symbol)
            case _:
                return None

    def _ping(self) -> None:
        for connection in list(self.exchange.connections.values()):
            if connection.venue is not self:
                continue
            pings = connection.notes["pings"]
            if len(pings) >= _PATIENCE:
                connection.close(1003, "ping timeout")
                continue
            pings.append(self.now // MS)
            connection.say({"ping": pings[-1]})

    def skip(self, market: Market) -> None:
        """A push that nobody gets."""
        market.sequence += 2
        for (symbol, _), image in self._images.items():
            if symbol == market.instrument.symbol:
                image.sequence += 1

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, one message for what a taker did."""
        symbol = market.instrument.symbol
        if not update.fills:
            return
        self._traded.add(symbol)
        topic = f"market.{symbol}.trade.detail"
        if self.wanted(topic):
            rows = ",".join(self._trade(market, fill) for fill in update.fills)
            ts = self.stamp(update.time_ns) // MS
            body = f'{{"id":{181_000_000_000 + update.fills[0].number},"ts":{ts},"data":[{rows}]}}'
            self._push(topic, body, Frame("", "trade", market))

    def _push(self, topic: str, tick: str, frame: Frame) -> None:
        text = f'{{"ch":"{topic}","ts":{self.now // MS},"tick":{tick}}}'
        self.publish(topic, Frame(text, frame.channel, frame.market))

    def _trade(self, market: Market, fill: Fill) -> str:
        side = "sell" if fill.taker_sells else "buy"
        size, price = _lots(market, fill.lots), _ticks(market, fill.ticks)
        long = f"{181_000_000_000 + fill.number}{257_755_425_015_366 + fill.number}"
        return (
            f'{{"id":{long},"ts":{self.stamp(fill.time_ns) // MS},"tradeId":{fill.number},"amount":{size},'
            f'"price":{price},"direction":"{side}"}}'
        )

    def _push_books(self) -> None:
        for (symbol, levels), image in list(self._images.items()):
            topic = f"market.{symbol}.mbp.{levels}"
            if not self.wanted(topic):
                del self._images[symbol, levels]
                continue
            push = image.push()
            if push is not None:
                market = self.markets[symbol]
                asks, bids = _rows(market, push.asks), _rows(market, push.bids)
                numbers = f'"seqNum":{push.last},"prevSeqNum":{push.previous}'
                self._push(topic, f'{{{numbers},"asks":{asks},"bids":{bids}}}', Frame("", "book", market))

    def _reply(self, connection: Connection, topic: str, market: Market, number: dict[str, Any]) -> None:
        ts = self.now // MS
        if ".mbp." in topic:
            key = (market.instrument.symbol, int(topic.rpartition(".")[2]))
            image = self._images.get(key) or Image(market, key[1])
            shown = self.exchange.faults.stale(self, market) or image
            bids, asks = _rows(market, shown.bids[: key[1]]), _rows(market, shown.asks[: key[1]])
            data, channel = f'{{"seqNum":{shown.sequence},"bids":{bids},"asks":{asks}}}', "book"
        elif topic.endswith("trade.detail"):
            data = f"[{','.join(self._trade(market, fill) for fill in list(market.fills)[::-1])}]"
            channel = "trade"
        elif ".kline." in topic:
            length = _PERIODS[topic.rpartition(".")[2]] * MINUTE_NS
            candles = market.candles(length, self.clock.now_ns - 300 * length, self.clock.now_ns)
            data, channel = f"[{','.join(self._candle(market, candle) for candle in candles[-300:])}]", "candle"
        else:
            data, channel = self._step(market), "book"
        ending = f'"rep":"{topic}","status":"ok","ts":{ts},"data":{data}}}'
        head = f'"id":{json.dumps(number["id"])},' if number else ""
        frame = Frame(f"{{{head}{ending}", channel, market)  # type: ignore[arg-type]
        late = self.exchange.faults.lateness_ns(self, market) if channel == "book" else 0
        if late:
            self.clock.at(self.clock.now_ns + late, lambda: connection.send(frame))
        else:
            connection.send(frame)

    def _step(self, market: Market) -> str:
        bids, asks = _rows(market, market.bids.top(150)), _rows(market, market.asks.top(150))
        return f'{{"bids":{bids},"asks":{asks},"version":{market.sequence},"ts":{self.now // MS}}}'

    def _push_steps(self) -> None:
        for symbol, market in self.markets.items():
            topic = f"market.{symbol}.depth.step0"
            if self.wanted(topic):
                self._push(topic, self._step(market), Frame("", "book", market))

    def _push_candles(self) -> None:
        traded, self._traded = self._traded, set()
        now = self.clock.now_ns
        for symbol, market in self.markets.items():
            for period, minutes in _PERIODS.items():
                topic = f"market.{symbol}.kline.{period}"
                if symbol in traded and self.wanted(topic):
                    # Every trade is told, also the last ones of a candle that has ended since the last push.
                    for candle in market.candles(minutes * MINUTE_NS, now - _CANDLES_NS, now):
                        if candle.count:
                            self._push(topic, self._candle(market, candle), Frame("", "candle", market))

    def _candle(self, market: Market, candle: Candle) -> str:
        instrument = market.instrument
        names = {"open": candle.open, "close": candle.close, "low": candle.low, "high": candle.high}
        prices = ",".join(f'"{name}":{_ticks(market, ticks)}' for name, ticks in names.items())
        digits = instrument.price_digits + instrument.size_digits
        volume = number(candle.notional * instrument.tick * instrument.lot, digits)
        amount = _lots(market, candle.lots)
        opened = self.stamp(candle.open_ns) // SECOND
        return f'{{"id":{opened},{prices},"amount":{amount},"vol":{volume},"count":{candle.count}}}'

    # REST

    def answer(self, request: Request) -> Response:
        """Listings, depth, candles and trades."""
        path = request.path
        if path == "/v1/common/symbols":
            return self._ok([_listed(market.instrument) for market in self.markets.values()])
        if path == "/v2/settings/common/symbols":
            return self._ok([_short(market.instrument) for market in self.markets.values()])
        if path not in {"/market/depth", "/market/history/kline", "/market/history/trade"}:
            raise Refusal(404, "not found")
        market = self.markets.get(request.query.get("symbol", ""))
        if market is None:
            raise Refusal(200, "invalid symbol")
        symbol, ts = market.instrument.symbol, self.now // MS
        if path == "/market/depth":
            self.picture(market)
            channel = f"market.{symbol}.depth.step0"
            return Response(f'{{"ch":"{channel}","status":"ok","ts":{ts},"tick":{self._step(market)}}}')
        size = request.number("size", 150, 2_000)
        if path == "/market/history/kline":
            period = request.query.get("period", "")
            if period not in _PERIODS:
                raise Refusal(200, "invalid period")
            candles = market.candles(_PERIODS[period] * MINUTE_NS, 0, self.clock.now_ns + 1)[::-1][:size]
            rows = ",".join(self._candle(market, candle) for candle in candles)
            return Response(f'{{"ch":"market.{symbol}.kline.{period}","status":"ok","ts":{ts},"data":[{rows}]}}')
        rows = ",".join(
            f'{{"id":{fill.number},"ts":{self.stamp(fill.time_ns) // MS},'
            f'"data":[{self._trade(market, fill).replace("tradeId", "trade-id")}]}}'
            for fill in list(market.fills)[::-1][:size]
        )
        return Response(f'{{"ch":"market.{symbol}.trade.detail","status":"ok","ts":{ts},"data":[{rows}]}}')

    def _ok(self, data: list[Any]) -> Response:
        return Response.of({"status": "ok", "data": data, "ts": str(self.now // MS), "full": 1})

    def refuse(self, refusal: Refusal) -> Response:
        """A status and a code."""
        wrong = {"ts": self.now // MS, "status": "error", "err-code": "invalid-parameter", "err-msg": refusal.message}
        return Response.of(wrong, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """Books on one socket, trades and candles on the other."""
        symbols = [market.instrument.symbol for market in markets]
        books = [compact({"sub": f"market.{symbol}.mbp.400", "id": symbol}) for symbol in symbols]
        kinds = ("trade.detail", "kline.1min")
        others = [compact({"sub": f"market.{symbol}.{kind}", "id": symbol}) for symbol in symbols for kind in kinds]
        asks = [str(message) for market in markets for message in self.resync(market)]
        return Plan(
            "https://api.huobi.pro",
            [Request.get("/v1/common/symbols")],
            [
                Dial("wss://api.huobi.pro/feed", books, later=asks),
                Dial("wss://api.huobi.pro/ws", others),
            ],
        )

    def resync(self, market: Market) -> list[str | Request]:
        """A snapshot, asked for inside the socket, joins the running stream."""
        return [compact({"req": f"market.{market.instrument.symbol}.mbp.400", "id": "again"})]

    def pong(self, text: str) -> str | None:
        """The same number."""
        return compact({"pong": json.loads(text)["ping"]}) if text.startswith('{"ping"') else None


def number(mantissa: int, digits: int) -> str:
    """A number as Java prints it: at least one digit behind the point, an exponent below a thousandth."""
    text = str(mantissa)
    if mantissa and len(text) - digits < -2:
        rest = text[1:].rstrip("0") or "0"
        return f"{text[0]}.{rest}E-{digits - len(text) + 1}"
    text = f"{text:0>{digits + 1}}"
    whole, part = (text[:-digits], text[-digits:].rstrip("0")) if digits else (text, "")
    return f"{whole}.{part or '0'}"


def _ticks(market: Market, ticks: int) -> str:
    return number(ticks * market.instrument.tick, market.instrument.price_digits)


def _lots(market: Market, lots: int) -> str:
    return number(lots * market.instrument.lot, market.instrument.size_digits)


def _rows(market: Market, pairs: Pairs) -> str:
    return f"[{','.join(f'[{_ticks(market, ticks)},{_lots(market, lots)}]' for ticks, lots in pairs)}]"


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "base-currency": instrument.base.lower(),
        "quote-currency": instrument.quote.lower(),
        "price-precision": instrument.price_digits,
        "amount-precision": instrument.size_digits,
        "symbol-partition": "main",
        "symbol": instrument.symbol,
        "state": "online",
        "value-precision": 8,
        "min-order-amt": float(instrument.size(1)),
        "max-order-amt": 1_000_000.0,
        "min-order-value": 10,
        "api-trading": "enabled",
    }


def _short(instrument: Instrument) -> dict[str, Any]:
    return {
        "sc": instrument.symbol,
        "bc": instrument.base.lower(),
        "qc": instrument.quote.lower(),
        "bcdn": instrument.base,
        "qcdn": instrument.quote,
        "dn": f"{instrument.base}/{instrument.quote}",
        "state": "online",
        "tpp": instrument.price_digits,
        "tap": instrument.size_digits,
        "te": True,
    }
