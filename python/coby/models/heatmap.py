"""Heatmaps of depth."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from coby.models.base import BookSide, MarketModel, Model, Price, Quantity, head, pick


class HeatmapPoint(Model):
    """One cell of a heatmap that is not empty."""

    price: float
    """The edge that the bucket's prices were rounded to."""
    volume: Quantity
    """What rests in the bucket."""
    intensity: Annotated[float, Field(ge=0, le=1)]
    """The volume as a part of the largest in the column."""
    side: BookSide


class HeatmapData(MarketModel):
    """One column of a heatmap: the buckets around the mid price at one moment.

    Row `i` of the bids is bucket `mid_index - i`, row `i` of the asks is bucket `mid_index + 1 + i`; empty buckets
    are 0.
    """

    bucket_size: Price
    """In quote units."""
    mid_index: int = Field(ge=-(2**63), lt=2**63)
    """The mid price divided by the bucket size, rounded down."""
    bid_quantity: tuple[Quantity, ...] = ()
    """From the mid price down."""
    ask_quantity: tuple[Quantity, ...] = ()
    """From the mid price up."""

    @property
    def points(self) -> list[HeatmapPoint]:
        """The cells that are not empty, from the lowest price to the highest."""
        largest = max((*self.bid_quantity, *self.ask_quantity), default=0.0)
        bids = [(self.mid_index - row, volume, "bid") for row, volume in enumerate(self.bid_quantity)]
        asks = [(self.mid_index + 1 + row, volume, "ask") for row, volume in enumerate(self.ask_quantity)]
        return [
            HeatmapPoint.model_validate(
                {
                    "price": float(f"{index * self.bucket_size:.15g}"),
                    "volume": volume,
                    "intensity": volume / largest,
                    "side": side,
                }
            )
            for index, volume, side in [*reversed(bids), *asks]
            if volume > 0
        ]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of `heatmap_columns`."""
        columns = pick(row, "bucket_size", "mid_index", "bid_quantity", "ask_quantity")
        return cls.model_validate(head(row) | {"timestamp": row["t"]} | columns)
