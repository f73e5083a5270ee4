"""Simulated frames and answers of dYdX look like those in its fact sheet."""

import json
from decimal import Decimal
from typing import Any

import pytest

from coby.simulator.exchange import Request
from support.naive import NaiveBook, exact
from support.simulated import Client, assert_shape, first


def dialled() -> Client:
    client = Client("dydx").dial("/v4/ws")
    sheet = '{"type":"connected","connection_id":"004a1efa-21bb-4b19-a2e9-a8ffadd6dc53","message_id":0}'
    connected = client.heard_first()
    assert_shape(connected, sheet)
    assert connected["message_id"] == 0
    return client


def wanted(channel: str, identity: str, kind: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"type": kind, "channel": channel, "id": identity, **more}


def test_a_book_is_shown_at_its_top_and_told_level_by_level() -> None:
    client = dialled().say(wanted("v4_orderbook", "XRP-USD", batched=False))
    snapshot = client.heard_first()
    sheet = """{"type":"subscribed","connection_id":"…","message_id":7,"channel":"v4_orderbook","id":"GRT-USD",
      "contents":{"bids":[{"price":"0.1547","size":"35520"}],"asks":[{"price":"0.155","size":"3220"}]}}"""
    assert_shape(snapshot, sheet)
    assert [len(snapshot["contents"][side]) for side in ("bids", "asks")] == [100, 100]
    frames = client.wait(20).heard()
    sheet = """{"type":"channel_data","connection_id":"86052893-…","message_id":5814,"id":"GRT-USD",
      "channel":"v4_orderbook","version":"1.0.0","contents":{"bids":[["11.21","0"]]}}"""
    assert_shape(next(frame for frame in frames if "bids" in frame["contents"]), sheet)
    assert {len(frame["contents"]) for frame in frames} == {1}, "one side at a time"
    assert "0" in {size for f in frames for rows in f["contents"].values() for _, size in rows}
    worst = Decimal(snapshot["contents"]["bids"][-1]["price"])
    deep = [price for f in frames for price, _ in f["contents"].get("bids", ()) if Decimal(price) < worst]
    assert deep, "changes come of levels that the snapshot has not shown"


def test_books_cross_on_the_way_and_are_true_in_the_end() -> None:
    client = dialled().say(wanted("v4_orderbook", "BTC-USD"))
    levels = client.heard_first()["contents"]
    book = NaiveBook()
    book.apply(*([(level["price"], level["size"]) for level in levels[side]] for side in ("bids", "asks")))
    crossed = 0
    market = client.venue.markets["BTC-USD"]
    for _ in range(20):
        for frame in client.wait(1).heard():
            book.apply(*(frame["contents"].get(side, ()) for side in ("bids", "asks")))
            crossed += book.bids[0][0] >= book.asks[0][0]
        true = exact(market.instrument.level(*pair) for pair in market.bids.top(20))  # type: ignore[misc]
        assert book.bids[:20] == true
        assert book.bids[0][0] < book.asks[0][0]
    assert crossed > 5


