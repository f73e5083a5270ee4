"""The daemon's picture: its venues, the heatmap and ladder of one symbol, and the last lines of its log."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coby.terminal.play import LADDER_WIDTH, View

_STATES = {
    "live": "bold green",
    "degraded": "bold yellow",
    "connecting": "yellow",
    "listing": "yellow",
    "disconnected": "bold red",
    "refused": "bold red",
    "closed": "grey50",
}
_LOG_LINES = 200
_BLOCK = 56
"""Width that a table of venues needs: of many venues there are several side by side, where there is room."""
_SMALL = 100
"""Below this width there is either a heatmap or a ladder's worth of room, not both."""


class Venue(Protocol):
    """What is shown of a venue."""

    @property
    def venue(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def next_attempt(self) -> int | None: ...  # noqa: D102
    @property
    def frames_per_second(self) -> float: ...  # noqa: D102
    @property
    def lag(self) -> float | None: ...  # noqa: D102
    @property
    def books(self) -> int: ...  # noqa: D102
    @property
    def live_books(self) -> int: ...  # noqa: D102
    @property
    def open_gaps(self) -> int: ...  # noqa: D102
    @property
    def gaps(self) -> int: ...  # noqa: D102


class Shown(Protocol):
    """What is shown of the process; its text is one line."""

    @property
    def venues(self) -> Sequence[Venue]: ...  # noqa: D102


class Board:
    """`view` takes the rows, `log` the lines, `figures` what is known of the venues; `render` draws them.

    Args:
        title: What runs, and where it can be reached.
        clock: Nanoseconds since the epoch.
    """

    def __init__(self, title: str, symbol: str | None = None, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.title = title
        self.view = View(title, symbol)
        self.figures: Shown | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._clock = clock

    def log(self, line: str) -> None:
        """A line that a person should see."""
        self._log.append(line)

    def changed(self, changes: Mapping[tuple[str, str], int]) -> None:
        """How often best prices have changed: what is shown is chosen by it."""
        self.view.changed(changes)

    def render(self, width: int, height: int) -> RenderableType:
        """The picture, for a terminal of this size."""
        venues = len(self.figures.venues) if self.figures else 0
        log_lines = max(2, min(6, height // 6))
        table_lines = min(venues + 3, max(4, (height - log_lines - 3) // 2))
        body = height - table_lines - log_lines - 2
        layout = Layout()
        parts = [
            Layout(self._venues(width, table_lines), name="venues", size=table_lines),
            Layout(self._market(width, body), name="market", size=max(body, 1)),
            Layout(self._lines(width, log_lines), name="log", size=log_lines + 2),
        ]
        layout.split_column(*(parts if body >= 6 else (parts[0], parts[2])))
        return layout

    def _market(self, width: int, height: int) -> RenderableType:
        layout = Layout()
        ladder = LADDER_WIDTH if width >= _SMALL else LADDER_WIDTH - 6
        layout.split_row(
            Layout(self.view.heatmap(width - ladder - 4, height - 2), name="heatmap"),
            Layout(self.view.ladder(height - 2, ladder), name="ladder", size=ladder),
        )
        return layout

    def _venues(self, width: int, height: int) -> Panel:
        venues = list(self.figures.venues) if self.figures else []
        room = max(height - 3, 1)
        blocks = min(max(width // _BLOCK, 1), -(-len(venues) // room) or 1)
        # Where there is no room for all, those with trouble are worth more than those without.
        left_out = max(0, len(venues) - room * blocks)
        if left_out:
            left_out += 1
            venues = sorted(venues, key=lambda venue: venue.state == "live")[: room * blocks - 1]
        beside = Table.grid(expand=True, padding=(0, 2))
        for _ in range(blocks):
            beside.add_column(ratio=1)
        tables = [self._table(venues[i * room : (i + 1) * room], width) for i in range(blocks)]
        if left_out:
            tables[-1].add_row(Text(f"and {left_out} more", "grey50"))
        beside.add_row(*tables)
        return Panel(beside, title=f"[bold]{self.title}[/]", title_align="left", border_style="grey37")

    def _table(self, venues: Sequence[Venue], width: int) -> Table:
        table = Table.grid(expand=True, padding=(0, 1))
        for justify in ("left", "left", "right", "right", "right", "right"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        head = ("venue", "state", "books", "frames/s" if width >= _SMALL else "fr/s", "lag", "gaps", "")
        table.add_row(*(Text(name, "grey70") for name in head))
        for venue in venues:
            gaps = f"{venue.gaps}" + (f" ({venue.open_gaps} open)" if venue.open_gaps else "")
            table.add_row(
                Text(venue.venue, "bold"),
                Text(venue.state, _STATES.get(venue.state, "")),
                f"{venue.live_books}/{venue.books}",
                f"{venue.frames_per_second:,.0f}",
                "-" if venue.lag is None else f"{venue.lag * 1000:,.0f} ms",
                Text(gaps, "yellow" if venue.open_gaps else ""),
                Text(self._reason(venue), "grey70"),
            )
        return table

    def _reason(self, venue: Venue) -> str:
        if venue.next_attempt is None or venue.state == "live":
            return venue.reason
        wait = max(0.0, (venue.next_attempt - self._clock()) / 1e9)
        return f"{venue.reason} (again in {wait:.0f} s)"

    def _lines(self, width: int, height: int) -> Panel:
        text = Text(no_wrap=True, overflow="ellipsis")
        for line in list(self._log)[-height:]:
            text.append(line + "\n", "red" if " ERROR " in line else "yellow" if " WARNING " in line else "grey70")
        summary = str(self.figures) if self.figures else "starting"
        shown = summary if len(summary) <= width - 6 else summary[: width - 7] + "…"
        return Panel(text, title=shown, title_align="left", border_style="grey37")
