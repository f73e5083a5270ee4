"""Clients that are not ours read every simulated venue; what they make of it is the truth, or it is known why not.

The table of all results is docs/independent-readers.md: `make independent-readers` writes it anew.
"""

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from benches.peers.install import commands

from coby.simulator.exchange import Dial, Plan, Venue, compact
from coby.simulator.market import Market
from coby.simulator.venues import ALL_FEEDS
from coby.simulator.venues.gemini import Gemini
from support.independent import Compared, Recording
from support.recorded import recorded

pytestmark = pytest.mark.prove

TABLE = Path(__file__).parents[2] / "docs" / "independent-readers.md"
WRITE = "READERS_WRITE" in os.environ
SECONDS = 60
TWO, THREE, CCXT, TARDIS = "cryptofeed 2.4.1", "cryptofeed 3.0.1", "ccxt pro 4.5.90", "tardis-dev 13.35.3"
EVERY = {"hyperliquid": 5.4}
"""Seconds between pictures of the truth, where books are pushed more seldom than every two seconds."""


class GeminiV2(Gemini):
    """Read over the archived feed."""

    def plan(self, markets: list[Market]) -> Plan:
        """One connection, books and trades in one subscription."""
        wanted = [{"name": "l2", "symbols": [market.instrument.symbol for market in markets]}]
        dial = Dial("wss://api.gemini.com/v2/marketdata", [compact({"type": "subscribe", "subscriptions": wanted})])
        return Plan(super().plan(markets).rest, [], [dial])


FEEDS: dict[str, type[Venue]] = ALL_FEEDS | {"gemini, v2": GeminiV2}
UNREAD = {
    "gemini": "the new API is read by no released client (tardis-node's mapper for it is of 2026-07-24, later than the"
    " last release on npm; ccxt and cryptofeed read v2, which the docs call archived)",
}
"""Feeds that no client reads to the end without a difference, and why."""

AGGREGATES = "reads trades from `@trade` only; the recording subscribes to `@aggTrade`"
BITGET_V2 = "reads V2 (`channel`, `instId`), in maintenance mode; V3 (`topic`, `symbol`; tardis-node from 2026-04-28)"
ADVANCED = "reads Advanced Trade only: see coinbase_advanced"
KRAKEN_V1 = "reads v1, which is frozen; v2 is today's (tardis-node moved to it on 2026-07-10)"
GEMINI_V2 = "reads v2, archived; public since 2026-02-24 is the new API, which the recording has"
HTX_DEPTH = "reads the snapshots `market.*.depth.*`; the recording has the incremental book `market.*.mbp.*`"
UPBIT_SIMPLE = "reads format SIMPLE (`ty`, `cd`); the recording asks for DEFAULT"
OBU = "reads `spot.order_book_update`; `spot.obu` (order book V2, announced 2025-05-30) is in the recording"
CRYPTOCOM_UPDATES = (
    "reads `SNAPSHOT` subscriptions only: frames of channel `book.update` (SNAPSHOT_AND_UPDATE) are unknown to it"
)
BITFINEX_FLAGS = (
    "takes the last field of a frame for the sequence; with the flags of the recording (times, sequences, checksums)"
    " it is the time"
)
EXPLAINED = {
    ("binance", TARDIS): AGGREGATES,
    ("binance_futures", TARDIS): f"{AGGREGATES}, as `@trade` is undocumented for futures",
    ("bitfinex", THREE): BITFINEX_FLAGS,
    ("bitfinex", TWO): BITFINEX_FLAGS,
    ("bitfinex", CCXT): "makes an empty trade of each snapshot without trades",
    ("bitget", THREE): BITGET_V2,
    ("bitget", TWO): BITGET_V2,
    ("bitget", TARDIS): BITGET_V2,
    ("bitstamp", THREE): "reads `order_book_*` (100 levels); the recording has the deltas `diff_order_book_*`",
    ("bitstamp", CCXT): "drops the changes that waited for a REST snapshot unless one has its very time",
    ("coinbase", THREE): ADVANCED,
    ("coinbase", TWO): ADVANCED,
    ("coinbase_advanced", TWO): "signs its subscription even for public data, and has no keys",
    (
        "coinbase_advanced",
        CCXT,
    ): "takes `side` for the taker's: sources disagree, the newest say the maker's, as cryptofeed has it"
    " since 3.0; and fails at a snapshot of trades that has none",
    ("cryptocom", THREE): CRYPTOCOM_UPDATES,
    ("cryptocom", TWO): CRYPTOCOM_UPDATES,
    ("deribit", TWO): "reads `book.*.raw`, which today needs keys (in 2021 it did not)",
    ("dydx", THREE): "counts `message_id` over data frames only; it counts all of a connection's messages, and so the"
    " change after each acknowledgement is dropped",
    ("dydx", TWO): "reads v3, which is gone; the recording is v4",
    ("gateio", THREE): OBU,
    ("gateio", TWO): OBU,
    ("gateio", TARDIS): f"{OBU}; trades are equal",
    ("gemini", THREE): GEMINI_V2,
    ("gemini", TWO): GEMINI_V2,
    ("gemini", CCXT): GEMINI_V2,
    ("gemini", TARDIS): GEMINI_V2,
    ("htx", THREE): HTX_DEPTH,
    ("htx", TWO): HTX_DEPTH,
    ("kraken", THREE): "cuts the book to its depth after each level, not after each message, and so loses levels",
    ("kraken", TWO): KRAKEN_V1,
    ("kraken", TARDIS): KRAKEN_V1,
    ("kucoin", THREE): "reads `obu.` of the unified API; the recording has the classic `/market/level2`",
    ("mexc", CCXT): "takes a wrapper frame without a body, which occurs, for a change (one market's book never begins)"
    " and for a trade",
    ("upbit", THREE): UPBIT_SIMPLE,
    ("upbit", TWO): UPBIT_SIMPLE,
}
"""Why a client's books or trades are not the truth: the venue's protocol of September 2026 against the client's."""


