"""How a venue's connections are."""

from typing import Annotated, Literal, Self

from pydantic import AllowInfNan, Field, model_validator

from coby.models.base import Count, Model, Nanoseconds, Text, Venue

ConnectionState = Literal["connecting", "live", "degraded", "stale", "gap", "disconnected", "failed"]
"""`degraded`: live, but crossed, late, or with gaps of late; `stale`: silent for too long; `failed`: given up."""


class ConnectionStatus(Model):
    """How one venue is: for health reports and the status page."""

    exchange: Venue
    """Venue id."""
    state: ConnectionState
    since: Nanoseconds
    """When it came into this state."""
    symbols: tuple[Text, ...] = ()
    """What is subscribed there."""
    connections: Count = 0
    """Open sockets."""
    messages: Count = 0
    """Frames received since the start."""
    message_rate: Annotated[float, Field(ge=0), AllowInfNan(False)] = 0.0
    """Frames a second, lately."""
    last_message: Nanoseconds | None = None
    """When the last frame came."""
    attempt: Count = 0
    """Attempts to connect since it was last connected."""
    next_attempt: Nanoseconds | None = None
    """When the next attempt is due; None when none is planned."""
    open_gaps: Count = 0
    """Channels that are not good now."""
    code: str | None = None
    """Code of the error that brought it here."""
    reason: str | None = None
    """That error, or the venue's words, for people."""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.state == "failed" and not self.reason:
            raise ValueError("state is failed: a reason must say why")
        return self

    @property
    def venue(self) -> str:
        """`exchange` under the name that the rest of COBY uses."""
        return self.exchange

    @property
    def is_connected(self) -> bool:
        """Whether data can come."""
        return self.state in {"live", "degraded", "stale", "gap"}

    @property
    def is_healthy(self) -> bool:
        """Whether data comes and is good."""
        return self.state in {"live", "degraded"}
