"""The commands `coby` and `coby-run`. This file wires the parts; what they do is elsewhere."""

import argparse
import asyncio
import difflib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from coby import config

config.prefer_system_allocator()

import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coby import _core, daemon, doctor, recording
from coby.decoding import decode
from coby.engine import drained
from coby.interfaces import StorageManager
from coby.simulator import command as simulator
from coby.simulator.generate import Generator
from coby.storage.embedded import EmbeddedStore
from coby.terminal import DRAWN, View, changes, save_picture
from coby.utils.exceptions import CobyError, ConfigError, RecordingError, UnknownVenueError
from coby.utils.logging import get_logger

COMMIT_SECONDS = 5.0
COMMIT_ROWS = 100_000

_VENUES_PAGE = """# Venues

What the feeds of each venue can prove, and what they cannot. `make docs` makes this page of what the code says.

Each book channel is told with how its book begins (`socket`: a snapshot on the same connection; `request`: one that
is asked for and joined; `image`: every message is a whole book) and the rule that its messages follow. The proof is
the strongest thing that shows a lost message: a `sequence`, a `checksum`, a `heartbeat` (only that the connection is
alive), or `none`. Rows carry it, and where it is `none` the last column says what is done about it.
"""
_LINE_SECONDS = 2.0
_FRAME_SECONDS = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """`coby`: returns the exit code, 2 for wrong usage or settings, 1 for any other failure."""
    chosen = _parser().parse_args(arguments)
    return _told("coby", lambda: chosen.command(chosen))


def run(arguments: Sequence[str] | None = None) -> int:
    """`coby-run`: the daemon; returns the exit code, as `main` does."""
    parser = argparse.ArgumentParser(
        prog="coby-run", description="Collect order books, trades and candles, keep them, serve them and show them."
    )
    config.add_flags(parser)
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="keep the last picture of the terminal view")
    chosen = parser.parse_args(arguments)
    return _told("coby-run", lambda: daemon.run(config.load(vars(chosen)), picture=chosen.picture))


