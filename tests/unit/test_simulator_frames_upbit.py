"""Simulated frames and answers of Upbit look like those in its fact sheet."""

import json
from itertools import pairwise
from typing import Any

import pytest

from coby.simulator.exchange import Request
from coby.simulator.market import Side
from support.simulated import Client, assert_shape, first


def asked(*parts: dict[str, Any], form: str = "DEFAULT", after: float = 3) -> Client:
    client = Client("upbit").wait(after).dial("/websocket/v1")
    return client.say([{"ticket": "uuid-1"}, *parts, {"format": form}])


def test_frames_are_binary_and_books_whole() -> None:
    client = asked({"type": "orderbook", "codes": ["USDT-ETH.5", "USDT-BTC"], "level": 0})
    assert all(isinstance(payload, bytes) for payload in client.ear.payloads)
    frames = client.heard()
    sheet = """{"type":"orderbook","code":"KRW-ETH","timestamp":1746601573804,"total_ask_size":4.79158413,
      "total_bid_size":2.65609625,"orderbook_units":[{"ask_price":137002000,"bid_price":137001000,
      "ask_size":0.10623869,"bid_size":0.03656812}],"stream_type":"SNAPSHOT","level":0}"""
    assert_shape(frames[0], sheet)
    assert [(f["code"], len(f["orderbook_units"]), f["stream_type"]) for f in frames] == [
        ("USDT-ETH", 5, "SNAPSHOT"),
        ("USDT-BTC", 30, "SNAPSHOT"),
    ]
    later = client.wait(10).heard()
    assert_shape(later[0], sheet)
    assert {frame["stream_type"] for frame in later} == {"REALTIME"}
    assert {frame["timestamp"] % 100 for frame in later} == {0}
    mine = [frame for frame in frames[:1] + later if frame["code"] == "USDT-ETH"]
    assert all(a["orderbook_units"] != b["orderbook_units"] for a, b in pairwise(mine[1:]))
    for frame in mine:
        units = frame["orderbook_units"]
        assert frame["total_ask_size"] == pytest.approx(sum(unit["ask_size"] for unit in units))
        assert units[0]["ask_price"] > units[0]["bid_price"] > units[1]["bid_price"]


def test_a_side_that_is_too_short_is_filled_up_with_zeros() -> None:
    client = Client("upbit").dial("/websocket/v1")
    client.venue.markets["USDT-BTC"].bids = Side(-1, {6_000_000: 5, 5_999_000: 7})
    client.say([{"ticket": "1"}, {"type": "orderbook", "codes": ["USDT-BTC.5"], "is_only_snapshot": True}])
    (frame,) = client.heard()
    assert [unit["bid_price"] for unit in frame["orderbook_units"]] == [60_000.0, 59_990.0, 0.0, 0.0, 0.0]
    assert [unit["bid_size"] for unit in frame["orderbook_units"]] == [5e-08, 7e-08, 0.0, 0.0, 0.0]
    assert client.wait(3).heard() == [], "only a snapshot"


def test_trades_and_candles() -> None:
    client = asked({"type": "trade", "codes": ["USDT-BTC"]}, {"type": "candle.1m", "codes": ["USDT-BTC"]})
    last, running = client.heard()
    frames = client.wait(5).heard()
    sheet = """{"type":"trade","code":"KRW-ETH","timestamp":1696585056910,"trade_date":"2023-10-06",
      "trade_time":"09:37:36","trade_timestamp":1696585056846,"trade_price":37625,"trade_volume":8.428e-05,
      "ask_bid":"ASK","prev_closing_price":37296,"change":"RISE","change_price":329,
      "sequential_id":1696585056846000,"best_ask_price":1,"best_ask_size":1,"best_bid_price":1,"best_bid_size":1,
      "stream_type":"SNAPSHOT"}"""
    assert_shape(last, sheet)
    assert last["stream_type"] == "SNAPSHOT"
    trades = [frame for frame in frames if frame["type"] == "trade"]
    assert_shape(trades[0], sheet)
    for trade in trades:
        change = trade["trade_price"] - trade["prev_closing_price"]
        assert trade["change"] == ("RISE" if change > 0 else "FALL" if change < 0 else "EVEN")
        assert trade["change_price"] == pytest.approx(abs(change))
        assert trade["sequential_id"] // 1_000 == trade["trade_timestamp"] <= trade["timestamp"]
    assert {trade["ask_bid"] for trade in trades} == {"ASK", "BID"}
    sheet = """{"type":"candle.1m","code":"KRW-ETH","candle_date_time_utc":"2025-01-02T04:28:05",
      "candle_date_time_kst":"…","opening_price":1,"high_price":1,"low_price":1,"trade_price":1,
      "candle_acc_trade_volume":1,"candle_acc_trade_price":1,"timestamp":1735792085824,"stream_type":"REALTIME"}"""
    assert_shape(running, sheet)
    candles = [frame for frame in frames if frame["type"] == "candle.1m"]
    assert_shape(candles[0], sheet)
    assert running["candle_date_time_utc"] == "2026-01-01T00:00:00"
    assert running["candle_date_time_kst"] == "2026-01-01T09:00:00"
    assert len(candles) > 2, "the same candle again and again"


