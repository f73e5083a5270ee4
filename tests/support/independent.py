"""What clients that are not ours make of a recording, beside the truth log."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benches.peers.install import Worker
from coby import recording
from coby.recording import RecordedFrame
from coby.simulator.exchange import MS, SECOND
from coby.simulator.record import START_NS
from support.recorded import DEPTHS, SEEDED, Entries, text_of

WARM_NS = 6 * SECOND
"""By then every subscription has been made and every book has begun."""
LATENESS_NS = 40 * MS
"""How long after a moment its last frame may come."""

Book = tuple[list[list[str]], list[list[str]]]


@dataclass
class Reading:
    """What a peer saw."""

    reason: str | None
    """Why it saw nothing, or where it stopped."""
    books: dict[str, list[tuple[int, Book]]]
    """By symbol, in order of the line after which they were looked at."""
    trades: dict[str, list[dict[str, Any]]]


@dataclass
class Compared:
    """How many books and trades were equal, of how many, and the first difference."""

    books: list[int] = field(default_factory=lambda: [0, 0])
    trades: list[int] = field(default_factory=lambda: [0, 0])
    ids: str = ""
    differences: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def equal(self) -> bool:
        """Whether all were."""
        return self.reason is None and all(equal == of > 0 for equal, of in (self.books, self.trades))


class Recording:
    """A recording of one simulated venue with its truth, as a case for the peers.

    Args:
        venue: How it is read; a key of `ALL_FEEDS`.
        frames: The recording.
        truth: Its truth log.
        place: Where files for the peers go.
    """

    def __init__(self, venue: str, frames: list[RecordedFrame], truth: Entries, place: Path) -> None:
        self.venue = venue
        self._frames = frames
        self._place = place
        (markets,) = truth[0]["venues"].values()
        self.symbols: dict[str, str] = {market["symbol"]: market["canonical"] for market in markets}
        self._trades = {s: [e for e in truth if e["kind"] == "trade" and e["symbol"] == s] for s in self.symbols}
        last = frames[-1]["recv_ns"] - LATENESS_NS
        times = range(START_NS + WARM_NS, last)
        self._pictures = [entry for entry in truth if entry["kind"] == "book" and entry["t"] in times]
        self._known = known(frames, self.symbols) if venue in SEEDED else {}
        self._windows = dict(self._window(time) for time in {entry["t"] for entry in self._pictures})
        recording.write(place / "recording.jsonl", frames)
        case = {
            "venue": venue,
            "recording": str(place / "recording.jsonl"),
            "warm": len(frames),
            "frames": [],
            "symbols": {native: _named(canonical) for native, canonical in self.symbols.items()},
            "shown": sorted({line for window in self._windows.values() for line in window}),
        }
        (place / "case.json").write_text(json.dumps(case), encoding="utf-8")

    def _window(self, time_ns: int) -> tuple[int, range]:
        """The lines after one of which a book shows that moment: the last before it, and those that come just after."""
        first = next(at for at, frame in enumerate(self._frames) if frame["recv_ns"] >= time_ns)
        after = (at for at, frame in enumerate(self._frames) if frame["recv_ns"] > time_ns + LATENESS_NS)
        return time_ns, range(max(first - 1, 0), next(after, len(self._frames)))

    def read_by(self, name: str, command: list[Any]) -> Reading:
        """What a peer sees of it."""
        out = self._place / "seen.jsonl"
        out.unlink(missing_ok=True)
        worker = Worker(name, command, subprocess.DEVNULL)
        try:
            answer = worker.ask(op="read", case=str(self._place / "case.json"), out=str(out))
        finally:
            worker.end()
        books: defaultdict[str, list[tuple[int, Book]]] = defaultdict(list)
        trades: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        if out.exists():
            for line in out.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                if "line" in entry:
                    books[entry["symbol"]].append((entry["line"], (entry["bids"], entry["asks"])))
                else:
                    trades[entry["symbol"]].append(entry)
        return Reading(answer.get("reason"), books, trades)

    def compared(self, reading: Reading, depth: int | None = None) -> Compared:
        """A reading beside the truth; `depth` is how many levels a side the peer keeps, if fewer than the feed has."""
        found = Compared(reason=reading.reason)
        depths = [most for most in (depth, DEPTHS.get(self.venue)) if most is not None]
        for entry in self._pictures:
            shown = self._shown(reading.books.get(entry["symbol"], []), self._windows[entry["t"]])
            low, high = self._known.get(entry["symbol"], (0.0, float("inf")))
            true, *seen = (
                _cut(book, low, high, min(depths, default=None)) for book in ((entry["bids"], entry["asks"]), *shown)
            )
            found.books[1] += 1
            if true in seen:
                found.books[0] += 1
            elif seen:
                found.differences.append(f"{entry['symbol']} {(entry['t'] - START_NS) / SECOND:g}: {_first(seen, true)}")
        ids = set()
        for symbol, trades in self._trades.items():
            equal, of, kept = self._compare_trades(trades, reading.trades.get(symbol, []), found.differences)
            found.trades = [found.trades[0] + equal, found.trades[1] + of]
            ids.add(kept)
        found.ids = ", ".join(sorted(ids))
        return found

    @staticmethod
    def _shown(books: list[tuple[int, Book]], window: range) -> Iterator[Book]:
        before = [book for line, book in books if line <= window.start]
        yield from before[-1:]
        yield from (book for line, book in books if window.start < line < window.stop)

    def _compare_trades(
        self, trues: list[dict[str, Any]], seen: list[dict[str, Any]], differences: list[str]
    ) -> tuple[int, int, str]:
        """How many trades of the truth the peer has in order, of how many that it must have; what its ids are."""
        end = self._frames[-1]["recv_ns"] - 2 * SECOND
        must = [trade for trade in trues if START_NS + WARM_NS <= trade["t"] <= end]
        told, real = [_traded(trade) for trade in seen], [_traded(trade) for trade in trues]
        # Where what the peer has seen lies in the truth: at the only place that gives the most equal trades in a row.
        offset = _offset(told, real)
        if offset is None:
            if seen:
                differences.append(f"no trade like {told[0]}")
            return 0, len(must), "none"
        equal = sum(
            0 <= at - offset < len(told) and told[at - offset] == real[at]
            for at, trade in enumerate(trues)
            if START_NS + WARM_NS <= trade["t"] <= end
        )
        pairs = [(seen[at - offset], trade) for at, trade in enumerate(trues) if 0 <= at - offset < len(seen)]
        differences += [
            f"trade {_traded(mine)}, true {_traded(true)}" for mine, true in pairs if _traded(mine) != _traded(true)
        ]
        history = max(0, -offset)
        if offset + len(seen) > len(trues) or history and not _is_before(seen[:history], seen[history:]):
            differences.append(f"{len(seen)} trades where {len(trues)} are true")
            equal = 0
        return equal, len(must), _ids(pairs)


def _is_before(history: list[dict[str, Any]], live: list[dict[str, Any]]) -> bool:
    """Trades from before the truth begins, which a venue sends at first, are none of the later ones again."""
    ids = {trade["id"] for trade in live} - {None}
    return not any(trade["id"] in ids for trade in history)


def _offset(told: list[Any], real: list[Any]) -> int | None:
    """How many true trades come before the first that was told: negative if the first ones are older than the truth."""
    for length in (12, 4, 1):
        for start in range(min(len(told), 400)):
            part = told[start : start + length]
            if len(part) < length:
                break
            for at in range(len(real) - length + 1):
                if real[at : at + length] == part:
                    return at - start
    return None


def _ids(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """What the peer's ids are of the truth's: the trade's number as the venue writes it, the last order's, or neither."""
    pairs = list(pairs)
    if any(mine["id"] is None for mine, _ in pairs):
        return "not kept"
    for name in ("number", "last_id", "first_id"):
        steps = {_number(mine["id"]) - true[name] for mine, true in pairs}
        if len(steps) == 1:
            return "equal" if steps == {0} else "equal from a base"
    return "unique" if len({mine["id"] for mine, _ in pairs}) == len(pairs) else "repeated"


def _number(text: str) -> int:
    digits = text.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else hash(text)


def _traded(trade: Mapping[str, Any]) -> tuple[float, float, str]:
    price, size = (float("nan" if trade[name] == "None" else trade[name]) for name in ("price", "size"))
    return price, size, str(trade["side"]).lower()


def _cut(book: Book, low: float, high: float, depth: int | None) -> list[list[tuple[float, float]]]:
    """As floats, which most peers have: decimals of the same value are the same float."""
    return [
        [(float(price), float(size)) for price, size in side if low <= float(price) <= high][:depth] for side in book
    ]


def _first(seen: list[Any], true: Any) -> str:
    """Where the nearest book differs."""
    nearest = min(seen, key=lambda book: sum(len(set(book[side]) ^ set(true[side])) for side in (0, 1)))
    for side, name in enumerate(("bid", "ask")):
        for at in range(max(len(nearest[side]), len(true[side]))):
            mine, real = (book[side][at] if at < len(book[side]) else None for book in (nearest, true))
            if mine != real:
                return f"{name} {at + 1} is {mine}, true {real}"
    return "?"


def _named(canonical: str) -> dict[str, str]:
    base, quote, *rest = canonical.split("-")
    return {"base": base, "quote": quote, "kind": "perpetual" if rest else "spot"}


def known(frames: list[RecordedFrame], symbols: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Between which prices a book is known that begins with a snapshot of its best levels only."""
    found: dict[str, tuple[float, float]] = {}
    for frame in frames:
        text = frame["body"] if frame["kind"] == "http" else text_of(frame)
        if text is None or '"bids"' not in text or '"subscribed"' not in text and frame["kind"] != "http":
            continue
        answer = json.loads(text)
        book = answer.get("data") or answer.get("contents") or answer
        symbol = answer.get("id") or max((s for s in symbols if s in frame["url"]), key=len)
        low, high = (
            float(Decimal(level["price"] if isinstance(level, dict) else level[0]))
            for level in (book["bids"][-1], book["asks"][-1])
        )
        found[symbol] = low, high
    return found
