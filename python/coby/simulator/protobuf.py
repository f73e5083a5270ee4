"""Protobuf (proto3) as far as venues write it: texts, whole numbers, messages inside messages, and lists of those."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_VARINT = 0
_DELIMITED = 2


@dataclass(frozen=True)
class Schema:
    """The numbers of a message's fields by name, and what the fields hold that are messages themselves."""

    numbers: Mapping[str, int]
    inside: Mapping[str, "Schema"] = field(default_factory=dict)


def encode(schema: Schema, message: Mapping[str, Any]) -> bytes:
    """A message of texts, whole numbers, mappings, and lists of them, in the order of the fields' numbers.

    As proto3 has it, an empty text and a 0 are left out; an empty message is not.

    Raises:
        KeyError: The schema has no such field.
    """
    out = bytearray()
    for name, value in sorted(message.items(), key=lambda item: schema.numbers[item[0]]):
        for one in value if isinstance(value, list) else (value,):
            number = schema.numbers[name]
            if isinstance(one, int):
                if one:
                    # A negative number is written as its 64 bits.
                    out += varint(number << 3 | _VARINT) + varint(one & (1 << 64) - 1)
            elif one or isinstance(one, Mapping):
                packed = one.encode() if isinstance(one, str) else encode(schema.inside[name], one)
                out += varint(number << 3 | _DELIMITED) + varint(len(packed)) + packed
    return bytes(out)


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit set."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
