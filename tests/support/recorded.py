"""Recordings of simulated venues together with their truth."""

import base64
import io
import json
from collections.abc import Iterable
from typing import Any

from coby.recording import RecordedFrame
from coby.simulator.faults import Fault
from coby.simulator.record import record
from coby.simulator.truth import Truth
from coby.simulator.venues import ALL_FEEDS
from support.unpacked import unpacked

Entries = list[dict[str, Any]]

GRIDS = {"hyperliquid": 0.54, "upbit": 0.5}
"""Seconds between pictures of the truth, where a book is true only at the moments that its messages name."""

DEPTHS = {
    "kraken": 100,
    "okx": 400,
    "bybit": 200,
    "bitfinex": 100,
    "htx": 400,
    "hyperliquid": 20,
    "gateio": 400,
    "bitget": 1_000,
    "cryptocom": 50,
    "upbit": 30,
}
"""How many levels a side a book has at most."""

SEEDED = {"binance_futures", "binance", "kucoin", "dydx"}
"""Books that know only what their snapshot showed."""

BATCHES_NS = {"deribit": 100_000_000, "dydx": 1_000_000_000, "coinbase_advanced": 250_000_000}
"""How long a trade may wait for others, where they come in batches."""


def recorded(
    venue: str,
    seconds: float,
    faults: Iterable[Fault] = (),
    *,
    seed: int = 1,
    symbols: tuple[str, ...] = ("BTC", "XRP"),
    activity: int = 100,
    every: float | None = None,
) -> tuple[list[RecordedFrame], Entries]:
    """A recording and its truth log, with a picture of the books every so many seconds."""
    out = io.StringIO()
    frames = list(
        record(
            ALL_FEEDS[venue],
            seconds,
            symbols=symbols,
            seed=seed,
            activity=activity,
            faults=lambda _: faults,
            watch=lambda exchange: Truth(exchange, out, every or GRIDS.get(venue, 0.5)).log,
        )
    )
    return frames, [json.loads(line) for line in out.getvalue().splitlines()]


def text_of(frame: RecordedFrame) -> str | None:
    """What a frame says, unpacked; None for what is no frame of a socket."""
    if frame["kind"] == "text":
        return frame["body"]
    if frame["kind"] == "binary_b64":
        return unpacked(base64.b64decode(frame["body"] or ""))
    return None
