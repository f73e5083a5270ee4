"""Gaps: what is missing, since when, and why."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from coby.models.base import Count, MarketModel, Nanoseconds, head, pick

GapCause = Literal[
    "sequence",
    "join",
    "checksum",
    "crossed",
    "drift",
    "malformed",
    "range",
    "buffer",
    "closed",
    "error",
    "silence",
    "planned",
    "restart",
    "end",
    "overflow",
    "tape",
    "damage",
]


class Gap(MarketModel):
    """A time in which a channel was not good: `(from_, to)`, exclusive at both ends."""

    id: Count
    """The same in the row that opens it and in the row that closes it."""
    channel: Literal["book", "trades", "candles"]
    cause: GapCause
    from_: Nanoseconds = Field(validation_alias=AliasChoices("from_", "from"), serialization_alias="from")
    """When the channel was last good."""
    to: Nanoseconds | None = None
    """When it was good again; None while the gap is open."""
    evidence: str = ""
    """What was seen, for people."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.to is not None and self.to < self.from_:
            raise ValueError(f"to {self.to} is before from {self.from_}")
        return self

    @property
    def is_open(self) -> bool:
        """Whether the channel is still not good."""
        return self.to is None

    @property
    def duration(self) -> int | None:
        """Nanoseconds; None while it is open."""
        return None if self.to is None else self.to - self.from_

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of `gaps`, of either phase."""
        return cls.model_validate(head(row) | pick(row, "id", "channel", "cause", "from", "to", "evidence"))
