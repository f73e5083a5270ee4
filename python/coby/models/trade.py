"""Trades."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator

from coby.models.base import MarketModel, Price, Quantity, TradeSide, head, pick


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class TradeEvent(MarketModel):
    """One trade."""

    price: Price
    """Quote units per base unit."""
    size: Quantity
    """The venue's size unit."""
    side: TradeSide
    """The taker's side."""
    trade_id: Annotated[str, BeforeValidator(_as_text)] = ""
    """As the venue sent it; empty where it sends none."""
    history: bool = False
    """Told again from before the subscription."""

    @property
    def notional(self) -> float:
        """Price times size."""
        return self.price * self.size

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of `trades`."""
        return cls.model_validate(head(row) | pick(row, "price", "size", "side", "trade_id", "history"))
