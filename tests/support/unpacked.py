"""Binary frames as text, by what the fact sheets say of them and nothing else."""

import gzip
import json
from typing import Any

# PushDataV3ApiWrapper of MEXC: name and fields of what is inside a number; a field without more is a text or a number.
_LEVEL = {1: "price", 2: "quantity"}
_DEAL = {1: "price", 2: "quantity", 3: "tradeType", 4: "time", 5: "tradeId"}
_MEXC: dict[int, Any] = {
    1: "channel",
    3: "symbol",
    5: "createTime",
    6: "sendTime",
    303: (
        "publicLimitDepths",
        {1: ("asks", _LEVEL), 2: ("bids", _LEVEL), 3: "eventType", 4: "version", 5: "lastOrderCreateTime"},
    ),
    308: (
        "publicSpotKline",
        {
            1: "interval",
            2: "windowStart",
            3: "openingPrice",
            4: "closingPrice",
            5: "highestPrice",
            6: "lowestPrice",
            7: "volume",
            8: "amount",
            9: "windowEnd",
        },
    ),
    313: (
        "publicAggreDepths",
        {
            1: ("asks", _LEVEL),
            2: ("bids", _LEVEL),
            3: "eventType",
            4: "fromVersion",
            5: "toVersion",
            6: "lastOrderCreateTime",
        },
    ),
    314: ("publicAggreDeals", {1: ("deals", _DEAL), 2: "eventType"}),
    315: (
        "publicAggreBookTicker",
        {1: "bidPrice", 2: "bidQuantity", 3: "askPrice", 4: "askQuantity", 5: "version", 6: "lastOrderCreateTime"},
    ),
}
_LISTS = {"asks", "bids", "deals"}


def unpacked(payload: str | bytes) -> str:
    """What a frame says: itself, unzipped, or what is only called binary, or Protobuf as JSON."""
    if isinstance(payload, str):
        return payload
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload).decode()
    if payload.startswith((b"{", b"[")):
        return payload.decode()
    return json.dumps(_message(payload, _MEXC))


def _message(data: bytes, fields: dict[int, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field = fields[tag >> 3]
        name, inside = field if isinstance(field, tuple) else (field, None)
        value: Any
        value, at = _varint(data, at)
        if tag & 7 == 2:
            raw = data[at : at + value]
            assert len(raw) == value, "cut off"
            at += value
            value = raw.decode() if inside is None else _message(raw, inside)
        else:
            assert tag & 7 == 0
        if name in _LISTS:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at
