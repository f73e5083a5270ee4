"""Candles."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AllowInfNan, Field, model_validator

from coby.models.base import Count, MarketModel, Nanoseconds, Price, Quantity, head, pick


class Candle(MarketModel):
    """What was traded in `[open_time, open_time + interval)`. Its timestamp is its open time."""

    interval: Annotated[Nanoseconds, Field(gt=0)]
    """Its length."""
    open_time: Nanoseconds
    """Inclusive; the one before it ends here."""
    open: Price
    """First price."""
    high: Price
    """Highest price."""
    low: Price
    """Lowest price."""
    close: Price
    """Last price."""
    volume: Quantity
    """Sum of sizes."""
    notional: Quantity | None = None
    """Sum of price times size, where it is known."""
    count: Count | None = None
    """Number of trades, where it is known."""
    taker_buy: Annotated[float, Field(ge=0), AllowInfNan(False)] | None = None
    """Sum of the sizes that takers bought, where it is known."""
    revision: Count = 0
    """From 0; of several revisions of one candle the last counts."""
    source: Literal["trades", "venue"] = "trades"
    """Made of trades, or sent by the venue."""
    closed: bool = True
    """Whether its interval is over."""

    @model_validator(mode="before")
    @classmethod
    def _begins_at_its_open(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("timestamp") is None and given.get("open_time") is not None:
            return dict(given) | {"timestamp": given["open_time"], "ts_event": given.get("ts_event")}
        return given

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if not self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise ValueError(
                f"open {self.open} and close {self.close} must lie between low {self.low} and high {self.high}"
            )
        return self

    @property
    def close_time(self) -> int:
        """Exclusive, nanoseconds: where the next one begins."""
        return self.open_time + self.interval

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of `candles`."""
        prices = pick(row, "interval", "open_time", "open", "high", "low", "close", "volume")
        rest = pick(row, "notional", "count", "taker_buy", "revision", "source")
        return cls.model_validate(head(row) | prices | rest)
