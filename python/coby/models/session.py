"""Replay sessions."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from coby.models.base import Model, Nanoseconds, Text

ReplayState = Literal["paused", "playing", "ended", "failed"]


def _as_speed(value: object) -> object:
    return math.inf if value == "max" else value


def _as_json(speed: float) -> float | str:
    return "max" if math.isinf(speed) else speed


Speed = Annotated[
    float, BeforeValidator(_as_speed), Field(gt=0), PlainSerializer(_as_json, return_type=Any, when_used="json")
]


class ReplaySession(Model):
    """A replay of `[start, end)` and where it is."""

    session_id: Text
    symbols: tuple[Text, ...]
    """What is replayed; empty for everything on the tape."""
    start: Nanoseconds
    """First moment, inclusive."""
    end: Nanoseconds
    """Last moment, exclusive."""
    position: Nanoseconds | None = None
    """The moment shown; `start` if it is not given."""
    speed: Speed = 1.0
    """Times real time; `inf` (`"max"` in JSON) for as fast as it goes."""
    state: ReplayState = "paused"
    reason: str | None = None
    """Why it failed."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        if self.position is None:
            self.__dict__["position"] = self.start
        elif not self.start <= self.position <= self.end:
            raise ValueError(f"position {self.position} must lie between start {self.start} and end {self.end}")
        return self

    @property
    def progress(self) -> float:
        """How much of it has been shown, from 0 to 1."""
        shown = self.start if self.position is None else self.position
        return (shown - self.start) / (self.end - self.start)
