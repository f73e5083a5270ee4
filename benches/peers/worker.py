"""The side of a peer: answers requests on standard input, one JSON line each, so that rounds can interleave.

`{"op": "load", "case": path}` is answered by `{}` or by `{"reason": text}` if the peer cannot take this case;
`{"op": "round"}` by `{"nanos": float, "books": {symbol: [bids, asks]}}`: processor time of a pass over the frames, and
the best levels as `[price, size]`.

`{"op": "read", "case": path, "out": path}` reads the whole recording once and writes what the peer saw, one JSON line
each: `{"line", "symbol", "bids", "asks"}` for a book after each of the lines in the case's `shown`, where it is another
than before, and `{"symbol", "price", "size", "side", "id"}` for a trade. It is answered like `load`.
"""

import base64
import gc
import gzip
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

LEVELS = 10
ENOUGH = 50_000_000
"""A round is passes over the frames until they took this long (ns): short passes would find everything cold."""

Frame = dict[str, Any]
Round = tuple[int, dict[str, list[list[list[Any]]]]]


class RefusedError(Exception):
    """The peer cannot take a case; the text says why."""


class Case:
    """One recording: what comes before the books are live, the frames to time, and the instruments."""

    def __init__(self, path: str) -> None:
        case = json.loads(Path(path).read_text(encoding="utf-8"))
        self.venue: str = case["venue"]
        self.symbols: dict[str, dict[str, str]] = case["symbols"]
        """By the venue's symbol: `base`, `quote`, `kind` (spot or perpetual)."""
        self.path: str = case["recording"]
        opened = gzip.open if case["recording"].endswith(".gz") else open
        with opened(case["recording"], "rt", encoding="utf-8") as lines:
            self.lines: list[Frame] = [json.loads(line) for line in lines]
        self.shown: frozenset[int] = frozenset(case.get("shown", ()))
        """After which lines the books are looked at."""
        self.warm = self.lines[: case["warm"]]
        self.timed: list[Frame] = [self.lines[at] for at in case["frames"]]
        self.frames = [body(line) for line in self.timed]

    def named(self, url: str) -> str | None:
        """The symbol that a URL speaks of: the longest of those in it, as one may begin with another."""
        found = [native for native in self.symbols if native.lower() in url.lower()]
        return max(found, key=len, default=None)

    def snapshots(self) -> dict[str, str]:
        """The depth snapshots that REST answered, by symbol."""
        answers = {}
        for line in self.warm:
            native = self.named(line["url"]) if line["kind"] == "http" else None
            if native is not None and any(word in line["url"] for word in ("depth", "book")):
                answers[native] = line["body"]
        return answers


def body(line: Frame) -> str | bytes:
    """What a socket library hands out: text as `str`, binary as `bytes`."""
    return base64.b64decode(line["body"]) if line["kind"] == "binary_b64" else line["body"]


def arrived(line: Frame) -> bool:
    """Whether the line is a frame that came over the socket."""
    return line["kind"] in {"text", "binary_b64"}


def best(levels: Any) -> list[list[Any]]:
    """The first levels of an iterable of (price, size, ...), as text where JSON has no such number."""
    return [[str(level[0]), str(level[1])] for level, _ in zip(levels, range(LEVELS), strict=False)]


class Seen:
    """Writes what a peer saw of a recording."""

    def __init__(self, out: Any, shown: frozenset[int]) -> None:
        self._out = out
        self._shown = shown
        self._last: dict[str, Any] = {}

    def books(self, line: int, books: Callable[[], Iterable[tuple[str, Iterable[Any], Iterable[Any]]]]) -> None:
        """After a line: the books as (symbol, bids, asks) of levels (price, size, ...), if they are wanted then."""
        if line not in self._shown:
            return
        for symbol, *sides in books():
            bids, asks = ([[str(level[0]), str(level[1])] for level in side] for side in sides)
            if self._last.get(symbol) != (bids, asks):
                self._last[symbol] = bids, asks
                self._write({"line": line, "symbol": symbol, "bids": bids, "asks": asks})

    def trade(self, symbol: str, price: object, size: object, side: object, identity: object) -> None:
        """A trade; the id is None where the peer keeps none."""
        told = None if identity is None else str(identity)
        self._write({"symbol": symbol, "price": str(price), "size": str(size), "side": str(side), "id": told})

    def _write(self, what: dict[str, Any]) -> None:
        self._out.write(json.dumps(what) + "\n")


def timed(frames: list[Any], handle: Callable[[Any], object]) -> int:
    """Processor time (ns) of a plain function over the frames: others run on this machine too."""
    gc.collect()
    begin = time.process_time_ns()
    for frame in frames:
        handle(frame)
    return time.process_time_ns() - begin


async def timed_async(frames: list[Any], handle: Callable[[Any], Coroutine[Any, Any, object]]) -> int:
    """Processor time (ns) of a coroutine function over the frames, one after the other."""
    gc.collect()
    begin = time.process_time_ns()
    for frame in frames:
        await handle(frame)
    return time.process_time_ns() - begin


def serve(load: Callable[[Case], Callable[[], Round]], read: Callable[[Case, Seen], None] | None = None) -> None:
    """Answers until standard input ends; `load` gives what does one round from nothing, `read` reads a recording."""
    answers, sys.stdout = sys.stdout, sys.stderr
    run: Callable[[], Round] | None = None
    books: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if request["op"] == "load":
                run = load(Case(request["case"]))
            elif request["op"] == "read":
                assert read is not None
                case = Case(request["case"])
                with Path(request["out"]).open("w", encoding="utf-8") as out:
                    read(case, Seen(out, case.shown))
            else:
                assert run is not None
                spent, passes = 0, 0
                while spent < ENOUGH:
                    nanos, books = run()
                    spent, passes = spent + nanos, passes + 1
                answer = {"nanos": spent / passes, "books": books}
        except RefusedError as refusal:
            answer = {"reason": str(refusal)}
        except Exception as error:  # noqa: BLE001 a peer that stops is a line of the table
            answer = {"reason": f"stopped: {type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
