"""Books summed up in price buckets."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from coby.models.base import Count, MarketModel, Model, Price, Quantity, head


class PriceBucket(Model):
    """What rests in one bucket of one side."""

    index: int = Field(ge=-(2**63), lt=2**63)
    """Price divided by the bucket size: bids rounded down, asks up."""
    quantity: Quantity
    """Sum of sizes."""
    notional: Quantity = 0.0
    """Sum of price times size."""
    levels: Count = 0
    """Number of price levels."""


class PriceBuckets(MarketModel):
    """The non-empty buckets nearest to the best prices, best first."""

    bucket_size: Price
    """In quote units."""
    bids: tuple[PriceBucket, ...] = ()
    """Highest price first."""
    asks: tuple[PriceBucket, ...] = ()
    """Lowest price first."""

    @model_validator(mode="after")
    def _best_first(self) -> Self:
        for side, descending in (("bids", True), ("asks", False)):
            buckets: tuple[PriceBucket, ...] = getattr(self, side)
            if len({bucket.index for bucket in buckets}) != len(buckets):
                raise ValueError(f"{side} have a bucket twice")
            self.__dict__[side] = tuple(sorted(buckets, key=lambda bucket: bucket.index, reverse=descending))
        return self

    def price_of(self, index: int) -> float:
        """The edge of a bucket that its prices were rounded to: the lower one of bids, the upper one of asks."""
        # Through the shortest decimals, so that bucket 3 of size 0.1 is at 0.3.
        return float(f"{index * self.bucket_size:.15g}")

    @property
    def bid_buckets(self) -> dict[float, float]:
        """Quantity by price of the bids' buckets, best first."""
        return {self.price_of(bucket.index): bucket.quantity for bucket in self.bids}

    @property
    def ask_buckets(self) -> dict[float, float]:
        """Quantity by price of the asks' buckets, best first."""
        return {self.price_of(bucket.index): bucket.quantity for bucket in self.asks}

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """The rows of `price_buckets` of one book, moment and bucket size: one a side, or one alone.

        Raises:
            ValueError: There is no row, or they belong to different moments.
        """
        rows = list(rows)
        if not rows:
            raise ValueError("no rows, so no buckets")
        keys = {(row["venue"], row.get("native_symbol"), row["t"], row["bucket_size"]) for row in rows}
        if len(keys) > 1 or len({row["side"] for row in rows}) < len(rows):
            raise ValueError(f"rows of different books, moments or bucket sizes: {sorted(map(str, keys))}")
        columns = ("index", "quantity", "notional", "levels")
        sides = {
            f"{row['side']}s": [
                dict(zip(columns, bucket, strict=True))
                for bucket in zip(*(row[column] for column in columns), strict=True)
            ]
            for row in rows
        }
        moment = {"timestamp": rows[0]["t"], "bucket_size": rows[0]["bucket_size"]}
        return cls.model_validate(head(rows[0]) | moment | sides)
