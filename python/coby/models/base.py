"""What all models share: frozen, positional arguments, two names for the venue, two precisions of time."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self, dataclass_transform

from pydantic import (
    AliasChoices,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

TradeSide = Literal["buy", "sell"]
"""The taker's side."""
BookSide = Literal["bid", "ask"]
BookState = Literal["live", "crossed", "gap"]
"""`live`: the venue's, as far as its protocol proves; `crossed`: live, bids at or above asks; `gap`: not valid."""
Proof = Literal["none", "heartbeat", "checksum", "sequence"]
"""What the feed can prove about what it did not lose."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = 2**63
# What a datetime can hold, in nanoseconds.
_DATETIMES = range(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9)


def to_datetime(ns: int) -> datetime:
    """Nanoseconds since the epoch as a time in UTC, rounded down to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def to_nanoseconds(time: datetime) -> int:
    """A time as nanoseconds since the epoch; without a zone it is UTC."""
    return (_utc(time) - _EPOCH) // _MICROSECOND * 1000


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _as_nanoseconds(value: object) -> int | None:
    """The number that `value` is or spells; None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdecimal():
        return int(value)
    return None


Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Nanoseconds = Annotated[
    int, Field(ge=-_INT64, lt=_INT64), PlainSerializer(str, return_type=str, when_used="json-unless-none")
]
"""Since the epoch, UTC. In JSON a text: not every reader of JSON keeps 64 bits."""
Price = Annotated[float, Field(gt=0), AllowInfNan(False)]
Quantity = Annotated[float, Field(ge=0), AllowInfNan(False)]
Count = Annotated[int, Field(ge=0, lt=2**64)]
Venue = Annotated[Text, Field(validation_alias=AliasChoices("exchange", "venue"), serialization_alias="venue")]


@dataclass_transform(kw_only_default=False, field_specifiers=(Field,))
class Model(BaseModel):
    """The root of the models. Fields can be given in order: `PriceLevel(50000.0, 1.5)`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True, ser_json_inf_nan="strings"
    )

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = [name for name, field in type(self).model_fields.items() if not field.kw_only]
        if len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values in order, {len(values)} were given")
        given = dict(zip(fields, values, strict=False))
        if twice := given.keys() & named.keys():
            raise TypeError(f"{type(self).__name__} got several values for {', '.join(sorted(twice))}")
        super().__init__(**given, **named)


class MarketModel(Model):
    """Something that one venue (or `all` of them, consolidated) said about one symbol at one time.

    Of `timestamp`, `ts_event` and `ts_recv` any one is enough to make it: `timestamp` may be a `datetime` (UTC where it
    names no zone), a text as in RFC 3339, or nanoseconds as a number or text.
    """

    symbol: Text
    """Canonical where it is known (`BTC-USDT`), else the venue's own."""
    exchange: Venue
    """Venue id; `all` for what several venues were consolidated to."""
    timestamp: datetime
    """The venue's time, or where it sends none, the receive time; UTC, rounded down to microseconds."""
    native_symbol: Text | None = Field(default=None, kw_only=True)
    """The venue's symbol."""
    ts_event: Nanoseconds | None = Field(default=None, kw_only=True)
    """The venue's time."""
    ts_recv: Nanoseconds | None = Field(default=None, kw_only=True)
    """When COBY received it."""
    proof: Proof = Field(default="none", kw_only=True)
    """What the feed can prove."""
    rounded: bool = Field(default=False, kw_only=True)
    """Whether a value had more than 15 significant digits, so that a float cannot carry it exactly."""
    pos: Count | None = Field(default=None, kw_only=True)
    """Position on the tape of the record that it comes from."""

    @model_validator(mode="before")
    @classmethod
    def _complete_the_time(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        named = values.get("timestamp")
        if isinstance(named, datetime):
            values["timestamp"] = _utc(named)
            return values
        ns = _as_nanoseconds(named)
        if named is None:
            clocks = (_as_nanoseconds(values.get(clock)) for clock in ("ts_event", "ts_recv"))
            ns = next((clock for clock in clocks if clock is not None), None)
        if ns is not None and ns in _DATETIMES:
            values["timestamp"] = to_datetime(ns)
            if named is not None:
                values.setdefault("ts_event", ns)
        return values

    @model_validator(mode="after")
    def _in_utc(self) -> Self:
        if self.timestamp.tzinfo is not UTC:
            # The one change that pydantic may make to a frozen model: the same moment, named in UTC.
            self.__dict__["timestamp"] = _utc(self.timestamp)
        return self

    @property
    def venue(self) -> str:
        """`exchange` under the name that the rest of COBY uses."""
        return self.exchange

    @property
    def timestamp_ns(self) -> int:
        """The venue's time, else the receive time, as exactly as it is known: nanoseconds since the epoch."""
        exact = self.ts_event if self.ts_event is not None else self.ts_recv
        return exact if exact is not None else to_nanoseconds(self.timestamp)


def head(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the columns that every row of the core begins with are called in a model."""
    native = row.get("native_symbol") or None
    known = pick(row, "ts_event", "ts_recv", "proof", "rounded", "pos")
    return known | {"symbol": row.get("symbol") or native, "exchange": row["venue"], "native_symbol": native}


def pick(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named columns of a row that have a value."""
    return {name: row[name] for name in names if row.get(name) is not None}
