"""The venues that can be simulated, by id; each file speaks one venue's wire format and nothing else."""

from coby.simulator.exchange import Venue
from coby.simulator.venues.binance_futures import BinanceFutures
from coby.simulator.venues.bitstamp import Bitstamp
from coby.simulator.venues.coinbase import Coinbase
from coby.simulator.venues.kraken import Kraken
from coby.simulator.venues.kucoin import Kucoin

VENUES: dict[str, type[Venue]] = {venue.name: venue for venue in (BinanceFutures, Bitstamp, Coinbase, Kraken, Kucoin)}
