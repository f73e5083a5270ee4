"""The Rust core. Prices and sizes cross this boundary exactly (decimal strings) or as Arrow columns.

Times are nanoseconds since the Unix epoch, UTC. Positions (`pos`) are a record's place on the tape: they grow strictly
and are never used twice. Every error is a `coby.utils.exceptions.CobyError`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, final

def build_info() -> dict[str, str]:
    """What this module was built from: `version`, `profile`, `target`, `code` (hash of what rows depend on)."""

def schema() -> dict[str, list[dict[str, Any]]]:
    """For each row kind its columns in order: name, type, unit, nullable, doc."""

def venues() -> list[dict[str, Any]]:
    """The venues' specs: id, name, protocol, closed, sockets, limits, books, trades, candles, with proofs."""

def tape_info(directory: str) -> dict[str, Any]:
    """Segments, runs, positions, record counts and sizes of a tape, from its manifests and headers; changes nothing.

    Raises:
        TapeError: No tape is there, or one of a newer version.
    """

def tape_verify(directory: str) -> dict[str, Any]:
    """Reads every record and checks every checksum; says what is damaged and where; changes nothing.

    Raises:
        TapeError: No tape is there, or one of a newer version.
    """

def tape_repair(directory: str) -> dict[str, Any]:
    """Writes damaged segments anew from what can be read, and their manifests; keeps the originals.

    What could not be read replays as a gap.

    Raises:
        TapeError: No tape is there, it is in use, or of a newer version.
    """

@final
class OrderBook:
    """A price-aggregated book (L2), exact: prices and sizes are integers with a scale of 0 to 18 fraction digits.

    Scales widen by themselves when a number has more fraction digits.
    """

    def __init__(self, price_scale: int = 8, size_scale: int = 8) -> None:
        """An empty book.

        Raises:
            ConfigError: A scale outside 0..=18.
        """
    def apply(
        self,
        bids: Iterable[tuple[str, str]] = ...,
        asks: Iterable[tuple[str, str]] = ...,
        *,
        snapshot: bool = False,
        depth: int | None = None,
    ) -> None:
        """Takes `(price, size)`: absolute sizes, zero removes; a snapshot replaces; then each side is cut to depth.

        Raises:
            NumberError: A text is no decimal, not positive (price) or negative (size), or does not fit; nothing
                has been applied then.
        """
    def bids(self, levels: int | None = None) -> list[tuple[str, str]]:
        """`(price, size)` pairs, best first, all or the best `levels`."""
    def asks(self, levels: int | None = None) -> list[tuple[str, str]]:
        """`(price, size)` pairs, best first, all or the best `levels`."""
    @property
    def best_bid(self) -> tuple[str, str] | None:
        """`(price, size)` of the highest bid; None without bids."""
    @property
    def best_ask(self) -> tuple[str, str] | None:
        """`(price, size)` of the lowest ask; None without asks."""
    @property
    def mid_price(self) -> float | None:
        """Half-way between the best prices; None unless both sides have levels."""
    @property
    def spread(self) -> float | None:
        """Best ask minus best bid; None unless both sides have levels."""

@final
class Event:
    """One decoded event; attributes that its kind does not have are None.

    trade: `price size side trade_id history`; book: `snapshot bids asks depth`; gap: `cause`; checksum: `ok`.
    """

    kind: str
    frame: int
    venue: str
    native_symbol: str | None
    symbol: str | None
    ts_event: int | None
    ts_recv: int
    def to_dict(self) -> dict[str, Any]:
        """The attributes that its kind has, ready for JSON."""
    def __getattr__(self, name: str) -> Any: ...

@final
class Decoder:
    """One venue's sessions, keepers and books, fed with recorded frames."""

    def __init__(self, venue: str, *, sync: bool = True) -> None:
        """A decoder without any state.

        Raises:
            UnknownVenueError: No venue has this id.
        """
    def feed(self, frames: list[Mapping[str, Any]]) -> list[Event]:
        """Decodes a batch of recorded frames (the recording format) and returns the events they release.

        Raises:
            RecordingError: A mapping lacks a field or has a wrong one; what a venue sent never raises.
        """

@final
class Cut:
    """Rows of the positions first_pos..=last_pos, never splitting a record."""

    @property
    def first_pos(self) -> int:
        """First position covered."""
    @property
    def last_pos(self) -> int:
        """Last position covered: what a store's watermark becomes."""
    @property
    def rows(self) -> dict[str, int]:
        """Row count by kind, kinds without rows left out."""
    def batch(self, kind: str) -> RecordBatch:
        """The rows of a kind, in the order of `(pos, n)`.

        Raises:
            ConfigError: There is no such kind.
        """

@final
class RecordBatch:
    """Exports itself through the Arrow PyCapsule interface (pyarrow.record_batch(batch))."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...
    def __len__(self) -> int: ...

@final
class Engine:
    """An engine on a thread of its own. It never takes the GIL; fileno() becomes readable when cuts wait."""

    @staticmethod
    def importing(venue: str, files: list[str], tape: str, settings: Mapping[str, Any]) -> Engine:
        """Imports recordings (JSON lines, plain, gzip or zstd) into a tape, continuing one that was killed.

        Raises:
            UnknownVenueError: No venue has this id.
            ConfigError: A setting is unknown or out of range.
            RecordingError: A file cannot be opened.
            TapeError: The tape is in use, of a newer version, or cannot be written.
        """
    @staticmethod
    def replaying(tape: str, *, after: int = 0, settings: Mapping[str, Any] | None = None) -> Engine:
        """Replays a tape; rows of positions up to `after` are derived but not handed out.

        Raises:
            ConfigError: A setting is unknown or out of range.
            TapeError: No tape is there, or one of a newer version.
        """
    def fileno(self) -> int:
        """A descriptor that is readable while cuts wait, `durable_pos` has moved, or the engine has ended."""
    def drain(self) -> list[Cut]:
        """Cuts that wait, without blocking; clears the wake-up first."""
    @property
    def durable_pos(self) -> int:
        """The last position whose tape block is fsynced: the bound of what a store may commit."""
    @property
    def finished(self) -> bool:
        """The source has ended and every cut was drained."""
    def status(self) -> dict[str, Any]:
        """How far it is.

        `frames`, `frames_total` (None while unknown), `records`, `rows`, `pos`, `durable_pos`, `errors` (refused),
        `row_hashes` by kind once it has ended, `failed` (text or None).
        """
    def ladder(self, venue: str, native: str, levels: int = 10) -> dict[str, Any] | None:
        """The best levels of a book: `state`, `pos`, `bids` and `asks` as `(price, size)` texts; None if unknown."""
    def stop(self) -> None:
        """Asks the thread to flush and end, and waits for it."""
