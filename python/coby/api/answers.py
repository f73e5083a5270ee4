"""The shapes of answers, for the OpenAPI description, and how they become bytes.

Times, positions and decimals are texts: not every reader of JSON keeps 64 bits. Routes hand over plain values that have
these shapes; a test holds every route to its own.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from coby.api.errors import PROBLEM, retry_after
from coby.utils.exceptions import CobyError

Nanoseconds = Annotated[str, StringConstraints(pattern=r"^-?\d{1,19}$")]
"""Nanoseconds, since 1970 in UTC or a length of time."""
Position = Annotated[str, StringConstraints(pattern=r"^\d{1,20}$")]
"""A place on the tape; positions only grow."""
DecimalText = Annotated[str, StringConstraints(pattern=r"^-?\d+(\.\d+)?$")]
"""A decimal number without an exponent."""
SafeInteger = Annotated[int, Field(ge=-(2**53) + 1, lt=2**53)]
Level = tuple[DecimalText, DecimalText]
"""Price and size."""
BookStateText = Literal["empty", "buffering", "live", "gap", "aside"]
"""`live`: the venue's book, as far as its protocol proves. All others are no valid book."""


class Answer(BaseModel):
    """The root of the shapes."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


class Page(Answer):
    """A page of rows."""

    next_cursor: str | None
    """Continues behind the last item; null where there is nothing more now."""


class Included(Answer):
    """A venue whose book is part of a consolidated one."""

    venue: str
    native_symbol: str
    crossed: bool
    pos: Position
    ts_recv: Nanoseconds
    ts_event: Nanoseconds | None
    age: Nanoseconds
    """Since its newest message."""


class Excluded(Answer):
    """A venue whose book is not part of a consolidated one, and why."""

    venue: str
    native_symbol: str
    state: BookStateText
    cause: str
    """Of its gap, or `not_subscribed`, `no_book`, `inverse`."""
    since: Nanoseconds | None
    message: str


class _OfBook(Answer):
    venue: str
    native_symbol: str | None
    """Null for `all`."""
    symbol: str
    state: BookStateText
    """Where it is not `live`, there are no levels."""
    crossed: bool
    source: Literal["live", "stored"]
    """`stored`: the last stored state at the moment asked for, cut to the stored depth."""
    seq: SafeInteger
    """Grows with every change; comparable within one server epoch."""
    pos: Position
    ts_recv: Nanoseconds
    """When the last message that the book is good by came, or a stored row did; of `all` the newest of its venues."""
    ts_event: Nanoseconds | None
    contract_size: DecimalText
    """Base units (quote units, when inverse) in one unit of size."""
    inverse: bool
    rounded: bool
    """A stored value had more than 15 digits."""
    included: list[Included] | None
    """For `all`."""
    excluded: list[Excluded] | None
    """For `all`."""


class BookShares(Answer):
    """Of each level, by venue: what it is the sum of."""

    bids: list[dict[str, DecimalText]]
    asks: list[dict[str, DecimalText]]


class Book(_OfBook):
    """An order book. The sizes of `all` are base units."""

    bids: list[Level]
    """Best first."""
    asks: list[Level]
    """Best first."""
    shares: BookShares | None
    """For `all`, in the order of the levels."""


class Bucket(Answer):
    """All levels of one side in one price range."""

    index: SafeInteger
    """Price divided by the bucket size: bids rounded down, asks up."""
    price: DecimalText
    """The edge that prices were rounded to."""
    quantity: DecimalText
    notional: DecimalText
    """Sum of price times size."""
    levels: int
    shares: dict[str, DecimalText] | None
    """For `all`: quantity by venue."""


class Buckets(_OfBook):
    """The price buckets of a book, empty ones left out."""

    bucket_size: DecimalText
    bids: list[Bucket]
    """Best first."""
    asks: list[Bucket]
    """Best first."""


class Grid(Answer):
    """What the integers of heatmap columns mean."""

    number: SafeInteger
    """The same for all columns of the same meaning."""
    symbol: str
    venue: str
    bucket: DecimalText
    price_scale: int
    size_scale: int
    interval: Nanoseconds
    """Of one column."""
    level: int
    rows: int
    """Buckets a side, at most."""
    value: Literal["base", "quote"]
    unit: Literal["venue", "base"]
    """`venue`: sizes are in the venue's own unit, of `contract_size` base units."""
    contract_size: DecimalText


