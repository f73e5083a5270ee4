"""The Python side of `make bench`: JSON lines for the table to standard output; benches/run.py calls it.

What runs on one thread is pinned to a core and measured in processor time; wake-ups and engines have threads of their
own and need two idle cores.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from measure import Contestant, rounds

from coby import _core, recording
from coby._core import Cut, Decoder, Engine
from coby.engine import drained
from coby.simulator.record import record
from coby.simulator.venues import VENUES

CAPTURED = ("binance_futures", "coinbase", "kucoin", "bitstamp")
BATCH = 256
"""Frames a call, as in `coby.decode`."""
TRADES = 200_000
ROWS = 4_096
RATE = 20_000
"""Wake-ups a second."""

Frames = list[recording.RecordedFrame]


@contextmanager
def pinned() -> Iterator[None]:
    """Only one core, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def decoding(venue: str, frames: Frames, count: int) -> list[dict[str, Any]]:
    """A recording to Python events, beside json.loads alone of the same texts."""
    texts = [frame["body"] or "" for frame in frames if frame["kind"] in {"text", "http"}]
    batches = [frames[start : start + BATCH] for start in range(0, len(frames), BATCH)]

    def loads() -> None:
        for text in texts:
            json.loads(text)

    def decode() -> None:
        decoder = Decoder(venue)
        for batch in batches:
            for _ in decoder.feed(batch):
                pass

    def read() -> None:
        decoder = Decoder(venue)
        for batch in batches:
            for event in decoder.feed(batch):
                if event.kind == "book":
                    _ = event.native_symbol, event.ts_event, event.bids, event.asks
                else:
                    event.to_dict()

    def each(work: Callable[[], None]) -> Callable[[], float]:
        def timed() -> float:
            gc.collect()
            begin = time.process_time_ns()
            work()
            return (time.process_time_ns() - begin) / len(texts)

        return timed

    name = "json.loads alone"
    with pinned():
        return rounds(
            f"Python, {venue}, whole recording",
            "ns/frame",
            [
                Contestant(name, each(loads)),
                Contestant("decode to events", each(decode), name),
                Contestant("decode, every field read", each(read), name),
            ],
            count,
        )


def trades(count: int) -> Iterator[recording.RecordedFrame]:
    """A recording of made-up trades only."""
    url = "wss://fstream.binance.com/stream?streams=btcusdt@aggTrade"
    yield {"recv_ns": 1_700_000_000_000_000_000, "kind": "open", "url": url, "body": None}
    for number in range(count):
        millis = 1_700_000_000_000 + number // 100
        body = (
            f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{millis},"a":{number},"s":"BTCUSDT",'
            f'"p":"{37000 + number % 977}.{number % 10}0","q":"0.{1 + number % 899:03}","f":{number},"l":{number},'
            f'"T":{millis},"m":{"true" if number % 3 else "false"}}}}}'
        )
        yield {"recv_ns": millis * 1_000_000 + number % 100, "kind": "text", "url": url, "body": body}


def taped(place: Path) -> Path:
    """A tape of those trades."""
    file, tape = place / "trades.jsonl", place / "tape"
    recording.write(file, trades(TRADES))
    engine = Engine.importing("binance_futures", [file], tape, {}, check=False)
    while not engine.finished:
        engine.drain()
        time.sleep(0.001)
    failed = engine.status()["failed"]
    assert failed is None, failed
    return tape


