"""Simulated frames and answers of Deribit look like those in its fact sheet."""

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from coby.simulator.exchange import Request
from coby.simulator.venues import VENUES
from coby.simulator.venues.deribit import number
from support.simulated import START_NS, Client, assert_shape, first


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 3, "method": f"public/{method}", "params": params}


def subscribed(*channels: str) -> Client:
    client = Client("deribit").dial("/ws/api/v2").say(call("subscribe", channels=channels))
    assert sorted(client.heard_first()["result"]) == sorted(channels)
    return client


def datas(frames: list[Any], channel: str) -> list[Any]:
    return [f["params"]["data"] for f in frames if f.get("params", {}).get("channel") == channel]


def test_the_answer_names_what_is_known_in_another_order() -> None:
    client = Client("deribit").dial("/ws/api/v2")
    wanted = ["book.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.100ms", "book.NOPE.100ms", "book.BTC-PERPETUAL.50ms"]
    client.say(call("subscribe", channels=wanted))
    sheet = """{"jsonrpc":"2.0","id":3,"result":["trades.BTC-PERPETUAL.100ms","book.BTC-PERPETUAL.100ms"],
      "usIn":1,"usOut":1,"usDiff":1519,"testnet":false}"""
    answer = client.heard_first()
    assert_shape(answer, sheet)
    assert answer["result"] == json.loads(sheet)["result"]
    assert answer["usOut"] - answer["usIn"] == answer["usDiff"]


def test_a_book_is_a_snapshot_and_a_chain_of_changes() -> None:
    client = Client("deribit").wait(1).dial("/ws/api/v2")
    client.say(call("subscribe", channels=["book.XRP_USDC-PERPETUAL.100ms"]))
    (snapshot,) = [frame for frame in client.heard() if "params" in frame]
    sheet = """{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.NVDA_USDC-PERPETUAL.100ms","data":{
      "timestamp":1790133840448,"type":"snapshot","change_id":193809616666,"instrument_name":"NVDA_USDC-PERPETUAL",
      "bids":[["new",228.51,0.22],["new",228.48,0.34]],"asks":[["new",228.52,0.34]]}}}"""
    assert_shape(snapshot, sheet)
    assert len(snapshot["params"]["data"]["bids"]) > 900, "the whole book"
    changes = datas(client.wait(10).heard(), "book.XRP_USDC-PERPETUAL.100ms")
    sheet = """{"timestamp":1790133842703,"type":"change","change_id":193809634213,"prev_change_id":193809631160,
      "instrument_name":"ALGO_USDC-PERPETUAL","bids":[["new",0.11374,1054.0],["delete",0.11344,0.0]],
      "asks":[["new",0.11374,1054.0]]}"""
    assert_shape(next(change for change in changes if change["bids"] and change["asks"]), sheet)
    assert any(not change["bids"] for change in changes)
    chain = [snapshot["params"]["data"], *changes]
    assert all(later["prev_change_id"] == earlier["change_id"] for earlier, later in pairwise(chain))
    assert all(later["change_id"] - earlier["change_id"] > 1 for earlier, later in pairwise(chain))
    actions = [row for change in changes for side in ("bids", "asks") for row in change[side]]
    assert {row[0] for row in actions} == {"new", "change", "delete"}
    assert all((row[0] == "delete") == (row[2] == 0) for row in actions)


def test_joining_twice_brings_no_second_snapshot_and_leaving_does() -> None:
    wanted = {"channels": ["book.BTC-PERPETUAL.agg2"]}
    client = subscribed(*wanted["channels"])
    client.heard()
    assert "params" not in client.say(call("subscribe", **wanted)).heard()[-1]
    left, joined, snapshot = client.say(call("unsubscribe", **wanted), call("subscribe", **wanted)).heard()
    assert left["result"] == joined["result"] == wanted["channels"]
    assert snapshot["params"]["data"]["type"] == "snapshot"
    assert len(datas(client.wait(10).heard(), "book.BTC-PERPETUAL.agg2")) in {9, 10}, "about one a second"


@pytest.mark.parametrize(
    ("digits", "mantissa", "text"),
    [
        (0, 10, "10.0"),
        (0, 2_200, "2.2e3"),
        (1, 672_345, "67234.5"),
        (2, 5, "0.05"),
        (3, 0, "0.0"),
        (1, 1_000_000, "1.0e5"),
    ],
)
def test_numbers_are_erlangs(digits: int, mantissa: int, text: str) -> None:
    instrument = VENUES["deribit"].instruments[0]
    assert number(type(instrument)("X", "BTC", "USD", digits, 1, 0, 1), mantissa, price=True) == text
    assert Decimal(text) == Decimal(mantissa).scaleb(-digits)


def test_windows_are_whole_each_time() -> None:
    (data, *_) = datas(subscribed("book.BTC_USDC.none.10.100ms").wait(2).heard(), "book.BTC_USDC.none.10.100ms")
    assert "type" not in data
    assert [len(data[side]) for side in ("bids", "asks")] == [10, 10]
    assert {len(level) for level in data["bids"]} == {2}


