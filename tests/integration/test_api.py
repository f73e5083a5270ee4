"""The API over a real server on loopback: rows of a simulated venue, half of them stored, half of them in memory."""

import json
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from time import time_ns
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from coby.api.errors import CODES, Problem
from coby.simulator.faults import Fault
from support.mishaps import MISHAPS, VENUE
from support.serving import Book, Process, Server, Shifted, imported, instrument

BTC = f"{VENUE}/BTC-USDT-PERP"
OTHER = "kraken"
START = 1_767_225_600 * 10**9


class Served:
    """A process, its server, and every row that it took, by kind."""

    def __init__(self, process: Process, server: Server, cuts: list[Any]) -> None:
        self.process = process
        self.server = server
        self.cuts = cuts

    def rows(self, kind: str, **where: object) -> list[dict[str, Any]]:
        return [
            row
            for cut in self.cuts
            if kind in cut.rows
            for row in pa.record_batch(cut.batch(kind)).to_pylist()
            if all(row[name] == value for name, value in where.items())
        ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("api")
    process = Process(directory)
    cuts = imported(
        VENUE,
        directory,
        75.0,
        faults=(*MISHAPS, Fault("drop", 40.0, symbol="BTCUSDT")),
        activity=40,
        symbols=("BTC", "ETH"),
    )
    middle = len(cuts) // 2
    for i, cut in enumerate(cuts):
        process.take(cut, commit=i in {middle // 2, middle})
    assert 0 < process.store.watermark < cuts[-1].last_pos
    process.engine.listed.append(instrument(OTHER, "PF_XBTUSD", "BTC-USDT-PERP", contract_size="0.01"))
    process.engine.listed.append(instrument(OTHER, "ETH/USDT", "ETH-USDT", subscribed=False))
    process.engine.books[VENUE, "BTCUSDT"] = Book(
        {"67000.10": "1.50", "66999": "2", "66985.5": "0.001"}, {"67000.20": "1", "67010": "3", "67010.1": "4.25"}
    )
    process.engine.books[OTHER, "PF_XBTUSD"] = Book({"67000.1": "100", "66998": "7"}, {"67000.3": "250"})
    with Server(process.app) as server:
        yield Served(process, server, cuts)
    process.close()


EVERY = [
    "/health/live",
    "/health/ready",
    "/status",
    "/meta",
    "/venues",
    "/venues?limit=2",
    "/instruments",
    "/instruments?venue=kraken&base=btc&kind=perpetual&q=btcusdt&subscribed=true&limit=1",
    f"/books/{BTC}",
    f"/books/{BTC}?depth=1",
    f"/books/{BTC}?at=2026-01-01T00:00:30Z",
    f"/books/{BTC}?at=2026-01-01T00:00:02.3Z",
    "/books/all/BTCUSDTPERP",
    "/books/all/BTCUSDTPERP?at=2026-01-01T00:00:30Z",
    f"/buckets/{BTC}",
    f"/buckets/{BTC}?bucket=2.5&rows=2",
    f"/buckets/{BTC}?at=2026-01-01T00:00:30Z",
    "/buckets/all/BTC-USDT-PERP",
    "/spreads/BTC-USDT-PERP",
    "/spreads/BTC-USDT-PERP?venues=kraken",
    f"/trades/{BTC}",
    f"/trades/{BTC}?from={START}&limit=7",
    "/trades/all/BTC-USDT-PERP?limit=3",
    f"/candles/{BTC}",
    f"/candles/{BTC}?interval=1s&from={START}&limit=5",
    "/candles/all/BTC-USDT-PERP?interval=1s",
    "/gaps",
    f"/gaps?venue={VENUE}&symbol=BTC&channel=book&cause=sequence&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z",
    f"/coverage/BTC-USDT-PERP?venues={VENUE}",
    f"/coverage/BTC-USDT-PERP?from={START}&to=2026-01-01T00:01:00Z&step=5s",
    f"/heatmap/{BTC}",
    f"/heatmap/{BTC}?from={START}&level=1&rows=5&interval=500ms&bucket=20",
    "/heatmap/all/BTC-USDT-PERP?limit=20",
    f"/heatmap/{BTC}/cell?t=2026-01-01T00:00:30Z&index=6725&side=bid",
    f"/heatmap/{BTC}/cell?t=2026-01-01T00:00:30Z&index=840&side=ask&level=1&bucket=80",
]


def model_of(app: Any, path: str) -> Any:
    """The shape that the description says an answer has."""
    shape = path.split("?", maxsplit=1)[0].split("/")
    for route in _routes(app.routes):
        parts = route.path.removeprefix("/api/v1").split("/")
        if len(parts) == len(shape) and all(
            part.startswith("{") or part == given for part, given in zip(parts, shape, strict=True)
        ):
            return route.response_model
    raise AssertionError(path)


def _routes(routes: Any) -> Iterator[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if getattr(route, "response_model", None) is not None:
            yield route
        elif inner is not None:
            yield from _routes(inner.routes)


@pytest.mark.parametrize("path", EVERY)
def test_every_answer_has_the_shape_that_is_described(served: Served, path: str) -> None:
    answer = served.server.ask(f"/api/v1{path}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    TypeAdapter(model_of(served.process.app, path)).validate_json(answer.body)


def test_every_described_route_is_among_those_tried(served: Served) -> None:
    described = served.server.get("/openapi.json")["paths"]
    plain = [path.split("?", maxsplit=1)[0] for path in EVERY]
    tried = {(path.split("/")[1], path.endswith("cell")) for path in plain}
    shown = {(path.removeprefix("/api/v1").split("/")[1], path.endswith("cell")) for path in described}
    assert shown - tried == {("metrics", False)}
    assert set(described["/api/v1/status"]["get"]["responses"]["503"]["content"]) == {"application/problem+json"}


def exact(number: float) -> str:
    return f"{Decimal(repr(number)).normalize():f}"


def all_pages(server: Server, path: str, **parameters: object) -> list[dict[str, Any]]:
    items, cursor = [], None
    while True:
        page = server.get(path, cursor=cursor, **parameters)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


@pytest.mark.parametrize("limit", [1, 3, 500, 5000])
def test_trades_are_all_rows_once_in_order_from_store_and_memory(served: Served, limit: int) -> None:
    wanted = served.rows("trades", native_symbol="BTCUSDT")
    end = wanted[40]["ts_recv"] if limit < 5 else None
    wanted = [row for row in wanted if end is None or row["ts_recv"] < end]
    items = all_pages(served.server, f"/trades/{BTC}", from_=0, to=end, limit=limit)
    assert [(item["pos"], item["trade_id"], item["price"], item["size"], item["side"]) for item in items] == [
        (str(row["pos"]), row["trade_id"], exact(row["price"]), exact(row["size"]), row["side"]) for row in wanted
    ]


def test_without_from_the_newest_come(served: Served) -> None:
    wanted = [str(row["pos"]) for row in served.rows("trades", native_symbol="BTCUSDT")]
    for limit in (1, 10, 2000):
        page = served.server.get(f"/trades/{BTC}", limit=limit)
        assert [item["pos"] for item in page["items"]] == wanted[-limit:]
        assert page["next_cursor"] is None


def test_candles_are_the_last_revisions(served: Served) -> None:
    rows = served.rows("candles", native_symbol="ETHUSDT", interval=10**9, source="trades")
    last = {row["open_time"]: row for row in sorted(rows, key=lambda row: int(row["revision"]))}
    items = all_pages(served.server, f"/candles/{VENUE}/ETHUSDT", interval="1s", from_=0, limit=7)
    assert [(item["open_time"], item["volume"], item["close"]) for item in items] == [
        (str(time), exact(last[time]["volume"]), exact(last[time]["close"])) for time in sorted(last)
    ]
    gap = next(
        row for row in served.rows("gaps", channel="trades", phase="opened") if row["native_symbol"] == "BTCUSDT"
    )
    shown = {
        item["open_time"]: item["gap"] for item in served.server.get(f"/candles/{BTC}", interval="1s", from_=0)["items"]
    }
    assert shown[str(gap["from"] // 10**9 * 10**9)]
    assert not all(shown.values())


def test_a_candle_that_began_before_anything_was_known_says_so(served: Served) -> None:
    for path in (f"/candles/{BTC}", "/candles/all/BTC-USDT-PERP"):
        # The recording begins within this minute, and ends within the next.
        items = served.server.get(path, interval="5m", from_=0)["items"]
        assert [(item["gap"], item["closed"]) for item in items if int(item["open_time"]) <= START] == [(True, False)]


def test_consolidated_candles_are_made_of_all_trades(served: Served) -> None:
    items = served.server.get("/candles/all/BTC-USDT-PERP", interval="5m", from_=0)["items"]
    trades = served.rows("trades", native_symbol="BTCUSDT")
    assert len(items) == 1
    assert Decimal(items[0]["volume"]) == sum(Decimal(repr(trade["size"])) for trade in trades)
    assert items[0]["count"] == len(trades)
    assert items[0]["high"] == exact(max(trade["price"] for trade in trades))


def test_gaps_are_folded_and_found_by_time(served: Served) -> None:
    rows = served.rows("gaps")
    opened = {row["id"]: row for row in rows if row["phase"] == "opened"}
    closed = {row["id"]: row["to"] for row in rows if row["phase"] == "closed"}
    items = all_pages(served.server, "/gaps", limit=2)
    assert [item["id"] for item in items] == list(opened)
    for item in items:
        assert item["to"] == (str(closed[item["id"]]) if item["id"] in closed else None)
        assert item["from"] == str(opened[item["id"]]["from"])
    one = next(item for item in items if item["to"] and int(item["to"]) - int(item["from"]) > 10**8)
    inside = int(one["from"]) + 10**7
    assert one["id"] in {item["id"] for item in served.server.get("/gaps", from_=inside, to=inside + 1)["items"]}
    before = served.server.get("/gaps", to=one["from"])["items"]
    assert one["id"] not in {item["id"] for item in before}


def columns(served: Served, **parameters: object) -> dict[str, Any]:
    found: dict[str, Any] = served.server.get(f"/heatmap/{BTC}", **parameters)
    return found


def test_heatmap_columns_are_the_rows_and_gaps_are_columns(served: Served) -> None:
    rows = {row["t"] - 500_000_000: row for row in served.rows("heatmap_columns", native_symbol="BTCUSDT")}
    page = columns(served, from_=START, limit=2048)
    shown = {int(column["open_time"]): column for column in page["items"]}
    assert rows.keys() == {time for time, column in shown.items() if "gap" not in column["flags"]}
    assert any("gap" in column["flags"] for column in shown.values())
    assert any("gap_part" in column["flags"] and column["gap_id"] for column in shown.values())
    first, last = min(shown), max(shown)
    assert list(shown) == list(range(first, last + 1, 500_000_000)), "no interval is left out"
    tops = {row["t"] - 500_000_000: row for row in served.rows("book_snapshots", native_symbol="BTCUSDT")}
    for time, row in rows.items():
        column = shown[time]
        assert column["bids"] == [exact(quantity) for quantity in reversed(row["bid_quantity"])]
        assert column["asks"] == [exact(quantity) for quantity in row["ask_quantity"]]
        assert column["bid_low"] + len(column["bids"]) - 1 == row["mid_index"]
        assert column["ask_low"] == row["mid_index"] + 1
        assert column["best_bid"] == exact(tops[time]["bid_prices"][0])
        assert column["number"] == time // 500_000_000


def test_what_was_traded_lies_in_its_column(served: Served) -> None:
    page = columns(served, from_=START, limit=2048)["items"]
    times = {int(column["open_time"]) for column in page}
    for side in ("buy", "sell"):
        shown = sum(Decimal(column[f"taker_{side}"]) for column in page)
        trades = served.rows("trades", native_symbol="BTCUSDT", side=side)
        wanted = [trade for trade in trades if trade["ts_recv"] // 500_000_000 * 500_000_000 in times]
        assert shown == sum(Decimal(repr(trade["size"])) for trade in wanted) > 0


def test_levels_hold_the_maximum_and_pages_join(served: Served) -> None:
    base = {int(column["open_time"]): column for column in columns(served, from_=START, limit=2048)["items"]}
    whole = columns(served, from_=START, level=1)["items"]
    paged = all_pages(served.server, f"/heatmap/{BTC}", from_=START, level=1, limit=3)
    assert paged == whole
    for column in whole:
        time = int(column["open_time"])
        parts = [base[t] for t in range(time, time + 4_000_000_000, 500_000_000) if t in base]
        parts = [part for part in parts if "gap" not in part["flags"]]
        for side, low in (("bids", "bid_low"), ("asks", "ask_low")):
            for i, value in enumerate(column[side]):
                bucket = column[low] + i
                held = [
                    Decimal(part[side][bucket - part[low]])
                    for part in parts
                    if 0 <= bucket - part[low] < len(part[side])
                ]
                assert Decimal(value) == max(held, default=Decimal(0))


def test_the_binary_layout_and_arrow_say_the_same_as_json(served: Served) -> None:
    path = f"/api/v1/heatmap/{BTC}?from={START}&limit=40"
    told = json.loads(served.server.ask(path).body)
    binary = served.server.ask(path, Accept="application/vnd.coby.heatmap")
    grid = json.loads(binary.headers["x-coby-grid"])
    assert grid == told["grid"]
    assert binary.headers["x-next-cursor"] == told["next_cursor"]
    scale = grid["size_scale"]
    flags = ("gap", "gap_part", "stale", "venues", "reset", "untaped", "rounded")
    offset = 0
    for column in told["items"]:
        fields = struct.unpack_from("<4sHHIIQqIiIiIHHqqqqII", binary.body, offset)
        magic, header, flag, subscription, number, seq, time, micros, bid_low, bids, ask_low, asks, *rest = fields
        included, selected, bid, ask, buy, sell, size, gap_id = rest
        assert (magic, header, subscription, number, micros) == (b"CBH1", 96, 0, grid["number"], 500_000)
        assert (seq, str(time)) == (column["number"], column["open_time"])
        assert [name for i, name in enumerate(flags) if flag >> i & 1] == column["flags"]
        assert (included, selected) == (column["venues_included"], column["venues_selected"])
        assert (gap_id or None) == column["gap_id"]
        assert size == 96 + 8 * (bids + asks)
        values = struct.unpack_from(f"<{bids + asks}q", binary.body, offset + 96)
        scaled = [Decimal(value).scaleb(-scale) for value in values]
        assert scaled == [Decimal(text) for text in (*column["bids"], *column["asks"])]
        if bids:
            assert (bid_low, ask_low) == (column["bid_low"], column["ask_low"])
            assert Decimal(bid).scaleb(-grid["price_scale"]) == Decimal(column["best_bid"])
            assert Decimal(ask).scaleb(-grid["price_scale"]) == Decimal(column["best_ask"])
        else:
            assert bid == ask == -(2**63)
        assert Decimal(buy).scaleb(-scale) == Decimal(column["taker_buy"])
        assert Decimal(sell).scaleb(-scale) == Decimal(column["taker_sell"])
        offset += size
    assert offset == len(binary.body)
    arrow = served.server.ask(path, Accept="application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(arrow.body).read_all()
    assert json.loads((table.schema.metadata or {})[b"grid"]) == grid
    assert [str(time) for time in table["open_time"].to_pylist()] == [column["open_time"] for column in told["items"]]
    assert table["bids"].to_pylist() == [
        [int(Decimal(text).scaleb(scale)) for text in column["bids"]] for column in told["items"]
    ]


def test_a_cell_is_what_its_column_shows(served: Served) -> None:
    for bucket, level in (("10", 0), ("20", 0), ("10", 1)):
        parameters = {"bucket": bucket, "level": level}
        page = columns(served, from_=START + 20 * 10**9, limit=2, **parameters)
        for column in page["items"]:
            for side in ("bid", "ask"):
                for i in (0, len(column[f"{side}s"]) // 2, len(column[f"{side}s"]) - 1):
                    cell = served.server.get(
                        f"/heatmap/{BTC}/cell",
                        t=column["open_time"],
                        index=column[f"{side}_low"] + i,
                        side=side,
                        **parameters,
                    )
                    assert cell["quantity"] == column[f"{side}s"][i]
                    shares = [Decimal(share["quantity"]) for share in cell["shares"].values()]
                    assert sum(shares) == Decimal(cell["quantity"])


def test_a_book_is_as_old_as_its_last_message_though_the_engine_goes_on(served: Served) -> None:
    book = served.process.engine.books[OTHER, "PF_XBTUSD"]
    before, book.ts_recv = book.ts_recv, time_ns() - 10 * 10**9
    try:
        merged = served.server.get("/books/all/BTC-USDT-PERP")
        spreads = served.server.get("/spreads/BTC-USDT-PERP")
        ages = {entry["venue"]: int(entry["age"]) for part in (merged["included"], spreads["venues"]) for entry in part}
        assert 10 * 10**9 <= ages[OTHER] < 100 * 10**9
        for path in (f"/books/{OTHER}/PF_XBTUSD", f"/buckets/{OTHER}/PF_XBTUSD"):
            assert served.server.get(path)["ts_recv"] == str(book.ts_recv)
    finally:
        book.ts_recv = before


def test_books_of_all_venues_are_merged_in_base_units(served: Served) -> None:
    book = served.server.get("/books/all/btc_usdt_perp")
    assert book["bids"][0] == ["67000.1", "2.5"]
    assert book["shares"]["bids"][0] == {VENUE: "1.5", OTHER: "1"}
    assert book["bids"][1:] == [["66999", "2"], ["66998", "0.07"], ["66985.5", "0.001"]]
    assert [venue["venue"] for venue in book["included"]] == [VENUE, OTHER]
    spreads = served.server.get("/spreads/BTC-USDT-PERP")
    assert spreads["mid"] == "67000.15"
    assert [venue["venue"] for venue in spreads["venues"]] == [VENUE, OTHER]
    assert spreads["matrix"] == [["-0.01", "-0.01"], ["-0.03", "-0.03"]]


def test_a_venue_in_gap_is_left_out_and_named(served: Served) -> None:
    book = served.process.engine.books[OTHER, "PF_XBTUSD"]
    book.state = "gap"
    try:
        merged = served.server.get("/books/all/BTC-USDT-PERP")
        assert [venue["venue"] for venue in merged["included"]] == [VENUE]
        (excluded,) = merged["excluded"]
        assert (excluded["venue"], excluded["state"]) == (OTHER, "gap")
        single = served.server.get(f"/books/{OTHER}/BTC-USDT-PERP")
        assert (single["state"], single["bids"], single["asks"]) == ("gap", [], [])
        assert [venue["venue"] for venue in served.server.get("/spreads/BTC-USDT-PERP")["excluded"]] == [OTHER]
    finally:
        book.state = "live"


def test_the_past_of_a_book_is_its_last_snapshot_or_its_gap(served: Served) -> None:
    snapshot = next(
        row for row in served.rows("book_snapshots", native_symbol="BTCUSDT") if row["t"] > START + 20 * 10**9
    )
    book = served.server.get(f"/books/{BTC}", at=snapshot["t"] + 10**6, depth=5000)
    assert book["source"] == "stored"
    assert book["bids"] == [
        [exact(price), exact(size)] for price, size in zip(snapshot["bid_prices"], snapshot["bid_sizes"], strict=True)
    ]
    gap = next(
        row
        for row in served.rows("gaps", native_symbol="BTCUSDT", channel="book", phase="closed")
        if row["to"] - row["from"] > 10**8
    )
    then = served.server.get(f"/books/{BTC}", at=gap["to"] - 10**6)
    assert (then["state"], then["bids"]) == ("gap", [])
    status, told = served.server.refused(f"/books/{BTC}", at="2020-01-01T00:00:00Z")
    assert (status, told["code"]) == (404, "no_data")


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        ("/books/binanse/BTC", 404, "unknown_venue", "did you mean binance"),
        (f"/books/{VENUE}/BTC-USTD-PERP", 404, "unknown_symbol", "did you mean BTC-USDT-PERP"),
        (f"/books/{VENUE}/BTCX", 404, "unknown_symbol", "did you mean BTC-USDT-PERP"),
        ("/books/kraken/ETH-USDT", 409, "not_live", "not subscribed"),
        (f"/books/{VENUE}/ETHUSDT", 409, "not_live", "the connection ended"),
        ("/books/bitstamp/BTC-USD", 409, "not_live", "bitstamp"),
        (f"/books/{BTC}?depth=0", 400, "bad_parameter", 'depth is "0": it must be 1 or more'),
        (f"/books/{BTC}?depth=many", 400, "bad_parameter", 'depth is "many": it must be a whole number'),
        (f"/books/{BTC}?dept=5", 400, "bad_parameter", "did you mean depth?"),
        (f"/books/{BTC}?session=r-81", 404, "session_not_found", "there is live"),
        (f"/trades/{BTC}?from=yesterday", 400, "bad_parameter", "nanoseconds since 1970"),
        (f"/trades/{BTC}?from=5&to=5", 400, "bad_parameter", "after from"),
        (f"/trades/{BTC}?cursor=nonsense", 400, "bad_parameter", "next_cursor"),
        (f"/candles/{BTC}?interval=7s", 400, "bad_parameter", "one of 1s, 1m, 5m"),
        (f"/heatmap/{BTC}?bucket=5", 400, "bucket_too_small", "10"),
        (f"/heatmap/{BTC}?bucket=15", 400, "bad_parameter", "multiple of 10"),
        (f"/heatmap/{BTC}?interval=1s", 400, "bad_parameter", "500ms"),
        (f"/heatmap/{BTC}/cell?t=5&side=middle&index=1", 400, "bad_parameter", "bid or ask"),
        (f"/heatmap/{BTC}/cell?t=5&side=bid", 400, "bad_parameter", "index"),
        (f"/heatmap/{BTC}/cell?t=5&side=bid&index=1", 404, "no_data", "no column"),
        ("/gaps?cause=sequnce", 400, "bad_parameter", "did you mean sequence"),
        ("/gaps?channel=books", 400, "bad_parameter", "book"),
        ("/coverage/BTC-USDT-PERP?from=0&step=1s", 400, "range_too_large", "at most"),
        ("/nothing", 404, "bad_parameter", "no resource"),
    ],
)
def test_refusals_name_what_was_wrong_and_what_is_allowed(
    served: Served, path: str, status: int, code: str, words: str
) -> None:
    answer = served.server.ask(f"/api/v1{path}", X_Correlation_ID="mine-1")
    problem = Problem.model_validate_json(answer.body)
    assert (answer.status, problem.status, problem.code) == (status, status, code), problem
    assert words in problem.detail
    assert problem.message == problem.detail
    assert problem.correlation_id == answer.headers["x-correlation-id"] == "mine-1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert code in CODES


def test_a_cursor_belongs_to_its_question(served: Served) -> None:
    page = served.server.get(f"/trades/{BTC}", from_=START, limit=2)
    status, told = served.server.refused(f"/trades/{BTC}", from_=START + 1, limit=2, cursor=page["next_cursor"])
    assert (status, told["code"]) == (400, "cursor_mismatch")
    assert served.server.get(f"/trades/{BTC}", from_=START, limit=3, cursor=page["next_cursor"])["items"]


def test_what_cannot_change_any_more_may_be_kept(served: Served) -> None:
    stored = served.process.view.settled_ts(served.process.store.watermark)
    path = f"/api/v1/trades/{BTC}?from={START}&to={stored}"
    closed = served.server.ask(path)
    assert "immutable" in closed.headers["cache-control"]
    again = served.server.ask(path, If_None_Match=closed.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    still_open = served.server.ask(f"/api/v1/trades/{BTC}?from={START}&to={stored + 10**9}")
    assert still_open.headers["cache-control"] == "no-store"
    assert "etag" not in still_open.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1:8765"])
def test_a_request_to_another_host_is_refused(served: Served, host: str) -> None:
    answer = served.server.ask("/api/v1/status", Host=host)
    assert answer.status == 403
    assert answer.json["code"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:9"])
def test_requests_to_loopback_are_answered(served: Served, host: str) -> None:
    assert served.server.ask("/api/v1/health/live", Host=host).status == 200


def test_only_reading_is_possible(served: Served) -> None:
    answer = served.server.ask("/api/v1/status", method="POST")
    assert answer.status == 405
    assert answer.json["context"]["allowed"] == ["GET"]


def test_metrics_are_prometheus_text(served: Served) -> None:
    served.server.get("/meta")
    answer = served.server.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    assert f'coby_venue_state{{state="live",venue="{VENUE}"}} 1.0' in lines
    assert "coby_ready 1.0" in lines
    requests = [line for line in lines if line.startswith("coby_http_requests_total") and "meta" in line]
    assert float(requests[0].split()[-1]) >= 1
    memory = next(line for line in lines if line.startswith("coby_process_memory_bytes "))
    assert float(memory.split()[1]) > 1 << 20


def test_the_page_of_the_description_loads_nothing(served: Served) -> None:
    answer = served.server.ask("/docs")
    page = answer.body.decode()
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in page
    assert "src=" not in page
    assert "//" not in page.replace("<!doctype", "").replace("</", "<").replace("/>", ">")
    for path in served.server.get("/openapi.json")["paths"]:
        assert path in page


def test_not_ready_says_why(served: Served) -> None:
    engine = served.process.engine
    engine.untaped = "No space left on device"
    engine.told = {venue: {"state": "disconnected", "error": "refused", "books": []} for venue in (VENUE, OTHER)}
    try:
        answer = served.server.ask("/api/v1/health/ready")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert {reason["code"] for reason in answer.json["reasons"]} == {"untaped", "no_venue_live"}
        assert "refused" in answer.body.decode()
        status = served.server.get("/status")
        assert (status["ready"], status["untaped"]) == (False, "No space left on device")
        assert "coby_ready 0.0" in served.server.ask("/metrics").body.decode()
    finally:
        engine.untaped, engine.told = None, {}


def test_rows_of_several_venues_come_as_one(tmp_path: Path) -> None:
    process = Process(tmp_path)
    first = imported("binance", tmp_path, 10.0, symbols=("BTC",))
    (tmp_path / "tape").rename(tmp_path / "first")
    second = imported("okx", tmp_path, 10.0, symbols=("BTC",))
    shift = first[-1].last_pos + 1 - second[0].first_pos
    cuts = [*first, *(Shifted(cut, shift) for cut in second)]
    for i, cut in enumerate(cuts):
        process.take(cut, commit=i == len(first))
    with Server(process.app) as server:
        items = all_pages(server, "/trades/all/BTC", from_=0, limit=33)
        everything = [
            row for cut in cuts if "trades" in cut.rows for row in pa.record_batch(cut.batch("trades")).to_pylist()
        ]
        assert [item["pos"] for item in items] == [str(row["pos"]) for row in everything if row["symbol"] == "BTC-USDT"]
        assert {item["venue"] for item in items} == {"binance", "okx"}
        page = server.get("/heatmap/all/BTC-USDT", from_=0, limit=2048)
        single = {
            venue: {column["open_time"]: column for column in server.get(f"/heatmap/{venue}/BTC", from_=0)["items"]}
            for venue in ("binance", "okx")
        }
        both = [column for column in page["items"] if column["venues_included"] == 2]
        assert both
        for column in both:
            parts = [single[venue][column["open_time"]] for venue in single]
            for side, low in (("bids", "bid_low"), ("asks", "ask_low")):
                assert len(column[side]) > 30
                for i, value in enumerate(column[side]):
                    places = [(part[side], column[low] + i - part[low]) for part in parts]
                    held = [Decimal(values[at]) for values, at in places if 0 <= at < len(values)]
                    assert Decimal(value) == sum(held)
    process.close()
