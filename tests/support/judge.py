"""Rows of faulty venues judged by the truth: what could be proved is a gap, what is in no gap is true."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

import pyarrow as pa

from coby import _core
from coby._core import Cut
from coby.simulator.exchange import MS, SECOND
from support.law import (
    MINUTE,
    Gap,
    Happened,
    Key,
    Ledger,
    Row,
    Trade,
    Wrong,
    candles_of,
    compare_books,
    gaps_of,
    stored_candles,
)

LOSSES: Collection[str] = {"drop", "reorder", "skip", "freeze"}
"""Faults after which a book may be wrong without a word of it being wrong."""
CONTENTS: Collection[str] = {"corrupt", "stale_snapshot"}
"""Faults of messages that are all there, and wrong."""
_SHARED: Collection[str] = {"truncate", "freeze", "close"}
"""Faults of one book's frame that befall all that its connection carries: nobody can tell what was in a broken one."""
_NEVER_NS = 1 << 62
_SETTLED_NS = 5 * SECOND
"""After how long everything has been subscribed to since the first row."""
_SUCCESSOR_NS = 2 * SECOND
"""How long a frame that is sent after its successor may wait for that."""


def tables(cuts: Iterable[Cut]) -> dict[str, pa.Table]:
    """Rows by kind."""
    batches: dict[str, list[pa.RecordBatch]] = {kind: [] for kind in _core.schema()}
    for cut in cuts:
        for kind in cut.rows:
            batches[kind].append(pa.record_batch(cut.batch(kind)))
    return {kind: joined(found) for kind, found in batches.items() if found}