class HeatmapColumn(Answer):
    """What rested at the close of an interval, or, at levels above 0, the most that rested at one."""

    number: SafeInteger
    """Open time divided by the interval."""
    open_time: Nanoseconds
    flags: list[Literal["gap", "gap_part", "stale", "venues", "reset", "untaped", "rounded"]]
    gap_id: SafeInteger | None
    venues_included: int
    venues_selected: int
    best_bid: DecimalText | None
    best_ask: DecimalText | None
    taker_buy: DecimalText
    """Traded in the interval."""
    taker_sell: DecimalText
    bid_low: SafeInteger
    """Lowest bid bucket."""
    bids: list[DecimalText]
    """Sizes of ascending buckets."""
    ask_low: SafeInteger
    asks: list[DecimalText]


class Heatmap(Page):
    """Heatmap columns, ascending in time."""

    grid: Grid
    items: list[HeatmapColumn]


class CellShare(Answer):
    """A venue's part of a cell."""

    quantity: DecimalText
    notional: DecimalText
    levels: int


class Cell(Answer):
    """One cell of a heatmap."""

    venue: str
    symbol: str
    side: Literal["bid", "ask"]
    bucket: DecimalText
    index: SafeInteger
    open_time: Nanoseconds
    level: int
    t: Nanoseconds
    """The close that the figures are of: at levels above 0, that of the largest quantity."""
    quantity: DecimalText
    notional: DecimalText
    levels: int
    unit: Literal["venue", "base"]
    shares: dict[str, CellShare]


class Trade(Answer):
    """A trade."""

    pos: Position
    venue: str
    native_symbol: str
    symbol: str | None
    ts_event: Nanoseconds | None
    ts_recv: Nanoseconds
    price: DecimalText
    size: DecimalText
    """In the venue's unit."""
    side: Literal["buy", "sell"]
    """The taker's."""
    trade_id: str
    history: bool
    """Told again from before the subscription."""
    proof: str
    rounded: bool
    untaped: bool


class Trades(Page):
    """Trades in the order in which they were received."""

    items: list[Trade]


class Candle(Answer):
    """A candle; the one of the highest revision."""

    venue: str
    native_symbol: str | None
    symbol: str
    interval: Nanoseconds
    open_time: Nanoseconds
    close_time: Nanoseconds
    """Exclusive."""
    open: DecimalText
    high: DecimalText
    low: DecimalText
    close: DecimalText
    volume: DecimalText
    notional: DecimalText | None
    count: SafeInteger | None
    taker_buy: DecimalText | None
    revision: int
    source: Literal["trades", "venue"]
    closed: bool
    """Its interval is over, and what ended in it is in; a trade that comes late may still bring a revision."""
    gap: bool
    """Trades of it are missing, or may be: of the time before anything was known, too."""
    rounded: bool


class Candles(Page):
    """Candles, ascending in time; intervals without trades are left out."""

    items: list[Candle]


class Gap(Answer):
    """A time in which a channel was not good."""

    id: SafeInteger
    venue: str
    native_symbol: str
    symbol: str | None
    channel: Literal["book", "trades", "candles"]
    cause: str
    from_: Nanoseconds = Field(alias="from")
    """When the channel was last good."""
    to: Nanoseconds | None
    """When it was good again; null while it is open."""
    proof: str
    evidence: str
    pos: Position
    """Where it was noticed."""
    ts_recv: Nanoseconds


class Gaps(Page):
    """Gaps in the order in which they were noticed."""

    items: list[Gap]


class Best(Answer):
    """One venue's best prices."""

    venue: str
    native_symbol: str
    state: BookStateText
    bid: DecimalText | None
    bid_size: DecimalText | None
    ask: DecimalText | None
    ask_size: DecimalText | None
    ts_recv: Nanoseconds | None
    age: Nanoseconds | None
    """Since its newest message."""


class Spreads(Answer):
    """Best prices by venue, and what buying at one and selling at another would earn before fees."""

    symbol: str
    mid: DecimalText | None
    """Half-way between the best prices of all venues."""
    venues: list[Best]
    matrix: list[list[DecimalText | None]]
    """`(bid of column - ask of row) / mid` in hundredths of a percent, to two decimals; ordered like `venues`."""
    excluded: list[Excluded]


