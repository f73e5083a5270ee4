"""The past, in the form of the present."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

from coby.interfaces.cut import Cut
from coby.models import ReplaySession


class ReplayManager(ABC):
    """Sessions that replay tapes.

    A session hands out the rows that live had, in the same order, as cuts: whatever takes live cuts takes these. It
    begins paused.
    """

    @abstractmethod
    async def create_session(
        self, start: int, end: int, symbols: Sequence[str] = (), speed: float = 1.0
    ) -> ReplaySession:
        """A session over `[start, end)`, in nanoseconds.

        Args:
            start: First moment.
            end: Last moment, exclusive.
            symbols: Canonical symbols; none for all.
            speed: Times real time; `math.inf` for as fast as it goes.

        Raises:
            ReplayError: There is no tape of that time, or too many sessions.
        """

    @abstractmethod
    async def get_session(self, session_id: str) -> ReplaySession:
        """How it is now.

        Raises:
            SessionNotFoundError: There is none of this id, as for all methods below.
        """

    @abstractmethod
    async def list_sessions(self) -> Sequence[ReplaySession]:
        """All that have not been deleted."""

    @abstractmethod
    async def play(self, session_id: str) -> ReplaySession:
        """Lets it go on; harmless if it does."""

    @abstractmethod
    async def pause(self, session_id: str) -> ReplaySession:
        """Holds it; cuts that were handed out stay."""

    @abstractmethod
    async def set_speed(self, session_id: str, speed: float) -> ReplaySession:
        """Changes its speed from here on.

        Raises:
            ReplayError: The speed is not above 0, or not offered.
        """

    @abstractmethod
    async def seek(self, session_id: str, *, time: int | None = None, pos: int | None = None) -> ReplaySession:
        """Moves it to a time in nanoseconds or behind a tape position; books are then as they were there.

        Raises:
            ReplayError: Neither or both are given, or it lies outside the session.
        """

    @abstractmethod
    def cuts(self, session_id: str) -> AsyncIterator[Cut]:
        """The cuts from here on, at the session's speed; it ends when the session does.

        A session has one iterator; what it has not taken, the replay waits with.
        """

    @abstractmethod
    async def delete_session(self, session_id: str) -> None:
        """Ends it and forgets it."""
