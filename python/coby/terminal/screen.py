"""A board on a real terminal, and its picture in a file."""

import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console, RenderableType
from rich.live import Live

from coby.interfaces import Cut
from coby.terminal.board import Board, Shown
from coby.terminal.play import DRAWN
from coby.utils.redaction import redact

_COUNTED = 20
"""Changes of best prices are counted in one of so many cuts: they only choose what is shown."""


class Drawing(Protocol):
    """What has a picture."""

    def render(self, width: int, height: int) -> RenderableType:
        """The picture, for a terminal of this size."""


class Screen:
    """Feeds a board with cuts and log lines, and draws it on the terminal if there is one.

    Args:
        title: What runs.
        terminal: Whether to draw; else the board is only kept, for a picture of it.
    """

    def __init__(self, title: str, *, terminal: bool) -> None:
        self.board = Board(title)
        self._cuts = 0
        self._live = Live(console=Console(), auto_refresh=False, screen=True) if terminal else None
        self._handler = _Lines(self.board.log)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        logging.getLogger().removeHandler(self._handler)

    def take(self, cut: Cut) -> None:
        """A cut, in the moment in which it leaves the engine."""
        rows = cut.rows
        view = self.board.view
        view.count(rows)
        self._cuts += 1
        if not view.chosen and "tops" in rows and self._cuts % _COUNTED == 0:
            view.changed(changes(cut))
        for kind in DRAWN:
            if kind in rows:
                batch = pa.record_batch(cut.batch(kind))
                if kind != "gaps" and view.shown is not None:
                    venue, native = view.shown
                    batch = batch.filter((pc.field("venue") == venue) & (pc.field("native_symbol") == native))
                for row in batch.to_pylist():
                    view.take(kind, row)

    def show(self, figures: Shown) -> None:
        """Draws, with the figures of now."""
        self.board.figures = figures
        if self._live is not None:
            size = self._live.console.size
            self._live.update(self.board.render(size.width, size.height), refresh=True)


class _Lines(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        self._take(f"{when} {level}{redact(record.getMessage())}".replace("\n", "\\n"))


def changes(cut: Cut) -> dict[tuple[str, str], int]:
    """How often best prices change in a cut, by instrument."""
    tops = pa.Table.from_batches([pa.record_batch(cut.batch("tops"))]).select(["venue", "native_symbol"])
    counts = tops.group_by(["venue", "native_symbol"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["venue"], row["native_symbol"]): row["count_all"] for row in counts}


def save_picture(drawing: Drawing, path: Path, title: str, width: int = 120, height: int = 36) -> None:
    """The picture as an SVG file that needs nothing from elsewhere.

    Raises:
        OSError: It cannot be written.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=width, height=height, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(drawing.render(width, height))
        # Without the fonts that rich would have the reader load from elsewhere.
        picture = re.sub(r"@font-face {.*?}", "", console.export_svg(title=title), flags=re.DOTALL)
        path.write_text(picture, encoding="utf-8")