class CoverageStep(Answer):
    """What is known of a venue in one step of time."""

    start: Nanoseconds
    covered: Nanoseconds
    """Time with a valid book."""
    gap: Nanoseconds
    """Time in a known gap of the book."""
    low: DecimalText | None
    high: DecimalText | None
    volume: DecimalText


class CoverageLane(Answer):
    """A venue's steps."""

    venue: str
    native_symbol: str
    steps: list[CoverageStep]


class Coverage(Answer):
    """What is known of a symbol over time."""

    symbol: str
    from_: Nanoseconds = Field(alias="from")
    to: Nanoseconds
    step: Nanoseconds
    venues: list[CoverageLane]


class VenueAnswer(Answer):
    """A venue that COBY can speak with."""

    venue: str
    name: str
    state: str
    """`off`: not asked for. Else `closed listing connecting live degraded disconnected refused`."""
    error: str | None
    next_attempt: Nanoseconds | None
    attempts: int
    instruments: int
    frames: SafeInteger
    last_frame: Nanoseconds | None
    books: int
    books_live: int
    protocol: str
    """Date of the protocol description."""
    proof: str
    """What its book channel can prove: `none heartbeat checksum sequence`."""


class Venues(Page):
    """Venues by id."""

    items: list[VenueAnswer]


class InstrumentAnswer(Answer):
    """An instrument as its venue lists it."""

    venue: str
    native_symbol: str
    symbol: str | None
    base: str
    quote: str
    kind: str
    tick_size: DecimalText | None
    lot_size: DecimalText | None
    price_scale: int | None
    size_scale: int | None
    contract_size: DecimalText
    inverse: bool
    expiry: Nanoseconds | None
    status: str
    subscribed: bool
    default_bucket: DecimalText | None
    """Null where its price decides."""


class Instruments(Page):
    """Instruments by venue and native symbol."""

    items: list[InstrumentAnswer]


class Reason(Answer):
    """Why the process is not ready."""

    code: str
    message: str


class Alive(Answer):
    """The process answers."""

    live: Literal[True]


class Ready(Answer):
    """Whether the process does what it is for."""

    ready: bool
    reasons: list[Reason]


class Status(Answer):
    """The state of the process. Facts of engine, store and feeder are told as they have them."""

    epoch: str
    started: Nanoseconds
    now: Nanoseconds
    ready: bool
    reasons: list[Reason]
    pos: Position
    durable_pos: Position
    """The last position that is on disk: acknowledged."""
    watermark: Position | None
    """The last position that is in the store; null without one."""
    untaped: str | None
    """Why the tape cannot be written, if so."""
    engine: dict[str, Any]
    """Counts of the engine, and `live`: tape, venues, connections and books."""
    feeder: dict[str, Any] | None
    """What takes rows to the store."""
    view: dict[str, Any]
    """Rows in memory."""
    resources: dict[str, Any]
    """Memory, processor and disk."""


class Meta(Answer):
    """What this server is and allows."""

    name: Literal["coby"]
    version: str
    protocol: Literal["coby.v1"]
    epoch: str
    limits: dict[str, float]
    features: dict[str, Any]
    venues: list[str]
    heatmap: dict[str, Any]
    """`interval` in nanoseconds and `rows` a side."""
    candle_intervals: list[str]


def json_bytes(content: object) -> bytes:
    """Compact JSON."""
    return orjson.dumps(content)


def answer(request: Request, content: object, *, closed: bool = False) -> Response:
    """A JSON answer; see `sent`."""
    return sent(request, json_bytes(content), "application/json", closed=closed)


def sent(
    request: Request,
    body: bytes,
    media_type: str,
    *,
    closed: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer of bytes. What can never change again may be kept for good, and is recognised by its tag."""
    kept = dict(headers or {})
    kept["Vary"] = "Accept"
    if not closed:
        return Response(body, media_type=media_type, headers=kept | {"Cache-Control": "no-store"})
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    kept |= {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=kept)
    return Response(body, media_type=media_type, headers=kept)


def problem(error: CobyError) -> Response:
    """What a request is refused with."""
    wait = retry_after(error)
    told = error.to_problem()
    return Response(
        orjson.dumps(told, default=str),
        status_code=error.http_status,
        media_type=PROBLEM,
        headers={"Cache-Control": "no-store"} | ({} if wait is None else {"Retry-After": str(wait)}),
    )
