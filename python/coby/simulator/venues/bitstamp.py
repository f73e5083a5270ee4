"""Bitstamp v2: diffs that only a time orders, to be joined with a snapshot by the microsecond."""

import json
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
from coby.simulator.feeds import Batch, Pairs
from coby.simulator.market import Candle, Fill, Instrument, Market, Temper, Update

_STEPS = (60, 180, 300, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 259_200)
_CHANNELS = ("live_trades", "live_orders", "detail_order_book", "diff_order_book", "order_book")
_TOP = 100
_PUSH_NS = 100 * MS


class Bitstamp(Venue):
    """`ws.bitstamp.net` and `www.bitstamp.net/api/v2`."""

    name = "bitstamp"
    instruments = (
        Instrument("btcusd", "BTC", "USD", 0, 1, 8, 1),
        Instrument("ethusd", "ETH", "USD", 2, 10, 8, 1),
        Instrument("solusd", "SOL", "USD", 2, 1, 8, 1),
        Instrument("xrpusd", "XRP", "USD", 5, 1, 8, 1),
        Instrument("btcusdt", "BTC", "USDT", 0, 1, 8, 1),
        Instrument("ethusdt", "ETH", "USDT", 2, 10, 8, 1),
    )
    temper = Temper(lag_ns=400_000_000, wander=150_000, levels=1_450, pace=40)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._batches = {symbol: Batch(market) for symbol, market in self.markets.items()}
        self._trade_id = 542_327_128
        self._trades: dict[str, list[dict[str, Any]]] = {symbol: [] for symbol in self.markets}
        self.clock.every(_PUSH_NS, self._push_books)

    # Sockets

    def received(self, connection: Connection, text: str) -> None:
        """Subscribe, unsubscribe, heartbeat."""
        try:
            message = json.loads(text)
            event = message["event"]
            channel = message.get("data", {}).get("channel", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            connection.say(_error("Incorrect JSON format."))
            return
        if event == "bts:heartbeat":
            connection.say({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}})
            return
        if event not in {"bts:subscribe", "bts:unsubscribe"}:
            connection.say(_error("Incorrect command."))
            return
        name, _, symbol = channel.rpartition("_")
        if name not in _CHANNELS:
            connection.say(_error("Bad subscription string."))
            return
        # An unknown pair is acknowledged like any other.
        done = "subscription_succeeded" if event == "bts:subscribe" else "unsubscription_succeeded"
        connection.say({"event": f"bts:{done}", "channel": channel, "data": {}})
        if symbol not in self.markets:
            return
        if event == "bts:subscribe":
            self.subscribe(connection, channel)
        else:
            self.unsubscribe(connection, channel)

    # What happens

    def changed(self, market: Market, update: Update) -> None:
        """Trades go out at once, changes ten times a second."""
        symbol = market.instrument.symbol
        self._batches[symbol].add(update)
        for fill in update.fills:
            trade = self._trade(market, fill)
            self._trades[symbol].append(trade)
            del self._trades[symbol][:-500]
            channel = f"live_trades_{symbol}"
            if self.wanted(channel):
                text = compact({"data": trade, "channel": channel, "event": "trade"})
                self.publish(channel, Frame(text, "trade", market))

    def _trade(self, market: Market, fill: Fill) -> dict[str, Any]:
        instrument = market.instrument
        self._trade_id += 1
        size, price = instrument.size(fill.lots), instrument.price(fill.ticks)
        taker, maker = 1_982_008_431_775_746 + fill.time_ns // 1_000 % 10**12, 1_982_008_430_600_193 + self._trade_id
        stamp = self.stamp(fill.time_ns)
        return {
            "id": self._trade_id,
            "timestamp": str(stamp // SECOND),
            "amount": float(size),
            "amount_str": size,
            "price": float(price),
            "price_str": price,
            "type": 1 if fill.taker_sells else 0,
            "microtimestamp": str(stamp // MS * 1_000),
            "buy_order_id": maker if fill.taker_sells else taker,
            "sell_order_id": taker if fill.taker_sells else maker,
        }

    def _push_books(self) -> None:
        for symbol, market in self.markets.items():
            push = self._batches[symbol].take()
            if push is None or not (push.bids or push.asks):
                continue
            self._push(f"diff_order_book_{symbol}", market, push.bids, push.asks, push.time_ns)
            channel = f"order_book_{symbol}"
            if self.wanted(channel):
                self._push(channel, market, market.bids.top(_TOP), market.asks.top(_TOP), push.time_ns)

    def _push(self, channel: str, market: Market, bids: Pairs, asks: Pairs, time_ns: int) -> None:
        if self.wanted(channel):
            data = self._book(market, bids, asks, time_ns)
            self.publish(channel, Frame(compact({"data": data, "channel": channel, "event": "data"}), "book", market))

    def _book(self, market: Market, bids: Pairs, asks: Pairs, time_ns: int) -> dict[str, Any]:
        level, stamp = market.instrument.level, self.stamp(time_ns)
        return {
            "timestamp": str(stamp // SECOND),
            "microtimestamp": str(stamp // 1_000),
            "bids": [level(*pair) for pair in bids],
            "asks": [level(*pair) for pair in asks],
        }

    # REST

    def answer(self, request: Request) -> Response:
        """Listings, books, trades and candles."""
        instruments = [market.instrument for market in self.markets.values()]
        match request.path.removeprefix("/api/v2/").strip("/").split("/"):
            case ["trading-pairs-info"]:
                return Response.of([_listed(instrument) for instrument in instruments])
            case ["markets"]:
                return Response.of([_market(instrument) for instrument in instruments])
            case ["order_book", symbol]:
                market = self._market(symbol)
                picture = self.picture(market)
                book = self._book(market, picture.bids, picture.asks, picture.time_ns)
                if request.query.get("group") == "2":
                    for side in ("bids", "asks"):
                        book[side] = [[*level, str(1_982_008_000_000_000 + n)] for n, level in enumerate(book[side])]
                return Response.of(book)
            case ["transactions", symbol]:
                trades = self._trades[self._market(symbol).instrument.symbol][::-1]
                return Response.of(
                    [
                        {
                            "date": trade["timestamp"],
                            "tid": str(trade["id"]),
                            "price": trade["price_str"],
                            "type": str(trade["type"]),
                            "amount": trade["amount_str"],
                        }
                        for trade in trades
                    ]
                )
            case ["ohlc", symbol]:
                return Response.of(self._candles(self._market(symbol), request))
            case _:
                raise Refusal(404, "Not found")

    def _market(self, symbol: str) -> Market:
        if symbol not in self.markets:
            raise Refusal(404, "Invalid currency pair")
        return self.markets[symbol]

    def _candles(self, market: Market, request: Request) -> dict[str, Any]:
        step = request.number("step", 60)
        if step not in _STEPS:
            raise Refusal(400, "step: not a valid choice")
        limit = request.number("limit", 1_000, 1_000)
        length, now = step * SECOND, self.clock.now_ns
        since, until = request.number("start", 0) * SECOND, (request.number("end", now // SECOND) + 1) * SECOND
        if request.query.get("exclude_current_candle") == "true":
            until = min(until, now // length * length)
        candles = market.candles(length, since, until)
        rows = [self._row(market.instrument, c) for c in (candles[:limit] if since else candles[-limit:])]
        return {"data": {"ohlc": rows, "pair": f"{market.instrument.base}/{market.instrument.quote}"}}

    def _row(self, instrument: Instrument, candle: Candle) -> dict[str, str]:
        return {
            "timestamp": str(self.stamp(candle.open_ns) // SECOND),
            "open": instrument.price(candle.open),
            "high": instrument.price(candle.high),
            "low": instrument.price(candle.low),
            "close": instrument.price(candle.close),
            "volume": instrument.size(candle.lots),
        }

    def refuse(self, refusal: Refusal) -> Response:
        """A status and a reason."""
        return Response.of({"status": "error", "reason": refusal.message}, refusal.status)

    # Recordings

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, one message a channel."""
        symbols = [market.instrument.symbol for market in markets]
        channels = [f"{name}_{symbol}" for symbol in symbols for name in ("diff_order_book", "live_trades")]
        messages = [compact({"event": "bts:subscribe", "data": {"channel": channel}}) for channel in channels]
        snapshots = [request for market in markets for request in self.resync(market) if isinstance(request, Request)]
        return Plan(
            "https://www.bitstamp.net",
            [Request.get("/api/v2/trading-pairs-info/")],
            [Dial("wss://ws.bitstamp.net", messages, snapshots)],
            refresh=True,
        )

    def resync(self, market: Market) -> list[str | Request]:
        """A snapshot joins the running stream."""
        return [Request.get(f"/api/v2/order_book/{market.instrument.symbol}/?group=1")]

    def keep_alive(self, connection: Connection) -> str | None:
        """A heartbeat, which is answered."""
        return compact({"event": "bts:heartbeat"})


def _error(message: str) -> dict[str, Any]:
    return {"event": "bts:error", "channel": "", "data": {"code": None, "message": message}}


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "name": f"{instrument.base}/{instrument.quote}",
        "url_symbol": instrument.symbol,
        "base_decimals": instrument.size_digits,
        "counter_decimals": instrument.price_digits,
        "instant_order_counter_decimals": 2,
        "minimum_order": f"10 {instrument.quote}",
        "trading": "Enabled",
        "instant_and_market_orders": "Enabled",
        "description": f"{instrument.base} / {instrument.quote}",
    }


def _market(instrument: Instrument) -> dict[str, Any]:
    return {
        "name": f"{instrument.base}/{instrument.quote}",
        "market_symbol": instrument.symbol,
        "base_currency": instrument.base,
        "base_decimals": instrument.size_digits,
        "counter_currency": instrument.quote,
        "counter_decimals": instrument.price_digits,
        "minimum_order_value": "10",
        "trading": "Enabled",
        "instant_order_counter_decimals": 2,
        "instant_and_market_orders": "Enabled",
        "description": f"{instrument.base} / {instrument.quote}",
        "market_type": "SPOT",
    }
