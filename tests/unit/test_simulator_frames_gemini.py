"""Simulated frames and answers of Gemini look like those in its fact sheet, on the new and on the archived socket."""

import json
from decimal import Decimal
from itertools import pairwise

from coby.simulator.exchange import Request
from support.simulated import Client, assert_shape, first

SUBSCRIBE = {"id": 1, "method": "subscribe", "params": ["btcusd@depth@100ms", "btcusd@trade"]}


def test_diffs_follow_a_snapshot_that_comes_before_the_ack() -> None:
    client = Client("gemini").dial("/?snapshot=-1").say(SUBSCRIBE)
    snapshot, ack = client.heard()
    assert ack == {"id": 1, "status": 200}
    frames = [frame for frame in client.wait(10).heard() if frame.get("e") == "depthUpdate"]
    sheet = """{"e":"depthUpdate","E":1789456742337187316,"s":"ethgusdperp","U":1764527605192323,"u":1764527605192686,
      "b":[["2482.5500","0.000"]],"a":[["2483.5000","0.000"],["2483.4500","1.047"]]}"""
    assert_shape(snapshot, sheet)
    assert_shape(next(frame for frame in frames if frame["b"] and frame["a"]), sheet)
    assert snapshot["U"] == snapshot["u"]
    assert min(len(snapshot["b"]), len(snapshot["a"])) > 1_000
    assert all(later["U"] == earlier["u"] < later["u"] for earlier, later in pairwise(frames))
    assert frames[0]["U"] <= snapshot["u"] < frames[0]["u"], "the first diff overlaps the snapshot"
    assert {frame["s"] for frame in frames} == {"btcusd"}
    sizes = {size for frame in frames for _, size in frame["b"]}
    assert "0.0000000000" in sizes
    prices = [Decimal(price) for frame in frames for price, _ in frame["b"]]
    assert prices != sorted(prices, reverse=True), "levels are in no order"


def test_a_url_says_how_deep_snapshots_are_and_no_number_means_none() -> None:
    client = Client("gemini").dial("/?snapshot=7").say(SUBSCRIBE)
    snapshot = client.heard()[0]
    assert [len(snapshot[side]) for side in "ba"] == [7, 7]
    assert client.dial("/").say(SUBSCRIBE).heard() == [{"id": 1, "status": 200}]
    assert client.say(SUBSCRIBE).heard() == [{"id": 1, "status": 200}], "a subscription twice is one"


def test_trades_and_images() -> None:
    client = Client("gemini").dial("/")
    client.say({**SUBSCRIBE, "params": ["btcusd@trade", "ethusd@depth5@100ms", "btcusd@bookTicker"]})
    frames = client.wait(5).heard()
    sheet = """{"E":1783981140085684200,"s":"btcrlusd","t":2840141014190422,"p":"62145.38000","q":"0.0162522200",
      "m":true}"""
    (trade, *_) = [frame for frame in frames if "t" in frame]
    assert_shape(trade, sheet)
    assert (len(trade["p"].partition(".")[2]), len(trade["q"].partition(".")[2])) == (5, 10)
    sheet = """{"lastUpdateId":1764527605192164,"symbol":"trumpgusdperp","bids":[["1","2"]],"asks":[["1","2"]]}"""
    images = [frame for frame in frames if "lastUpdateId" in frame]
    assert_shape(images[0], sheet)
    assert len(images) == 50, "images come at their beat, changed or not"
    assert {len(image["asks"]) for image in images} == {5}


def test_one_bad_stream_rejects_the_whole_frame() -> None:
    client = Client("gemini").dial("/?snapshot=-1")
    client.say({"id": 4, "method": "subscribe", "params": ["btcusd@depth@100ms", "nosuchperp@depth@100ms"]})
    sheet = """{"id":4,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: nosuchperp@depth@100ms"}}"""
    assert client.heard() == [json.loads(sheet)]
    assert client.wait(2).heard() == []
    client.say({"id": "a", "method": "list_subscriptions"}, {"id": 100, "method": "ping"}, {"id": 5, "method": "dance"})
    listed, pong, unsupported = client.heard()
    assert listed == {"id": "a", "status": 200, "result": []}, "ids come back with their type"
    assert pong == {"id": 100, "status": 200}
    assert unsupported["error"]["code"] == -1020
    client.say({"id": 6, "method": "depth", "params": {"symbol": "btcusd", "limit": 3}})
    assert len(client.heard()[0]["result"]["bids"]) == 3