def test_trades_and_candles() -> None:
    channels = ("trades.BTC-PERPETUAL.100ms", "trades.future.any.100ms", "chart.trades.BTC-PERPETUAL.1")
    frames = subscribed(*channels).wait(5).heard()
    trades = [trade for data in datas(frames, channels[0]) for trade in data]
    sheet = """{"timestamp":1765531356452,"price":92294.5,"amount":10.0,"direction":"sell","index_price":92276.75,
      "instrument_name":"BTC-PERPETUAL","trade_seq":271252854,"mark_price":92287.11,"tick_direction":2,
      "contracts":1.0,"combo_trade_id":"43","trade_id":"403691824"}"""
    expected = json.loads(sheet)
    assert expected.pop("combo_trade_id"), "only trades that are legs have one"
    assert_shape(trades[0], expected)
    assert all(trade["amount"] == trade["contracts"] * 10 for trade in trades)
    assert all(later["trade_seq"] == earlier["trade_seq"] + 1 for earlier, later in pairwise(trades))
    assert any(len(data) > 1 for data in datas(frames, channels[0])), "trades come in batches"
    kinds = [trade for data in datas(frames, channels[1]) for trade in data]
    assert {trade["instrument_name"] for trade in kinds} > {"BTC-PERPETUAL", "SOL_USDC-PERPETUAL"}
    assert first(kinds, instrument_name="ETH-PERPETUAL")["trade_id"].startswith("ETH-")
    candle = datas(frames, channels[2])[-1]
    assert list(candle) == ["tick", "open", "high", "low", "close", "volume", "cost"]
    pushed = START_NS // 10**6 + 4_005
    assert candle["cost"] == sum(trade["amount"] for trade in trades if trade["timestamp"] < pushed)
    assert candle["low"] * candle["volume"] <= candle["cost"] * (1 + 1e-6)


def test_a_test_request_that_nobody_answers_ends_the_connection() -> None:
    client = Client("deribit").dial("/ws/api/v2").say(call("set_heartbeat", interval=30))
    assert client.heard_first()["result"] == "ok"
    frames = client.wait(31).heard()
    assert {"params": {"type": "test_request"}, "method": "heartbeat", "jsonrpc": "2.0"} in frames
    assert {"params": {"type": "heartbeat"}, "method": "heartbeat", "jsonrpc": "2.0"} in frames
    answer = client.venue.pong(json.dumps(frames[-1]))
    assert json.loads(answer or "")["method"] == "public/test"
    client.say(answer)
    assert client.wait(25).ear.closed is None
    assert client.wait(20).ear.closed == 4000


def test_who_wants_nothing_is_dropped_and_who_wants_too_much_is_refused() -> None:
    assert Client("deribit").dial("/ws/api/v2").wait(61).ear.closed == 1000
    client = Client("deribit").dial("/ws/api/v2").say(call("subscribe", channels=["book.BTC-PERPETUAL.raw"]))
    sheet = '{"error":{"code":13778,"message":"raw_subscriptions_not_available_for_unauthorized"}}'
    assert client.heard_first()["error"] == json.loads(sheet)["error"]
    client.say(call("dance"), "no json", *[call("subscribe", channels=[]) for _ in range(10)])
    unknown, malformed, *rest = client.heard()
    assert unknown["error"]["code"] == -32601
    assert malformed["error"]["code"] == 11050
    assert "id" not in malformed
    assert rest[-1]["error"]["code"] == 10028
    for _ in range(31):
        client.dial("/ws/api/v2")
    assert client.venue.handshake("/ws/api/v2", {}) == 429


def test_rest() -> None:
    client = Client("deribit").wait(70)
    listed = client.get("/api/v2/public/get_instruments?currency=any&kind=future")["result"]
    btc = first(listed, instrument_name="BTC-PERPETUAL")
    assert (btc["instrument_type"], btc["tick_size"], btc["contract_size"]) == ("reversed", 0.5, 10.0)
    names = {entry["instrument_name"] for entry in listed}
    assert names == {"BTC-PERPETUAL", "ETH-PERPETUAL", "SOL_USDC-PERPETUAL", "XRP_USDC-PERPETUAL"}
    book = client.get("/api/v2/public/get_order_book?instrument_name=BTC_USDC&depth=20")["result"]
    assert {len(book["bids"]), len(book["asks"]), len(book["bids"][0])} == {20, 2}
    now = client.exchange.clock.now_ns // 10**6
    span = f"start_timestamp={now - 3_600_000}&end_timestamp={now}"
    path = f"/api/v2/public/get_tradingview_chart_data?instrument_name=BTC_USDC&resolution=1&{span}"
    chart = client.get(path)["result"]
    assert list(chart) == ["ticks", "open", "high", "low", "close", "volume", "cost", "status"]
    assert {len(chart[key]) for key in chart if key != "status"} == {61}
    path = "/api/v2/public/get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&count=5"
    trades = client.get(path)["result"]["trades"]
    assert [trade["trade_seq"] for trade in trades] == list(
        range(trades[0]["trade_seq"], trades[-1]["trade_seq"] - 1, -1)
    )
    assert client.answer(Request.get("/api/v2/public/get_order_book?instrument_name=NOPE")).status == 400
    statuses = [client.answer(Request.get("/api/v2/public/get_time")).status for _ in range(101)]
    assert statuses[-1] == 429
