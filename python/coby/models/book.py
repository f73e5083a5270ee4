"""Order books."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from coby.models.base import BookState, MarketModel, Model, Price, Quantity, head, pick


class PriceLevel(Model):
    """All that rests at one price."""

    price: Price
    """Quote units per base unit, above 0."""
    size: Quantity
    """The venue's size unit, 0 or more."""

    @property
    def notional(self) -> float:
        """Price times size."""
        return self.price * self.size


def _as_levels(given: object) -> object:
    """Also takes `(price, size)` pairs."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    return tuple(
        {"price": level[0], "size": level[1]} if isinstance(level, tuple | list) and len(level) == 2 else level
        for level in given
    )


Levels = Annotated[Sequence[PriceLevel], BeforeValidator(_as_levels)]


class OrderBookSnapshot(MarketModel):
    """The best levels of a book at one time.

    Levels are given in any order and kept best first; a price may be there once a side. Bids may reach or pass the
    asks: that is what a crossed book is, and what books of several venues together often are.
    """

    bids: Levels = ()
    """Highest price first."""
    asks: Levels = ()
    """Lowest price first."""
    state: BookState = "live"
    """Whether it can be trusted."""

    @model_validator(mode="after")
    def _best_first(self) -> Self:
        for side, descending in (("bids", True), ("asks", False)):
            levels: Sequence[PriceLevel] = getattr(self, side)
            ordered = tuple(sorted(levels, key=lambda level: level.price, reverse=descending))
            for one, other in pairwise(ordered):
                if one.price == other.price:
                    raise ValueError(f"{side} have the price {one.price} twice; a book has one level for a price")
            self.__dict__[side] = ordered
        return self

    @property
    def best_bid(self) -> PriceLevel | None:
        """The highest bid."""
        return self.bids[0] if self.bids else None

    @property
    def best_ask(self) -> PriceLevel | None:
        """The lowest ask."""
        return self.asks[0] if self.asks else None

    @property
    def mid_price(self) -> float | None:
        """Half-way between the best prices; None unless both sides have levels."""
        # Halved first: the sum of two floats may be too large.
        return self.bids[0].price / 2 + self.asks[0].price / 2 if self.bids and self.asks else None

    @property
    def spread(self) -> float | None:
        """Best ask minus best bid, below 0 for a crossed book; None unless both sides have levels."""
        return self.asks[0].price - self.bids[0].price if self.bids and self.asks else None

    @property
    def spread_bps(self) -> float | None:
        """The spread in hundredths of a percent of the mid price; None unless both sides have levels."""
        spread, mid = self.spread, self.mid_price
        return spread / mid * 1e4 if spread is not None and mid else None

    @property
    def bid_volume(self) -> float:
        """Sum of the bids' sizes."""
        return math.fsum(level.size for level in self.bids)

    @property
    def ask_volume(self) -> float:
        """Sum of the asks' sizes."""
        return math.fsum(level.size for level in self.asks)

    @property
    def imbalance(self) -> float | None:
        """`(bids - asks) / (bids + asks)` of all sizes: 1 for bids only, -1 for asks only; None for an empty book."""
        return self.imbalance_of(max(len(self.bids), len(self.asks)))

    def imbalance_of(self, levels: int) -> float | None:
        """The imbalance of the best `levels` of each side, from -1 to 1; None where nothing rests there."""
        if levels < 0:
            raise ValueError(f"levels is {levels}: it must be 0 or more")
        sides = (self.bids[:levels], self.asks[:levels])
        # As parts of the largest size, sums neither overflow nor vanish.
        largest = max((level.size for side in sides for level in side), default=0.0)
        if largest == 0:
            return None
        bids, asks = (math.fsum(level.size / largest for level in side) for side in sides)
        return (bids - asks) / (bids + asks)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of `book_snapshots`."""
        bids = tuple(zip(row["bid_prices"], row["bid_sizes"], strict=True))
        asks = tuple(zip(row["ask_prices"], row["ask_sizes"], strict=True))
        time = {"timestamp": row["t"]} if row.get("ts_event") is None and row.get("t") is not None else {}
        return cls.model_validate(head(row) | time | pick(row, "state") | {"bids": bids, "asks": asks})