def _told(name: str, command: Callable[[], int]) -> int:
    """The exit code of a command; what it raises becomes one line, and never a trace."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (CobyError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except Exception as error:  # noqa: BLE001  a fault of ours: the trace goes where someone asked for it
        get_logger(__name__).debug("internal error", exc_info=True)
        print(
            f"{name}: internal error: {type(error).__name__}: {error}; COBY_LOG_LEVEL=DEBUG shows where",
            file=sys.stderr,
        )
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coby", description="Exact order books from many exchanges.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data-dir", default=argparse.SUPPRESS, help="where tape and tables go (default: data, or what settings say)"
    )
    data.add_argument("--config", default=argparse.SUPPRESS, help="file with settings (default: coby.toml)")
    venue = argparse.ArgumentParser(add_help=False)
    venue.add_argument("--venue", required=True, help="venue id; `coby venues` lists them")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def add(
        group: Any,
        name: str,
        command: Callable[[argparse.Namespace], int],
        text: str,
        *parents: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = group.add_parser(name, help=text, description=text, parents=parents)
        added.set_defaults(command=command)
        return added

    text = "Put recordings on a tape and their rows into tables; the same command goes on after a kill."
    add(commands, "import", _import, text, venue, data).add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="JSON lines, plain, gzip or zstd"
    )

    one = add(commands, "decode", _decode, "Print the events of a recording as JSON lines.", venue)
    one.add_argument("file", type=Path, metavar="FILE")
    one.add_argument("--no-sync", action="store_true", help="each book message as it stands: no sequence rules")

    tape = commands.add_parser("tape", help="Look at tapes and mend them.").add_subparsers(required=True, metavar="DO")
    for name, command, text in (
        ("info", _tape_info, "Show segments and sizes."),
        ("verify", _tape_verify, "Read everything and check it; exit code 1 if something is missing."),
        ("repair", _tape_repair, "Write damaged segments anew from what can be read; the originals are kept."),
    ):
        add(tape, name, command, text, as_json).add_argument("directory", type=Path, metavar="DIR")

    replay = add(commands, "replay", _replay, "Derive all rows from a tape and print their counts and hashes.", as_json)
    replay.add_argument("directory", type=Path, metavar="DIR", help="a tape, or a data directory with one")
    replay.add_argument("--after", type=int, default=0, metavar="POS", help="only rows behind this position")

    venues = add(commands, "venues", _venues, "List the venues and what their feeds can prove.", as_json)
    venues.add_argument("--markdown", action="store_true", help="the page docs/venues.md")

    text = "Serve simulated exchanges on loopback, or write recordings of them."
    simulator.add_arguments(add(commands, "simulate", simulator.run, text))

    text = "Show the settings in force, where each is from, and whether this machine can run COBY."
    config.add_flags(add(commands, "doctor", _doctor, text, as_json))

    play = add(commands, "play", _play, "Play a recording through the whole pipeline, with a picture.", data)
    play.add_argument("capture", nargs="?", type=Path, metavar="CAPTURE", help="a recording (default: a made-up one)")
    play.add_argument("--venue", help="venue id (default: the one that the file is named after)")
    play.add_argument("--symbol", help="what to show (default: the busiest)")
    play.add_argument("--speed", type=float, default=3.0, help="times real time, 0 for as fast as it goes (default: 3)")
    play.add_argument("--picture", type=Path, metavar="FILE.svg", help="keep the last picture")
    return parser


def _import(chosen: argparse.Namespace) -> int:
    venue = _venue(chosen.venue)
    files = [_existing(file, "FILE") for file in chosen.files]
    asyncio.run(_import_files(venue, files, config.load(vars(chosen))))
    return 0


async def _import_files(venue: str, files: list[Path], settings: config.Settings) -> None:
    data_dir = settings.data_dir
    rows: Counter[str] = Counter()
    with _Report(f"importing {', '.join(file.name for file in files)}") as report:
        async with _engine(venue, files, data_dir, settings) as (engine, store), _committed(engine, store) as cuts:
            counting = asyncio.create_task(_total(files))
            async for cut in cuts:
                rows.update(cut.rows)
                total = counting.result() if counting.done() else None
                report(engine.status()["frames"], total, f"{rows.total():,} rows")
            frames = engine.status()["frames"]
    counts = ", ".join(f"{count:,} {kind}" for kind, count in rows.most_common())
    print(f"{frames:,} frames: {counts or 'no rows'}\ntape: {data_dir / 'tape'}  tables: {data_dir}")


async def _total(files: list[Path]) -> int | None:
    try:
        return (await asyncio.to_thread(recording.survey, files)).frames
    except RecordingError:
        return None  # the import meets it too, and tells it


@asynccontextmanager
async def _engine(
    venue: str, files: list[Path], data_dir: Path, settings: config.Settings
) -> AsyncGenerator[tuple[_core.Engine, StorageManager], None]:
    """An importing engine, and the store of its rows."""
    async with EmbeddedStore(data_dir) as store:
        names = [str(file) for file in files]
        engine = _core.Engine.importing(venue, names, str(data_dir / "tape"), settings.pipeline_settings())
        try:
            yield engine, store
        finally:
            await asyncio.to_thread(engine.stop)


@asynccontextmanager
async def _committed(
    engine: _core.Engine, store: StorageManager
) -> AsyncGenerator[AsyncGenerator[_core.Cut, None], None]:
    """The engine's cuts one by one; all of them are in the store when the context ends without an error."""

    async def cuts() -> AsyncGenerator[_core.Cut, None]:
        last = time.monotonic()
        async with aclosing(drained(engine)) as wakes:
            async for waiting in wakes:
                for cut in waiting:
                    await store.append(cut)
                    yield cut
                if store.rows_waiting >= COMMIT_ROWS or time.monotonic() - last >= COMMIT_SECONDS:
                    await store.commit(engine.durable_pos)
                    last = time.monotonic()

    async with aclosing(cuts()) as generator:
        yield generator
    await store.commit(engine.durable_pos)


def _decode(chosen: argparse.Namespace) -> int:
    frames = recording.read(_existing(chosen.file, "FILE"))
    for event in decode(_venue(chosen.venue), frames, sync=not chosen.no_sync):
        sys.stdout.write(json.dumps(event.to_dict(), separators=(",", ":")) + "\n")
    return 0


def _tape_info(chosen: argparse.Namespace) -> int:
    info = _core.tape_info(str(_tape_of(chosen.directory)))
    if chosen.json:
        return _print_json(info)
    table = _table("segment", "run", "sealed", "records", "from", "until", "bytes", "packed")
    for part in info["segments"]:
        packed = f"{part['raw_bytes'] / max(1, part['bytes']):.1f}x"
        span = (_clock(part["first_recv"]), _clock(part["last_recv"]))
        sealed = "yes" if part["sealed"] else "no"
        table.add_row(
            part["segment"], str(part["run"]), sealed, f"{part['records']:,}", *span, f"{part['bytes']:,}", packed
        )
    _console().print(table)
    print(f"{info['records']:,} records, {info['bytes']:,} bytes ({info['raw_bytes']:,} before compression)")
    return 0


