"""A terminal view of one instrument: heatmap, ladder, gaps, progress. It draws from rows and nothing else."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
Rgb = tuple[int, int, int]
Key = tuple[str, str]
"""Venue and native symbol."""

DRAWN = ("heatmap_columns", "book_snapshots", "gaps")
"""The kinds of rows that `View.take` wants; of others it only needs to know how many there are."""

_COLUMNS_KEPT = 400
LADDER_WIDTH = 40
_BID: tuple[Rgb, Rgb] = ((6, 16, 28), (64, 224, 160))
_ASK: tuple[Rgb, Rgb] = ((26, 10, 16), (255, 120, 64))
_EMPTY: Rgb = (10, 12, 16)
_SHADES = 24
_STATES = {"live": "bold green", "crossed": "bold yellow", "gap": "bold red"}


@dataclass
class _Column:
    """A moment of the heatmap: quantity by bucket; asks are the buckets above `mid_index`."""

    mid_index: int
    quantity: dict[int, float]

    @classmethod
    def of(cls, row: Row) -> "_Column":
        mid = int(row["mid_index"])
        quantity = {mid - i: q for i, q in enumerate(row["bid_quantity"])}
        quantity |= {mid + 1 + i: q for i, q in enumerate(row["ask_quantity"])}
        return cls(mid, quantity)


@dataclass
class _Instrument:
    columns: deque[_Column] = field(default_factory=lambda: deque(maxlen=_COLUMNS_KEPT))
    bucket_size: float = 0.0
    snapshot: Row | None = None


class View:
    """The state of the picture; `take` feeds it, `render` draws it.

    Args:
        title: What is played.
        symbol: Native or canonical symbol to show; by default the one with the most changes of its best prices.
    """

    def __init__(self, title: str, symbol: str | None = None) -> None:
        self.title = title
        self.rows: Counter[str] = Counter()
        self.status: Mapping[str, Any] = {}
        self.open_gaps: dict[int, Row] = {}
        self.causes: Counter[str] = Counter()
        self._wanted = symbol
        self._instruments: dict[Key, _Instrument] = {}
        self._changes: Counter[Key] = Counter()
        self._symbols: dict[Key, str | None] = {}
        self._shown: Key | None = None
        self._first_ts = self._now_ts = 0
        self.until_ts = 0

    @property
    def shown(self) -> Key | None:
        """The instrument that is drawn: of others nothing is kept once it is settled."""
        return self._shown

    @property
    def chosen(self) -> bool:
        """Whether it is settled which instrument is shown."""
        return self._shown is not None or self._wanted is not None

    def count(self, rows: Mapping[str, int]) -> None:
        """Rows that have come, by kind."""
        self.rows.update(rows)

    def changed(self, changes: Mapping[Key, int]) -> None:
        """How often best prices have changed: what is shown is chosen by it."""
        self._changes.update(changes)
        if not self.chosen and self._changes:
            self._show(self._changes.most_common(1)[0][0])

    def take(self, kind: str, row: Row) -> None:
        """A row of one of the kinds `DRAWN`."""
        key = (str(row["venue"]), str(row["native_symbol"]))
        self._now_ts = int(row["ts_recv"])
        self._first_ts = self._first_ts or self._now_ts
        if kind == "gaps":
            self._gap(row)
            return
        self._symbols[key] = row["symbol"]
        if self._shown is None and self._wanted is not None and self._wanted in (key[1], row["symbol"]):
            self._show(key)
        if self.chosen and key != self._shown:
            return
        instrument = self._instruments.setdefault(key, _Instrument())
        if kind == "book_snapshots":
            instrument.snapshot = row
        else:
            if row["bucket_size"] != instrument.bucket_size:
                instrument.columns.clear()
                instrument.bucket_size = row["bucket_size"]
            instrument.columns.append(_Column.of(row))

    def _show(self, key: Key) -> None:
        self._shown = key
        self._instruments = {known: kept for known, kept in self._instruments.items() if known == key}

    def _gap(self, row: Row) -> None:
        if row["cause"] == "end":  # that a recording ends is no hole in it
            return
        if row["phase"] == "opened":
            self.open_gaps[row["id"]] = row
            self.causes[row["cause"]] += 1
        else:
            self.open_gaps.pop(row["id"], None)

    def render(self, width: int, height: int) -> RenderableType:
        """The picture, for a terminal of this size."""
        layout = Layout()
        layout.split_column(Layout(name="main"), Layout(self._foot(width), name="foot", size=5))
        body_height = height - 5
        layout["main"].split_row(
            Layout(self.heatmap(width - LADDER_WIDTH - 4, body_height - 2), name="heatmap"),
            Layout(self.ladder(body_height - 2), name="ladder", size=LADDER_WIDTH),
        )
        return layout if height >= 12 and width >= 60 else self._foot(width)

    def _instrument(self) -> _Instrument:
        return self._instruments.get(self._shown, _Instrument()) if self._shown else _Instrument()

    def _name(self) -> str:
        if self._shown is None:
            return f"waiting for {self._wanted or 'a book'}"
        venue, native = self._shown
        return f"{venue} · {self._symbols.get(self._shown) or native}"

    def heatmap(self, width: int, height: int) -> Panel:
        """Time to the right, price upwards; each character holds two buckets, one above the other."""
        instrument = self._instrument()
        columns = list(instrument.columns)[-max(1, width) :]
        text = Text(no_wrap=True)
        if columns:
            rows = max(1, height) * 2
            top = columns[-1].mid_index + rows // 2
            sizes = sorted(q for column in columns for q in column.quantity.values() if q > 0)
            # One giant wall must not darken everything else.
            full = sizes[len(sizes) * 98 // 100] if sizes else 1.0
            for line in range(rows // 2):
                upper, lower = top - 2 * line, top - 2 * line - 1
                cells = ((_shade(column, upper, full), _shade(column, lower, full)) for column in columns)
                for (above, below), run in groupby(cells):
                    text.append("▀" * len(list(run)), _style(above, below))
                text.append("\n")
        title = f"[bold]{self._name()}[/] · bucket {instrument.bucket_size:g}"
        return Panel(text, title=title, title_align="left", border_style="grey37", padding=(0, 0))

    def ladder(self, lines: int, width: int = LADDER_WIDTH) -> Panel:
        """The best levels around the spread, in so many lines."""
        digits = 8 if width >= LADDER_WIDTH else 5
        snapshot = self._instrument().snapshot
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(justify="right", ratio=3)
        table.add_column(justify="right", ratio=3)
        table.add_column(ratio=4)
        title = "no book yet"
        if snapshot:
            levels = max(1, (lines - 1) // 2)
            asks = list(zip(snapshot["ask_prices"], snapshot["ask_sizes"], strict=True))[:levels]
            bids = list(zip(snapshot["bid_prices"], snapshot["bid_sizes"], strict=True))[:levels]
            biggest = max((size for _, size in asks + bids), default=1.0)
            for price, size in reversed(asks):
                table.add_row(
                    Text(f"{price:.10g}", "rgb(255,120,64)"), f"{size:.{digits}g}", _bar(size / biggest, _ASK[1])
                )
            table.add_row(*_spread(bids, asks))
            for price, size in bids:
                table.add_row(
                    Text(f"{price:.10g}", "rgb(64,224,160)"), f"{size:.{digits}g}", _bar(size / biggest, _BID[1])
                )
            state = str(snapshot["state"])
            title = f"[{_STATES.get(state, 'bold')}]{state}[/]"
        return Panel(table, title=title, title_align="left", border_style="grey37", padding=(0, 1))

    def _foot(self, width: int) -> Panel:
        span = max(1, self.until_ts - self._first_ts)
        done = min(1.0, (self._now_ts - self._first_ts) / span) if self._first_ts else 0.0
        when = datetime.fromtimestamp(self._now_ts / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S") if self._now_ts else "-"
        seconds = max((self._now_ts - self._first_ts) / 1e9, 1e-9)
        rates = " · ".join(f"{name} {self.rows[kind] / seconds:.1f}/s" for kind, name in _RATES) if seconds > 1 else ""
        line = Text(f"{self.title}  {when} UTC  {rates}", no_wrap=True, overflow="ellipsis")
        counts = Text(self.summary(), "grey70", no_wrap=True, overflow="ellipsis")
        lines = Table.grid()
        for part in (line, ProgressBar(1.0, done, width=width - 4), counts):
            lines.add_row(part)
        return Panel(lines, border_style="grey37")

    def summary(self) -> str:
        """Frames, rows and gaps so far, in one line."""
        causes = ", ".join(f"{cause} {n}" for cause, n in self.causes.most_common())
        gaps = f"gaps {self.causes.total()}" + (f" ({causes}; open {len(self.open_gaps)})" if causes else "")
        frames, refused = self.status.get("frames", 0), self.status.get("errors", 0)
        return f"frames {frames:,} · rows {self.rows.total():,} · {gaps} · refused {refused:,}"


_RATES = (("trades", "trades"), ("tops", "best price changes"))


def _shade(column: _Column, bucket: int, full: float) -> int:
    """0 for an empty bucket; else how full it is, negative for asks."""
    quantity = column.quantity.get(bucket, 0.0)
    if quantity <= 0:
        return 0
    shade = 1 + round(math.sqrt(min(1.0, quantity / full)) * (_SHADES - 1))
    return -shade if bucket > column.mid_index else shade


@cache
def _style(above: int, below: int) -> Style:
    return Style(color=_rgb(_color(above)), bgcolor=_rgb(_color(below)))


def _color(shade: int) -> Rgb:
    if not shade:
        return _EMPTY
    dark, bright = _ASK if shade < 0 else _BID
    share = (abs(shade) - 1) / (_SHADES - 1)
    red, green, blue = (round(d + (b - d) * share) for d, b in zip(dark, bright, strict=True))
    return red, green, blue


def _rgb(color: Rgb) -> str:
    return "rgb({},{},{})".format(*color)


def _bar(share: float, color: Rgb) -> Text:
    eighths = max(1, round(share * 10 * 8))
    full, rest = divmod(eighths, 8)
    return Text("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), _rgb(color))


def _spread(bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> tuple[Text, Text, Text]:
    if not bids or not asks:
        return Text("one side", "grey70"), Text(), Text()
    bid, ask = bids[0][0], asks[0][0]
    return (
        Text(f"{(bid + ask) / 2:.10g}", "bold"),
        Text("spread", "grey70"),
        Text(f"{ask - bid:.6g}", "grey70"),
    )
