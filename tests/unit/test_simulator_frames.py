"""Simulated frames and answers look like those in the venues' fact sheets: the same keys and types."""

import itertools
import json
import zlib
from typing import Any

import pytest

from coby.simulator.exchange import Exchange, Request
from support.simulated import START_NS, Client, shape

BINANCE = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1}


def assert_shape(found: Any, sheet: str | Any) -> None:
    expected = json.loads(sheet) if isinstance(sheet, str) else sheet
    assert shape(found) == shape(expected)


def first(frames: list[Any], **what: Any) -> Any:
    return next(frame for frame in frames if all(frame.get(key) == value for key, value in what.items()))


# binance_futures


def test_binance_futures_depth() -> None:
    client = Client("binance_futures").dial("/public/stream").say(BINANCE)
    assert client.heard() == [{"result": None, "id": 1}]
    frames = [f for f in client.wait(3).heard() if f["data"]["b"] and f["data"]["a"]]
    sheet = """{"stream":"sushiusdt@depth@100ms","data":{"e":"depthUpdate","E":1626992741037,"T":1626992741024,
      "s":"SUSHIUSDT","U":600859599090,"u":600859600917,"pu":600859598061,"b":[["7.5040","813"],["7.6090","0"]],
      "a":[["7.6150","1563"]]}}"""
    assert_shape(frames[0], sheet)
    assert frames[0]["stream"] == "btcusdt@depth@100ms"
    assert all(frame["data"]["E"] % 100 == 0 for frame in frames)
    snapshot = client.get("/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
    assert_shape(snapshot, {"lastUpdateId": 1, "E": 1, "T": 1, "bids": [["p", "q"]], "asks": [["p", "q"]]})
    assert len(snapshot["bids"]) == 1_000


def test_binance_futures_trades_and_candles() -> None:
    client = Client("binance_futures").dial("/market/ws/btcusdt@aggTrade/btcusdt@kline_1m")
    frames = client.wait(2).heard()
    sheet = """{"e":"aggTrade","E":1626992741575,"a":16599292,"s":"CTKUSDT","p":"1.01100","q":"10","nq":"10",
      "f":23961322,"l":23961322,"T":1626992741421,"m":false}"""
    assert_shape(first(frames, e="aggTrade"), sheet)
    sheet = """{"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{"t":1633998480000,"T":1633998539999,"s":"NKNUSDT",
      "i":"1m","f":19862761,"L":19862790,"o":"0.3527","c":"0.3528","h":"0.3528","l":"0.3522","v":"25877","n":30,
      "x":false,"q":"9116.046","V":"58","Q":"20.46","B":"0"}}"""
    assert_shape(first(frames, e="kline"), sheet)
    closed = [f["k"] for f in client.wait(60).heard() if f["e"] == "kline" and f["k"]["x"]]
    assert [k["T"] % 60_000 for k in closed] == [59_999]
    (row,) = client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1&endTime=" + str(closed[0]["T"]))
    assert row == [closed[0][key] for key in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")] + ["0"]


def test_binance_futures_acknowledges_what_its_path_never_delivers() -> None:
    client = Client("binance_futures").dial("/stream").say({**BINANCE, "params": ["btcusdt@aggTrade"]})
    assert client.heard() == [{"result": None, "id": 1}]
    assert client.wait(5).heard() == []
    client.say({"method": "LIST_SUBSCRIPTIONS", "id": 3}, {"method": "NONE", "id": 4}, "no json")
    listed, unknown, malformed = client.heard()
    assert listed == {"result": ["btcusdt@aggTrade"], "id": 3}
    assert unknown["code"] == malformed["code"] == 2
    client.say(*[{"method": "LIST_SUBSCRIPTIONS", "id": n} for n in range(11)])
    assert client.ear.closed == 1008


def test_binance_futures_counts_weight_and_knows_its_limits() -> None:
    client = Client("binance_futures")
    answer = client.answer(Request.get("/fapi/v1/depth?symbol=BTCUSDT&limit=1000"))
    assert answer.headers == {"X-MBX-USED-WEIGHT-1M": "20"}
    assert client.answer(Request.get("/fapi/v1/depth?symbol=BTCUSDT&limit=999")).status == 400
    statuses = [client.answer(Request.get("/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).status for _ in range(120)]
    assert (statuses.count(200), statuses.count(429)) == (119, 1)
    assert "Retry-After" in client.answer(Request.get("/fapi/v1/ping")).headers
    assert client.wait(60).answer(Request.get("/fapi/v1/ping")).status == 200
    assert client.venue.handshake("/other/stream", {}) == 404


# kraken

KRAKEN = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 10}}


def test_kraken_book() -> None:
    client = Client("kraken").dial("/v2")
    sheet = """{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",
      "connection_id":806193442143087786}]}"""
    assert_shape(client.heard()[0], sheet)
    frames = client.say({**KRAKEN, "req_id": 1}).heard()
    sheet = """{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},
      "success":true,"time_in":"2026-08-24T22:21:56.724795Z","time_out":"2026-08-24T22:21:56.724853Z","req_id":1}"""
    acks = [frame for frame in frames if frame.get("method") == "subscribe"]
    assert [ack["result"]["symbol"] for ack in acks] == ["BTC/USD", "ETH/USD"]
    assert_shape(acks[0], sheet)
    sheet = """{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":78871.5,
      "qty":0.01266503}],"asks":[{"price":78871.6,"qty":4.21103066}],"checksum":1406471562,
      "timestamp":"2026-08-24T22:21:57.110183Z"}]}"""
    snapshot = first(frames, type="snapshot")
    assert_shape(snapshot, sheet)
    assert [len(snapshot["data"][0][side]) for side in ("bids", "asks")] == [10, 10]
    updates = [f for f in client.wait(5).heard() if f.get("type") == "update"]
    both = next(f for f in updates if f["data"][0]["bids"] and f["data"][0]["asks"])
    assert_shape(both, sheet.replace("snapshot", "update"))


def test_kraken_prints_numbers_with_all_their_digits() -> None:
    client = Client("kraken").dial("/v2").say(KRAKEN)
    texts = [payload for payload in client.ear.payloads if '"book","type"' in str(payload)]
    for text in texts:
        levels = json.loads(text, parse_float=str)["data"][0]["bids"]
        assert {len(level["qty"].partition(".")[2]) for level in levels} == {8}
        assert len({len(level["price"].partition(".")[2]) for level in levels}) == 1


def test_the_sheets_checksum_vector_of_kraken() -> None:
    from coby.simulator.exchange import SECOND
    from coby.simulator.market import Side
    from coby.simulator.venues import VENUES
    from coby.simulator.venues.kraken import checksum

    asks = """78871.6 4.21103066|78872.2 0.41892437|78872.5 0.08877452|78873.7 0.64976822|78875.5 0.63391066|
      78876.2 0.02287157|78877.2 0.00810675|78877.8 0.65087492|78877.9 1.89408049|78878.0 4.52243185"""
    bids = """78871.5 0.01266503|78868.4 0.00005100|78867.3 0.00059789|78865.8 0.00030000|78865.7 0.01532403|
      78864.5 0.00005100|78860.6 0.04618528|78860.5 0.00005100|78859.2 0.20128607|78858.8 0.63404462"""
    market = Exchange([VENUES["kraken"]], start_ns=SECOND).venues["kraken"].markets["BTC/USD"]

    def side(sign: int, text: str) -> Side:
        pairs = (pair.split() for pair in text.split("|"))
        return Side(sign, {int(p.replace(".", "")): int(s.replace(".", "")) for p, s in pairs})

    market.bids, market.asks = side(-1, bids), side(1, asks)
    assert checksum(market) == 1406471562
    market.bids.put(788588, 0)
    market.bids.put(788570, 34775324)
    assert checksum(market) == 2416540570
    market.bids.put(788592, 1378631)
    assert checksum(market) == 2136263304
    market.bids.put(788592, 0)
    market.bids.put(788568, 60870868)
    assert checksum(market) == 2126323084
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_kraken_trades_candles_errors_and_pings() -> None:
    client = Client("kraken").dial("/v2").wait(2)
    client.heard()
    params = {"symbol": ["BTC/USD"], "snapshot": True}
    frames = client.say({"method": "subscribe", "params": {"channel": "trade", **params}}).wait(3).heard()
    sheet = """{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,
      "qty":0.00027625,"ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"""
    assert_shape(first(frames, channel="trade", type="update"), sheet)
    assert 1 <= len(first(frames, channel="trade", type="snapshot")["data"]) <= 50
    frames = client.say({"method": "subscribe", "params": {"channel": "ohlc", **params}}).wait(3).heard()
    sheet = """{"channel":"ohlc","type":"update","timestamp":"..","data":[{"symbol":"BTC/USD","open":106038.2,
      "high":106044.3,"low":106038.1,"close":106040.1,"trades":12,"volume":0.083,"vwap":106039.6,
      "interval_begin":"2023-10-04T16:25:00.000000000Z","interval":1,"timestamp":"2023-10-04T16:26:00.000000Z"}]}"""
    assert_shape(first(frames, channel="ohlc", type="update"), sheet)
    client.say({"method": "subscribe", "params": {"channel": "book", "symbol": ["X/Y"]}, "req_id": 1})
    error = first(client.heard(), success=False)
    assert error.pop("time_in")
    assert error.pop("time_out")
    told = {"error": "Currency pair not supported X/Y", "method": "subscribe", "symbol": "X/Y", "req_id": 1}
    assert error == {**told, "success": False}
    pong = first(client.say({"method": "ping", "req_id": 42}).heard(), method="pong")
    assert_shape(pong, '{"method":"pong","req_id":42,"time_in":"...","time_out":"..."}')


def test_kraken_beats_only_for_those_who_listen_and_closes_on_the_idle() -> None:
    client = Client("kraken").dial("/v2")
    client.heard()
    assert client.wait(30).heard() == []
    client.wait(31)
    assert client.ear.closed == 1000
    client.dial("/v2").say({"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["XRP/USD"]}})
    frames = client.wait(61).heard()
    assert {"channel": "heartbeat"} in frames
    assert client.ear.closed is None


def test_kraken_rest() -> None:
    client = Client("kraken").wait(1)
    pairs = client.get("/0/public/AssetPairs")["result"]
    sheet = """{"wsname":"XBT/USDT","base":"XXBT","quote":"USDT","pair_decimals":1,"lot_decimals":8,
      "ordermin":"0.00005","costmin":"0.5","tick_size":"0.1","status":"online"}"""
    for key, value in json.loads(sheet).items():
        assert pairs["XBTUSDT"][key] == value
    assert pairs["XXBTZUSD"]["wsname"] == "XBT/USD"
    rows = client.get("/0/public/OHLC?pair=XBTUSDT&interval=1")["result"]
    assert len(rows["XBTUSDT"]) == 720
    assert_shape(rows["XBTUSDT"][0], [1, "o", "h", "l", "c", "vwap", "volume", 1])
    assert rows["last"] == rows["XBTUSDT"][-2][0]
    assert client.get("/0/public/OHLC?pair=NOPE")["error"] == ["EQuery:Unknown asset pair"]


# coinbase

COINBASE = {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch", "matches", "heartbeat"]}


def test_coinbase_frames() -> None:
    client = Client("coinbase").wait(2).dial("/").say(COINBASE)
    ack, snapshot, last, *frames = client.wait(3).heard()
    assert ack == {
        "type": "subscriptions",
        "channels": [{"name": name, "product_ids": ["BTC-USD"]} for name in ("level2_batch", "matches", "heartbeat")],
    }
    sheet = """{"type":"snapshot","product_id":"BAND-GBP","asks":[["14.8024","12.77"],["14.8069","12.49"]],
      "bids":[["1","2"]],"time":"..."}"""
    assert_shape(snapshot, sheet)
    assert len(snapshot["bids"]) > 1_000
    sheet = """{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],
      "time":"2021-04-17T16:43:37.075687Z"}"""
    assert_shape(first(frames, type="l2update"), sheet)
    sheet = """{"type":"match","trade_id":280232,"maker_order_id":"..","taker_order_id":"..","side":"sell","size":"985",
      "price":"0.00001305","product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}"""
    assert last["type"] == "last_match"
    assert_shape(last, sheet)
    assert_shape(first(frames, type="match"), sheet)
    sheet = '{"type":"heartbeat","sequence":1,"last_trade_id":1,"product_id":"BTC-USD","time":"2021"}'
    assert_shape(first(frames, type="heartbeat"), sheet)
    ids = [last["trade_id"]] + [f["trade_id"] for f in frames if f["type"] == "match"]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_coinbase_side_is_the_makers() -> None:
    client = Client("coinbase").dial("/").say(COINBASE)
    bids: dict[float, float] = {}
    wrong = seen = 0
    for frame in client.wait(10).heard():
        if frame["type"] == "snapshot":
            bids = {float(p): float(s) for p, s in frame["bids"]}
        elif frame["type"] == "l2update":
            bids.update({float(p): float(s) for side, p, s in frame["changes"] if side == "buy"})
        elif frame["type"] == "match":
            seen += 1
            resting = bids.get(float(frame["price"]), 0) > 0
            wrong += (frame["side"] == "buy") != resting
    assert seen > 50
    assert wrong < seen / 5, "levels younger than the batch are the only ones that do not fit"


def test_coinbase_refuses_and_closes() -> None:
    client = Client("coinbase").dial("/").say({**COINBASE, "channels": ["level2"]})
    sheet = """{"type":"error","message":"Failed to subscribe",
      "reason":"level2, level3, and full channels now require authentication."}"""
    assert client.heard() == [json.loads(sheet)]
    client.say({"type": "subscribe", "product_ids": ["NOPE"], "channels": ["matches"]}, "no json")
    assert [frame["type"] for frame in client.heard()] == ["error", "error"]
    assert client.wait(5).ear.closed == 1008
    client.dial("/").say(COINBASE, {**COINBASE, "type": "unsubscribe"}).wait(1)
    assert client.heard()[-1] == {"type": "subscriptions", "channels": []}


def test_coinbase_rest() -> None:
    client = Client("coinbase").wait(130)
    product = client.get("/products")[0]
    assert (product["id"], product["base_increment"], product["quote_increment"]) == ("BTC-USD", "0.00000001", "0.01")
    rows = client.get("/products/BTC-USD/candles?granularity=60")
    assert all(low <= min(o, c) <= max(o, c) <= high for _, low, high, o, c, _ in rows)
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    trades = client.get("/products/BTC-USD/trades")
    assert trades[0]["trade_id"] > trades[1]["trade_id"]
    assert client.answer(Request.get("/products/NOPE/book")).status == 404


# kucoin


def kucoin(*topics: str) -> Client:
    client = Client("kucoin")
    bullet = client.answer(Request("POST", "/api/v1/bullet-public"))
    sheet = """{"code":"200000","data":{"token":"2neAiu...","instanceServers":[{
      "endpoint":"wss://ws-api-spot.kucoin.com/",
      "encrypt":true,"protocol":"websocket","pingInterval":18000,"pingTimeout":10000}]}}"""
    assert_shape(json.loads(bullet.body), sheet)
    client.dial(f"/?token={json.loads(bullet.body)['data']['token']}&connectId=hello")
    assert client.heard() == [{"id": "hello", "type": "welcome"}]
    for number, topic in enumerate(topics):
        client.say({"id": number, "type": "subscribe", "topic": topic, "privateChannel": False, "response": True})
        assert client.heard() == [{"id": str(number), "type": "ack"}]
    return client


def test_kucoin_increments_and_snapshots() -> None:
    client = kucoin("/market/level2:BTC-USDT,ETH-USDT")
    frames = client.wait(10).heard()
    sheet = """{"type":"message","topic":"/market/level2:BTC-USDT","subject":"trade.l2update","data":{"changes":{"asks":
      [["67993.3","1.21427407","14701689783"]],"bids":[]},"sequenceStart":14701689783,"sequenceEnd":14701689783,
      "symbol":"BTC-USDT","time":1729816425625}}"""
    only_asks = next(f for f in frames if f["data"]["changes"]["asks"] and not f["data"]["changes"]["bids"])
    assert_shape(only_asks, sheet)
    assert {frame["topic"] for frame in frames} == {"/market/level2:BTC-USDT", "/market/level2:ETH-USDT"}
    rows = [row for f in frames for side in f["data"]["changes"].values() for row in side]
    assert ["0", "0"] in [row[:2] for row in rows], "numbers are used up without a change of level"
    sheet = """{"code":"200000","data":{"time":1729176273859,"sequence":"14610502970","bids":[["p","s"]],
      "asks":[["p","s"]]}}"""
    snapshot = client.get("/api/v1/market/orderbook/level2_100?symbol=BTC-USDT")
    assert_shape(snapshot, sheet)
    assert len(snapshot["data"]["asks"]) == 100


def test_kucoin_matches_candles_and_images() -> None:
    client = kucoin("/market/match:BTC-USDT", "/market/candles:BTC-USDT_1min", "/spotMarket/level2Depth50:BTC-USDT")
    frames = client.wait(3).heard()
    sheet = """{"data":{"symbol":"DAPPT-BTC","sequence":"1612701563869","side":"buy","size":"81.8814",
      "price":"0.0000001117","takerOrderId":"6085c097587c","time":"1619378327739050725","type":"match",
      "makerOrderId":"6085c06144b3","tradeId":"6085c09769bc506996295e36"},
      "subject":"trade.l3match","topic":"/market/match:DAPPT-BTC","type":"message"}"""
    assert_shape(first(frames, subject="trade.l3match"), sheet)
    sheet = """{"data":{"symbol":"DAPPT-BTC","candles":["1619378220","0.0000001116","0.0000001116","0.0000001116",
      "0.0000001116","0","0"],"time":1619378328806000034},"subject":"trade.candles.add",
      "topic":"/market/candles:DAPPT-BTC_1min","type":"message"}"""
    assert_shape(first(frames, subject="trade.candles.add"), sheet)
    opened, close, high, low = (float(x) for x in first(frames, subject="trade.candles.update")["data"]["candles"][1:5])
    assert low <= min(opened, close) <= max(opened, close) <= high
    sheet = """{"type":"message","topic":"/spotMarket/level2Depth50:BTC-USDT","subject":"level2","data":{
      "asks":[["95964.3","0.08168874"]],"bids":[["1","2"]],"timestamp":1733124805073}}"""
    assert_shape(first(frames, subject="level2"), sheet)


def test_kucoin_wants_tokens_pings_and_real_topics() -> None:
    client = Client("kucoin").dial("/?token=wrong&connectId=1")
    assert client.heard()[0]["type"] == "error"
    assert client.ear.closed == 1000
    client = kucoin()
    client.say({"id": 7, "type": "subscribe", "topic": "/market/xxx", "response": True})
    assert client.heard() == [{"id": "7", "type": "error", "code": 404, "data": "topic /market/xxx is not found"}]
    client.wait(20).say({"id": "1545910590801", "type": "ping"})
    assert_shape(client.heard()[0], '{"id":"1545910590801","type":"pong","timestamp":1}')
    assert client.wait(20).ear.closed is None
    assert client.wait(10).ear.closed == 1000


# bitstamp


def bitstamp(channel: str) -> Client:
    client = Client("bitstamp").dial("/").say({"event": "bts:subscribe", "data": {"channel": channel}})
    assert client.heard() == [{"event": "bts:subscription_succeeded", "channel": channel, "data": {}}]
    return client


def test_bitstamp_diffs_and_snapshots() -> None:
    client = bitstamp("diff_order_book_ethusd")
    frames = client.wait(5).heard()
    sheet = """{"data":{"timestamp":"1772723362","microtimestamp":"1772723362377013","bids":[["2087.28","0.500000"],
      ["2087.19","0.00000000"]],"asks":[["2087.29","6.330796"]]},"channel":"diff_order_book_ethusd","event":"data"}"""
    assert_shape(next(f for f in frames if f["data"]["bids"] and f["data"]["asks"]), sheet)
    times = [int(frame["data"]["microtimestamp"]) for frame in frames]
    assert times == sorted(set(times))
    snapshot = client.get("/api/v2/order_book/ethusd/?group=1")
    assert_shape(snapshot, json.loads(sheet)["data"])
    assert int(snapshot["microtimestamp"]) >= times[-1]
    assert len(snapshot["bids"]) > 1_000


def test_bitstamp_trades_heartbeats_errors_and_candles() -> None:
    client = bitstamp("live_trades_btcusd")
    sheet = """{"data":{"id":542327128,"timestamp":"1772723751","amount":0.241,"amount_str":"0.241000","price":2090.22,
      "price_str":"2090.22","type":0,"microtimestamp":"1772723751946000","buy_order_id":1982008431775746,
      "sell_order_id":1982008430600193},"channel":"live_trades_ethusd","event":"trade"}"""
    assert_shape(client.wait(5).heard()[0], sheet)
    client.say({"event": "bts:heartbeat"}, {"event": "bts:subscribe", "data": {"channel": "nothing"}}, "no json")
    heartbeat = {"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}
    assert [frame for frame in client.heard() if frame["event"] != "trade"] == [
        heartbeat,
        *(
            {"event": "bts:error", "channel": "", "data": {"code": None, "message": message}}
            for message in ("Bad subscription string.", "Incorrect JSON format.")
        ),
    ]
    assert bitstamp("diff_order_book_nopenope").wait(3).heard() == []
    sheet = """{"name":"BTC/USD","url_symbol":"btcusd","base_decimals":8,"counter_decimals":0,
      "instant_order_counter_decimals":2,"minimum_order":"10 USD","trading":"Enabled",
      "instant_and_market_orders":"Enabled","description":"..."}"""
    assert_shape(client.get("/api/v2/trading-pairs-info/")[0], sheet)
    sheet = '{"data":{"ohlc":[{"timestamp":"","open":"","high":"","low":"","close":"","volume":""}],"pair":"BTC/USD"}}'
    candles = client.get("/api/v2/ohlc/btcusd/?step=60&limit=10")
    assert_shape(candles, sheet)
    assert len(candles["data"]["ohlc"]) == 10


# gateio


def gateio(*asked: tuple[str, list[str]]) -> Client:
    client = Client("gateio").dial("/ws/v4/")
    for number, (channel, payload) in enumerate(asked):
        client.say({"time": 1619093532, "id": number, "channel": channel, "event": "subscribe", "payload": payload})
    return client


def pushed(frames: list[Any], channel: str) -> list[Any]:
    return [frame for frame in frames if frame["channel"] == channel and frame["event"] == "update"]


def test_gateio_books_begin_with_a_full_frame_and_count_on() -> None:
    client = gateio(("spot.obu", ["ob.BTC_USDT.400"]), ("spot.obu", ["ob.BTC_USDT.50"]))
    ack, full, _, full50 = client.heard()
    sheet = """{"time":1754006400,"time_ms":1754006400138,"conn_id":"06a3248d8f02479a","trace_id":"1dc9...",
      "channel":"spot.obu","event":"subscribe","payload":["ob.MAF_USDT.400"],"result":{"status":"success"},
      "requestId":"1dc9..."}"""
    assert ack.pop("id") == 0
    assert_shape(ack, sheet)
    sheet = """{"channel":"spot.obu","result":{"t":1754006400261,"full":true,"s":"ob.BTC_USDT.400","u":25847113075,
      "b":[["115765.1","0.337839"]],"a":[["115765.2","0.631155"]]},"time_ms":1754006400264,"event":"update"}"""
    assert_shape(full, sheet)
    assert [len(frame["result"]["b"]) for frame in (full, full50)] == [400, 50]
    frames = [f["result"] for f in pushed(client.wait(5).heard(), "spot.obu")]
    sheet = """{"t":1754006460600,"s":"ob.BTC_USDT.400","u":25847129996,"U":25847129970,
      "b":[["115576.7","0.050772"],["115717.7","0"]],"a":[["115731.3","0.687304"],["115742.9","0"]]}"""
    assert_shape(next(f for f in frames if "b" in f and "a" in f), sheet)
    assert any("a" not in f or "b" not in f for f in frames), "an empty side is missing"
    for start in (full["result"], full50["result"]):
        chain = [start, *(f for f in frames if f["s"] == start["s"])]
        assert all(after["U"] == before["u"] + 1 for before, after in itertools.pairwise(chain))
    assert len([f for f in frames if f["s"].endswith(".50")]) > len([f for f in frames if f["s"].endswith(".400")])


def test_gateio_increments_follow_a_dump_and_join_a_snapshot() -> None:
    client = gateio(("spot.order_book_update", ["ETH_USDT", "100ms"]))
    _, dump = client.heard()
    sheet = """{"time":1619093532,"channel":"spot.order_book_update","event":"update","result":{"t":1619093532978,
      "e":"depthUpdate","E":1619093532,"s":"HAI_ETH","U":2691446,"u":2691446,"b":[["0.00010322","5360.209"]],
      "a":[["1","2"]]}}"""
    assert_shape(dump, sheet)
    snapshot = client.get("/api/v4/spot/order_book?currency_pair=ETH_USDT&limit=100&with_id=true")
    assert_shape(snapshot, {"id": 1, "current": 1, "update": 1, "asks": [["p", "s"]], "bids": [["p", "s"]]})
    assert dump["result"]["U"] == dump["result"]["u"] == snapshot["id"]
    assert [dump["result"]["b"], dump["result"]["a"]] == [snapshot["bids"], snapshot["asks"]]
    frames = pushed(client.wait(5).heard(), "spot.order_book_update")
    assert_shape(next(f for f in frames if f["result"]["b"] and f["result"]["a"]), sheet)
    last = snapshot["id"]
    for frame in frames:
        assert frame["result"]["U"] == last + 1
        last = frame["result"]["u"]
    assert "id" not in client.get("/api/v4/spot/order_book?currency_pair=ETH_USDT")


def test_gateio_trades_candles_and_images() -> None:
    image = ("spot.order_book", ["BTC_USDT", "20", "100ms"])
    client = gateio(("spot.trades", ["BTC_USDT", "ETH_USDT"]), ("spot.candlesticks", ["1m", "BTC_USDT"]), image)
    client.say({"time": 1, "channel": "spot.book_ticker", "event": "subscribe", "payload": ["BTC_USDT"]})
    frames = client.wait(63).heard()
    trades = pushed(frames, "spot.trades")
    sheet = """{"time":1619093543,"channel":"spot.trades","event":"update","result":{"id":816995772,
      "create_time":1619093543,"create_time_ms":"1619093543708.2642","side":"sell","currency_pair":"DIS_USDT",
      "amount":"0.2010000000","price":"121.5800000000"}}"""
    newer = {"id_market", "range"}
    older = {key: value for key, value in trades[0]["result"].items() if key not in newer}
    assert_shape({**trades[0], "result": older}, sheet)
    assert newer < trades[0]["result"].keys()
    mine = [f["result"] for f in trades if f["result"]["currency_pair"] == "BTC_USDT"]
    assert [t["id_market"] for t in mine] == list(range(mine[0]["id_market"], mine[0]["id_market"] + len(mine)))
    assert all(b["id"] > a["id"] + 1 for a, b in itertools.pairwise(mine)), "a global id is not contiguous"
    candles = pushed(frames, "spot.candlesticks")
    sheet = """{"t":"1619093520","v":"0","c":"120.92","h":"120.92","l":"120.92","o":"120.92","n":"1m_DIS_USDT"}"""
    assert_shape({key: value for key, value in candles[0]["result"].items() if key not in "aw"}, sheet)
    (closed,) = (f["result"] for f in candles if f["result"]["w"])
    minute = [t for t in mine if t["create_time"] < int(closed["t"]) + 60]
    assert float(closed["a"]) == pytest.approx(sum(float(t["amount"]) for t in minute))
    assert float(closed["v"]) == pytest.approx(sum(float(t["amount"]) * float(t["price"]) for t in minute))
    assert [closed["o"], closed["c"]] == [minute[0]["price"], minute[-1]["price"]]
    minute_only = f"from={closed['t']}&to={closed['t']}"
    (row,) = client.get(f"/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1m&{minute_only}")
    assert row == [closed[key] for key in "tvchloa"] + ["true"]
    image = pushed(frames, "spot.order_book")[0]["result"]
    assert_shape(image, {"t": 1, "lastUpdateId": 1, "s": "", "bids": [["p", "s"]], "asks": [["p", "s"]]})
    assert len(image["bids"]) == 20
    ticker = {"t": 1, "u": 1, "s": "BTC_USDT", "b": "..", "B": "..", "a": "..", "A": ".."}
    assert_shape(pushed(frames, "spot.book_ticker")[0]["result"], ticker)


def test_gateio_pings_refusals_and_depths_that_say_nothing() -> None:
    client = Client("gateio")
    assert [client.venue.handshake(path, {}) for path in ("/ws/v4/", "/ws/v4", "/ws/v3/")] == [101, 404, 404]
    client.dial("/ws/v4/").say({"time": 1545404023, "channel": "spot.ping"})
    assert_shape(client.heard()[0], '{"time":1545404023,"channel":"spot.pong","event":"","result":null}')
    sheet = """{"time":1,"channel":"spot.trades","event":"subscribe","error":{"code":2,
      "message":"unknown currency pair NO_PE"},"result":null}"""
    trades = {"time": 1, "channel": "spot.trades", "event": "subscribe", "payload": ["BTC_USDT", "NO_PE"]}
    (error,) = client.say(trades).heard()
    assert_shape(error, sheet)
    assert error["error"] == json.loads(sheet)["error"]
    obu = {"time": 1, "channel": "spot.obu", "event": "subscribe", "payload": ["ob.BTC_USDT.50"]}
    assert client.say(obu, obu).heard()[-1]["error"] == {"code": 2, "message": "Alert sub ob.BTC_USDT.50"}
    del trades["time"]
    assert [frame["error"]["code"] for frame in client.say(trades, "no json", "[]").heard()] == [1, 1, 1]
    client = gateio(("spot.obu", ["ob.BTC_USDT.10"]), ("spot.obu", ["ob.BTC_USDT.7"]))
    ack, refused = client.heard()
    assert ack["result"] == {"status": "success"}
    assert "error" in refused
    assert client.wait(3).heard() == []


def test_gateio_rest_counts_each_endpoint() -> None:
    client = Client("gateio")
    listed = client.get("/api/v4/spot/currency_pairs")[0]
    told = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "precision": 1, "amount_precision": 6}
    assert {**listed, **told, "trade_status": "tradable", "type": "normal"} == listed
    book = Request.get("/api/v4/spot/order_book?currency_pair=BTC_USDT")
    answers = [client.answer(book) for _ in range(201)]
    assert [answers[n].headers["X-Gate-RateLimit-Requests-Remain"] for n in (0, 199)] == ["199", "0"]
    assert [answer.status for answer in answers] == [200] * 200 + [429]
    unknown = client.answer(Request.get("/api/v4/spot/trades?currency_pair=NOPE"))
    assert (unknown.status, json.loads(unknown.body)["label"]) == (400, "INVALID_CURRENCY_PAIR")
    assert client.wait(10).answer(book).status == 200
    both = "/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=5&from=1"
    assert client.answer(Request.get(both)).status == 400


# bitget


def bitget(*names: str, path: str = "/v3/ws/public", **more: str) -> Client:
    v3 = path == "/v3/ws/public"
    client = Client("bitget").wait(3).dial(path)
    for name in names:
        argument = {"topic": name, "symbol": "BTCUSDT"} if v3 else {"channel": name, "instId": "BTCUSDT"}
        argument = {"instType": "spot" if v3 else "SPOT", **argument, **more}
        client.say({"op": "subscribe", "args": [argument]})
    return client


def test_bitget_books_of_the_third_version() -> None:
    ack, snapshot = bitget("books").heard()
    sheet = '{"event":"subscribe","arg":{"instType":"spot","topic":"books","symbol":"BTCUSDT"},"connId":"1"}'
    assert_shape(ack, sheet)
    sheet = """{"action":"update","arg":{"instType":"usdt-futures","topic":"books","symbol":"MAVUSDT"},"data":[{
      "a":[],"b":[["0.00519","30828.52"]],"seq":427583480559,"pseq":427583461144,"ts":"1789456512452",
      "maxdepth":"1000"}],"ts":1789456512454}"""
    assert_shape(snapshot, sheet.replace('"a":[]', '"a":[["1","2"]]'))
    assert (snapshot["action"], snapshot["data"][0]["pseq"]) == ("snapshot", 0)
    assert [len(snapshot["data"][0][side]) for side in "ab"] == [1_000, 1_000]
    client = bitget("books")
    _, snapshot, *frames = client.wait(5).heard()
    assert all(frame["action"] == "update" for frame in frames)
    assert_shape(next(f for f in frames if f["data"][0]["b"] and not f["data"][0]["a"]), sheet)
    chain = [frame["data"][0] for frame in (snapshot, *frames)]
    assert all(after["pseq"] == before["seq"] for before, after in itertools.pairwise(chain))
    assert len(frames) > 50, "several in 100 ms"


def test_bitget_second_version_shows_the_same_books_without_a_chain() -> None:
    client = bitget("books", "trade", "candle1m", path="/v2/ws/public")
    frames = client.wait(5).heard()
    ack = {"event": "subscribe", "arg": {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}}
    assert frames[0] == ack
    sheet = """{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"MAVUSDT"},"data":[{
      "asks":[["0.01039","4499.23"]],"bids":[["0.01038","4311.15"]],"ts":"1789456510736","seq":427583461144}],
      "ts":1789456511968}"""
    assert_shape(frames[1], sheet)
    assert len(frames[1]["data"][0]["asks"]) == 400
    sheet = """{"action":"snapshot","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{
      "ts":"1730332858796","price":"72389.99","size":"0.001373","side":"buy","tradeId":"1235671058980749319"}],"ts":1}"""
    trades = [f for f in frames if f["arg"]["channel"] == "trade" and "data" in f]
    assert [frame["action"] for frame in trades[:2]] == ["snapshot", "update"]
    assert_shape(trades[0], sheet)
    ids = [int(trade["tradeId"]) for trade in trades[0]["data"]]
    assert ids == sorted(ids, reverse=True)
    candles = [f for f in frames if f["arg"]["channel"] == "candle1m" and "data" in f]
    assert_shape(candles[0]["data"], [["ts", "o", "h", "l", "c", "baseVol", "quoteVol", "usdtVol"]])
    assert [len(frame["data"]) for frame in candles[:2]] == [500, 1]
    rows = client.get("/api/v2/spot/market/candles?symbol=BTCUSDT&granularity=1min&limit=1")["data"]
    assert rows == candles[-1]["data"] or float(rows[0][5]) > float(candles[-1]["data"][0][5])
    book = client.get("/api/v2/spot/market/orderbook?symbol=BTCUSDT&type=step0&limit=150")["data"]
    assert_shape(book, {"asks": [["p", "s"]], "bids": [["p", "s"]], "ts": "1"})


def test_bitget_trades_candles_and_images() -> None:
    client = bitget("publicTrade", "books5").say(
        {"op": "subscribe", "args": [{"instType": "spot", "topic": "kline", "symbol": "BTCUSDT", "interval": "1m"}]}
    )
    frames = [frame for frame in client.wait(63).heard() if "data" in frame]
    by_topic = {name: [f for f in frames if f["arg"]["topic"] == name] for name in ("publicTrade", "books5", "kline")}
    sheet = """{"i":"1432912488536195072","p":"76671.22","v":"0.001367","S":"sell","T":"1777358880170","L":"1",
      "isRPI":"no"}"""
    history, *trades = by_topic["publicTrade"]
    assert (history["action"], trades[0]["action"]) == ("snapshot", "update")
    assert_shape(trades[0]["data"][0], sheet)
    several = next(frame["data"] for frame in trades if len(frame["data"]) > 1)
    assert int(several[0]["i"]) > int(several[1]["i"]), "the newest comes first"
    assert {frame["action"] for frame in by_topic["books5"]} == {"snapshot"}
    assert all(len(frame["data"][0]["a"]) == 5 for frame in by_topic["books5"])
    names = ("start", "open", "high", "low", "close", "volume", "turnover")
    assert_shape(by_topic["kline"][0]["data"][0], dict.fromkeys(names, ".."))
    assert by_topic["kline"][0]["arg"]["interval"] == "1m"
    closed = next(f["data"][0] for f in reversed(by_topic["kline"]) if int(f["data"][0]["start"]) == START_NS // 10**6)
    url = "/api/v3/market/candles?category=SPOT&symbol=BTCUSDT&interval=1m"
    (row,) = client.get(f"{url}&startTime={closed['start']}&endTime={int(closed['start']) + 1}")["data"]
    assert row == [closed[name] for name in names]


def test_bitget_refuses_and_wants_pings() -> None:
    client = bitget()
    wrong = {"instType": "spot", "topic": "books", "symbol": "NOPEUSDT"}
    (error,) = client.say({"op": "subscribe", "args": [wrong]}).heard()
    assert_shape(error, '{"event":"error","code":30001,"msg":"","connId":"1"}')
    assert error["msg"] == '{"instType":"spot","topic":"books","symbol":"NOPEUSDT"} doesn\'t exist'
    unknown = {"instType": "spot", "topic": "nothing", "symbol": "BTCUSDT"}
    assert [f["code"] for f in client.say({"op": "subscribe", "args": [unknown]}, "no json").heard()] == [30016, 30016]
    elsewhere = {"instType": "usdt-futures", "topic": "books", "symbol": "BTCUSDT"}
    assert client.say({"op": "subscribe", "args": [elsewhere]}).heard()[0]["event"] == "subscribe"
    assert client.wait(3).heard() == []
    client.say("ping")
    assert client.ear.payloads == ["pong"]
    assert client.wait(119).ear.closed is None
    assert client.wait(5).ear.closed == 1000
    client.dial("/v2/ws/public").say(
        {"op": "subscribe", "args": [{"instType": "SPOT", "channel": "books", "instId": "NOPE"}]}
    )
    sheet = """{"event":"error","arg":{"instType":"SPOT","channel":"books","instId":"NOPE"},"code":30001,
      "msg":"instType:SPOT,channel:books,instId:NOPE,precision:null doesn't exist","op":"subscribe"}"""
    assert client.heard() == [json.loads(sheet)]
    assert client.venue.handshake("/spot/v1/stream", {}) == 404


def test_bitget_limits() -> None:
    client = bitget()
    args = [{"instType": "spot", "topic": "books", "symbol": "BTCUSDT"}] * 25
    assert client.say({"op": "subscribe", "args": args}).ear.closed == 1006
    client.dial("/v3/ws/public").say({"op": "subscribe", "args": [{**args[0], "more": "x" * 5_000}]})
    assert client.heard()[0]["code"] == 30016
    client.wait(1).say(*["ping"] * 10)
    assert client.ear.closed is None
    assert client.say("ping").ear.closed == 1008
    client.dial("/v3/ws/public")
    codes = []
    for _ in range(241):
        frames = client.wait(0.2).say({"op": "subscribe", "args": [{**args[0], "topic": "kline"}]}).heard()
        codes += [frame.get("code") for frame in frames]
        client.say("ping")
        client.ear.payloads.clear()
    assert codes == [30016] * 240 + [30006]
    listing = Request.get("/api/v3/market/instruments?category=SPOT")
    assert [client.answer(listing).status for _ in range(21)] == [200] * 20 + [429]
    told = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "pricePrecision": "2", "status": "online"}
    for target in ("/api/v3/market/instruments?category=SPOT", "/api/v2/spot/public/symbols"):
        listed = client.wait(1).get(target)["data"][0]
        assert {**listed, **told} == listed


# mexc

MEXC_DEPTH = "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"
MEXC_DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"
MEXC_KLINE = "spot@public.kline.v3.api.pb@BTCUSDT@Min1"


def mexc(*channels: str) -> Client:
    return Client("mexc").dial("/ws").say({"method": "SUBSCRIPTION", "params": list(channels)})


def test_mexc_answers_in_text_and_pushes_in_binary() -> None:
    client = mexc(MEXC_DEPTH)
    assert json.loads(client.ear.payloads[0]) == {"id": 0, "code": 0, "msg": MEXC_DEPTH}
    bodyless, *pushes = client.wait(5).ear.payloads[1:]
    assert all(isinstance(payload, bytes) and payload[0] == 0x0A for payload in (bodyless, *pushes))
    assert b"\xca\x13" in bytes(pushes[0])  # type: ignore[arg-type]
    _, nothing, *frames = client.heard()
    assert nothing.keys() == {"channel", "symbol", "sendTime"}
    sheet = """{"channel":"spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT","symbol":"BTCUSDT",
      "sendTime":1736411507002,"publicAggreDepths":{"asks":[{"price":"92878.10","quantity":"0.50000000"}],
      "bids":[{"price":"92877.58","quantity":"0.00000000"}],"eventType":"spot@public.aggre.depth.v3.api.pb@100ms",
      "fromVersion":"10589632359","toVersion":"10589632361"}}"""
    both = next(f for f in frames if {"asks", "bids"} <= f["publicAggreDepths"].keys())
    newer = both["publicAggreDepths"].pop("lastOrderCreateTime")
    assert newer <= both["sendTime"]
    assert_shape(both, sheet)
    assert both["publicAggreDepths"]["eventType"] == json.loads(sheet)["publicAggreDepths"]["eventType"]
    bodies = [frame["publicAggreDepths"] for frame in frames]
    assert all(int(b["fromVersion"]) == int(a["toVersion"]) + 1 for a, b in itertools.pairwise(bodies))
    snapshot = client.get("/api/v3/depth?symbol=BTCUSDT&limit=5000")
    assert_shape(snapshot, {"lastUpdateId": 1, "bids": [["p", "q"]], "asks": [["p", "q"]], "timestamp": 1})
    assert len(snapshot["bids"]) > 1_000
    assert int(bodies[-1]["toVersion"]) <= snapshot["lastUpdateId"]


def test_mexc_deals_candles_and_images() -> None:
    ticker, limit = (
        "spot@public.aggre.bookTicker.v3.api.pb@10ms@BTCUSDT",
        "spot@public.limit.depth.v3.api.pb@BTCUSDT@20",
    )
    client = mexc(MEXC_DEALS, MEXC_KLINE, ticker, limit)
    ack, empty, *frames = client.wait(62).heard()
    assert ack["msg"] == ",".join((MEXC_DEALS, MEXC_KLINE, ticker, limit))
    assert empty["publicAggreDeals"] == {}
    deals = [deal for frame in frames for deal in frame.get("publicAggreDeals", {}).get("deals", ())]
    sheet = '{"price":"93220.00","quantity":"0.04438243","tradeType":2,"time":1736409765051,"tradeId":"1X0_2X0"}'
    assert_shape(deals[0], sheet)
    assert {deal["tradeType"] for deal in deals} == {1, 2}
    candles = [frame["publicSpotKline"] for frame in frames if "publicSpotKline" in frame]
    names = ("openingPrice", "closingPrice", "highestPrice", "lowestPrice", "volume", "amount")
    assert_shape(candles[0], {"interval": "Min1", "windowStart": 1, **dict.fromkeys(names, ""), "windowEnd": 1})
    closed = [candle for candle in candles if candle["windowStart"] == START_NS // 10**9][-1]
    assert closed["windowEnd"] - closed["windowStart"] == 60
    minute = [deal for deal in deals if deal["time"] < closed["windowEnd"] * 1_000]
    assert float(closed["volume"]) == pytest.approx(sum(float(deal["quantity"]) for deal in minute))
    assert [closed["openingPrice"], closed["closingPrice"]] == [minute[0]["price"], minute[-1]["price"]]
    start = closed["windowStart"] * 1_000
    (row,) = client.get(f"/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={start}&limit=1")
    prices = [closed[f"{name}Price"] for name in ("opening", "highest", "lowest", "closing")]
    assert row == [start, *prices, closed["volume"], start + 60_000, closed["amount"]]
    image = first(frames, channel=limit)["publicLimitDepths"]
    assert [len(image["asks"]), len(image["bids"])] == [20, 20]
    best = first(frames, channel=ticker)["publicAggreBookTicker"]
    assert float(best["bidPrice"]) < float(best["askPrice"])


def test_mexc_fails_with_words_and_closes_what_is_idle() -> None:
    wrong = "spot@public.aggre.depth.v3.api.pb@100ms@btcusdt"
    (answer,) = mexc(wrong).heard()
    assert answer["code"] == 0, "success and failure look alike"
    assert answer["msg"] not in {wrong, ""}
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
    windows = ("Min1", "Min5", "Min15", "Min30", "Min60", "Hour4", "Hour8", "Day1")
    many = [f"spot@public.kline.v3.api.pb@{symbol}@{window}" for symbol in symbols for window in windows][:31]
    client = mexc(*many)
    answers = [json.loads(payload) for payload in client.ear.payloads if isinstance(payload, str)]
    assert [many[30] in answer["msg"] and "Not Subscribed" in answer["msg"] for answer in answers] == [True, False]
    client.say({"method": "UNSUBSCRIPTION", "params": many[:30]})
    client.ear.payloads.clear()
    assert client.say({"method": "PING"}).heard() == [{"id": 0, "code": 0, "msg": "PONG"}]
    assert client.wait(3).heard() == []
    assert client.say("no json").heard()[0]["code"] != 0
    assert client.wait(29).ear.closed == 1000, "nothing subscribed for 30 s"
    assert client.dial("/ws").say(*[{"method": "PING"}] * 101).ear.closed == 1008
    assert client.venue.handshake("/other", {}) == 404


def test_mexc_rest_counts_weights() -> None:
    client = Client("mexc").wait(3)
    listed = client.get("/api/v3/exchangeInfo")["symbols"][0]
    told = {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "quotePrecision": 2}
    assert {**listed, **told, "baseSizePrecision": "0.00000100"} == listed
    assert client.get("/api/v3/defaultSymbols")["data"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    trade = client.get("/api/v3/trades?symbol=BTCUSDT&limit=3")[0]
    assert (trade["id"], trade["tradeType"]) in {(None, "ASK"), (None, "BID")}
    info = Request.get("/api/v3/exchangeInfo")
    assert [client.answer(info).status for _ in range(30)] == [200] * 29 + [429]
    assert client.answer(info).headers == {"Retry-After": "8"}
    assert client.answer(Request.get("/api/v3/depth?symbol=BTCUSDT")).status == 200
    assert client.answer(Request.get("/api/v3/depth?symbol=NOPE")).status == 400


# cryptocom

DELTAS = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 10}


def cryptocom(*channels: str, **params: Any) -> Client:
    client = Client("cryptocom").wait(3.2).dial("/exchange/v1/market")
    return client.say({"id": 11, "method": "subscribe", "params": {"channels": list(channels), **params}})


def test_cryptocom_books_are_a_chain_of_fifty_levels() -> None:
    client = cryptocom("book.BTCUSD-PERP.50", **DELTAS)
    assert client.wait(0.9).heard() == [{"id": 11, "method": "subscribe", "code": 0, "channel": "book.BTCUSD-PERP.50"}]
    snapshot, *frames = client.wait(5).heard()
    sheet = """{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"ETHUSD-PERP",
      "subscription":"book.ETHUSD-PERP.50","channel":"book","depth":50,"data":[{"asks":[["2749.62","0.2008","2"]],
      "bids":[["2749.61","0.0786","2"]],"t":1790114273395,"tt":1790114273346,"u":375554806244928,"cs":-1183713967}]}}"""
    assert_shape(snapshot, sheet)
    assert snapshot["result"]["subscription"] == "book.BTCUSD-PERP.50"
    sheet = """[{"update":{"asks":[["2750.20","0","0"],["2753.11","0.2616","1"]],"bids":[["2748.12","0","0"]]},
      "t":1790114273659,"tt":1790114273655,"u":375554807336512,"pu":375554807297984,"cs":1522984915}]"""
    updates = [frame["result"]["data"][0] for frame in frames if frame["method"] == "subscribe"]
    assert {frame["result"]["channel"] for frame in frames if "result" in frame} == {"book.update"}
    assert_shape([next(u for u in updates if u["update"]["asks"] and u["update"]["bids"])], sheet)
    chain = [*snapshot["result"]["data"], *updates]
    assert all(after["pu"] == before["u"] for before, after in itertools.pairwise(chain))
    assert all(after["u"] - before["u"] > 10_000 for before, after in itertools.pairwise(chain))
    assert all(data["t"] >= data["tt"] for data in chain)


def test_cryptocom_says_that_it_is_there_when_a_book_is_quiet() -> None:
    client = Client("cryptocom")
    client.exchange = Exchange([type(client.venue)], symbols=["XRP"], start_ns=START_NS, activity=1)
    client.venue = client.exchange.venues["cryptocom"]
    client.dial("/exchange/v1/market").wait(1.1)
    client.say({"id": 1, "method": "subscribe", "params": {"channels": ["book.XRP_USDT.10"], **DELTAS}})
    frames = [frame["result"]["data"][0] for frame in client.wait(60).heard() if "result" in frame]
    quiet = [f for f in frames if f.get("update") == {"asks": [], "bids": []} and f["u"] == f["pu"]]
    assert quiet
    assert all(frame["t"] - frame["tt"] > 4_000 for frame in quiet)


def test_cryptocom_shows_whole_books_to_those_who_do_not_ask_for_deltas() -> None:
    client = cryptocom("book.BTC_USDT.10", book_subscription_type="SNAPSHOT")
    _, *frames = client.wait(4.2).heard()
    assert {frame["result"]["channel"] for frame in frames} == {"book"}
    assert {len(frame["result"]["data"][0]["asks"]) for frame in frames} == {10}
    assert len(frames) == 7, "one to begin with, then one every 500 ms, whatever frequency was asked for"


def test_cryptocom_trades_and_candles() -> None:
    client = cryptocom("trade.BTC_USDT", "candlestick.1m.BTC_USDT")
    frames = [frame for frame in client.wait(60).heard() if "result" in frame]
    trades = [frame for frame in frames if frame["result"]["channel"] == "trade"]
    sheet = """{"id":-1,"code":0,"method":"subscribe","result":{"channel":"trade","subscription":"trade.BTC_USDT",
      "instrument_name":"BTC_USDT","data":[{"d":"4611686018428108636","t":1667320314770,"p":"20432.51","q":"0.01163",
      "s":"SELL","i":"BTC_USDT","tn":"1667320314770123456","m":"4611686018428108637"}]}}"""
    assert_shape(trades[0], sheet)
    history, *live = (frame["result"]["data"] for frame in trades)
    assert len(history) <= 50
    assert [trade["t"] for trade in history] == sorted((trade["t"] for trade in history), reverse=True)
    several = next(data for data in live if len(data) > 1)
    assert len({trade["d"] for trade in several}) == 1
    assert len({trade["m"] for trade in several}) == len(several)
    candles = [frame["result"] for frame in frames if frame["result"]["channel"] == "candlestick"]
    sheet = """{"instrument_name":"ETH_USDT","subscription":"candlestick.1D.ETH_USDT","channel":"candlestick",
      "interval":"1D","data":[{"o":"51140.5","h":"51699.0","l":"49212.0","c":"51313.5","v":"867.9432",
      "t":1612224000000}]}"""
    updated = [candle["data"][0].pop("ut") for candle in candles]
    assert updated == sorted(updated)
    assert_shape(candles[0], sheet)
    assert candles[0]["subscription"] == "candlestick.1m.BTC_USDT"
    (closed,) = [c["data"] for c in candles if c["data"][0]["t"] == START_NS // 10**6][-1]
    url = "/exchange/v1/public/get-candlestick?instrument_name=BTC_USDT&timeframe=1m"
    assert client.get(f"{url}&start_ts={closed['t']}&end_ts={closed['t'] + 1}")["result"]["data"] == [closed]


def test_cryptocom_refuses() -> None:
    asked = {
        "book.NOPE.50": "Unknown symbol",
        "book.BTC_USDT.7": "Invalid depth",
        "book.BTC_USDT.150": "Unsupported depth/interval combination",
        "book.BTC_USDT": "Unrecognized channel",
        "nothing.BTC_USDT": "Unrecognized channel",
        "trade.NOPE": "Unknown symbol",
    }
    sheet = '{"id":11,"method":"subscribe","code":40003,"channel":"book.NOPE.50","message":"Unknown symbol"}'
    client = cryptocom(*asked, **DELTAS)
    errors = client.heard()
    assert errors[0] == json.loads(sheet)
    assert {error["channel"]: error["message"] for error in errors} == asked
    wrong = {**DELTAS, "book_subscription_type": ["ALL"]}
    assert cryptocom("book.BTC_USDT.10", **wrong).heard()[0]["message"] == "Invalid book_subscription_type"
    assert cryptocom("book.BTC_USDT.10", **{**DELTAS, "book_update_frequency": 50}).heard()[0]["code"] == 40003
    assert client.say("no json", "[]", {"id": 1}).heard() == [], "ignored"
    assert client.say({"id": 5, "method": "nothing"}).heard()[0]["message"] == "No such method"
    never = {"id": 6, "method": "unsubscribe", "params": {"channels": ["trade.BTC_USDT"]}}
    assert client.say(never).heard() == [{"id": 6, "method": "unsubscribe", "code": 0}]
    assert client.venue.handshake("/v2/market", {}) == 404


def test_cryptocom_limits() -> None:
    twice = cryptocom("trade.BTC_USDT", "trade.BTC_USDT")
    assert [frame["id"] for frame in twice.heard()].count(11) == 2
    assert twice.connection is not None
    assert len(twice.connection.topics) == 1
    # Of the second in which it connects 0.8 are left, and with that 80 messages.
    client = cryptocom()
    client.say(*[{"id": n, "method": "unsubscribe", "params": {}} for n in range(80)])
    assert [frame["code"] for frame in client.heard()] == [0] * 79 + [42901]
    assert client.wait(1).say({"id": 1, "method": "unsubscribe"}).heard()[0]["code"] == 0
    channels = [f"candlestick.{bar}.{symbol}" for bar in ("1m", "5m") for symbol in client.venue.markets]
    assert client.connection is not None
    client.connection.notes["channels"] |= {f"other.{n}": ("", "", "", 0) for n in range(401 - len(channels))}
    client.say({"id": 2, "method": "subscribe", "params": {"channels": channels}})
    codes = [(frame["code"], frame.get("message")) for frame in client.heard()]
    assert codes == [(0, None)] * (len(channels) - 1) + [(40107, "Maximum subscriptions exceeded")]


def test_cryptocom_beats_and_closes_on_who_does_not_answer() -> None:
    client = Client("cryptocom").dial("/exchange/v1/market")
    (beat,) = client.wait(31).heard()
    assert_shape(beat, '{"id":1790114291578,"method":"public/heartbeat","code":0}')
    pong = client.venue.pong(json.dumps(beat, separators=(",", ":")))
    assert pong == f'{{"id":{beat["id"]},"method":"public/respond-heartbeat"}}'
    assert client.venue.pong('{"id":1}') is None
    client.say(pong).wait(60)
    assert client.ear.closed is None
    assert client.wait(60).ear.closed == 1000, "two without an answer, and no third"
    assert client.ear.pings


def test_cryptocom_rest() -> None:
    client = Client("cryptocom").wait(3)
    listed = {entry["symbol"]: entry for entry in client.get("/exchange/v1/public/get-instruments")["result"]["data"]}
    told = {"inst_type": "CCY_PAIR", "base_ccy": "BTC", "quote_ccy": "USDT", "price_tick_size": "0.01"}
    assert {**listed["BTC_USDT"], **told, "tradable": True} == listed["BTC_USDT"]
    assert listed["BTCUSD-PERP"]["inst_type"] == "PERPETUAL_SWAP"
    book = client.get("/exchange/v1/public/get-book?instrument_name=BTC_USDT&depth=50")["result"]["data"][0]
    assert_shape(book, {"asks": [["p", "q", "n"]], "bids": [["p", "q", "n"]], "t": 1, "tt": 1, "u": 1})
    assert len(book["asks"]) == 50
    trades = client.get("/exchange/v1/public/get-trades?instrument_name=BTC_USDT&count=3")["result"]["data"]
    assert len({trade["m"] for trade in trades}) == 3
    unknown = client.answer(Request.get("/exchange/v1/public/get-book?instrument_name=NOPE"))
    assert (unknown.status, json.loads(unknown.body)["message"]) == (400, "Unknown symbol")
    info = Request.get("/exchange/v1/public/get-instruments")
    client.wait(1)
    assert [client.answer(info).status for _ in range(101)] == [200] * 100 + [429]


@pytest.mark.parametrize(
    "venue", ["binance_futures", "bitget", "bitstamp", "coinbase", "cryptocom", "gateio", "kraken", "kucoin", "mexc"]
)
def test_what_a_venue_does_not_know_it_refuses(venue: str) -> None:
    assert Client(venue).answer(Request.get("/no/such/thing")).status >= 400
