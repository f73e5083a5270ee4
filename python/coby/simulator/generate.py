"""A synthetic recording of `binance_futures`: seeded, with faults on demand and a log of what was true.

It follows the venue's wire format as of 2026: two routed connections (depth on `/public`, trades and candles on
`/market`), ids shared by all symbols, `pu` chains, and a snapshot over REST that falls inside the buffered events.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, cast, get_args

from coby import recording
from coby.recording import Kind, RecordedFrame
from coby.simulator.walk import Fill, Instrument, Levels, Market, decimal

FaultKind = Literal["lost", "lost_trade", "malformed", "duplicate", "reconnect"]

INSTRUMENTS = (
    Instrument("BTCUSDT", "BTC", "USDT", 2, 10, 3, 1, start=672_340, typical=400, pace=9),
    Instrument("ETHUSDT", "ETH", "USDT", 2, 1, 3, 1, start=351_275, typical=2_000, pace=6),
    Instrument("SOLUSDT", "SOL", "USDT", 4, 100, 0, 1, start=17_642, typical=60, pace=1),
)
START_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z."""

_MS = 1_000_000
_STEP_MS = 100
_MINUTE_MS = 60_000
_SNAPSHOT_LEVELS = 1_000
_BASE = "wss://fstream.binance.com"
_REST = "https://fapi.binance.com"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    `lost`, `malformed` and `duplicate` hit the symbol's first depth frame at or after `at` (seconds from the start),
    `lost_trade` its first trade; `reconnect` closes the depth connection for a second.
    """

    kind: FaultKind
    at: float
    symbol: str = "BTCUSDT"

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Reads `kind@seconds` or `kind@seconds:SYMBOL`.

        Raises:
            ValueError: It is neither.
        """
        kind, _, rest = text.partition("@")
        at, _, symbol = rest.partition(":")
        if kind not in get_args(FaultKind):
            raise ValueError(f"unknown fault {kind!r}: one of {', '.join(get_args(FaultKind))}")
        return cls(cast("FaultKind", kind), float(at), symbol or "BTCUSDT")


@dataclass
class Truth:
    """What a perfect reader of the recording knows.

    `faults`: what happened, with the index of the frame at which it did (where a lost frame would have stood).
    `tops`: after each depth frame, its index, symbol, and best bid, its size, best ask, its size.
    `books`: at the end, by symbol, both sides, best first. `trades`: how many are in the recording, by symbol.
    """

    seed: int
    faults: list[dict[str, Any]] = field(default_factory=list)
    tops: list[tuple[int, str, str, str, str, str]] = field(default_factory=list)
    books: dict[str, dict[str, list[tuple[str, str]]]] = field(default_factory=dict)
    trades: dict[str, int] = field(default_factory=dict)


