import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coby import recording
from coby.recording import RecordedFrame
from coby.utils.exceptions import RecordingError

FRAMES: list[RecordedFrame] = [
    {"recv_ns": 1, "kind": "open", "url": "wss://venue", "body": None},
    {"recv_ns": 2, "kind": "text", "url": "wss://venue", "body": '{"a":"é"}', "conn": 3},
    {"recv_ns": 2, "kind": "close", "conn": "a"},
    {"recv_ns": 3, "kind": "http", "url": "https://venue/x", "body": "[]", "status": 429, "method": "POST"},
]
TEXT = "".join(json.dumps(frame) + "\n" for frame in FRAMES).encode()


def zstd(data: bytes) -> bytes:
    compressed = pa.Codec("zstd").compress(data, asbytes=True)
    assert isinstance(compressed, bytes)
    return compressed


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, zstd, lambda d: zstd(d[:40]) + zstd(d[40:]), lambda d: d.replace(b"\n", b"\r\n\r\n")],
    ids=["plain", "gzip", "zstd", "two zstd frames", "empty lines"],
)
def test_reads_every_packing_whatever_the_name(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "recording"
    file.write_bytes(compress(TEXT))
    assert list(recording.read(file)) == FRAMES


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "recv_ns": st.integers(-(2**63), 2**63 - 1),
                "kind": st.sampled_from(recording.KINDS),
                "url": st.text(),
                "body": st.none() | st.text(),
            },
            optional={"conn": st.integers(0, 2**32 - 1), "status": st.integers(0, 999)},
        )
    ),
    st.sampled_from(["r.jsonl", "r.jsonl.gz"]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, frames: list[RecordedFrame], name: str
) -> None:
    file = tmp_path_factory.mktemp("recording") / name
    assert recording.write(file, frames) == len(frames)
    assert list(recording.read(file)) == frames


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "line 2 is no JSON"),
        (b"[" * 100_000, "line 2 is no JSON"),
        (b"\xff", "line 2 is no JSON"),
        (b"[]", "line 2 is no JSON object"),
        (b'{"kind":"text","url":"","body":""}', 'line 2 has a bad "recv_ns": .* is missing'),
        (b'{"recv_ns":1.5,"kind":"text","url":"","body":""}', 'bad "recv_ns": .* is 1.5'),
        (b'{"recv_ns":9223372036854775808,"kind":"text","url":"","body":""}', 'bad "recv_ns"'),
        (b'{"recv_ns":true,"kind":"text","url":"","body":""}', 'bad "recv_ns": .* is true'),
        (b'{"recv_ns":1,"kind":"txt","url":"","body":""}', 'bad "kind": must be one of open, .* is "txt"'),
        (b'{"recv_ns":1,"kind":["text"],"url":"","body":""}', 'bad "kind"'),
        (b'{"recv_ns":1,"kind":"text","url":5,"body":""}', 'bad "url"'),
        (b'{"recv_ns":1,"kind":"text","conn":1.5,"body":""}', 'bad "conn"'),
        (b'{"recv_ns":1,"kind":"text","url":"","body":{}}', 'bad "body": must be a string or null, is {}'),
        (b'{"recv_ns":1,"kind":"text","url":"","body":"","status":"ok"}', 'bad "status"'),
    ],
)
def test_a_bad_line_names_file_line_and_field(tmp_path: Path, line: bytes, says: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(TEXT.splitlines(keepends=True)[0] + line + b"\n")
    frames = recording.read(file)
    assert next(frames) == FRAMES[0]
    with pytest.raises(RecordingError, match=says) as caught:
        next(frames)
    assert str(file) in str(caught.value)
    assert caught.value.context == {"file": str(file), "line": 2}


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_torn_file_gives_an_error_of_ours(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "torn"
    file.write_bytes(compress(TEXT)[:-9])
    with pytest.raises(RecordingError, match="cannot be read"):
        list(recording.read(file))


def test_a_missing_file_gives_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        list(recording.read(tmp_path / "none"))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        recording.write(tmp_path / name, FRAMES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_a_recording_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def interrupted() -> Iterator[RecordedFrame]:
        yield FRAMES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recording.write(tmp_path / "r.gz", interrupted())
    assert not (tmp_path / "r.gz").exists()


def test_a_survey_counts_frames_and_finds_their_span(tmp_path: Path) -> None:
    recording.write(tmp_path / "a.gz", FRAMES)
    (tmp_path / "b").write_bytes(b"\n" + TEXT.splitlines(keepends=True)[-1])
    (tmp_path / "empty").write_bytes(b"")
    files = [tmp_path / name for name in ("b", "a.gz", "empty")]
    assert recording.survey(files) == (len(FRAMES) + 1, FRAMES[0]["recv_ns"], FRAMES[-1]["recv_ns"])
    assert recording.survey([tmp_path / "empty"]) == (0, 0, 0)
