"""Recordings written by hand, and the events that they have to give: read them side by side.

After a change that is meant: `coby decode --venue V V.recording.jsonl > V.events.jsonl`, and look at the difference.
"""

import json
from pathlib import Path

import pytest

import coby
from coby import recording

HERE = Path(__file__).parent
VENUES = sorted(path.name.split(".")[0] for path in HERE.glob("*.recording.jsonl"))


@pytest.mark.parametrize("venue", VENUES)
def test_a_recording_gives_the_events_beside_it(venue: str) -> None:
    expected = (HERE / f"{venue}.events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event.to_dict() for event in coby.decode(venue, recording.read(HERE / f"{venue}.recording.jsonl"))]
    assert json.loads(json.dumps(events)) == [json.loads(line) for line in expected]


def test_there_are_some() -> None:
    assert VENUES
