"""The law over sockets: rows live and rows of the tape are the same, and the truth, where they are not in a gap.

About a minute of all simulated venues that can be dialled, with every kind of fault once at each of them, in three runs
on one tape with other settings each. What reads the live rows is the daemon's own feeder, which is made to miss some.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from coby import _core
from coby._core import Engine
from coby.simulator.exchange import MS, SECOND
from coby.simulator.faults import KINDS, Fault
from coby.simulator.venues import VENUES
from support.cuts import cuts_of
from support.judge import Bench, judge, tables
from support.law import Ledger
from support.lived import Kept, engine_on, not_live, subscribed, until, venues_of
from support.loopback import Loopback
from support.provable import PROVABLE, STALE

CORE = ("binance_futures", "coinbase", "kucoin", "bitstamp", "kraken")
SYMBOLS = ("BTC", "XRP")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"update_interval_ms": 400, "heatmap_depth": 9, "snapshot_levels": 20},
    {
        "update_interval_ms": 300,
        "heatmap_depth": 5,
        "snapshot_levels": 40,
        "bucket_sizes": [{"base": "BTC", "sizes": ["25"]}],
    },
    {"update_interval_ms": 700, "heatmap_depth": 20, "snapshot_levels": 10},
)
SPECS = {spec["id"]: spec for spec in _core.venues()}
LATE_NS = 500 * MS
"""How much longer than usual a frame is on its way at least, and how much longer than any trade was."""
LATEST_NS = 5 * SECOND
"""A machine on which trades take longer is too busy to judge anything by the wall's clock."""

Symbols = dict[str, list[str]]


def broken_frames(venue: str, one: str, other: str) -> list[Fault]:
    """What befalls frames; each of two books has time to recover in between."""
    return [
        Fault("duplicate", 0.2, venue, other),
        Fault("drop", 0.4, venue, one, within=10),
        Fault("reorder", 2.4, venue, other, within=10),
        Fault("corrupt", 4.4, venue, one, within=10),
        Fault("truncate", 6.4, venue, other),
        Fault("skip", 8.9, venue, one),
        Fault("freeze", 10.4, venue, other, seconds=3.0),
    ]


def bad_snapshots(venue: str, one: str, other: str) -> list[Fault]:
    """Connections break, and what begins the next ones is old or late; who comes back is not let in at first.

    Who has been closed soon after coming waits twice as long each time: the door is shut early, and for longer.
    """
    return [
        Fault("stale_snapshot", 2.9, venue, one, delay=2.0),
        Fault("close", 3.0, venue, code=1006),
        Fault("late_snapshot", 7.9, venue, other, delay=1.0),
        Fault("refuse", 7.9, venue, seconds=3.0),
        Fault("close", 8.0, venue),
    ]


def slow_doors(venue: str, one: str, other: str) -> list[Fault]:
    """Connections break, and who comes back is let in slowly, or asks too much; then a clock jumps."""
    return [
        Fault("slow_handshake", 0.9, venue, seconds=2.0, delay=0.7),
        Fault("close", 1.0, venue),
        Fault("http", 4.9, venue, seconds=2.0, status=429, retry_after=1),
        Fault("close", 5.0, venue),
        Fault("time_jump", 8.5, venue, seconds=1.5),
    ]


RUNS: tuple[tuple[Callable[[str, str, str], list[Fault]], float], ...] = (
    (broken_frames, 16.5),
    (bad_snapshots, 17.0),
    (slow_doors, 13.5),
)
"""What goes wrong in each run, and how many seconds after the faults were let loose it ends."""


@dataclass
class Lived:
    """What three runs have left."""

    tape: Path
    ledger: Ledger
    rows: dict[str, pa.Table] = field(default_factory=dict)
    watermark: int = 0
    dropped: int = 0
    """Cuts that the engine had to drop, and how many holes the feeder has filled."""
    holes: int = 0
    broken: list[str] = field(default_factory=list)
    """Segments of the tape that the engine's own check found to give other rows."""


def miss_cuts(engine: Engine) -> None:
    """Takes nothing, as a consumer that hangs, until the engine has had to drop cuts."""
    end = time.monotonic() + 20
    while not engine.status()["dropped_cuts"]:
        assert time.monotonic() < end
        time.sleep(0.02)


async def live(tape: Path) -> Lived:
    store = Kept()
    with Loopback(VENUES, symbols=SYMBOLS, seed=9) as loopback:
        lived = Lived(tape, loopback.ledger)
        for number in range(len(RUNS)):
            await live_once(number, lived, loopback, store)
    lived.rows, lived.watermark = store.tables(), store.watermark
    return lived


async def live_once(number: int, lived: Lived, loopback: Loopback, store: Kept) -> None:
    faults, seconds = RUNS[number]
    async with engine_on(lived.tape, SETTINGS[number], loopback, store) as (engine, feeder):
        await until(lambda: venues_of(engine) and not not_live(engine), 20, lambda: not_live(engine))
        keys = await asyncio.to_thread(subscribed, engine)
        if not number:
            loopback.ledger.only(keys)
        symbols = {venue: [symbol for of, symbol in keys if of == venue] for venue in VENUES}
        loopback.add(fault for venue, found in symbols.items() for fault in faults(venue, found[0], found[-1]))
        end = loopback.seconds + seconds
        if number == 1:
            miss_cuts(engine)
        await until(
            lambda: loopback.seconds >= end and not loopback.waiting,
            2 * seconds,
            lambda: (loopback.seconds, loopback.waiting),
        )
        if number:
            # Each run of an engine looks again at what the one before it has sealed.
            await until(lambda: engine.status()["checked"], 20, engine.status)
        status = engine.status()
        lived.dropped += status["dropped_cuts"]
        lived.broken += status["broken"]
        lived.holes += feeder.status()["holes"]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return asyncio.run(live(tmp_path_factory.mktemp("law") / "tape"))