class Lent:
    """Gives a batch through the Arrow PyCapsule interface, without anything that pyarrow knows of its own batches."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """As pyarrow does."""
        capsules: tuple[object, object] = self.batch.__arrow_c_array__(requested_schema)  # type: ignore[no-untyped-call]
        return capsules


def arrow(tape: Path, count: int) -> list[dict[str, Any]]:
    """Trade rows to pyarrow, each cut once, beside pyarrow's own round trip with the same rows."""
    cuts: list[Cut] = []

    def full() -> list[Cut]:
        engine, found = Engine.replaying(tape, hash=False), []
        while not engine.finished:
            # Not asked while it could hand out more: cuts are then as large as they get.
            time.sleep(0.002)
            found += [cut for cut in engine.drain() if cut.rows.get("trades", 0) >= ROWS * 3 // 4]
        return found

    def convert() -> float:
        gc.collect()
        cuts[:] = full()
        begin = time.process_time_ns()
        for cut in cuts:
            pa.record_batch(cut.batch("trades"))
        return (time.process_time_ns() - begin) / len(cuts) / 1_000

    def lend() -> float:
        lent = [Lent(pa.record_batch(cut.batch("trades"))) for cut in cuts]
        gc.collect()
        begin = time.process_time_ns()
        for batch in lent:
            pa.record_batch(batch)
        return (time.process_time_ns() - begin) / len(lent) / 1_000

    convert()
    rows = sorted(cut.rows["trades"] for cut in cuts)[len(cuts) // 2]
    name = "pyarrow's own round trip"
    with pinned():
        return rounds(
            f"Python, {rows:,} trade rows to pyarrow",
            "us",
            [Contestant(name, lend), Contestant("a cut's batch", convert, name)],
            count,
        )


def loops() -> dict[str, Callable[[Coroutine[Any, Any, Any]], Any]]:
    """The event loops that are here."""
    found: dict[str, Callable[[Coroutine[Any, Any, Any]], Any]] = {"asyncio": asyncio.run}
    try:
        import uvloop  # noqa: PLC0415 it may be missing
    except ImportError:
        sys.stderr.write("bench: no uvloop, so no lines of it\n")
    else:
        found["uvloop"] = uvloop.run
    return found


def latency(*, plain: bool, seconds: float) -> dict[str, float]:
    """Percentiles (us) of the time from a notification in Rust to the items being in Python's hands."""

    async def listen() -> list[int]:
        waited: list[int] = []
        notifier = _core._Notifier(RATE, round(RATE * seconds), bare=plain)  # type: ignore[attr-defined]  # noqa: SLF001
        if plain:
            loop, done = asyncio.get_running_loop(), asyncio.Event()

            def readable() -> None:
                os.read(notifier.fileno(), 65_536)
                waited.extend(notifier.drain())
                if notifier.finished:
                    done.set()

            loop.add_reader(notifier.fileno(), readable)
            await done.wait()
            loop.remove_reader(notifier.fileno())
        else:
            async with aclosing(drained(notifier)) as batches:
                async for batch in batches:
                    waited.extend(batch)
        return waited

    gc.collect()
    waited = sorted(asyncio.run(listen()))
    return {f", p{part}": waited[len(waited) * part // 100] / 1_000 for part in (50, 99)}


def wake_ups(count: int) -> list[dict[str, Any]]:
    """How long a wake-up from Rust takes, beside a bare socket pair."""
    name = "bare socket pair, add_reader"
    return rounds(
        f"Python, wake-up from Rust, {RATE:,} a second",
        "us",
        [
            Contestant(name, lambda: latency(plain=True, seconds=0.5)),
            Contestant("drained()", lambda: latency(plain=False, seconds=0.5), name),
        ],
        count,
        noisy=True,
    )


def engine_beside(tape: Path, run: Callable[[Coroutine[Any, Any, Any]], Any], *, busy: bool) -> float:
    """Nanoseconds a frame of a replay whose cuts a loop takes over, idle otherwise or never."""

    async def work() -> None:
        while True:
            sum(range(2_000))
            await asyncio.sleep(0)

    async def take() -> float:
        tasks = [asyncio.create_task(work()) for _ in range(4 if busy else 0)]
        begin = time.perf_counter_ns()
        engine = Engine.replaying(tape, hash=False)
        async with aclosing(drained(engine)) as batches:
            async for _ in batches:
                pass
        spent = time.perf_counter_ns() - begin
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return float(spent / engine.status()["frames"])

    gc.collect()
    return float(run(take()))


def engines(tape: Path, count: int) -> list[dict[str, Any]]:
    """A replay beside loops that hold the GIL all the time."""
    contestants = []
    for name, run in loops().items():
        idle = f"idle {name} loop"
        contestants += [
            Contestant(idle, partial(engine_beside, tape, run, busy=False)),
            Contestant(f"busy {name} loop", partial(engine_beside, tape, run, busy=True), idle),
        ]
    return rounds("Python, replay of trades beside an event loop", "ns/frame", contestants, count, noisy=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--captures", type=Path, default=Path("no captures"))
    arguments = parser.parse_args()
    lines = []
    for venue in CAPTURED:
        sys.stderr.write(f"bench: Python, {venue}\n")
        path = arguments.captures / f"{venue}.jsonl.gz"
        frames = list(recording.read(path)) if path.exists() else list(record(VENUES[venue], 20))
        lines += decoding(venue, frames, arguments.rounds)
    with tempfile.TemporaryDirectory() as place:
        tape = taped(Path(place))
        for measure in (arrow, engines):
            sys.stderr.write(f"bench: Python, {measure.__name__}\n")
            lines += measure(tape, arguments.rounds)
    sys.stderr.write("bench: Python, wake-ups\n")
    lines += wake_ups(arguments.rounds)
    json.dump(lines, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
