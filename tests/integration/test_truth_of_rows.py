"""Ten minutes of every venue with every fault, offline: what can be proved is a gap, what is in no gap is true."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coby import recording
from coby._core import Engine
from coby.simulator.exchange import MS, SECOND, Exchange
from coby.simulator.faults import Fault, load
from coby.simulator.record import record
from coby.simulator.venues import ALL_FEEDS
from support.cuts import cuts_of
from support.judge import Bench, judge, tables
from support.law import Ledger
from support.provable import PROVABLE, STALE

SECONDS = 600.0
ROUND = 97.0
"""Seconds from one run through the script to the next."""
# A book that nothing shows to be wrong is right again with what the client asks for a moment later,
NOTICED_NS = 2 * SECOND
# or with the next picture where books come as pictures. An answer over HTTP that nobody waits for is older than what
# has come since, and heals nothing: then the script loses the book again within so long.
HEALING_NS = {
    "hyperliquid": 6 * SECOND,
    **dict.fromkeys(("binance", "binance_futures", "bitstamp", "htx", "kucoin", "mexc"), 22 * SECOND),
}
# When a recorded client gives up on silence.
PATIENCE_NS = 4 * SECOND
LEVELS = 40
SETTINGS = {"update_interval_ms": 300, "heatmap_depth": 7, "snapshot_levels": LEVELS}


def script(exchange: Exchange) -> Iterator[Fault]:
    """All faults, again and again; those that a checksum has to prove at levels that it covers."""
    for number in range(int(SECONDS // ROUND)):
        for fault in load("all", exchange):
            within = 10 if fault.kind in {"drop", "reorder", "corrupt"} else None
            # A connection that freezes comes to life again, or never does.
            seconds = 0.0 if fault.kind == "freeze" and number % 2 else fault.seconds
            # Where books come every few seconds only, connections are closed late: the door stays shut for longer.
            seconds = 8.0 if fault.kind == "refuse" and "hyperliquid" in exchange.venues else seconds
            yield replace(fault, within=within, seconds=seconds).later(number * ROUND)


def bench(feed: str) -> Bench:
    """What is to be expected of a recording of a venue."""
    # A checksum that comes every few seconds proves what is still wrong then.
    seldom = {"corrupt"} if feed == "bitfinex" else set()
    return Bench(
        provable={*PROVABLE[feed], *({"stale_snapshot"} if feed in STALE else ())} - seldom,
        heal_ns=HEALING_NS.get(feed, ALL_FEEDS[feed].notice_ns + NOTICED_NS),
        late_ns=25 * MS,
        silence_ns=PATIENCE_NS,
        levels=LEVELS,
        restarts={"end"},
        by_checksum=feed == "kraken",
        leaving=feed == "cryptocom",
        shared=ALL_FEEDS[feed].numbers_connections,
    )


@pytest.mark.prove
@pytest.mark.parametrize("feed", ALL_FEEDS)
def test_what_can_be_proved_is_a_gap_and_the_rest_is_true(
    feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = ALL_FEEDS[feed]
    ledgers: list[Ledger] = []

    def watch(exchange: Exchange) -> Ledger:
        ledgers.append(Ledger(exchange))
        return ledgers[0]

    frames = record(
        venue, SECONDS, symbols=("BTC", "XRP"), seed=5, faults=script, watch=lambda exchange: watch(exchange).log
    )
    recording.write(tmp_path / "recording.jsonl.gz", frames)
    engine = Engine.importing(venue.name, [tmp_path / "recording.jsonl.gz"], tmp_path / "tape", SETTINGS)
    rows = tables(cuts_of(engine))
    status = engine.status()
    assert (status["broken"], status["unknown"]) == ([], 0)
    verdict = replace(judge(venue.name, rows, ledgers[0], bench(feed)), venue=feed)
    with capsys.disabled():
        sys.stdout.write(f"\n{verdict}\n")
        sys.stdout.flush()
    assert verdict.problems == []
    happened = Counter(fault.kind for fault in ledgers[0].faults)
    assert status["errors"] >= happened["truncate"]
    # Where all comes through the socket there is nothing to ask, and where there are no numbers there are none to skip.
    exchange = Exchange([venue], start_ns=0)
    read = exchange.venues[venue.name]
    dials = read.plan(list(read.markets.values())).dials
    asks = any(dial.token or dial.requests for dial in dials)
    never = (set() if asks else {"http"}) | (set() if venue.sequenced else {"skip"})
    assert {fault.kind for fault in script(exchange)} - never <= happened.keys()