def test_simple_names_and_lists() -> None:
    client = asked(
        {"type": "orderbook", "codes": ["USDT-XRP"]}, {"type": "trade", "codes": ["USDT-XRP"]}, form="SIMPLE"
    )
    frames = client.wait(10).heard()
    sheet = """{"ty":"orderbook","cd":"KRW-LAMB","tms":1618678262640,"tas":25752275.55,"tbs":14407925.2,
      "obu":[{"ap":127.0,"bp":126.0,"as":280460.37885666,"bs":688682.44561413}],"st":"REALTIME"}"""
    assert_shape(first(frames, ty="orderbook"), sheet)
    sheet = """{"ty":"trade","cd":"KRW-LAMB","tms":1618678262712,"td":"2021-04-17","ttm":"16:51:02",
      "ttms":1618678262000,"tp":127.0,"tv":46.48838371,"ab":"BID","pcp":123.00000000,"c":"RISE","cp":4.00000000,
      "sid":1618678262000003,"st":"REALTIME"}"""
    assert_shape(first(frames, ty="trade"), sheet)
    for form, key in (("JSON_LIST", "type"), ("SIMPLE_LIST", "ty")):
        (whole,) = asked({"type": "orderbook", "codes": ["USDT-XRP"]}, form=form).heard()
        assert [message[key] for message in whole] == ["orderbook"]


def test_a_request_replaces_the_one_before() -> None:
    client = asked({"type": "trade", "codes": ["USDT-BTC"]}).say(
        [{"ticket": "2"}, {"type": "orderbook", "codes": ["USDT-BTC"], "is_only_realtime": True}]
    )
    assert [frame["type"] for frame in client.heard()] == ["trade"]
    assert {frame["type"] for frame in client.wait(5).heard()} == {"orderbook"}


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ([{"type": "trade", "codes": ["USDT-BTC"]}], "NO_TICKET"),
        ([{"ticket": "1"}], "NO_TYPE"),
        ([{"ticket": "1"}, {"codes": ["USDT-BTC"]}], "NO_TYPE"),
        ([{"ticket": "1"}, {"type": "trade"}], "NO_CODES"),
        ([{"ticket": "1"}, {"type": "trade", "codes": ["USDT-NOPE"]}], "INVALID_PARAM"),
        ([{"ticket": "1"}, {"type": "orderbook", "codes": ["USDT-BTC.7"]}], "INVALID_PARAM"),
        ([{"ticket": "1"}, {"type": "dance", "codes": ["USDT-BTC"]}], "INVALID_PARAM"),
        ("no json", "WRONG_FORMAT"),
        (7, "WRONG_FORMAT"),
    ],
)
def test_what_is_not_understood_has_a_name_and_changes_nothing(request_: object, name: str) -> None:
    client = asked({"type": "trade", "codes": ["USDT-BTC"], "is_only_realtime": True}).say(request_)
    (error,) = client.heard()
    assert_shape(error, '{"error":{"name":"INVALID_PARAM","message":"…"}}')
    assert error["error"]["name"] == name
    assert client.wait(5).heard() != []


def test_signs_of_life_and_ends() -> None:
    client = Client("upbit").dial("/websocket/v1").say("PING")
    assert client.heard() == [{"status": "UP"}]
    assert client.wait(35).heard() == [{"status": "UP"}] * 3
    assert Client("upbit").dial("/websocket/v1").wait(121).ear.closed == 1000
    assert client.wait(1).say(*["PING"] * 5).ear.closed is None
    assert client.say("PING").ear.closed == 1008
    statuses = [client.venue.handshake("/websocket/v1", {}) for _ in range(6)]
    assert statuses == [101] * 5 + [429]
    assert client.venue.handshake("/websocket/v2", {}) == 404


def test_rest() -> None:
    client = Client("upbit").wait(70)
    (entry, *_) = client.get("/v1/market/all?is_details=true")
    assert list(entry) == ["market", "korean_name", "english_name", "market_event"]
    assert client.get("/v1/orderbook/instruments?markets=USDT-BTC")[0]["tick_size"] == "0.01"
    (book,) = client.get("/v1/orderbook?markets=USDT-BTC&count=15")
    assert len(book["orderbook_units"]) == 15
    ticks = client.get("/v1/trades/ticks?market=USDT-BTC&count=9")
    older = client.get(f"/v1/trades/ticks?market=USDT-BTC&count=4&cursor={ticks[4]['sequential_id']}")
    assert older == ticks[5:]
    candles = client.get("/v1/candles/minutes/1?market=USDT-BTC&to=2026-01-01T00:00:00&count=3")
    minutes = [candle["candle_date_time_utc"] for candle in candles]
    assert minutes == [f"2025-12-31T23:{minute}:00" for minute in (59, 58, 57)]
    assert client.answer(Request.get("/v1/orderbook?markets=USDT-NOPE")).status == 404
    answers = [client.answer(Request.get("/v1/orderbook?markets=USDT-BTC")) for _ in range(30)]
    assert answers[0].headers == {"Remaining-Req": "group=orderbook; min=600; sec=6"}
    statuses = [answer.status for answer in answers]
    assert sorted(set(statuses)) == [200, 418, 429]
    assert json.loads(answers[-1].body)["error"]["name"] == "too_many_requests"