def test_messages_are_counted_over_all_channels() -> None:
    client = dialled()
    client.say(wanted("v4_orderbook", "BTC-USD"), wanted("v4_trades", "BTC-USD")).wait(2)
    client.say({"type": "ping", "id": 1}, wanted("v4_orderbook", "FOO"), wanted("v4_trades", "BTC-USD"))
    client.wait(1).say(wanted("v4_trades", "BTC-USD", "unsubscribe"))
    frames = client.heard()
    assert [frame["message_id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert len({frame["connection_id"] for frame in frames}) == 1
    sheet = '{"type":"pong","connection_id":"…","message_id":1,"id":1}'
    assert_shape(first(frames, type="pong"), sheet)
    sheet = """{"type":"error","message":"Invalid subscription id for channel: (v4_orderbook-FOO)",
      "connection_id":"…","message_id":1,"channel":"v4_orderbook","id":"FOO"}"""
    errors = [frame for frame in frames if frame["type"] == "error"]
    assert_shape(errors[0], sheet)
    assert errors[0]["message"] == json.loads(sheet)["message"]
    assert errors[1]["message"] == "Invalid subscribe message: already subscribed (v4_trades-BTC-USD)"
    sheet = """{"type":"unsubscribed","connection_id":"…","message_id":1,"channel":"v4_orderbook","id":"BTC-USD"}"""
    assert_shape(frames[-1], sheet)


def test_trades_come_with_their_block() -> None:
    client = Client("dydx").wait(5).dial("/v4/ws").say(wanted("v4_trades", "BTC-USD"))
    _, history = client.heard()
    frames = client.wait(20).heard()
    sheet = """{"type":"channel_data","connection_id":"…","message_id":5,"id":"BTC-USD","channel":"v4_trades",
      "version":"2.1.0","contents":{"trades":[{"id":"0165e5e40000000200000002","size":"0.002","price":"60397",
      "side":"BUY","createdAt":"2024-08-22T23:59:59.851Z","type":"LIMIT","createdAtHeight":"1"}]}}"""
    assert_shape(frames[0], sheet)
    assert_shape(history["contents"]["trades"][0], json.loads(sheet)["contents"]["trades"][0])
    trades = [trade for frame in frames for trade in frame["contents"]["trades"]]
    assert any(len(frame["contents"]["trades"]) > 1 for frame in frames)
    assert all(len({trade["createdAt"] for trade in f["contents"]["trades"]}) == 1 for f in frames), "one block each"
    ids = [trade["id"] for trade in history["contents"]["trades"][::-1] + trades]
    assert ids == sorted(set(ids))
    assert {len(identity) for identity in ids} == {24}


def test_candles_and_batches() -> None:
    client = Client("dydx").wait(90).dial("/v4/ws")
    client.say(wanted("v4_candles", "BTC-USD/1MIN"), wanted("v4_orderbook", "BTC-USD", batched=True))
    _, history, _, *frames = client.wait(10).heard()
    sheet = """{"startedAt":"2024-…Z","ticker":"BTC-USD","resolution":"1MIN","low":"…","high":"…","open":"…",
      "close":"…","baseTokenVolume":"…","usdVolume":"…","trades":12,"startingOpenInterest":"…",
      "orderbookMidPriceOpen":"…","orderbookMidPriceClose":"…"}"""
    candles = history["contents"]["candles"]
    assert_shape(candles[0], sheet)
    starts = [candle["startedAt"] for candle in candles]
    assert starts == sorted(starts, reverse=True)
    update = first(frames, channel="v4_candles")["contents"]
    assert_shape(update, sheet)
    assert update["startedAt"] == starts[0]
    assert update["trades"] > candles[0]["trades"]
    batches = [frame["contents"] for frame in frames if frame["type"] == "channel_batch_data"]
    assert 30 < len(batches) <= 40, "four a second"
    assert any(len(batch) > 1 for batch in batches)


def test_too_many_subscriptions_a_second_and_a_missing_pong_end_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    client = dialled().say(*[wanted("v4_trades", symbol) for symbol in ("BTC-USD", "ETH-USD")])
    assert client.ear.closed is None
    assert client.say(wanted("v4_trades", "SOL-USD")).ear.closed == 1013
    assert Client("dydx").dial("/v4/ws").wait(35).ear.pings == [b""]
    client = dialled().wait(31)
    assert client.connection is not None
    client.exchange.hear_pong(client.connection)
    assert client.wait(25).ear.closed is None
    assert client.wait(20).ear.closed == 1011
    monkeypatch.setattr("coby.simulator.venues.dydx._SUBSCRIPTIONS", 1)
    client = dialled().say(wanted("v4_orderbook", "BTC-USD"), wanted("v4_orderbook", "ETH-USD"))
    problem = "Per-connection subscription limit reached for v4_orderbook (limit=1)."
    assert client.heard()[-1]["message"] == problem


def test_rest() -> None:
    client = Client("dydx").wait(70)
    listed = client.get("/v4/perpetualMarkets")["markets"]["BTC-USD"]
    sheet = """{"clobPairId":"0","ticker":"BTC-USD","status":"ACTIVE","oraclePrice":"…","tickSize":"1",
      "stepSize":"0.0001","atomicResolution":-10,"quantumConversionExponent":-9,"stepBaseQuantums":1000000,
      "subticksPerTick":100000,"marketType":"CROSS"}"""
    assert listed == {**json.loads(sheet), "oraclePrice": listed["oraclePrice"]}
    book = client.get("/v4/orderbooks/perpetualMarket/BTC-USD")
    assert [len(book[side]) for side in ("bids", "asks")] == [100, 100]
    trades = client.get("/v4/trades/perpetualMarket/BTC-USD?limit=20")["trades"]
    height = trades[-1]["createdAtHeight"]
    older = client.get(f"/v4/trades/perpetualMarket/BTC-USD?createdBeforeOrAtHeight={height}")["trades"]
    assert {int(trade["createdAtHeight"]) <= int(height) for trade in older} == {True}
    span = "fromISO=2025-12-31T23:00:00.000Z&toISO=2025-12-31T23:10:00.000Z"
    candles = client.get(f"/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN&{span}")["candles"]
    assert [candle["startedAt"][11:16] for candle in candles] == [f"23:0{minute}" for minute in range(9, -1, -1)]
    assert client.answer(Request.get("/v4/trades/perpetualMarket/NOPE")).status == 400
    assert client.answer(Request.get("/v4/candles/perpetualMarket/BTC-USD")).status == 404
    statuses = [client.answer(Request.get("/v4/time")).status for _ in range(100)]
    assert 429 in statuses
