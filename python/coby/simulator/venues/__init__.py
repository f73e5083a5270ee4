"""The venues that can be simulated, by id; each file speaks one venue's wire format and nothing else."""

from coby.simulator.exchange import Venue
from coby.simulator.venues.binance import Binance
from coby.simulator.venues.binance_futures import BinanceFutures
from coby.simulator.venues.bitfinex import Bitfinex
from coby.simulator.venues.bitget import Bitget
from coby.simulator.venues.bitstamp import Bitstamp
from coby.simulator.venues.bybit import Bybit
from coby.simulator.venues.coinbase import Coinbase, CoinbaseAdvanced
from coby.simulator.venues.cryptocom import CryptoCom
from coby.simulator.venues.deribit import Deribit
from coby.simulator.venues.dydx import Dydx
from coby.simulator.venues.gateio import Gateio
from coby.simulator.venues.gemini import Gemini
from coby.simulator.venues.htx import Htx
from coby.simulator.venues.hyperliquid import Hyperliquid
from coby.simulator.venues.kraken import Kraken
from coby.simulator.venues.kucoin import Kucoin
from coby.simulator.venues.mexc import Mexc
from coby.simulator.venues.okx import Okx
from coby.simulator.venues.upbit import Upbit

VENUES: dict[str, type[Venue]] = {
    venue.name: venue
    for venue in (
        Binance,
        BinanceFutures,
        Bitfinex,
        Bitget,
        Bitstamp,
        Bybit,
        Coinbase,
        CryptoCom,
        Deribit,
        Dydx,
        Gateio,
        Gemini,
        Htx,
        Hyperliquid,
        Kraken,
        Kucoin,
        Mexc,
        Okx,
        Upbit,
    )
}

ALL_FEEDS: dict[str, type[Venue]] = {**VENUES, "coinbase_advanced": CoinbaseAdvanced}
"""How clients read them: a venue by its id, and the second feed of one that has two by a name of its own."""
