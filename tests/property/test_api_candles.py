"""Candles of candles and of trades, against exact arithmetic and against those that the core made."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from coby.api.candles import MINUTE, SECOND, Builder, Known, coarser, last_revisions
from support.mishaps import VENUE
from support.serving import imported

amounts = st.integers(1, 10**12).map(lambda n: float(Decimal(n).scaleb(-6)))
fine = st.lists(
    st.tuples(st.integers(0, 600), st.lists(amounts, min_size=4, max_size=4), amounts, st.none() | st.integers(1, 99)),
    max_size=40,
    unique_by=lambda candle: candle[0],
)


def row(second: int, prices: list[float], volume: float, count: int | None, **other: Any) -> dict[str, Any]:
    return {
        "open_time": second * SECOND,
        "open": prices[1],
        "high": max(prices),
        "low": min(prices),
        "close": prices[2],
        "volume": volume,
        "notional": None,
        "count": count,
        "taker_buy": volume / 2,
        "revision": 0,
        "source": "trades",
        "rounded": False,
        "partial": False,
    } | other


@given(fine)
def test_coarser_candles_hold_their_parts_exactly(candles: Any) -> None:
    rows = [row(*candle) for candle in sorted(candles)]
    joined = coarser(rows, MINUTE)
    assert [candle["open_time"] for candle in joined] == sorted({r["open_time"] // MINUTE * MINUTE for r in rows})
    for candle in joined:
        parts = [r for r in rows if r["open_time"] // MINUTE * MINUTE == candle["open_time"]]
        assert (candle["open"], candle["close"]) == (parts[0]["open"], parts[-1]["close"])
        assert (candle["high"], candle["low"]) == (max(r["high"] for r in parts), min(r["low"] for r in parts))
        assert candle["volume"] == float(sum(Fraction(repr(r["volume"])) for r in parts))
        counts = [r["count"] for r in parts]
        assert candle["count"] == (None if None in counts else sum(counts))
        assert candle["notional"] is None


@given(st.permutations([(time, revision) for time in range(3) for revision in range(3)]))
def test_the_highest_revision_wins_and_trades_win_over_the_venue(order: list[tuple[int, int]]) -> None:
    rows = [row(time, [1.0] * 4, 10.0 * time + revision, 1, revision=revision) for time, revision in order]
    rows.insert(4, row(1, [1.0] * 4, 99.0, 1, revision=7, source="venue"))
    assert [found["volume"] for found in last_revisions(rows)] == [2.0, 12.0, 22.0]


def test_a_venue_s_candle_is_better_than_one_of_trades_of_which_some_are_missing() -> None:
    gap = {"from": 120 * SECOND + 5, "to": 121 * SECOND}
    known = Known(MINUTE, first_trade=30 * SECOND, first_candle=0, gaps=[gap])
    rows = [
        row(minute * 60, [1.0] * 4, volume, 1, source=source)
        for minute in range(4)
        for source, volume in (("trades", 1.0), ("venue", 2.0))
        if (minute, source) != (2, "venue")
    ]
    found = last_revisions(rows, known)
    assert [(candle["volume"], candle["partial"]) for candle in found] == [
        (2.0, False),  # began before the first trade
        (1.0, False),
        (1.0, True),  # lies in a gap, and the venue sends none
        (1.0, False),
    ]
    assert [candle["partial"] for candle in coarser(found, 2 * MINUTE, known)] == [False, True]
    late = Known(MINUTE, first_trade=0, first_candle=MINUTE, gaps=())
    assert [candle["partial"] for candle in coarser(found[1:2], 2 * MINUTE, late)] == [True]


def test_candles_of_trades_are_those_that_the_core_made(tmp_path: Path) -> None:
    cuts = imported(VENUE, tmp_path, 30.0, symbols=("BTC",))

    def rows(kind: str) -> list[dict[str, Any]]:
        return [r for cut in cuts if kind in cut.rows for r in pa.record_batch(cut.batch(kind)).to_pylist()]

    trades = [trade | {"time": trade["ts_event"], "contract_size": Decimal(1)} for trade in rows("trades")]
    made = {candle["open_time"]: candle for candle in Builder(SECOND).of(trades)}
    core = last_revisions(r for r in rows("candles") if r["interval"] == SECOND and r["source"] == "trades")
    assert len(core) > 20
    for candle in core:
        ours = made[candle["open_time"]]
        for name in ("open", "high", "low", "close", "volume", "notional", "count", "taker_buy"):
            assert ours[name] == candle[name], name
