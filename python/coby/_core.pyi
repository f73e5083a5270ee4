"""The Rust core. Prices and sizes cross this boundary exactly (decimal strings) or as Arrow columns.

Times are nanoseconds since the Unix epoch, UTC. Positions (`pos`) are a record's place on the tape: they grow strictly
and are never used twice. Every error is a `coby.utils.exceptions.CobyError`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, final

__all__ = [
    "Cut",
    "Decoder",
    "Engine",
    "Event",
    "ExternalFeed",
    "OrderBook",
    "RecordBatch",
    "build_info",
    "schema",
    "tape_info",
    "tape_repair",
    "tape_verify",
    "venues",
]

def build_info() -> dict[str, str]:
    """What this module was built from: `version`, `profile`, `target`, `code` (hash of what rows depend on)."""

def schema() -> dict[str, list[dict[str, Any]]]:
    """For each row kind its columns in order: name, type, unit, nullable, doc.

    Types are named as in Arrow (`uint64`, `string`, `list<float64>`).
    """

def venues() -> list[dict[str, Any]]:
    """The venues' specs, by id: `id name protocol closed sockets rest ping silence limits books trades candles`.

    `protocol` is the date of the protocol description, `closed` says why a venue cannot be connected to, if so. Books
    (`name join rule proof checksum_levels depth refresh limits`) and trades (`name proof aggregated`) say with `proof`
    what their protocol can prove: `none heartbeat checksum sequence`. Candles: `name interval` (nanoseconds).
    """

def tape_info(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """What is on a tape, from its manifests and block headers; changes nothing.

    `segments` (each: `segment run sealed first_pos last_pos first_recv last_recv records blocks bytes raw_bytes`), and
    the sums `records bytes raw_bytes`.

    Raises:
        TapeError: No tape is there, or one of a newer version.
    """

def tape_verify(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads every record and checks every checksum; changes nothing.

    `ok`, `records`, `segments` (as in `tape_info`, and `manifest`: `missing good differs`, `damage`, `torn`), `holes`
    (each: `from_pos to_pos reason`). `damage` and `torn` name `offset bytes reason positions`.

    Raises:
        TapeError: No tape is there, or one of a newer version.
    """

