"""Binance spot: as its futures, but with one path for all streams and ids that leave no holes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from coby.simulator.exchange import MS, Connection, Dial, Frame, Picture, Plan, Refusal, Request
from coby.simulator.feeds import Push
from coby.simulator.market import Fill, Instrument, Market, Temper
from coby.simulator.venues.binance_futures import BinanceFutures


class Binance(BinanceFutures):
    """`stream.binance.com` and `api.binance.com`."""

    name = "binance"
    instruments = (
        Instrument("BTCUSDT", "BTC", "USDT", 8, 1_000_000, 8, 1_000),
        Instrument("ETHUSDT", "ETH", "USDT", 8, 1_000_000, 8, 10_000),
        Instrument("SOLUSDT", "SOL", "USDT", 8, 1_000_000, 8, 100_000),
        Instrument("XRPUSDT", "XRP", "USDT", 8, 10_000, 8, 10_000_000),
    )
    temper = Temper(lag_ns=30_000_000, wander=30_000, levels=1_600, pace=140)

    rest = "https://api.binance.com"
    sockets = "wss://stream.binance.com:9443"
    api = "/api/v3"
    speeds: ClassVar[Mapping[str, int]] = {"": 1_000, "@100ms": 100}
    kline_ms = 2_000
    messages_a_second = 5
    weight_a_minute = 6_000
    ping_s = 20

    def handshake(self, path: str, query: Mapping[str, str]) -> int:
        """Streams or raw."""
        return 101 if path.split("/")[1] in {"ws", "stream"} else 404

    def family(self, connection: Connection) -> str | None:
        """All streams on one path."""
        return None

    def number(self, sequence: int) -> int:
        """Each symbol counts by itself."""
        return sequence

    def depth(self, market: Market, push: Push) -> dict[str, Any]:
        """Without a time of the engine, without the previous id; the first id follows on it."""
        found = super().depth(market, push)
        return {"e": found["e"], "E": found["E"], "s": found["s"], **{key: found[key] for key in ("U", "u", "b", "a")}}

    def partial(self, market: Market, push: Push, levels: int) -> dict[str, Any]:
        """Without symbol and time."""
        return self.snapshot(Picture.of(market), market, levels)

    def snapshot(self, picture: Picture, market: Market, limit: int) -> dict[str, Any]:
        """Without times."""
        found = super().snapshot(picture, market, limit)
        return {key: found[key] for key in ("lastUpdateId", "bids", "asks")}

    def ticker(self, market: Market) -> dict[str, Any]:
        """Without times."""
        found = super().ticker(market)
        return {key: found[key] for key in ("u", "s", "b", "B", "a", "A")}

    def aggregate(self, market: Market, fill: Fill) -> dict[str, Any]:
        """With a field that says nothing, and without the futures' own."""
        found = super().aggregate(market, fill)
        del found["nq"]
        return {**found, "M": True}

    def _trade(self, stream: str, market: Market, fill: Fill) -> None:
        super()._trade(stream, market, fill)
        if not self.wanted(f"{stream}@trade"):
            return
        # A trade for each order that was filled; the last one gets what the others leave.
        count = fill.last_id - fill.first_id + 1
        share = fill.lots // count
        instrument = market.instrument
        for number in range(fill.first_id, fill.last_id + 1):
            lots = share if number < fill.last_id else fill.lots - share * (count - 1)
            data = {
                "e": "trade",
                "E": self.stamp(fill.time_ns) // MS + 1,
                "s": instrument.symbol,
                "t": number,
                "p": instrument.price(fill.ticks),
                "q": instrument.size(lots),
                "T": self.stamp(fill.time_ns) // MS,
                "m": fill.taker_sells,
                "M": True,
            }
            self._send(f"{stream}@trade", data, Frame("", "trade", market))

    def depth_weight(self, limit: int) -> int:
        """Any limit up to 5,000."""
        if not 1 <= limit <= 5_000:
            raise Refusal(400, "Illegal parameter 'limit'.")
        return next(weight for most, weight in ((100, 5), (500, 25), (1_000, 50), (5_000, 250)) if limit <= most)

    def listed(self, instrument: Instrument) -> dict[str, Any]:
        """One symbol of `exchangeInfo`."""
        price_step, size_step = instrument.price(1), instrument.size(1)
        return {
            "symbol": instrument.symbol,
            "status": "TRADING",
            "baseAsset": instrument.base,
            "baseAssetPrecision": 8,
            "quoteAsset": instrument.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": price_step, "maxPrice": "1000000.0", "tickSize": price_step},
                {"filterType": "LOT_SIZE", "minQty": size_step, "maxQty": "9000.00000000", "stepSize": size_step},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
            ],
        }

    def plan(self, markets: list[Market]) -> Plan:
        """One connection for all."""
        symbols = [market.instrument.symbol.lower() for market in markets]
        streams = "/".join(f"{symbol}@depth@100ms/{symbol}@aggTrade/{symbol}@kline_1m" for symbol in symbols)
        snapshots = [request for market in markets for request in self.resync(market) if isinstance(request, Request)]
        return Plan(
            self.rest,
            [Request.get(f"{self.api}/exchangeInfo")],
            [Dial(f"{self.sockets}/stream?streams={streams}", [], snapshots)],
        )