def joined(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table, its texts plain: which of them have a dictionary is transport."""
    table = pa.Table.from_batches(list(batches))
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type, f.nullable)
        for f in table.schema
    ]
    return table.cast(pa.schema(fields)).combine_chunks()


@dataclass
class Verdict:
    """What came of a venue. `problems` must be empty; the rest says how much was seen."""

    venue: str
    provable: int = 0
    """Faults that the venue's protocol proves, each in a gap."""
    repeated: int = 0
    """Changes that were lost and at once made again, of which a checksum can know nothing, and need not."""
    unprovable: int = 0
    """Faults that it cannot prove, each healed in time."""
    gaps: Counter[str] = field(default_factory=Counter)
    snapshots: int = 0
    tops: int = 0
    beyond: int = 0
    """Rows of them whose best levels no snapshot has shown."""
    excused: int = 0
    """Rows that were wrong because of a fault that nothing could prove."""
    healed_ns: int = 0
    """How long such a fault has lasted at most."""
    trades: int = 0
    candles: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        gaps = " ".join(f"{cause}:{count}" for cause, count in sorted(self.gaps.items()))
        parts = [
            f"{self.venue:18} proved {self.provable:3} (and {self.repeated} repeated)",
            f"healed {self.unprovable:3} (within {self.healed_ns / 1e9:4.1f} s, {self.excused} rows)",
            f"true: {self.snapshots} snapshots {self.tops} tops (of {self.beyond} unknown)",
            f"{self.trades} trades {self.candles} candles",
            f"gaps {gaps}",
        ]
        return "  ".join(parts) + "".join(f"\n    {problem}" for problem in self.problems)


@dataclass(frozen=True)
class Bench:
    """How a venue's rows are to be judged.

    Args:
        provable: Kinds of faults at a book's channel that its protocol can prove.
        heal_ns: How long an unprovable fault may last at most.
        late_ns: How much longer than usual a frame may be on its way.
        silence_ns: When a connection on which nothing comes is given up.
        levels: Of a side in a snapshot's row.
        restarts: Causes of gaps that no fault explains: of an engine that stops.
        by_checksum: Whether a checksum with every message is all the proof there is of losses.
        split_trades: Whether a taker's order is told trade by trade.
        leaving: Whether the client leaves a book's channel for a while to get it anew.
        shared: Whether a connection has one count of all that it carries, so that whatever is lost hurts all of it.
    """

    provable: Collection[str]
    heal_ns: int
    late_ns: int
    silence_ns: int
    levels: int
    restarts: Collection[str]
    by_checksum: bool = False
    split_trades: bool = False
    leaving: bool = False
    shared: bool = False
    intervals: Collection[int] = (SECOND, MINUTE)


def judge(venue: str, rows: Mapping[str, pa.Table], ledger: Ledger, bench: Bench) -> Verdict:
    """Judges the rows of one venue; `venue` is its id in them."""
    return _Judge(venue, rows, ledger, bench).verdict


def _missing(
    true: list[Trade], told: list[Trade], errors: Callable[[int], set[int]], behind_ns: int
) -> tuple[list[Trade], Trade | None]:
    """What is true and was not told; and the first that was told and is not true, or not in order.

    Trades are told apart by their time too, which is the venue's with one of its `errors` and up to `behind_ns` behind,
    so that of several that are equal it is clear which one is missing.
    """
    missing: list[Trade] = []
    place = 0

    def same(one: Trade, other: Trade, stamps: Collection[int]) -> bool:
        return one[2:] == other[2:] and any(0 <= stamp - one.ms <= behind_ns // MS for stamp in stamps)

    for trade in told:
        stamps = {trade.ms - error // MS for error in errors(trade.at)}
        begin = place
        while place < len(true) and not same(true[place], trade, stamps):
            place += 1
        if place == len(true):
            return missing, trade
        missing += true[begin:place]
        place += 1
    return missing + true[place:], None


def _merged(trades: Iterable[Trade]) -> Iterator[Trade]:
    """Trades that follow each other at one time, price and side as one."""
    for (ms, price, side), part in groupby(trades, key=lambda trade: (trade.ms, trade.price, trade.side)):
        same = list(part)
        yield Trade(same[0].at, ms, price, float(sum(Decimal(repr(trade.size)) for trade in same)), side)


class _Judge:
    def __init__(self, venue: str, rows: Mapping[str, pa.Table], ledger: Ledger, bench: Bench) -> None:
        self._bench = bench
        self._faults = [fault for fault in ledger.faults if fault.venue == venue]
        self._gaps = [gap for gap in gaps_of(rows["gaps"]) if gap.key[0] == venue]
        self._windows: dict[Key, list[tuple[int, int, Happened]]] = {}
        self.verdict = Verdict(venue)
        self.verdict.gaps.update(gap.cause for gap in self._gaps if gap.channel == "book")
        keys = [key for key in ledger.histories if key[0] == venue]
        for fault in self._faults:
            self._fault(fault, keys)
        for gap in self._gaps:
            self._explain(gap)
        mine = {kind: self._by_key(rows[kind], keys) for kind in ("book_snapshots", "tops", "trades")}
        last = max(row["ts_recv"] for rows_of in mine["book_snapshots"].values() for row in rows_of)
        self._watched = {
            key: (mine["book_snapshots"][key][0]["ts_recv"] + _SETTLED_NS, last - bench.late_ns) for key in keys
        }
        for key in keys:
            self._books(key, ledger, mine["book_snapshots"][key], mine["tops"][key])
            self._trades(key, ledger, mine["trades"][key])
        self._candles(rows["candles"], [row for key in keys for row in mine["trades"][key]], rows["book_snapshots"])

    def _problem(self, text: str) -> None:
        self.verdict.problems.append(text)

    @staticmethod
    def _by_key(table: pa.Table, keys: Iterable[Key]) -> dict[Key, list[Row]]:
        found: dict[Key, list[Row]] = {key: [] for key in keys}
        for row in table.to_pylist():
            if (key := (row["venue"], row["native_symbol"])) in found:
                found[key].append(row)
        return found

    # Faults and gaps

    def _proves(self, fault: Happened) -> bool:
        if fault.kind == "freeze" and 0 < fault.facts["seconds"] * SECOND < self._bench.silence_ns:
            # Over before anybody's patience is: what is missing then has been lost.
            return "drop" in self._bench.provable
        return fault.kind in self._bench.provable

    def _fault(self, fault: Happened, keys: Iterable[Key]) -> None:
        if fault.symbol is None or fault.channel != "book":
            return
        key = (fault.venue, fault.symbol)
        if self._bench.leaving and fault.kind == "truncate":
            # It cannot know which book the broken frame was of, and gets all of them anew.
            for other in keys:
                self._windows.setdefault(other, []).append((fault.at, fault.at + self._bench.heal_ns, fault))
        books = [gap for gap in self._gaps if gap.channel == "book"]
        if self._proves(fault):
            if any(gap.key == key and self._lies_in(fault, gap) for gap in books):
                self.verdict.provable += 1
            elif self._bench.by_checksum and fault.kind in {"drop", "reorder", "corrupt"}:
                self.verdict.repeated += 1
            else:
                self._problem(f"{fault.kind} of {fault.symbol} at {fault.at} is in no gap")
        elif fault.kind in LOSSES or fault.kind in CONTENTS:
            self.verdict.unprovable += 1
            # A connection that freezes carries more than the book whose frame was due.
            for hurt in keys if fault.kind == "freeze" else [key]:
                healed = [gap.to for gap in books if gap.key == hurt and gap.to is not None and gap.opened > fault.at]
                most = max(self._bench.heal_ns, self._bench.silence_ns * (fault.kind == "freeze"))
                until = min([*healed, fault.at + most])
                self._windows.setdefault(hurt, []).append((fault.at, until + self._bench.late_ns, fault))

    def _lies_in(self, fault: Happened, gap: Gap) -> bool:
        if fault.kind == "reorder" and fault.at <= gap.since <= fault.at + _SUCCESSOR_NS:
            # It is only late until its successor has overtaken it.
            return True
        return gap.holds(fault.at, slack=self._bench.late_ns)

    def _causes(self, gap: Gap) -> list[Happened]:
        """The faults that a gap may have followed, or what was done about one."""

        def fits(fault: Happened) -> bool:
            if fault.kind == "freeze":
                patience = max(self._bench.silence_ns, self._bench.heal_ns)
            else:
                patience = self._bench.heal_ns * (not self._proves(fault))
            return fault.at - MS <= gap.opened <= fault.at + patience + 2 * SECOND + self._bench.late_ns

        own = {fault.symbol for fault in self._faults} if self._bench.shared else {None, gap.key[1]}
        return [f for f in self._faults if (f.symbol in own or f.kind in _SHARED) and fits(f)]

    def _explain(self, gap: Gap) -> None:
        """A gap has to follow a fault."""
        if gap.cause in self._bench.restarts or self._causes(gap):
            return
        again = (other for other in self._gaps if other.key == gap.key and other.to is not None)
        if not any(0 <= gap.opened - (other.to or _NEVER_NS) <= 2 * SECOND for other in again):
            self._problem(f"no fault explains {gap}")

    def _hurt(self, gap: Gap) -> int:
        """Since when something may be wrong in a gap: it begins with what came last, which may be long ago."""
        if gap.cause == "end":
            return gap.opened
        causes = [fault.at for fault in self._causes(gap)]
        return max(gap.since, min(causes)) if causes else gap.since

    # Rows

    def _clock_error(self, time: int) -> set[int]:
        """How wrong the venue's clock may have been when a frame was sent that has come at a time."""
        return {
            sum(round(f.facts["seconds"] * SECOND) for f in self._faults if f.kind == "time_jump" and f.at <= then)
            for then in (time, time - self._bench.late_ns - SECOND)
        }

    def _books(self, key: Key, ledger: Ledger, snapshots: list[Row], tops: list[Row]) -> None:
        verdict = self.verdict
        held = [(self._hurt(gap), gap) for gap in self._gaps if gap.key == key and gap.channel == "book"]

        def in_gap(row: Row) -> bool:
            return any(gap.holds(row["ts_recv"]) and hurt <= row["ts_recv"] for hurt, gap in held)

        def live(rows: Iterable[Row]) -> list[Row]:
            return [row for row in rows if row["state"] != "gap" and not in_gap(row)]

        for row in (*snapshots, *tops):
            if row["state"] == "gap" and not in_gap(row):
                self._problem(f"{key} is in no gap at {row['ts_recv']} and says that it is in one")
                break

        books = compare_books(
            key,
            ledger.histories[key],
            live(snapshots),
            live(tops),
            levels=self._bench.levels,
            late_ns=self._bench.late_ns,
            clock_error=self._clock_error,
        )
        verdict.snapshots += books.snapshots
        verdict.tops += books.tops
        verdict.beyond += books.beyond
        if not books.snapshots or not books.tops:
            self._problem(f"{key} has no rows")
        for wrong in books.wrong:
            self._excuse(wrong)

    def _excuse(self, wrong: Wrong) -> None:
        """Something was wrong: that must be due to a fault that nothing proves, and nothing claimed to prove it."""
        at = wrong.ts_recv
        blamed = [(since, fault) for since, until, fault in self._windows.get(wrong.key, ()) if since <= at <= until]
        # A digest of what has come proves nothing about what has not, nor a number anything about what it numbers.
        claimed = {"none", "heartbeat"} | (
            {"sequence"} if {f.kind for _, f in blamed} & {*CONTENTS, "truncate"} else set()
        )
        if not blamed or wrong.proof not in claimed:
            self._problem(f"wrong outside of gaps: {wrong}")
            return
        self.verdict.excused += 1
        self.verdict.healed_ns = max(self.verdict.healed_ns, min(at - since for since, _ in blamed))

    def _trades(self, key: Key, ledger: Ledger, stored: list[Row]) -> None:
        """Stored trades are true and in order; what is missing among them is in a gap."""
        true = list(ledger.histories[key].trades)
        told = [
            Trade(row["ts_recv"], (row["ts_event"] or 0) // MS, row["price"], row["size"], row["side"])
            for row in stored
            if not row["history"]
        ]
        if self._bench.split_trades:
            true, told = list(_merged(true)), list(_merged(told))
        self.verdict.trades += len(told)
        if len(told) < 3:
            self._problem(f"{key} has only {len(told)} trades")
            return
        manner = ledger.histories[key].manner
        missing, untrue = _missing(true, told, self._clock_error, manner.batch_ns * manner.blocks)
        if untrue is not None:
            self._problem(f"no such trade of {key}: {untrue}")
            return
        proof = stored[-1]["proof"]
        since, until = self._watched[key]
        for trade in missing:
            told_ns = trade.at + manner.batch_ns
            if since <= trade.at and told_ns <= until and not self._explained(key, trade.at, manner.batch_ns, proof):
                self._problem(f"a trade of {key} at {trade.at} is missing in no gap")
                return

    def _explained(self, key: Key, at: int, batch_ns: int, proof: str) -> bool:
        """Whether a trade that is missing may be."""
        # Where trades have no numbers, nothing can tell that a connection that froze for a while has lost some.
        if proof in {"none", "heartbeat"} and self._is_frozen(at, batch_ns):
            return True
        late_ns = self._bench.late_ns
        return any(
            gap.key == key
            and gap.channel == "trades"
            and gap.holds(at, slack=late_ns)
            # Trades wait for others where they come in batches, and are lost with them.
            and self._hurt(gap) - late_ns - batch_ns <= at
            for gap in self._gaps
        )

    def _is_frozen(self, time: int, batch_ns: int) -> bool:
        late_ns = self._bench.late_ns
        return any(
            fault.kind == "freeze"
            and fault.at - batch_ns - late_ns <= time <= fault.at + fault.facts["seconds"] * SECOND + late_ns
            for fault in self._faults
        )

    def _candles(self, table: pa.Table, trades: list[Row], ticks: pa.Table) -> None:
        """What has closed by the last tick of the grid equals what trades say."""
        times: list[Any] = ticks["t"].to_pylist()
        until = max(times) - 3 * SECOND
        stored = stored_candles(table, until=until)
        made = candles_of(trades, intervals=self._bench.intervals, until=until)
        if not made:
            self._problem("there are no candles")
        stored = {key: candle for key, candle in stored.items() if key[0] == self.verdict.venue}
        self.verdict.candles += len(made)
        for key in sorted(made.keys() | stored.keys()):
            if made.get(key) != stored.get(key):
                self._problem(f"candle {key} is {stored.get(key)}, trades say {made.get(key)}")
                return