def _tape_verify(chosen: argparse.Namespace) -> int:
    report = _core.tape_verify(str(_tape_of(chosen.directory)))
    if chosen.json:
        _print_json(report)
    else:
        for part in report["segments"]:
            for damage in part["damage"]:
                print(f"{part['segment']}: {_facts(damage)}")
            if part["torn"]:
                print(f"{part['segment']}: torn tail, {_facts(part['torn'])}")
            if part["manifest"] != "good":
                print(f"{part['segment']}: manifest {part['manifest']}")
        for hole in report["holes"]:
            print(f"records are missing: {_facts(hole)}")
        print(f"{report['records']:,} records can be read; {'all is well' if report['ok'] else 'some are missing'}")
    return 0 if report["ok"] else 1


def _tape_repair(chosen: argparse.Namespace) -> int:
    report = _core.tape_repair(str(_tape_of(chosen.directory)))
    if chosen.json:
        return _print_json(report)
    for cut in report["cut"]:
        print(f"{cut['segment']}: a torn tail of {cut['bytes']:,} bytes was cut off")
    for name in report["sealed"]:
        print(f"{name}: sealed")
    for name in report["put_aside"]:
        print(f"{name}: nothing in it can be read; it was put aside")
    for part in report["repaired"]:
        kept = f"; the original is {part['kept_as']}" if part["kept_as"] else ""
        print(f"{part['segment']}: {part['records']:,} records saved, {len(part['damage'])} damaged places{kept}")
    if not any(report[what] for what in ("cut", "sealed", "put_aside", "repaired")):
        print("nothing to mend")
    return 0


def _replay(chosen: argparse.Namespace) -> int:
    tape = _tape_of(chosen.directory)
    rows, status = asyncio.run(_replay_rows(tape, chosen.after))
    hashes = status["row_hashes"]
    if chosen.json:
        return _print_json({"rows": rows, "row_hashes": hashes, "records": status["records"], "pos": status["pos"]})
    table = _table("kind", "rows", "hash")
    for kind, digest in hashes.items():
        table.add_row(kind, f"{rows.get(kind, 0):,}", digest)
    _console().print(table)
    return 0


async def _replay_rows(tape: Path, after: int) -> tuple[Counter[str], dict[str, Any]]:
    rows: Counter[str] = Counter()
    engine = _core.Engine.replaying(str(tape), after=after)
    try:
        with _Report(f"replaying {tape}") as report:
            async with aclosing(drained(engine)) as wakes:
                async for cuts in wakes:
                    for cut in cuts:
                        rows.update(cut.rows)
                    report(engine.status()["records"], None, f"{rows.total():,} rows")
        return rows, engine.status()
    finally:
        await asyncio.to_thread(engine.stop)


def _venues(chosen: argparse.Namespace) -> int:
    venues = _core.venues()
    if chosen.json:
        return _print_json(venues)
    headings = ("venue", "protocol of", "book", "proof", "trades", "candles", "what is not proved, and what is done")
    lines = [
        (
            venue["id"],
            venue["protocol"],
            _lines(f"{book['name']} ({book['join']}, {book['rule']})" for book in venue["books"]),
            _lines(str(book["proof"]) for book in venue["books"]),
            _lines(f"{feed['name']}: {feed['proof']}" for feed in venue["trades"]),
            _lines(str(feed["name"]) for feed in venue["candles"]),
            _lines(
                [*([venue["closed"]] if venue["closed"] else []), *(str(book["limits"]) for book in venue["books"])]
            ),
        )
        for venue in venues
    ]
    if chosen.markdown:
        print(_VENUES_PAGE)
        for line in (headings, ("---",) * len(headings), *lines):
            print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in line) + " |")
        return 0
    table = _table(*headings)
    for line in lines:
        table.add_row(*(escape(cell) for cell in line))
    _console().print(table)
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    report = doctor.diagnose(config.load(vars(chosen)))
    if chosen.json:
        _print_json(report.to_dict())
    else:
        print(report)
    return 0 if report.healthy else 1