def tape_repair(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Cuts a torn tail, seals what is open, and rewrites damaged segments without what cannot be read.

    Originals stay beside as `.damaged`; what is lost replays as a gap. `cut sealed put_aside repaired` say what was
    done; all are empty when nothing was wrong.

    Raises:
        TapeError: No tape is there, it is in use, or of a newer version.
    """

@final
class OrderBook:
    """A price-aggregated book (L2), exact: prices and sizes are integers with a scale of 0 to 18 fraction digits.

    Scales widen by themselves when a number has more fraction digits.
    """

    def __new__(cls, price_scale: int = 0, size_scale: int = 0) -> OrderBook:
        """An empty book; the scales are those to begin with.

        Raises:
            ConfigError: A scale outside 0..=18.
        """
    def apply(
        self,
        bids: Iterable[tuple[str, str] | list[str]] | None = None,
        asks: Iterable[tuple[str, str] | list[str]] | None = None,
        *,
        snapshot: bool = False,
        depth: int | None = None,
    ) -> None:
        """Takes `(price, size)`: absolute sizes, zero removes; a snapshot replaces; then each side is cut to depth.

        Raises:
            NumberError: A text is no decimal, not positive (price) or negative (size), or does not fit; nothing
                has been applied then.
            ConfigError: A depth below 1.
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
    """One decoded event; attributes that its kind does not have are None. Numbers are exact decimal strings."""

    @property
    def kind(self) -> Literal["trade", "book", "gap", "checksum", "candle", "status"]:
        """What happened."""

    @property
    def frame(self) -> int:
        """Index, from 0, of the frame whose processing released the event."""

    @property
    def venue(self) -> str:
        """Venue id."""

    @property
    def native_symbol(self) -> str | None:
        """The venue's symbol; None for events of a connection."""

    @property
    def symbol(self) -> str | None:
        """Canonical symbol, once an instrument list has named it."""

    @property
    def ts_event(self) -> int | None:
        """The venue's time, nanoseconds."""

    @property
    def ts_recv(self) -> int:
        """Receive time of that frame, nanoseconds."""

    @property
    def price(self) -> str | None:
        """trade: price."""

    @property
    def size(self) -> str | None:
        """trade: size in the venue's unit."""

    @property
    def side(self) -> Literal["buy", "sell"] | None:
        """trade: the taker's side."""

    @property
    def trade_id(self) -> str | None:
        """trade: as the venue sent it."""

    @property
    def history(self) -> bool | None:
        """trade: told again from before the subscription."""

    @property
    def snapshot(self) -> bool | None:
        """book: whether the book was emptied first."""

    @property
    def bids(self) -> list[tuple[str, str]] | None:
        """book: changed bids as `(price, size)`; absolute sizes, 0 removes."""

    @property
    def asks(self) -> list[tuple[str, str]] | None:
        """book: changed asks as `(price, size)`; absolute sizes, 0 removes."""

    @property
    def depth(self) -> int | None:
        """book: each side was then cut to so many levels; None for no cut."""

    @property
    def phase(self) -> Literal["opened", "closed"] | None:
        """gap: which end of it."""

    @property
    def channel(self) -> Literal["book", "trades", "candles"] | None:
        """gap: what is missing."""

    @property
    def cause(self) -> str | None:
        """gap: why, such as `sequence`, `checksum` or `closed`."""

    @property
    def from_(self) -> int | None:
        """gap: when the channel was last good, nanoseconds; `from` in `to_dict`."""

    @property
    def to(self) -> int | None:
        """gap: when it was good again; None when the gap opens."""

    @property
    def evidence(self) -> str | None:
        """gap: what was seen, for people."""

    @property
    def ok(self) -> bool | None:
        """checksum: whether the venue's and ours agree."""

    @property
    def interval(self) -> int | None:
        """candle: nanoseconds."""

    @property
    def open_time(self) -> int | None:
        """candle: its open, inclusive."""

    @property
    def open(self) -> str | None:
        """candle: first price."""

    @property
    def high(self) -> str | None:
        """candle: highest price."""

    @property
    def low(self) -> str | None:
        """candle: lowest price."""

    @property
    def close(self) -> str | None:
        """candle: last price."""

    @property
    def volume(self) -> str | None:
        """candle: sum of sizes."""

    @property
    def notional(self) -> str | None:
        """candle: sum of price times size, where the venue sends it."""

    @property
    def count(self) -> int | None:
        """candle: number of trades, where the venue sends it."""

    @property
    def taker_buy(self) -> str | None:
        """candle: volume that takers bought, where the venue sends it."""

    @property
    def closed(self) -> bool | None:
        """candle: whether the venue says that it is final."""

    @property
    def status(self) -> str | None:
        """status: `opened`, `closed`, `listed` or `error`."""

    @property
    def message(self) -> str | None:
        """status: for people."""

    def to_dict(self) -> dict[str, Any]:
        """The attributes that its kind has, ready for JSON."""

    def __eq__(self, other: object, /) -> bool: ...

@final
class Decoder:
    """One venue's sessions, keepers and books, fed with recorded frames."""

    def __new__(cls, venue: str, *, sync: bool = True) -> Decoder:
        """A decoder without any state.

        Raises:
            UnknownVenueError: No venue has this id.
        """

    def feed(self, frames: Sequence[Mapping[str, Any]]) -> list[Event]:
        """Decodes a batch of recorded frames (the recording format) and returns the events they release.

        Other Python threads run meanwhile.

        Raises:
            RecordingError: A mapping lacks a field or has a wrong one; nothing of the batch has been decoded then. What
                a venue sent never raises.
            EngineError: An internal error; the decoder is of no further use.
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
    def follows(self) -> int:
        """Last position of the cut handed on before this one, or, at a run's beginning, of the tape before it.

        What a consumer has seen beyond it is on no tape; what it has not seen up to it was dropped, and can be derived
        from the tape.
        """
    @property
    def untaped(self) -> bool:
        """Whether its records are on no tape: no store may take it."""
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
    """Exports itself through the Arrow PyCapsule interface (`pyarrow.record_batch(batch)`), mostly without a copy.

    Text from small sets is dictionary-encoded; times are nanoseconds as int64.
    """

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...
    def __len__(self) -> int: ...

@final
class Engine:
    """An engine on a thread of its own. It never takes the GIL; fileno() becomes readable when cuts wait.

    What fails later than at the start ends the engine and is told by `status()["failed"]`.
    """

    @staticmethod
    def importing(
        venue: str,
        files: Sequence[str | os.PathLike[str]],
        tape: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        check: bool = True,
    ) -> Engine:
        """Imports recordings (JSON lines, plain, gzip or zstd) into a tape, continuing one that was killed.

        Args:
            venue: Venue id.
            files: Recordings, merged by receive time.
            tape: Directory of the tape; made where there is none.
            settings: Of the pipeline: `update_interval_ms`, `heatmap_depth`, `snapshot_levels`, `bucket_sizes` (a list
                of `{"base": "BTC", "sizes": ["10"]}`); what is left out has its default.
            check: Whether sealed segments are replayed in the background, to compare row hashes and write checkpoints.

        Raises:
            UnknownVenueError: No venue has this id.
            ConfigError: A setting is unknown or out of range.
            RecordingError: A file cannot be opened.
            TapeError: The tape is in use, of a newer version, or cannot be written.
        """

    @staticmethod
    def live(
        tape: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        venues: Sequence[str],
        symbols: Sequence[str],
        simulator: str | None = None,
        proxies: Mapping[str, str] | None = None,
        root_certificates: str | None = None,
        places: int = 10_000,
        check: bool = True,
    ) -> Engine:
        """Connects to venues, tapes what they send, and keeps their books, until it is stopped.

        It never waits for its consumer: while more than 64 cuts wait, newer ones are dropped, and `Cut.follows` tells.

        Args:
            tape: Directory of the tape; made where there is none, continued by a new run where there is one.
            settings: Of the pipeline, as for `importing`.
            venues: Venue ids.
            symbols: In any spelling; wanted of every venue that has them.
            simulator: `host:port` of simulated exchanges, venue `v` under the path `/v`; by default the real ones.
            proxies: URLs (http, https, socks5, socks5h) by venue id; `all` for those without one of their own.
            root_certificates: PEM file of roots to trust besides the usual ones.
            places: Frames of one connection that may wait before its socket is no longer read.
            check: Whether sealed segments are replayed in the background, to compare row hashes and write checkpoints.

        Raises:
            UnknownVenueError: No venue has this id.
            ConfigError: A setting, a proxy or the certificates cannot be used.
            TapeError: The tape is in use, of a newer version, or cannot be written.
        """

    @staticmethod
    def replaying(
        tape: str | os.PathLike[str],
        *,
        after: int = 0,
        until: int | None = None,
        settings: Mapping[str, Any] | None = None,
        hash: bool = True,  # noqa: A002
    ) -> Engine:
        """Replays a tape; rows of positions up to `after` are derived but not handed out.

        Args:
            tape: Directory of the tape.
            after: A position; where there is a checkpoint before it, the replay begins there.
            until: The replay ends behind this position; by default at the tape's end.
            settings: Other settings than the taped ones.
            hash: Whether rows are hashed for `status()["row_hashes"]`.

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
        """The source has ended, or the engine failed, and every cut was drained."""

    def status(self) -> dict[str, Any]:
        """How far it is.

        Counts `frames records rows errors unknown duplicates holes checked`, positions `pos durable_pos`, `broken`
        (names of segments whose rows a background replay found different), `row_hashes` by kind once it has ended,
        `ended`, and `failed` (text or None). Of a live engine also `dropped_cuts`, and `live`: `run started before
        untaped tape venues`, the state of each venue with its connections, books and the symbols that it lacks.
        """

    def book(self, venue: str, name: str, levels: int = 50) -> dict[str, Any] | None:
        """The best levels of a book, as they are between two records.

        Waits for the engine, up to a second; other Python threads run meanwhile.

        Args:
            venue: Venue id.
            name: The instrument, in any spelling.
            levels: At most so many a side.

        Returns:
            `venue native symbol state crossed pos ts_recv ts_event price_scale size_scale`, `bids` and `asks` as
            `[price, size]` texts, the best first. `state` is `empty`, `buffering`, `live`, `gap` or `aside` (a number
            did not fit; it waits for the next instrument list). None where the engine knows no such venue.

        Raises:
            UnknownSymbolError: The venue has no such instrument, or several.
            EngineError: It has ended, or does not answer.
        """

    def buckets(self, venue: str, name: str, bucket_size: str | None = None, rows: int = 50) -> dict[str, Any] | None:
        """The best buckets of a book, as they are between two records.

        Args:
            venue: Venue id.
            name: The instrument, in any spelling.
            bucket_size: In quote units; by default the first that is kept with the book.
            rows: At most so many a side.

        Returns:
            What `book` begins with, `bucket_size`, and `bids` and `asks` as `[index, quantity, notional, levels]`. None
            where the engine knows no such venue, or the book has never been live and no size is given.

        Raises:
            UnknownSymbolError: The venue has no such instrument, or several.
            ConfigError: The size is no decimal above 0, or finer than the prices.
            EngineError: It has ended, or does not answer.
        """

    def instruments(self, venue: str | None = None) -> list[dict[str, Any]]:
        """What a venue lists, or all venues.

        `venue native symbol base quote kind expiry tick_size lot_size contract_size inverse status subscribed`.

        Raises:
            EngineError: It has ended, or does not answer.
        """

    def external(self, exchange: str) -> ExternalFeed:
        """Opens a connection of the venue `external`, whose frames the caller pushes in the place of an exchange.

        Waits until the engine is live; other Python threads run meanwhile.

        Args:
            exchange: Its name, 1 to 40 of `a-z`, `0-9`, `_`, `-` and `.`; its instruments are `<exchange>|<symbol>`.

        Raises:
            ConfigError: The name cannot be used.
            EngineError: The engine has ended, or is not a live one.
        """

    def stop(self) -> None:
        """Asks the thread to flush and end, and waits for it; cuts that wait stay. Again is harmless."""

@final
class ExternalFeed:
    """A connection of the venue `external`, made by `Engine.external`.

    It ends when it is closed or dropped, when the engine wants its books to start again, and with the engine.
    """

    def push(self, text: str) -> bool:
        """Hands over a frame: JSON as the venue `external` reads it.

        Returns:
            False where nothing was taken: it has `ended`, or so many frames wait (`places`) that it has to be pushed
            again later.

        Raises:
            ConfigError: It is longer than 64 MiB.
        """

    def instruments(self, text: str) -> bool:
        """Hands over what can be subscribed to: a JSON list of objects.

        Each has `symbol base quote`, and may have `kind` (`spot`, `perpetual` or `future`, that one with `expiry`),
        `tick_size lot_size contract_size inverse status` as `Engine.instruments` names them.

        Returns:
            As `push` does.

        Raises:
            ConfigError: It is longer than 64 MiB.
        """

    @property
    def ended(self) -> bool:
        """Whether it takes nothing more."""

    def close(self) -> None:
        """Ends it; again is harmless."""