def test_the_server_pings_and_counts() -> None:
    client = Client("gemini").dial("/").wait(130)
    assert len(client.ear.pings) == 6
    assert client.ear.closed is None
    statuses = [client.venue.handshake("/", {}) for _ in range(301)]
    assert (statuses.count(101), statuses[-1]) == (300, 429)
    assert [client.venue.handshake("/v2/marketdata", {}) for _ in range(13)].count(429) == 1
    assert client.venue.handshake("/v1/marketdata/btcusd", {}) == 404
    client.say(*[{"id": number, "method": "ping"} for number in range(7_001)])
    assert client.heard()[-1]["error"]["code"] == -1003


def test_the_archived_socket() -> None:
    client = Client("gemini").wait(2).dial("/v2/marketdata")
    wanted = {"name": "l2", "symbols": ["BTCUSD"]}
    client.say({"type": "subscribe", "subscriptions": [wanted, {"name": "candles_1m", "symbols": ["BTCUSD"]}]})
    snapshot, history, *frames = client.wait(6).heard()
    assert set(snapshot) == {"type", "symbol", "changes", "trades", "auction_events"}
    sheet = """{"type":"trade","symbol":"ALCXUSD","event_id":45465785975,"timestamp":1624493651491,"price":"302.53",
      "quantity":"0.992143","side":"buy"}"""
    assert_shape(snapshot["trades"][0], sheet)
    assert_shape(first(frames, type="trade"), sheet)
    sheet = """{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","302.75","0.00001"]]}"""
    assert_shape(first(frames, type="l2_updates"), sheet)
    sheet = """{"type":"candles_1m_updates","symbol":"BTCUSD",
      "changes":[[1561054500000,9350.18,9358.35,9350.18,9355.51,2.07]]}"""
    assert_shape(history, sheet)
    assert_shape(first(frames, type="candles_1m_updates"), sheet)
    times = [row[0] for row in history["changes"]]
    assert times == sorted(times, reverse=True)
    assert_shape(first(frames, type="heartbeat"), '{"type":"heartbeat","timestamp":1789456747150}')
    client.say({"type": "unsubscribe", "subscriptions": [wanted]}).heard()
    assert not [frame for frame in client.wait(2).heard() if frame["type"] == "l2_updates"]
    client.say({"type": "subscribe", "subscriptions": [{"name": "l2", "symbols": ["btcusd"]}]})
    assert client.heard() == [{"reason": "NoValidTradingPairs", "result": "error"}]


def test_rest() -> None:
    client = Client("gemini").wait(70)
    assert client.get("/v1/symbols")[0] == "btcusd"
    details = client.answer(Request.get("/v1/symbols/details/btcusd")).body
    assert details == (
        '{"symbol":"BTCUSD","base_currency":"BTC","quote_currency":"USD","tick_size":1e-8,"quote_increment":0.01,'
        '"min_order_size":"0.00001","status":"open","wrap_enabled":false,"product_type":"spot"}'
    )
    assert [entry["symbol"] for entry in client.get("/v1/symbols/details/all")][:2] == ["BTCUSD", "ETHUSD"]
    rows = client.get("/v2/candles/btcusd/1m")
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert all(low <= min(o, c) <= max(o, c) <= high for _, o, high, low, c, _ in rows)
    assert len(client.get("/v1/book/btcusd?limit_bids=0&limit_asks=5")["bids"]) > 900
    trades = client.get("/v1/trades/btcusd?limit_trades=9")
    assert len(trades) == 9
    assert {trade["type"] for trade in trades} <= {"buy", "sell"}
    assert client.get(f"/v1/trades/btcusd?since_tid={trades[3]['tid']}") == trades[:3]
    assert client.answer(Request.get("/v1/book/nope")).status == 400
    statuses = [client.answer(Request.get("/v1/symbols")).status for _ in range(120)]
    assert 429 in statuses
