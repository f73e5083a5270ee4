"""The venues that can be simulated, by id; each file speaks one venue's wire format and nothing else."""

from coby.simulator.exchange import Venue
from coby.simulator.venues.binance_futures import BinanceFutures

VENUES: dict[str, type[Venue]] = {venue.name: venue for venue in (BinanceFutures,)}