@cache
def peers() -> dict[str, list[Any]]:
    """How to run each client; skips where one cannot be had."""
    found, missing = commands()
    lacking = [f"{name}: {missing[name]}" for name in (TWO, THREE, CCXT, TARDIS) if name in missing]
    if lacking:
        pytest.skip("; ".join(lacking))
    return {name: found[name] for name in (TWO, THREE, CCXT, TARDIS)}


@cache
def read(feed: str) -> dict[str, Compared]:
    """What each client makes of a feed."""
    clients, venue = peers(), feed.partition(",")[0]
    frames, truth = recorded(venue, SECONDS, symbols=(), every=EVERY.get(venue, 2.0), kind=FEEDS[feed])
    with tempfile.TemporaryDirectory() as place:
        recording = Recording(venue, frames, truth, Path(place))
        return {name: recording.compared(recording.read_by(name, command)) for name, command in clients.items()}


def unknown(found: Compared) -> bool:
    """Whether a client does not have the venue at all."""
    return found.reason is not None and found.reason.startswith("no such venue")


@pytest.mark.parametrize("feed", FEEDS)
def test_books_and_trades_of_clients_not_ours_are_the_truth_or_it_is_known_why_not(feed: str) -> None:
    found = read(feed)
    for name, compared in found.items():
        explained = unknown(compared) or (feed, name) in EXPLAINED
        assert compared.equal != explained, (
            f"{name}: {compared.reason or compared.errors[:2]}, {compared.differences[:3]}"
        )
    assert any(compared.equal for compared in found.values()) != (feed in UNREAD)


def test_the_table_in_the_documentation_is_what_was_found() -> None:
    text = table({feed: read(feed) for feed in FEEDS})
    if WRITE:
        TABLE.write_text(text, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == text


def table(found: dict[str, dict[str, Compared]]) -> str:
    """As in the documentation."""
    about = (
        "Written by `make independent-readers`, checked by `make prove`. Each simulated venue is recorded for"
        f" {SECONDS} s, without faults, with the truth of its books and trades; clients that are not ours read the same"
        " frames. Books are compared level by level at the moments of the truth log, trades by price, size and taker's"
        " side. Verdicts other than equal say what the client does and what the venue does today."
    )
    rows = [
        "# Independent readers",
        "",
        about,
        "",
        "| Feed | Client | Books equal | Trades equal | Order and ids | Verdict |",
        "|---|---|---|---|---|---|",
    ]
    for feed, compared in found.items():
        for name, one in compared.items():
            if unknown(one):
                continue
            books, trades = (f"{equal} of {of}" if one.reason is None else "-" for equal, of in (one.books, one.trades))
            verdict = "**equal**" if one.equal else EXPLAINED.get((feed, name), f"UNEXPLAINED {one.reason}")
            rows.append(f"| {feed} | {name} | {books} | {trades} | {one.ids} | {verdict} |")
    rows += ["", "No client reads all of:", ""]
    rows += [f"- {feed}: {reason}." for feed, reason in UNREAD.items()]
    rows += ["", "Clients without the venue are left out of the table."]
    return "\n".join(rows) + "\n"