def _play(chosen: argparse.Namespace) -> int:
    if chosen.speed < 0:
        raise ConfigError(f"--speed is {chosen.speed:g}: it must be 0 or more")
    settings = config.load(vars(chosen))
    capture = chosen.capture
    if capture is None:
        capture = settings.data_dir / "made_up" / "binance_futures.jsonl.gz"
        if not capture.exists():
            print(f"making a market up: {capture}", file=sys.stderr)
            capture.parent.mkdir(parents=True, exist_ok=True)
            recording.write(capture, Generator(seed=1, seconds=60))
    _existing(capture, "CAPTURE")
    stem = capture.name.split(".")[0]
    if chosen.venue is None and stem not in _venue_ids():
        raise ConfigError(f"CAPTURE is {capture}, which is not named after a venue; name the venue with --venue")
    venue = _venue(chosen.venue or stem)
    # A tape continues one import: each recording gets a directory of its own.
    data_dir = settings.data_dir / (f"made_up/{venue}" if chosen.capture is None else stem)
    asyncio.run(_play_file(venue, capture, data_dir, settings, chosen))
    return 0


async def _play_file(
    venue: str, capture: Path, data_dir: Path, settings: config.Settings, chosen: argparse.Namespace
) -> None:
    console = _console()
    view = View(capture.name, chosen.symbol)
    survey = await asyncio.to_thread(recording.survey, [capture])
    view.until_ts = survey.last_ns
    speed = chosen.speed if console.is_terminal else 0.0
    size = console.size
    with Live(console=console, auto_refresh=False) if console.is_terminal else _Report(f"playing {capture}") as shown:

        def show() -> None:
            if isinstance(shown, Live):
                shown.update(view.render(size.width, size.height - 1), refresh=True)
            else:
                shown(view.status["frames"], survey.frames, view.summary())

        pace = _Pace(speed, show)
        async with _engine(venue, [capture], data_dir, settings) as (engine, store), _committed(engine, store) as cuts:
            async for cut in cuts:
                view.status = engine.status()
                view.count(cut.rows)
                if not view.chosen and "tops" in cut.rows:
                    view.changed(changes(cut))
                for kind, row in _drawn_rows(cut):
                    await pace.until(row["ts_recv"])
                    view.take(kind, row)
            view.status = engine.status()
            show()
    if chosen.picture:
        save_picture(view, chosen.picture, "coby play")
    print(f"{view.summary()}\ntape: {data_dir / 'tape'}  tables: {data_dir}")


class _Pace:
    """Lets recorded time pass at a multiple of real time, and draws meanwhile."""

    def __init__(self, speed: float, draw: Callable[[], None]) -> None:
        self._speed = speed
        self._draw = draw
        self._began: tuple[float, int] | None = None
        self._drawn = 0.0

    async def until(self, ts: int) -> None:
        now = time.monotonic()
        began, first_ts = self._began = self._began or (now, ts)
        due = began + (ts - first_ts) / 1e9 / self._speed if self._speed else now
        while True:
            if now - self._drawn >= _FRAME_SECONDS:
                self._draw()
                self._drawn = now
            if due <= now:
                return
            await asyncio.sleep(min(due - now, _FRAME_SECONDS))
            now = time.monotonic()


def _drawn_rows(cut: _core.Cut) -> list[tuple[str, dict[str, Any]]]:
    kinds = [kind for kind in DRAWN if kind in cut.rows]
    rows = [(kind, row) for kind in kinds for row in pa.record_batch(cut.batch(kind)).to_pylist()]
    return sorted(rows, key=lambda drawn: int(drawn[1]["pos"]))


class _Report:
    """A progress bar on a terminal; elsewhere a line every two seconds. On standard error: results are not progress."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Progress | None = None
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._task = self._bar.add_task(self._what, total=None, text="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            print(f"{self._what}: {done:,}{f' of {total:,}' if total else ''}, {text}", file=sys.stderr)


def _venue_ids() -> list[str]:
    return [str(venue["id"]) for venue in _core.venues()]


def _venue(name: str) -> str:
    known = _venue_ids()
    if name in known:
        return name
    near = difflib.get_close_matches(name.lower(), known, 3, 0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`coby venues` lists them all"
    raise UnknownVenueError(f'--venue is "{name}", which is no venue; {hint}', context={"venue": name})


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"{name} is {path}, which is {'no file' if path.exists() else 'not there'}")
    return path


def _tape_of(directory: Path) -> Path:
    inside = directory / "tape"
    if not directory.is_dir():
        raise ConfigError(f"DIR is {directory}, which is no directory; name a tape or a data directory")
    return inside if inside.is_dir() else directory


def _console() -> Console:
    # A pipe has no width: nothing is cut off there.
    console = Console()
    return console if console.is_terminal else Console(width=400)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in {"rows", "records", "bytes"} else "left")
    return table


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _clock(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print_json(value: object) -> int:
    print(json.dumps(value, indent=2))
    return 0
