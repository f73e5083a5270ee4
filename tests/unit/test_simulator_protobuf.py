"""The encoder of Protobuf frames: the fact sheet's bytes, and whatever else a decoder of its own reads back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coby.simulator.protobuf import Schema, encode, varint
from coby.simulator.venues.mexc import WRAPPER
from support.unpacked import unpacked

DEPTH = (
    "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a0742544355534454"
    "30bad2c3d1c432ca13730a160a0839323837382e3130120a302e353030303030303012160a0839323837372e3538120a302e3030303030303030"
    "1a2773706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d73220b31303538393633323335392a0b3130"
    "353839363332333631"
)
DEALS = (
    "0a2f73706f74407075626c69632e61676772652e6465616c732e76332e6170692e7062403130306d7340425443555344541a0742544355534454"
    "30bca9d9d0c432d2134a0a1f0a0839333232302e3030120a302e3034343338323433180220bba9d9d0c432122773706f74407075626c69632e61"
    "676772652e6465616c732e76332e6170692e7062403130306d73"
)


def test_the_sheets_depth() -> None:
    message = {
        "channel": "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": 1736411507002,
        "publicAggreDepths": {
            "asks": [{"price": "92878.10", "quantity": "0.50000000"}],
            "bids": [{"price": "92877.58", "quantity": "0.00000000"}],
            "eventType": "spot@public.aggre.depth.v3.api.pb@100ms",
            "fromVersion": "10589632359",
            "toVersion": "10589632361",
        },
    }
    assert encode(WRAPPER, message).hex() == DEPTH
    assert json.loads(unpacked(bytes.fromhex(DEPTH))) == message


def test_the_sheets_deals() -> None:
    deal = {"price": "93220.00", "quantity": "0.04438243", "tradeType": 2, "time": 1736409765051}
    message = {
        "channel": "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": 1736409765052,
        "publicAggreDeals": {"deals": [deal], "eventType": "spot@public.aggre.deals.v3.api.pb@100ms"},
    }
    assert encode(WRAPPER, message).hex() == DEALS
    assert json.loads(unpacked(bytes.fromhex(DEALS))) == message


TEXT = st.text(min_size=1)
LEVELS = st.lists(st.fixed_dictionaries({"price": TEXT, "quantity": TEXT}), min_size=1, max_size=3)
BODY = st.fixed_dictionaries(
    {}, optional={"asks": LEVELS, "bids": LEVELS, "toVersion": st.text("0123456789", min_size=200)}
)
MESSAGE = st.fixed_dictionaries(
    {"channel": TEXT}, optional={"sendTime": st.integers(1, 2**63 - 1), "symbol": TEXT, "publicAggreDepths": BODY}
)


@given(MESSAGE)
def test_what_is_written_is_read_back(message: dict[str, Any]) -> None:
    assert json.loads(unpacked(encode(WRAPPER, message))) == message


def test_nothings_are_left_out_but_for_empty_messages() -> None:
    assert encode(WRAPPER, {"channel": "", "sendTime": 0}) == b""
    assert encode(WRAPPER, {"publicAggreDeals": {}}).hex() == "d21300"
    schema = Schema({"number": 1, "text": 2})
    assert encode(schema, {"text": "a", "number": -1}).hex() == "08" + "ff" * 9 + "01" + "120161"
    assert [varint(n).hex() for n in (0, 127, 128, 300)] == ["00", "7f", "8001", "ac02"]
    with pytest.raises(KeyError):
        encode(schema, {"unknown": 1})
