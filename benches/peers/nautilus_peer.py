"""nautilus_trader: the decoders and parsers of its Binance data client, in its order, and its `OrderBook`.

Its message bus and data engine are left out, which is in its favour. Its other venues' parsers are Rust behind their
own sockets, with no way in for bytes.
"""

from typing import Any

import msgspec
from nautilus_trader.adapters.binance.common.enums import BinanceAccountType
from nautilus_trader.adapters.binance.common.schemas.market import (
    BinanceDataMsgWrapper,
    BinanceDepth,
    BinanceOrderBookMsg,
)
from nautilus_trader.adapters.binance.common.symbol import BinanceSymbol
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.enums import BookType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from worker import Case, RefusedError, Round, arrived, best, body, serve, timed

ACCOUNTS = {"binance": BinanceAccountType.SPOT, "binance_futures": BinanceAccountType.USDT_FUTURES}


class Client:
    """What `BinanceCommonDataClient` does with a frame, as far as a book needs it."""

    def __init__(self, account: BinanceAccountType, natives: list[str]) -> None:
        self.errors = 0
        self.wrapper = msgspec.json.Decoder(BinanceDataMsgWrapper)
        self.book_message = msgspec.json.Decoder(BinanceOrderBookMsg)
        self.depth = msgspec.json.Decoder(BinanceDepth)
        self.handlers = {"@depth@": self.changed}
        self.ids: dict[str, InstrumentId] = {}
        self.books: dict[InstrumentId, OrderBook] = {}
        self.buffers: dict[InstrumentId, list[Any] | None] = {}
        for native in natives:
            name = BinanceSymbol(native).parse_as_nautilus(account)
            self.ids[native] = InstrumentId(Symbol(name), Venue("BINANCE"))
            self.books[self.ids[native]] = OrderBook(self.ids[native], BookType.L2_MBP)
            self.buffers[self.ids[native]] = []

    def frame(self, raw: bytes) -> None:
        """As `_handle_ws_message`, which logs what is wrong with a frame and goes on."""
        try:
            stream = self.wrapper.decode(raw).stream
            if stream:
                for handler in self.handlers:
                    if handler in stream:
                        self.handlers[handler](raw)
        except Exception:  # noqa: BLE001 a frame without levels is such an error to it
            self.errors += 1

    def changed(self, raw: bytes) -> None:
        """As `_handle_book_diff_update`."""
        message = self.book_message.decode(raw)
        instrument = self.ids[message.data.s]
        deltas = message.data.parse_to_order_book_deltas(instrument_id=instrument, ts_init=0)
        waiting = self.buffers.get(instrument)
        if waiting is not None:
            waiting.append(deltas)
            return
        self.books[instrument].apply_deltas(deltas)

    def snapshot(self, native: str, text: str) -> None:
        """As `_order_book_snapshot_then_deltas`."""
        instrument = self.ids[native]
        taken = self.depth.decode(text.encode()).parse_to_order_book_snapshot(instrument_id=instrument, ts_init=0)
        self.books[instrument].apply_deltas(taken)
        for deltas in self.buffers.pop(instrument) or []:
            if deltas.sequence > taken.sequence:
                self.books[instrument].apply_deltas(deltas)


def load(case: Case) -> Any:
    """Makes what does a round."""
    if case.venue not in ACCOUNTS:
        raise RefusedError("its parser for this venue, if there is one, is Rust behind its own socket")
    # Its socket hands out bytes.
    frames = [frame.encode() if isinstance(frame, str) else frame for frame in case.frames]

    def play() -> Round:
        client = Client(ACCOUNTS[case.venue], list(case.symbols))
        for line in case.warm:
            if arrived(line):
                client.frame(str(body(line)).encode())
            elif line["kind"] == "http" and "depth" in line["url"]:
                client.snapshot(str(case.named(line["url"])), line["body"])
        nanos = timed(frames, client.frame)
        books = {}
        for native, instrument in client.ids.items():
            book = client.books[instrument]
            sides = (book.bids(), book.asks())
            books[native] = [best((level.price, level.size()) for level in side) for side in sides]
        return nanos, books

    return play


if __name__ == "__main__":
    serve(load)
