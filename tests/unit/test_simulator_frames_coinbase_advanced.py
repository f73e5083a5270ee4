"""Simulated frames and answers of Coinbase's second feed look like those in its fact sheet."""

from typing import Any

from coby.simulator.exchange import Request
from support.simulated import Client, assert_shape, first


def wanted(channel: str, *products: str, kind: str = "subscribe") -> dict[str, Any]:
    return {"type": kind, "product_ids": list(products), "channel": channel}


def test_a_book_has_a_number_for_each_frame_and_comes_before_the_ack() -> None:
    client = Client("coinbase").wait(1).dial("/").say(wanted("level2", "BTC-USD"))
    snapshot, ack = client.heard()
    sheet = """{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.793075885Z","sequence_num":0,"events":[{
      "type":"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-24T22:34:13.483122Z",
      "price_level":"78856.05","new_quantity":"0.0476177"}]}]}"""
    assert_shape(snapshot, sheet)
    assert (snapshot["sequence_num"], len(snapshot["timestamp"]), snapshot["events"][0]["type"]) == (0, 30, "snapshot")
    assert len(snapshot["events"][0]["updates"]) > 2_500
    sheet = """{"channel":"subscriptions","timestamp":"...","sequence_num":3,
      "events":[{"subscriptions":{"level2":["BTC-USD"]}}]}"""
    assert_shape(ack, sheet)
    client.say(wanted("market_trades", "BTC-USD", "ETH-USD"), {"type": "subscribe", "channel": "heartbeats"})
    frames = client.wait(20).heard()
    numbers = [frame["sequence_num"] for frame in (snapshot, ack, *frames)]
    assert numbers == list(range(len(numbers))), "one count for all channels"
    updates = [frame["events"][0] for frame in frames if frame["channel"] == "l2_data"]
    assert {update["type"] for update in updates} == {"update"}
    assert {level["side"] for update in updates for level in update["updates"]} == {"bid", "offer"}
    known = {level["price_level"] for level in snapshot["events"][0]["updates"]}
    stray = 0
    for level in (level for update in updates for level in update["updates"]):
        if level["new_quantity"] != "0":
            known.add(level["price_level"])
        elif level["price_level"] in known:
            known.remove(level["price_level"])
        else:
            stray += 1
    assert stray > 5, "levels are deleted that nobody knows"


def test_trades_candles_and_heartbeats() -> None:
    client = Client("coinbase").wait(2).dial("/")
    client.say(wanted("market_trades", "BTC-USD"), wanted("candles", "BTC-USD"), wanted("heartbeats"))
    frames = client.wait(10).heard()
    history, *trades = [frame for frame in frames if frame["channel"] == "market_trades"]
    sheet = """{"channel":"market_trades","timestamp":"..","sequence_num":7,"events":[{"type":"update","trades":[{
      "trade_id":"699871154","product_id":"BTC-USD","price":"62322.43","size":"0.00005535","side":"BUY",
      "time":"2024-10-08T09:10:52.378779Z"}]}]}"""
    assert_shape(history, sheet)
    assert_shape(trades[0], sheet)
    assert (history["events"][0]["type"], trades[0]["events"][0]["type"]) == ("snapshot", "update")
    ids = [int(trade["trade_id"]) for trade in history["events"][0]["trades"]][::-1]
    ids += [int(trade["trade_id"]) for frame in trades for trade in frame["events"][0]["trades"]]
    assert ids == list(range(ids[0], ids[0] + len(ids))), "history and news join without a hole"
    sheet = """{"channel":"candles","timestamp":"..","sequence_num":3,"events":[{"type":"update","candles":[{
      "start":"1775521800","high":"..","low":"..","open":"..","close":"..","volume":"..","product_id":"BTC-USD"}]}]}"""
    candles = [frame for frame in frames if frame["channel"] == "candles"]
    assert_shape(candles[-1], sheet)
    assert len(candles) == 11, "one a second after the history"
    assert {int(row["start"]) % 300 for frame in candles for row in frame["events"][0]["candles"]} == {0}
    beats = [frame["events"][0] for frame in frames if frame["channel"] == "heartbeats"]
    assert_shape(beats[0], '{"current_time":"2026-04-07 14:30:10.000000000+00:00","heartbeat_counter":42}')
    assert len(beats[0]["current_time"]) == len("2026-04-07 14:30:10.000000000+00:00")
    assert [beat["heartbeat_counter"] - beats[0]["heartbeat_counter"] for beat in beats] == list(range(10))


def test_sides_are_the_makers() -> None:
    client = Client("coinbase").dial("/").say(wanted("market_trades", "BTC-USD"))
    sides = {
        trade["trade_id"]: trade["side"]
        for frame in client.wait(5).heard()
        for event in frame["events"]
        for trade in event.get("trades", ())
    }
    fills = {str(fill.number): fill for fill in client.venue.markets["BTC-USD"].fills}
    assert len(sides) > 10
    assert all((side == "BUY") == fills[number].taker_sells for number, side in sides.items())


def test_products_in_usdc_answer_as_those_in_dollars() -> None:
    client = Client("coinbase").dial("/").say(wanted("level2", "BTC-USDC"))
    snapshot, ack = client.heard()
    assert snapshot["events"][0]["product_id"] == "BTC-USD"
    assert ack["events"][0]["subscriptions"] == {"level2": ["BTC-USD"]}
    client.say(wanted("level2", "BTC-USD", kind="unsubscribe"))
    assert client.heard()[0]["events"] == [{"subscriptions": {}}]
    assert client.wait(3).heard() == []


def test_refusals_and_ends() -> None:
    client = Client("coinbase").dial("/")
    client.say(
        wanted("level2", "NOPE"), wanted("full", "BTC-USD"), wanted("level2"), {"type": "x", "channel": "level2"}
    )
    errors = client.heard()
    assert [set(error) for error in errors] == [{"type", "message"}] * 4
    assert client.wait(5).ear.closed == 1008, "no subscription in time"
    client.dial("/").say(*[wanted("level2", "NOPE") for _ in range(9)])
    assert client.heard()[-1]["message"] == "rate limit exceeded"
    client.dial("/").say(wanted("status")).heard()
    assert client.wait(60).ear.closed is None
    assert client.wait(20).ear.closed == 1006, "nothing to say for too long"
    assert [client.venue.handshake("/", {}) for _ in range(9)] == [101] * 8 + [429]
    client.wait(1).dial("/").say({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches"]})
    assert client.heard()[0]["type"] == "subscriptions", "the first feed is still there"


def test_rest() -> None:
    client = Client("coinbase").wait(70)
    products = client.get("/api/v3/brokerage/market/products")["products"]
    assert first(products, product_id="BTC-USDC")["alias"] == "BTC-USD"
    entry = first(products, product_id="BTC-USD")
    assert (entry["base_increment"], entry["price_increment"], entry["product_type"]) == ("0.00000001", "0.01", "SPOT")
    book = client.get("/api/v3/brokerage/market/product_book?product_id=BTC-USD&limit=7")["pricebook"]
    assert [len(book[side]) for side in ("bids", "asks")] == [7, 7]
    candles = client.get("/api/v3/brokerage/market/products/BTC-USD/candles?granularity=ONE_MINUTE")["candles"]
    assert 340 < len(candles) <= 350
    starts = [int(candle["start"]) for candle in candles]
    assert starts == sorted(starts, reverse=True)
    path = "/api/v3/brokerage/market/products/BTC-USD/candles?granularity=ONE_MINUTE&start=0"
    assert client.answer(Request.get(path)).status == 400
    assert client.answer(Request.get("/api/v3/brokerage/market/nothing")).status == 404
