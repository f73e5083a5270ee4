"""COBY as a Python program has it: `coby.decode` to events, those events applied to a `coby.OrderBook`, rows in Arrow.

The first argument says which: `decode`, `book` or `arrow`; the last replays a tape of the whole recording.
"""

import gc
import select
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from worker import Case, Round, arrived, best, serve, timed

import coby
from coby._core import Decoder, Engine

BATCH = 256


def arrow(case: Case) -> Any:
    """Makes what replays the recording to Arrow batches of all kinds; the engine's thread counts too."""
    place = tempfile.TemporaryDirectory()
    tape = Path(place.name) / "tape"
    importing = Engine.importing(case.venue, [case.path], tape, {}, check=False)
    while not importing.finished:
        importing.drain()
        time.sleep(0.001)
    share = len(case.frames) / sum(map(arrived, case.lines))

    def play() -> Round:
        assert place.name
        gc.collect()
        begin = time.process_time_ns()
        engine = Engine.replaying(tape, hash=False)
        while not engine.finished:
            select.select([engine.fileno()], [], [])
            for cut in engine.drain():
                for kind in cut.rows:
                    pa.record_batch(cut.batch(kind))
        return round((time.process_time_ns() - begin) * share), {}

    return play


def load(case: Case) -> Any:
    """Makes what does a round."""
    if sys.argv[1] == "arrow":
        return arrow(case)
    wanted = case.timed
    batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]

    def play() -> Round:
        decoder = Decoder(case.venue)
        books: dict[str, coby.OrderBook] = {}

        def apply(events: list[Any]) -> None:
            for event in events:
                if event.kind == "book":
                    book = books.get(event.native_symbol)
                    if book is None:
                        book = books[event.native_symbol] = coby.OrderBook()
                    book.apply(event.bids, event.asks, snapshot=event.snapshot, depth=event.depth)

        def look(events: list[Any]) -> None:
            for event in events:
                if event.kind == "book":
                    _ = event.native_symbol, event.ts_event, event.bids, event.asks

        apply(decoder.feed(case.warm))
        use = apply if sys.argv[1] == "book" else look
        nanos = timed(batches, lambda batch: use(decoder.feed(batch)))
        if sys.argv[1] != "book":
            return nanos, {}
        return nanos, {native: [best(book.bids(10)), best(book.asks(10))] for native, book in books.items()}

    return play


if __name__ == "__main__":
    serve(load)
