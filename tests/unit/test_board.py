"""What a person sees of a daemon, at the sizes that terminals have."""

import io
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from coby.interfaces import Part
from coby.monitoring.watch import Figures, VenueFigures
from coby.terminal import Board, Screen, save_picture

NAMES = ("binance", "binance_futures", "bitfinex", "bitstamp", "bybit", "coinbase", "htx", "hyperliquid", "kraken")
SIZES = [(120, 36), (80, 24), (200, 60), (60, 15), (40, 10), (20, 4)]


def figures(*names: str, **facts: Any) -> Figures:
    known: dict[str, Any] = {
        "state": "live",
        "reason": "",
        "next_attempt": None,
        "frames_per_second": 123.4,
        "lag": 0.012,
        "books": 2,
        "live_books": 2,
        "open_gaps": 0,
        "gaps": 0,
    }
    venues = tuple(VenueFigures(venue=name, **(known | facts)) for name in names)
    return Figures(venues, 10, 5.0, 20, 6.0, 0, 0, None, 1.0, 200 << 20)


def snapshot() -> dict[str, Any]:
    head = {"venue": "kraken", "native_symbol": "BTC/USDT", "symbol": "BTC-USDT", "ts_recv": 10**18, "pos": 1}
    sides = {"bid_prices": [99.5, 99.0], "bid_sizes": [1.0, 4.0], "ask_prices": [100.5], "ask_sizes": [2.5]}
    return head | {"state": "live", "t": 0} | sides


def column() -> dict[str, Any]:
    head = {"venue": "kraken", "native_symbol": "BTC/USDT", "symbol": "BTC-USDT", "ts_recv": 10**18, "pos": 1, "t": 0}
    return head | {"bucket_size": 0.5, "mid_index": 200, "bid_quantity": [1.0, 9.0], "ask_quantity": [2.0, 3.0]}


def filled(board: Board) -> Board:
    board.view.changed({("kraken", "BTC/USDT"): 1})
    board.view.take("book_snapshots", snapshot())
    for _ in range(300):
        board.view.take("heatmap_columns", column())
    for number in range(50):
        board.log(f"00:00:00 line {number}")
    return board


def draw(board: Board, width: int, height: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(board.render(width, height))
    return captured.get()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_it_fits_any_terminal(width: int, height: int, count: int) -> None:
    board = filled(Board("COBY"))
    board.figures = figures(*NAMES[:count])
    lines = draw(board, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])
def test_what_matters_is_readable_at_usual_sizes(width: int, height: int) -> None:
    board = filled(Board("COBY · http://127.0.0.1:8765"))
    board.figures = figures(*NAMES[:5])
    drawn = draw(board, width, height)
    for text in ("http://127.0.0.1:8765", *NAMES[:5], "2/2", "123", "12 ms", "kraken · BTC-USDT", "100.5", "99.5"):
        assert text in drawn, text
    assert "▀" * 20 in drawn
    assert "line 49" in drawn
    assert "venues 5/5 live" in drawn


def test_venues_with_trouble_come_first_where_not_all_fit() -> None:
    board = Board("COBY", clock=lambda: 0)
    good, bad = figures(*NAMES), figures("okx", state="disconnected", reason="refused", next_attempt=7_000_000_000)
    board.figures = Figures((*good.venues, *bad.venues), 0, 0, 0, 0, 0, 0, None, 0, 0)
    drawn = draw(board, 100, 24)
    assert "okx" in drawn
    assert "refused (again in 7 s)" in drawn
    assert "more" in drawn


def test_many_venues_stand_side_by_side() -> None:
    names = [f"venue_{n}" for n in range(19)]
    board = Board("x")
    board.figures = figures(*names)
    assert [name for name in names if name not in draw(board, 120, 36)] == []


def test_a_screen_keeps_cuts_and_log_lines_without_a_terminal(tmp_path: Path) -> None:
    log = logging.getLogger("coby.test")
    with Screen("COBY", terminal=False) as screen:
        screen.board.changed({("kraken", "BTC/USDT"): 1})
        batches = {
            "book_snapshots": pa.RecordBatch.from_pylist([snapshot()]),
            "heatmap_columns": pa.RecordBatch.from_pylist([column()]),
        }
        screen.take(Part(1, 1, batches))
        log.warning("kraken is disconnected\nreally")
        screen.show(figures("kraken"))
    log.warning("too late")
    picture = tmp_path / "board.svg"
    save_picture(screen.board, picture, "coby-run")
    drawn = picture.read_text()
    assert "disconnected\\nreally" in drawn.replace("&#160;", " ")
    assert "too&#160;late" not in drawn
    assert "font-face" not in drawn
    assert "BTC-USDT" in drawn


def test_the_busiest_book_is_chosen_after_a_while() -> None:
    rows = [{"venue": "okx", "native_symbol": "X"}] * 3 + [{"venue": "kraken", "native_symbol": "BTC/USDT"}] * 5
    part = Part(1, 1, {"tops": pa.RecordBatch.from_pylist(rows)})
    with Screen("COBY", terminal=False) as screen:
        for _ in range(20):
            screen.take(part)
        assert screen.board.view.chosen
        screen.take(Part(1, 1, {"book_snapshots": pa.RecordBatch.from_pylist([snapshot()])}))
        assert "kraken · BTC-USDT" in draw(screen.board, 120, 36)