def replayed(tape: Path, after: int = 0) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    engine = Engine.replaying(tape, after=after)
    rows = tables(cuts_of(engine))
    return rows, engine.status()


def differences(one: Mapping[str, pa.Table], other: Mapping[str, pa.Table]) -> list[str]:
    """Where two sets of rows are not the same, to the bit and in order."""
    found = [f"only one has {kind}" for kind in one.keys() ^ other.keys()]
    for kind in one.keys() & other.keys():
        if one[kind].equals(other[kind]):
            continue
        pairs = zip(one[kind].to_pylist(), other[kind].to_pylist(), strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        found.append(f"{kind}: {one[kind].num_rows} and {other[kind].num_rows} rows, at first {first}")
    return found


def test_rows_live_and_rows_of_the_tape_are_the_same(lived: Lived) -> None:
    assert lived.broken == []
    assert lived.dropped > 0
    assert lived.holes > 0
    assert lived.rows.keys() == _core.schema().keys()
    rows, status = replayed(lived.tape)
    assert differences(lived.rows, rows) == []
    assert lived.watermark == status["pos"]
    runs = set(pc.unique(pc.shift_right(lived.rows["tops"]["pos"], pa.scalar(40, pa.uint64()))).to_pylist())
    assert len(runs) == len(RUNS)


def test_a_replay_from_the_middle_gives_what_follows(lived: Lived) -> None:
    positions: list[Any] = lived.rows["tops"]["pos"].to_pylist()
    for part in (3, 2):
        middle = positions[len(positions) // part]
        rows, _ = replayed(lived.tape, after=middle)
        follow = {kind: table.filter(pc.greater(table["pos"], middle)) for kind, table in lived.rows.items()}
        assert differences({kind: table for kind, table in follow.items() if table.num_rows}, rows) == []


def test_settings_of_each_run_are_those_of_its_rows(lived: Lived) -> None:
    levels: dict[int, set[int]] = {}
    for row in lived.rows["book_snapshots"].to_pylist():
        levels.setdefault(row["pos"] >> 40, set()).add(len(row["bid_prices"]))
    assert [max(found) for _, found in sorted(levels.items())] == [each["snapshot_levels"] for each in SETTINGS]


def test_every_kind_of_fault_has_befallen_every_venue(lived: Lived) -> None:
    happened: dict[str, set[str]] = {venue: set() for venue in VENUES}
    for fault in lived.ledger.faults:
        happened[fault.venue].add(fault.kind)
    for venue, kinds in happened.items():
        # Nothing is asked for over HTTP just then, and where there are no numbers there are none to skip.
        never = {"http"} | (set() if VENUES[venue].sequenced else {"skip"})
        assert set(KINDS) - never <= kinds, venue
    assert {venue for venue in CORE if "http" in happened[venue]} >= {"binance_futures", "kucoin", "bitstamp"}


def latest(venue: str, lived: Lived) -> int:
    """How long the slowest trade was on its way that can be told from all others: through busy processors."""
    slowest = 0
    for key, history in lived.ledger.histories.items():
        if key[0] != venue:
            continue
        when: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for trade in history.trades:
            when[trade[1:]].append(trade.at)
        mine = (pc.field("venue") == venue) & (pc.field("native_symbol") == key[1]) & ~pc.field("history")
        for row in lived.rows["trades"].filter(mine).to_pylist():
            ms = (row["ts_event"] or 0) // MS
            known = when.get((ms, row["price"], row["size"], row["side"]), [])
            if len(known) == 1:
                slowest = max(slowest, row["ts_recv"] - known[0])
    return slowest


def bench(venue: str, late_ns: int) -> Bench:
    """What is to be expected of a venue's rows."""
    # A checksum that comes every few seconds proves what is still wrong then.
    seldom = {"corrupt"} if venue == "bitfinex" else set()
    return Bench(
        provable={*PROVABLE[venue], *({"stale_snapshot"} if venue in STALE else ())} - seldom,
        # Until a connection breaks, which each does in the next run.
        heal_ns=60 * SECOND,
        late_ns=late_ns,
        silence_ns=SPECS[venue]["silence"] * SECOND,
        levels=40,
        restarts={"restart"},
        by_checksum=venue == "kraken",
        split_trades=venue == "binance",
        leaving=venue == "cryptocom",
        shared=VENUES[venue].numbers_connections,
    )


@pytest.mark.parametrize("venue", VENUES)
def test_what_can_be_proved_is_a_gap_and_the_rest_is_true(lived: Lived, venue: str) -> None:
    slowest = latest(venue, lived)
    assert slowest < LATEST_NS, "the machine is too busy"
    verdict = judge(venue, lived.rows, lived.ledger, bench(venue, slowest + LATE_NS))
    assert verdict.problems == [], str(verdict)
    assert verdict.candles > 0
