"""The judge of rows: it finds nothing wrong with what is right, and whatever is made wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from coby import recording
from coby._core import Engine
from coby.simulator.exchange import MS, SECOND, Exchange
from coby.simulator.faults import Fault
from coby.simulator.record import START_NS, record
from coby.simulator.venues import VENUES
from support.cuts import cuts_of
from support.judge import Bench, judge, tables
from support.law import Gap, Ledger, gaps_of
from support.provable import PROVABLE

VENUE = "deribit"
SETTLED_NS = START_NS + 8 * SECOND
CLOSED_NS = START_NS + 25 * SECOND
FAULTS = [Fault("drop", 12.0), Fault("close", 25.0), Fault("corrupt", 40.0, within=10), Fault("close", 42.0)]
BENCH = Bench(
    provable=PROVABLE[VENUE],
    heal_ns=3 * SECOND,
    late_ns=25 * MS,
    silence_ns=4 * SECOND,
    levels=20,
    restarts={"end"},
)

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Told:
    ledger: Ledger
    tables: Mapping[str, pa.Table]
    gaps: list[Gap]

    def outside(self, channel: str, time: int) -> bool:
        """Whether a time is neither in a gap nor near one, and not at the beginning."""
        near = SECOND
        gaps = (gap for gap in self.gaps if gap.channel == channel)
        return time > SETTLED_NS and not any(gap.since - near <= time <= (gap.to or 1 << 62) + near for gap in gaps)

    def one_outside(self, channel: str, rows: Rows) -> int:
        """The place of a row that is in no gap."""
        return next(place for place, row in enumerate(rows) if self.outside(channel, row["ts_recv"]))

    def problems(self, **changed: Callable[[Rows], None]) -> list[str]:
        """What the judge says once rows of some kinds have been changed."""
        rows = dict(self.tables)
        for kind, change in changed.items():
            table = rows[kind]
            told = table.to_pylist()
            change(told)
            assert told != table.to_pylist()
            rows[kind] = pa.Table.from_pylist(told, schema=table.schema)
        return judge(VENUE, rows, self.ledger, BENCH).problems


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three quarters of a minute with a lost frame, a wrong one and two closed connections."""
    ledgers: list[Ledger] = []
    folder = tmp_path_factory.mktemp("told")

    def watch(exchange: Exchange) -> Callable[[dict[str, Any]], None]:
        ledgers.append(Ledger(exchange))
        return ledgers[0].log

    frames = record(VENUES[VENUE], 60, symbols=("BTC-PERPETUAL",), faults=lambda _: FAULTS, watch=watch)
    recording.write(folder / "told.jsonl", frames)
    settings = {"update_interval_ms": 300, "snapshot_levels": BENCH.levels}
    engine = Engine.importing(VENUE, [folder / "told.jsonl"], folder / "tape", settings)
    rows = tables(cuts_of(engine))
    return Told(ledgers[0], rows, gaps_of(rows["gaps"]))


def test_what_is_right_is_found_right(told: Told) -> None:
    verdict = judge(VENUE, told.tables, told.ledger, BENCH)
    assert verdict.problems == []
    assert (verdict.provable, verdict.unprovable) == (3, 1)
    assert min(verdict.excused, verdict.snapshots, verdict.tops, verdict.trades, verdict.candles) > 0


def lose_one(told: Told, rows: Rows) -> None:
    del rows[told.one_outside("trades", rows)]


def lose_the_last_before_a_fault(told: Told, rows: Rows) -> None:
    """The gap then seems to begin before it, long before anything was wrong."""
    at = next(fault.at for fault in told.ledger.faults if fault.at >= CLOSED_NS)
    del rows[max(i for i, row in enumerate(rows) if row["ts_event"] < at - 100 * MS)]


def lose_the_end(_: Told, rows: Rows) -> None:
    end = rows[-1]["ts_recv"]
    rows[:] = [row for row in rows if row["ts_recv"] < end - 3 * SECOND]


def say_one_twice(told: Told, rows: Rows) -> None:
    place = told.one_outside("trades", rows)
    rows.insert(place, rows[place])


def swap_two(_: Told, rows: Rows) -> None:
    place = next(i for i, row in enumerate(rows) if i > 50 and rows[i + 1]["ts_event"] - row["ts_event"] > MS)
    rows[place], rows[place + 1] = rows[place + 1], rows[place]


def alter(name: str, told: Told, rows: Rows) -> None:
    row = rows[told.one_outside("trades", rows)]
    row[name] = {"buy": "sell", "sell": "buy"}[row[name]] if name == "side" else row[name] * 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lose_one, "is missing in no gap"),
        (lose_the_last_before_a_fault, "is missing in no gap"),
        (lose_the_end, "is missing in no gap"),
        (say_one_twice, "no such trade"),
        (swap_two, "no such trade"),
        *((partial(alter, name), "no such trade") for name in ("price", "size", "side")),
    ],
)
def test_trades(told: Told, change: Callable[[Told, Rows], None], problem: str) -> None:
    found = told.problems(trades=partial(change, told))
    assert any(problem in text for text in found), found


