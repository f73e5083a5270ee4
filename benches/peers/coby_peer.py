"""COBY as a Python program has it: `coby.decode` to events, and those events applied to a `coby.OrderBook`.

The first argument says which: `decode` or `book`.
"""

import sys
from typing import Any

from worker import Case, Round, best, serve, timed

import coby
from coby._core import Decoder

BATCH = 256


def load(case: Case) -> Any:
    """Makes what does a round."""
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
