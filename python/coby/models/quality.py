"""What a data processor says about a book: figures, faults and oddities."""

from typing import Annotated, Literal

from pydantic import AllowInfNan, Field

from coby.models.base import Count, MarketModel, Model, Quantity, Text

Finite = Annotated[float, AllowInfNan(False)]
Severity = Literal["info", "warning", "error"]


class QualityIssue(Model):
    """One thing that is wrong with the data, and what it costs."""

    code: Text
    """Dotted and stable, like `book.crossed`."""
    weight: Annotated[float, Field(ge=0, le=100)]
    """Points taken off the score."""
    message: str = ""
    """For people."""


class QualityReport(MarketModel):
    """How far the data of one book can be trusted."""

    issues: tuple[QualityIssue, ...] = ()

    @property
    def score(self) -> float:
        """100 without issues, less their weights, never below 0."""
        return max(0.0, 100.0 - sum(issue.weight for issue in self.issues))

    @property
    def is_valid(self) -> bool:
        """Whether the book may be used: nothing costs all points."""
        return all(issue.weight < 100 for issue in self.issues)


class BookMetrics(MarketModel):
    """Figures of one book at one time; None where a side is missing."""

    mid_price: Finite | None = None
    """Half-way between the best prices."""
    spread: Finite | None = None
    """Best ask minus best bid."""
    spread_bps: Finite | None = None
    """The spread in hundredths of a percent of the mid price."""
    bid_volume: Quantity = 0.0
    """Sum of the bids' sizes."""
    ask_volume: Quantity = 0.0
    """Sum of the asks' sizes."""
    imbalance: Annotated[float, Field(ge=-1, le=1)] | None = None
    """`(bids - asks) / (bids + asks)`."""
    bid_levels: Count = 0
    ask_levels: Count = 0


class Anomaly(MarketModel):
    """Something that is allowed and still unusual: a sudden move, a wall, a burst."""

    code: Text
    """Dotted and stable, like `price.jump`."""
    severity: Severity = "info"
    message: str = ""
    """For people."""
    value: Finite | None = None
    """What was measured."""
    limit: Finite | None = None
    """What it was expected to stay below."""
