"""Rows of faulty venues judged by the truth: what could be proved is a gap, what is in no gap is true."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
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
_NEVER_NS = 1 << 62
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
    intervals: Collection[int] = (SECOND, MINUTE)


def judge(venue: str, rows: Mapping[str, pa.Table], ledger: Ledger, bench: Bench) -> Verdict:
    """Judges the rows of one venue; `venue` is its id in them."""
    return _Judge(venue, rows, ledger, bench).verdict


def _missing(true: list[Trade], told: list[Trade]) -> tuple[list[Trade], Trade | None]:
    """What lies between those that were told, each as early as it can be; and the first that is not true."""
    missing: list[Trade] = []
    place = 0
    for trade in told:
        begin = place
        while place < len(true) and true[place][2:] != trade[2:]:
            place += 1
        if place == len(true):
            return missing, trade
        missing += true[begin:place] if begin else []
        place += 1
    return missing, None


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
                until = min([*healed, fault.at + self._bench.heal_ns])
                self._windows.setdefault(hurt, []).append((fault.at, until + self._bench.late_ns, fault))

    def _lies_in(self, fault: Happened, gap: Gap) -> bool:
        if fault.kind == "reorder" and fault.at <= gap.since <= fault.at + _SUCCESSOR_NS:
            # It is only late until its successor has overtaken it.
            return True
        return gap.holds(fault.at, slack=self._bench.late_ns)

    def _explain(self, gap: Gap) -> None:
        """A gap has to follow a fault, or what was done about one."""
        if gap.cause in self._bench.restarts:
            return
        late = self._bench.late_ns
        for fault in self._faults:
            patience = (
                self._bench.silence_ns if fault.kind == "freeze" else self._bench.heal_ns * (not self._proves(fault))
            )
            if fault.at - MS <= gap.opened <= fault.at + patience + 2 * SECOND + late:
                return
        again = (other for other in self._gaps if other.key == gap.key and other.to is not None)
        if not any(0 <= gap.opened - (other.to or _NEVER_NS) <= 2 * SECOND for other in again):
            self._problem(f"no fault explains {gap}")

    # Rows

    def _in_gap(self, key: Key, channel: str, time: int, *, slack: int = 0) -> bool:
        return any(gap.key == key and gap.channel == channel and gap.holds(time, slack=slack) for gap in self._gaps)

    def _clock_error(self, time: int) -> set[int]:
        """How wrong the venue's clock may have been when a frame was sent that has come at a time."""
        return {
            sum(round(f.facts["seconds"] * SECOND) for f in self._faults if f.kind == "time_jump" and f.at <= then)
            for then in (time, time - self._bench.late_ns - SECOND)
        }

    def _books(self, key: Key, ledger: Ledger, snapshots: list[Row], tops: list[Row]) -> None:
        verdict = self.verdict
        held = [gap for gap in self._gaps if gap.key == key and gap.channel == "book"]

        def live(rows: Iterable[Row]) -> list[Row]:
            return [row for row in rows if row["state"] != "gap" and not any(g.holds(row["ts_recv"]) for g in held)]

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
        # Which of equal trades was lost cannot be told: it is enough if one way to lay them on each other explains all.
        ways = [_missing(true, told), _missing(true[::-1], told[::-1])]
        for _, untrue in ways:
            if untrue is not None:
                self._problem(f"no such trade of {key}: {untrue}")
                return
        proof = stored[-1]["proof"]
        left = [
            [trade.at for trade in missing if not self._explained(key, trade.at, ledger, proof)] for missing, _ in ways
        ]
        if all(left):
            self._problem(f"a trade of {key} at {left[0][0]} is missing in no gap")

    def _explained(self, key: Key, at: int, ledger: Ledger, proof: str) -> bool:
        """Whether a trade that is missing may be."""
        # Where trades have no numbers, nothing can tell that a connection that froze for a while has lost some.
        if proof in {"none", "heartbeat"} and self._is_frozen(at):
            return True
        # Trades wait for others where they come in batches, and are lost with them.
        late_ns = self._bench.late_ns + ledger.histories[key].manner.late_ns
        return self._in_gap(key, "trades", at, slack=late_ns)

    def _is_frozen(self, time: int) -> bool:
        patience = self._bench.silence_ns
        return any(fault.kind == "freeze" and fault.at <= time <= fault.at + patience for fault in self._faults)

    def _candles(self, table: pa.Table, trades: list[Row], ticks: pa.Table) -> None:
        """What has closed by the last tick of the grid equals what trades say."""
        times: list[Any] = ticks["t"].to_pylist()
        until = max(times) - 3 * SECOND
        stored = stored_candles(table, until=until)
        made = candles_of(trades, intervals=self._bench.intervals, until=until)
        stored = {key: candle for key, candle in stored.items() if key[0] == self.verdict.venue}
        self.verdict.candles += len(made)
        for key in sorted(made.keys() | stored.keys()):
            if made.get(key) != stored.get(key):
                self._problem(f"candle {key} is {stored.get(key)}, trades say {made.get(key)}")
                return
