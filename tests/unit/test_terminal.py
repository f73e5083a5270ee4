import io
from typing import Any

import pytest
from rich.console import Console

from coby.terminal import View

BTC = ("v", "BTCUSDT")
ETH = ("v", "ETHUSDT")


def row(key: tuple[str, str], **columns: Any) -> dict[str, Any]:
    return {"venue": key[0], "native_symbol": key[1], "symbol": None, "ts_recv": 1_000_000_000, **columns}


def snapshot(key: tuple[str, str], state: str = "live") -> dict[str, Any]:
    return row(
        key, state=state, bid_prices=[99.5, 99.0], bid_sizes=[1.0, 4.0], ask_prices=[100.5], ask_sizes=[2.5], t=0
    )


def column(key: tuple[str, str], mid_index: int, bucket_size: float = 0.5) -> dict[str, Any]:
    return row(
        key, t=0, bucket_size=bucket_size, mid_index=mid_index, bid_quantity=[1.0, 0.0, 9.0], ask_quantity=[2.0, 3.0]
    )


def draw(view: View, width: int = 100, height: int = 20) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(view.render(width, height))
    return captured.get()


def test_the_busiest_instrument_is_shown() -> None:
    view = View("x")
    view.changed({BTC: 3, ETH: 8})
    view.changed({BTC: 100})
    view.take("book_snapshots", snapshot(ETH))
    assert "ETHUSDT" in draw(view)


def test_only_what_is_shown_is_kept() -> None:
    view = View("x")
    for key in (BTC, ETH):
        view.take("heatmap_columns", column(key, 200))
    view.changed({ETH: 1})
    for key in (BTC, ETH):
        view.take("heatmap_columns", column(key, 200))
        view.take("book_snapshots", snapshot(key))
    assert view.shown == ETH
    assert {key: len(kept.columns) for key, kept in view._instruments.items()} == {ETH: 2}


@pytest.mark.parametrize("wanted", ["ETHUSDT", "ETH-USDT-PERP"])
def test_the_instrument_that_was_asked_for_is_shown(wanted: str) -> None:
    view = View("x", wanted)
    assert f"waiting for {wanted}" in draw(view)
    view.changed({BTC: 3})
    view.take("book_snapshots", snapshot(BTC) | {"symbol": "BTC-USDT-PERP"})
    view.take("book_snapshots", snapshot(ETH) | {"symbol": "ETH-USDT-PERP"})
    assert "ETH-USDT-PERP" in draw(view)


def test_the_ladder_has_the_best_levels_around_the_spread() -> None:
    view = View("x")
    view.changed({BTC: 1})
    view.take("book_snapshots", snapshot(BTC))
    drawn = draw(view)
    prices = [drawn.index(price) for price in ("100.5", "100 ", "99.5", "99 ")]
    assert prices == sorted(prices)
    assert "live" in drawn


def test_the_heatmap_starts_anew_when_the_buckets_change_and_is_as_wide_as_time() -> None:
    view = View("x")
    view.changed({BTC: 1})
    for mid in range(5):
        view.take("heatmap_columns", column(BTC, mid))
    assert "▀" * 5 in draw(view)
    assert "▀" * 6 not in draw(view)
    view.take("heatmap_columns", column(BTC, 3, bucket_size=1.0))
    assert "▀▀" not in draw(view)
    assert "▀" in draw(view)


def test_colours_tell_bids_from_asks_and_much_from_little() -> None:
    view = View("x")
    view.changed({BTC: 1})
    view.take("heatmap_columns", column(BTC, 7))
    console = Console(file=io.StringIO(), width=100, height=20, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(view.render(100, 20))
    drawn = captured.get()
    assert "38;2;255;120;64" not in drawn.split("▀")[0]
    assert "64;224;160" in drawn, "the fullest bid bucket has the brightest colour"


def test_gaps_are_counted_by_cause_and_followed_until_they_close() -> None:
    view = View("x")
    view.take("gaps", row(BTC, id=1, phase="opened", cause="sequence"))
    view.take("gaps", row(BTC, id=2, phase="opened", cause="closed"))
    view.take("gaps", row(BTC, id=1, phase="closed", cause="sequence"))
    view.take("gaps", row(BTC, id=3, phase="opened", cause="end"))
    view.status = {"frames": 1234, "errors": 2}
    view.count({"trades": 5, "gaps": 3})
    assert view.summary() == "frames 1,234 · rows 8 · gaps 2 (sequence 1, closed 1; open 1) · refused 2"
    assert view.summary() in draw(view)


@pytest.mark.parametrize(("width", "height"), [(30, 5), (60, 12), (100, 30), (400, 100)])
def test_it_fits_any_terminal(width: int, height: int) -> None:
    view = View("x")
    view.changed({BTC: 1})
    view.take("book_snapshots", snapshot(BTC))
    for mid in range(500):
        view.take("heatmap_columns", column(BTC, mid))
    lines = draw(view, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