def test_one_of_equal_trades_is_missed_though_another_is_in_a_gap(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    (history,) = told.ledger.histories.values()
    true = list(history.trades)
    gap = next(gap for gap in told.gaps if gap.channel == "trades" and gap.since > CLOSED_NS - SECOND)
    assert gap.to is not None
    in_gap = next(i for i, trade in enumerate(true) if trade.at > gap.opened)
    lost = next(i for i in range(in_gap, 0, -1) if told.outside("trades", true[i].at))
    true[in_gap] = true[in_gap]._replace(price=true[lost].price, size=true[lost].size, side=true[lost].side)
    monkeypatch.setattr(type(history), "trades", true)
    assert told.problems() == []

    def lose(rows: Rows) -> None:
        told_as = [(r["ts_event"] // MS, r["price"], r["size"], r["side"]) for r in rows]
        del rows[told_as.index(true[lost][1:])]

    assert any("is missing in no gap" in text for text in told.problems(trades=lose))


def alter_level(side: str, told: Told, rows: Rows) -> None:
    row = rows[told.one_outside("book", rows)]
    row[side] = [*row[side][:-1], row[side][-1] * 2]


def alter_top(name: str, told: Told, rows: Rows) -> None:
    row = rows[told.one_outside("book", rows)]
    row[name] *= 2


def lose_level(told: Told, rows: Rows) -> None:
    row = rows[told.one_outside("book", rows)]
    for name in ("bid_prices", "bid_sizes"):
        row[name] = row[name][:3] + row[name][4:]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(
            ("book_snapshots", partial(alter_level, f"{side}_{what}"))
            for side in ("bid", "ask")
            for what in ("prices", "sizes")
        ),
        ("book_snapshots", lose_level),
        *(("tops", partial(alter_top, name)) for name in ("bid", "bid_size", "ask", "ask_size")),
    ],
)
def test_books(told: Told, kind: str, change: Callable[[Told, Rows], None]) -> None:
    found = told.problems(**{kind: partial(change, told)})
    assert any("wrong outside of gaps" in text for text in found), found


def test_a_wrong_book_that_claims_proof_is_not_excused(told: Told) -> None:
    """A loss that nothing proves may leave a wrong book, but not one that claims to be proved."""
    wrong = judge(VENUE, told.tables, told.ledger, BENCH).excused
    assert wrong > 0
    found = judge(VENUE, told.tables, told.ledger, Bench(**{**vars(BENCH), "provable": {"corrupt"}})).problems
    assert any("corrupt" in text and "is in no gap" in text for text in found)
    assert sum("wrong outside of gaps" in text for text in found) == wrong


def claim_a_gap(told: Told, rows: Rows) -> None:
    rows[told.one_outside("book", rows)]["state"] = "gap"


def test_what_says_that_it_is_in_a_gap_is_in_one(told: Told) -> None:
    assert any("is in no gap" in text for text in told.problems(book_snapshots=partial(claim_a_gap, told)))


def hide_loss(rows: Rows) -> None:
    hidden = next(row["id"] for row in rows if row["cause"] == "sequence")
    rows[:] = [row for row in rows if row["id"] != hidden]


def invent(rows: Rows) -> None:
    opened = next(row for row in rows if row["cause"] == "sequence" and row["phase"] == "opened")
    at = START_NS + 8 * SECOND
    rows.insert(0, {**opened, "id": 1_000, "from": at, "ts_recv": at})


def date_back(rows: Rows) -> None:
    for row in rows:
        if (
            row["cause"] == "closed"
            and row["channel"] == "book"
            and START_NS + 20 * SECOND < row["from"] < CLOSED_NS + SECOND
        ):
            row["from"] -= 5 * SECOND


def test_gaps(told: Told) -> None:
    assert any("drop" in text and "is in no gap" in text for text in told.problems(gaps=hide_loss))
    assert any("no fault explains" in text for text in told.problems(gaps=invent))
    # That a gap is said to have begun long before anything happened excuses nothing.
    assert told.problems(gaps=date_back) == []

    def spoil(rows: Rows) -> None:
        row = next(row for row in rows if CLOSED_NS - 2 * SECOND < row["ts_recv"] < CLOSED_NS - SECOND)
        row["bid_sizes"] = [size * 2 for size in row["bid_sizes"]]

    assert any("wrong outside of gaps" in t for t in told.problems(gaps=date_back, book_snapshots=spoil))


def test_candles(told: Told) -> None:
    def alter(rows: Rows) -> None:
        next(row for row in rows if row["source"] == "trades" and row["open_time"] > START_NS + 5 * SECOND)[
            "volume"
        ] *= 2

    def lose(rows: Rows) -> None:
        place = next(i for i, row in enumerate(rows) if row["source"] == "trades" and row["revision"] == 0)
        candle = rows[place]
        rows[:] = [r for r in rows if (r["interval"], r["open_time"]) != (candle["interval"], candle["open_time"])]

    for change in (alter, lose):
        assert any(text.startswith("candle") for text in told.problems(candles=change))
