"""Recordings: what a socket and a REST client saw, as JSON lines, plain or compressed with gzip or zstd.

One frame a line, in time order:

`{"recv_ns": int, "kind": "open" | "send" | "text" | "binary_b64" | "http" | "close", "url": str, "body": str | null}`
and optionally `conn` (number or text), `method`, `status` (int) and `request` (the body that was asked with). A missing
field and a null are the same.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, NotRequired, TypedDict, cast, get_args

import pyarrow as pa

from coby.utils.exceptions import RecordingError

Kind = Literal["open", "send", "text", "binary_b64", "http", "close"]
KINDS: tuple[str, ...] = get_args(Kind)

_INT64 = range(-(2**63), 2**63)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 18
_UNREADABLE = (EOFError, zlib.error, OSError, pa.ArrowException)


class RecordedFrame(TypedDict):
    """One line of a recording."""

    recv_ns: int
    kind: Kind
    url: NotRequired[str | None]
    body: NotRequired[str | None]
    conn: NotRequired[int | str | None]
    method: NotRequired[str | None]
    status: NotRequired[int | None]
    request: NotRequired[str | None]


def read(path: str | Path) -> Iterator[RecordedFrame]:
    """Reads a recording, a frame at a time; empty lines are skipped.

    Raises:
        RecordingError: The file cannot be opened or decompressed, or a line is no frame.
    """
    path = Path(path)
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file), start=1):
                if line.strip():
                    yield _frame(line, path, number)
    except _UNREADABLE as error:
        raise _error(path, number + 1, "unreadable", f"cannot be read ({error})") from error


def write(path: str | Path, frames: Iterable[RecordedFrame]) -> int:
    """Writes a recording, compressed with gzip if the name ends in `.gz`, and returns its number of frames.

    The same frames give the same bytes: no time and no file name enter the compressed file. It gets its name when it
    is complete.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    count = 0
    with unfinished.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else nullcontext(raw)
        with packed as out:
            for frame in frames:
                out.write(json.dumps(frame, separators=(",", ":")).encode() + b"\n")
                count += 1
    unfinished.replace(path)
    return count


class Survey(NamedTuple):
    """How much recordings hold: number of frames, first and last receive time (ns); zeros where there is none."""

    frames: int
    first_ns: int
    last_ns: int


def survey(paths: Iterable[str | Path]) -> Survey:
    """Counts frames without looking into them; only the first and last of each file are read.

    Raises:
        RecordingError: As `read`.
    """
    frames = 0
    times: list[int] = []
    for path in map(Path, paths):
        number = 0
        ends: list[tuple[int, bytes]] = []
        try:
            with path.open("rb") as file:
                for number, line in enumerate(_lines(file), start=1):
                    if line.strip():
                        frames += 1
                        ends[1:] = [(number, line)]
        except _UNREADABLE as error:
            raise _error(path, number + 1, "unreadable", f"cannot be read ({error})") from error
        times += [_frame(line, path, number)["recv_ns"] for number, line in ends]
    return Survey(frames, min(times, default=0), max(times, default=0))


def _lines(file: io.BufferedReader) -> Iterable[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return cast("Iterable[bytes]", gzip.GzipFile(fileobj=file))
    if magic == _ZSTD:
        stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        return io.BufferedReader(cast("io.RawIOBase", stream), _CHUNK)
    return file


def _frame(line: bytes, path: Path, number: int) -> RecordedFrame:
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _error(path, number, "malformed", f"is no JSON ({error})") from error
    if not isinstance(frame, dict):
        raise _error(path, number, "malformed", "is no JSON object")
    for field, what, good in (
        ("recv_ns", "nanoseconds as a 64-bit integer", _is_int(frame.get("recv_ns"))),
        ("kind", f"one of {', '.join(KINDS)}", frame.get("kind") in KINDS),
        ("url", "a string or null", isinstance(frame.get("url"), str | None)),
        ("body", "a string or null", isinstance(frame.get("body"), str | None)),
        ("conn", "a number or a string", isinstance(frame.get("conn"), str | None) or _is_int(frame["conn"])),
        ("method", "a string or null", isinstance(frame.get("method"), str | None)),
        ("status", "an integer or null", frame.get("status") is None or _is_int(frame["status"])),
        ("request", "a string or null", isinstance(frame.get("request"), str | None)),
    ):
        if not good:
            found = json.dumps(frame[field])[:80] if field in frame else "missing"
            raise _error(path, number, "field", f'has a bad "{field}": must be {what}, is {found}')
    return cast("RecordedFrame", frame)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


def _error(path: Path, line: int, code: str, what: str) -> RecordingError:
    return RecordingError(f"{path}: line {line} {what}", f"recording.{code}", {"file": str(path), "line": line})
