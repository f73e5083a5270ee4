"""Which faults at a book's channel a venue's protocol can prove; a client's patience proves silence everywhere."""

from coby.simulator.faults import Kind

ALWAYS: tuple[Kind, ...] = ("truncate", "close", "freeze")
SEQUENCED: tuple[Kind, ...] = (*ALWAYS, "drop", "reorder", "skip")
STALE: frozenset[str] = frozenset(
    ("binance", "binance_futures", "bitget", "cryptocom", "deribit", "gateio", "gemini", "htx", "kraken", "kucoin")
    + ("mexc", "okx")
)
"""Venues whose snapshots say, by the book's own numbers or a checksum, of when they are."""
PROVABLE: dict[str, tuple[Kind, ...]] = {
    "binance_futures": SEQUENCED,
    "bitstamp": ALWAYS,
    "coinbase": ALWAYS,
    "kraken": (*ALWAYS, "drop", "reorder", "corrupt"),
    "kucoin": SEQUENCED,
    "okx": SEQUENCED,
    "bybit": SEQUENCED,
    "binance": SEQUENCED,
    "bitfinex": (*SEQUENCED, "corrupt"),
    "htx": SEQUENCED,
    "hyperliquid": ALWAYS,
    "gateio": SEQUENCED,
    "bitget": SEQUENCED,
    "mexc": SEQUENCED,
    "cryptocom": SEQUENCED,
    "gemini": SEQUENCED,
    "deribit": SEQUENCED,
    "dydx": SEQUENCED,
    "upbit": ALWAYS,
    "coinbase_advanced": SEQUENCED,
}
"""By feed, as `coby.simulator.venues.ALL_FEEDS` names them."""