class Generator:
    """Yields frames, once; `truth` is complete when they end.

    Args:
        seed: The same seed and arguments give the same frames on every platform.
        seconds: How much time the recording covers.
        faults: What goes wrong.
        instruments: Whose feeds are recorded.
    """

    def __init__(
        self,
        seed: int,
        *,
        seconds: float = 30.0,
        faults: Iterable[Fault] = (),
        instruments: Iterable[Instrument] = INSTRUMENTS,
    ) -> None:
        self._random = Random(seed)
        self._steps = round(seconds * 1_000) // _STEP_MS
        self._faults = sorted(faults, key=lambda fault: fault.at)
        self._ids = 4_000_000_000_000 + self._random.randrange(10**9)
        self._feeds = [_Feed(Market(i, Random(self._random.getrandbits(64))), self._random) for i in instruments]
        self._index = 0
        self._recv_ns = START_NS
        self._down_until = -1
        self._depth_conn = 1
        self.truth = Truth(seed)

    def __iter__(self) -> Iterator[RecordedFrame]:
        symbols = [feed.market.instrument.symbol.lower() for feed in self._feeds]
        depth = f"{_BASE}/public/stream?streams={'/'.join(f'{s}@depth@100ms' for s in symbols)}"
        trades = f"{_BASE}/market/stream?streams={'/'.join(f'{s}@aggTrade/{s}@kline_1m' for s in symbols)}"
        info = {"timezone": "UTC", "serverTime": START_NS // _MS, "symbols": [_listing(f) for f in self._feeds]}
        yield self._frame(0, "http", f"{_REST}/fapi/v1/exchangeInfo", info, method="GET", status=200)
        yield self._frame(1, "open", depth, None, conn=1)
        yield self._frame(1, "open", trades, None, conn=2)
        for step in range(1, self._steps + 1):
            due = [fault for fault in self._faults if fault.at * 1_000 <= step * _STEP_MS]
            if self._down_until == step:
                self._depth_conn += 2
                yield self._frame(step * _STEP_MS, "open", depth, None, conn=self._depth_conn)
            for fault in due:
                if fault.kind == "reconnect":
                    self._note(fault)
                    self._down_until = step + 10
                    yield self._frame(step * _STEP_MS, "close", depth, None, conn=self._depth_conn)
                    for feed in self._feeds:
                        feed.start_again()
            for feed in self._feeds:
                yield from self._step(feed, step, due)
        for feed in self._feeds:
            instrument = feed.market.instrument
            self.truth.books[instrument.symbol] = {
                "bids": _levels(instrument, feed.market.bids, best_is_highest=True),
                "asks": _levels(instrument, feed.market.asks, best_is_highest=False),
            }
            self.truth.trades[instrument.symbol] = feed.trades

    def _step(self, feed: "_Feed", step: int, due: list[Fault]) -> Iterator[RecordedFrame]:
        now_ms = START_NS // _MS + step * _STEP_MS
        symbol = feed.market.instrument.symbol
        bids, asks, fills = feed.market.step()
        due = [fault for fault in due if fault.symbol == symbol and fault in self._faults]
        for candle in feed.ended_candle(now_ms):
            yield self._stream(step, 2, f"{symbol.lower()}@kline_1m", candle)
        for fill in fills:
            trade = feed.trade(fill, now_ms)
            lost = next((fault for fault in due if fault.kind == "lost_trade"), None)
            if lost:
                self._note(lost)
                due.remove(lost)
                continue
            feed.trades += 1
            yield self._stream(step, 2, f"{symbol.lower()}@aggTrade", trade)
        for candle in feed.changed_candle(now_ms):
            yield self._stream(step, 2, f"{symbol.lower()}@kline_1m", candle)
        if bids or asks:
            yield from self._depth(feed, step, feed.depth(bids, asks, now_ms, self._next_ids()), due)

    def _depth(self, feed: "_Feed", step: int, update: dict[str, Any], due: list[Fault]) -> Iterator[RecordedFrame]:
        if step < self._down_until:
            return
        symbol = feed.market.instrument.symbol
        fault = next((fault for fault in due if fault.kind in ("lost", "malformed", "duplicate")), None)
        kind = fault.kind if fault else None
        if fault:
            self._note(fault)
        if kind == "lost":
            feed.start_again()
            return
        frame = self._stream(step, self._depth_conn, f"{symbol.lower()}@depth@100ms", update)
        if kind == "malformed":
            text = str(frame["body"])
            yield {**frame, "body": text[: len(text) // 2]}
            feed.start_again()
            return
        yield frame
        self._tell_top(feed)
        if kind == "duplicate":
            yield self._again(frame)
        if snapshot := feed.snapshot(update["u"], update["E"]):
            url = f"{_REST}/fapi/v1/depth?symbol={symbol}&limit={_SNAPSHOT_LEVELS}"
            yield self._frame(step * _STEP_MS, "http", url, snapshot, method="GET", status=200)

    def _tell_top(self, feed: "_Feed") -> None:
        bid, ask = feed.market.best
        price, size = feed.market.instrument.price, feed.market.instrument.size
        top = (price(bid), size(feed.market.bids[bid]), price(ask), size(feed.market.asks[ask]))
        self.truth.tops.append((self._index - 1, feed.market.instrument.symbol, *top))

    def _note(self, fault: Fault) -> None:
        self._faults.remove(fault)
        self.truth.faults.append({**asdict(fault), "frame": self._index, "recv_ns": self._recv_ns})

    def _next_ids(self) -> tuple[int, int]:
        """First and last id of an update: other symbols' ids lie between those of this one."""
        first = self._ids + self._random.randrange(1, 900)
        self._ids = first + self._random.randrange(1, 3_000)
        return first, self._ids

    def _stream(self, step: int, conn: int, name: str, data: Mapping[str, Any]) -> RecordedFrame:
        url = f"{_BASE}/{'market' if conn == 2 else 'public'}/stream"
        return self._frame(step * _STEP_MS, "text", url, {"stream": name, "data": data}, conn=conn)

    def _frame(self, ms: int, kind: Kind, url: str, body: object, **more: Any) -> RecordedFrame:
        # Receiving takes 8 to 30 ms, and never goes back in time.
        earliest = START_NS + ms * _MS + self._random.randrange(8_000_000, 30_000_000)
        self._recv_ns = max(self._recv_ns + self._random.randrange(1, 50_000), earliest)
        self._index += 1
        text = None if body is None else json.dumps(body, separators=(",", ":"))
        return cast("RecordedFrame", {"recv_ns": self._recv_ns, "kind": kind, "url": url, "body": text, **more})

    def _again(self, frame: RecordedFrame) -> RecordedFrame:
        self._recv_ns += 1_000
        self._index += 1
        return {**frame, "recv_ns": self._recv_ns}


class _Feed:
    """The wire state of one symbol: ids, candle, and whether the recorder still needs a snapshot."""

    def __init__(self, market: Market, random: Random) -> None:
        self.market = market
        self.trades = 0
        self._random = random
        self._last_id = 0
        self._aggregate_id = random.randrange(10**8, 10**9)
        self._trade_id = random.randrange(10**9, 10**10)
        self._buffered: int | None = 0
        self._held: dict[str, Any] | None = None
        self._price = market.best[0]
        self._candle = _Candle(START_NS // _MS, self._price)
        self._candle_changed = False

    def start_again(self) -> None:
        """The recorder has lost the book: it buffers and asks for a snapshot."""
        self._buffered, self._held = 0, None

    def depth(self, bids: Levels, asks: Levels, now_ms: int, ids: tuple[int, int]) -> dict[str, Any]:
        instrument = self.market.instrument
        previous, (first, self._last_id) = self._last_id or ids[0] - 1, ids
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "T": now_ms - self._random.randrange(1, 9),
            "s": instrument.symbol,
            "U": first,
            "u": self._last_id,
            "pu": previous,
            "b": [[instrument.price(t), instrument.size(bids[t])] for t in sorted(bids, reverse=True)],
            "a": [[instrument.price(t), instrument.size(asks[t])] for t in sorted(asks)],
        }

    def snapshot(self, last_id: int, now_ms: int) -> dict[str, Any] | None:
        """The answer of the venue, if it arrives now: taken at the second buffered event, it comes with the third."""
        if self._buffered is None:
            return None
        self._buffered += 1
        if self._buffered == 2:
            instrument = self.market.instrument
            self._held = {
                "lastUpdateId": last_id,
                "E": now_ms,
                "T": now_ms - 3,
                "bids": _levels(instrument, self.market.bids, best_is_highest=True),
                "asks": _levels(instrument, self.market.asks, best_is_highest=False),
            }
        if self._buffered < 3:
            return None
        self._buffered = None
        return self._held

    def trade(self, fill: Fill, now_ms: int) -> dict[str, Any]:
        instrument = self.market.instrument
        self._aggregate_id += 1
        first = self._trade_id + 1
        self._trade_id += fill.orders
        self._price = fill.ticks
        at = now_ms - self._random.randrange(5, 95)
        self._candle.add(fill, first, self._trade_id)
        self._candle_changed = True
        return {
            "e": "aggTrade",
            "E": now_ms,
            "a": self._aggregate_id,
            "s": instrument.symbol,
            "p": instrument.price(fill.ticks),
            "q": instrument.size(fill.lots),
            "nq": instrument.size(fill.lots),
            "f": first,
            "l": self._trade_id,
            "T": at,
            "m": fill.taker_sells,
        }

    def ended_candle(self, now_ms: int) -> Iterator[dict[str, Any]]:
        """The last push of a minute that has ended; its trades are those of the steps that end in it."""
        minute = (now_ms - _STEP_MS) // _MINUTE_MS * _MINUTE_MS
        if self._candle.open_ms != minute:
            yield self._candle.push(self.market.instrument, now_ms, final=True)
            self._candle = _Candle(minute, self._price)

    def changed_candle(self, now_ms: int) -> Iterator[dict[str, Any]]:
        """What has changed, every 300 ms."""
        if self._candle_changed and now_ms // _STEP_MS % 3 == 0:
            self._candle_changed = False
            yield self._candle.push(self.market.instrument, now_ms, final=False)


class _Candle:
    def __init__(self, open_ms: int, price: int) -> None:
        self.open_ms = open_ms
        self._open = self._high = self._low = self._close = price
        self._first_id = self._last_id = -1
        self._lots = self._bought = self._notional = self._bought_notional = self._count = 0

    def add(self, fill: Fill, first_id: int, last_id: int) -> None:
        if not self._count:
            self._open = self._high = self._low = fill.ticks
            self._first_id = first_id
        self._last_id = last_id
        self._count += fill.orders
        self._high, self._low, self._close = max(self._high, fill.ticks), min(self._low, fill.ticks), fill.ticks
        self._lots += fill.lots
        self._notional += fill.lots * fill.ticks
        if not fill.taker_sells:
            self._bought += fill.lots
            self._bought_notional += fill.lots * fill.ticks

    def push(self, instrument: Instrument, now_ms: int, *, final: bool) -> dict[str, Any]:
        scale = instrument.tick * instrument.lot
        digits = instrument.price_digits + instrument.size_digits
        return {
            "e": "kline",
            "E": now_ms,
            "s": instrument.symbol,
            "k": {
                "t": self.open_ms,
                "T": self.open_ms + _MINUTE_MS - 1,
                "s": instrument.symbol,
                "i": "1m",
                "f": self._first_id,
                "L": self._last_id,
                "o": instrument.price(self._open),
                "c": instrument.price(self._close),
                "h": instrument.price(self._high),
                "l": instrument.price(self._low),
                "v": instrument.size(self._lots),
                "n": self._count,
                "x": final,
                "q": decimal(self._notional * scale, digits),
                "V": instrument.size(self._bought),
                "Q": decimal(self._bought_notional * scale, digits),
                "B": "0",
            },
        }


def _levels(instrument: Instrument, levels: Levels, *, best_is_highest: bool) -> list[tuple[str, str]]:
    best_first = sorted(levels, reverse=best_is_highest)[:_SNAPSHOT_LEVELS]
    return [(instrument.price(ticks), instrument.size(levels[ticks])) for ticks in best_first]


def _listing(feed: _Feed) -> dict[str, Any]:
    instrument = feed.market.instrument
    price_step, size_step = instrument.price(1), instrument.size(1)
    return {
        "symbol": instrument.symbol,
        "pair": instrument.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": instrument.price_digits,
        "quantityPrecision": instrument.size_digits,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": price_step, "minPrice": price_step, "maxPrice": "1000000"},
            {"filterType": "LOT_SIZE", "stepSize": size_step, "minQty": size_step, "maxQty": "1000000"},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
    }


def write(path: str | Path, generator: Generator, truth: str | Path | None = None) -> int:
    """Writes a recording, and what is true of it as JSON, and returns the number of frames."""
    count = recording.write(path, generator)
    if truth is not None:
        Path(truth).write_text(json.dumps(asdict(generator.truth)), encoding="utf-8")
    return count


def main(arguments: list[str] | None = None) -> None:
    """`python -m coby.simulator.generate FILE`."""
    parser = argparse.ArgumentParser(prog="python -m coby.simulator.generate", description=__doc__)
    parser.add_argument("file", type=Path, help="where to write; compressed if it ends in .gz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fault", type=Fault.parse, action="append", default=[], metavar="KIND@SECONDS[:SYMBOL]")
    parser.add_argument("--truth", type=Path, help="where to write what is true of it")
    chosen = parser.parse_args(arguments)
    generator = Generator(chosen.seed, seconds=chosen.seconds, faults=chosen.fault)
    print(f"{chosen.file}: {write(chosen.file, generator, chosen.truth)} frames")


if __name__ == "__main__":
    main()
