import pickle

import pytest

from coby.utils import exceptions
from coby.utils.exceptions import CobyError, ConfigError, RecordingError, UnknownVenueError, VenueError

TREE = [c for c in vars(exceptions).values() if isinstance(c, type) and issubclass(c, CobyError)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_a_coby_error_that_survives_a_process_boundary(kind: type[CobyError]) -> None:
    error = kind("what happened", "a.code", {"line": 3})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.code, copy.context) == ("what happened", "a.code", {"line": 3})


def test_codes_are_distinct_and_default_to_the_class() -> None:
    assert len({kind.default_code for kind in TREE}) == len(TREE)
    assert RecordingError("x").code == "recording"


def test_an_unknown_venue_is_a_wrong_argument_and_a_venue_error() -> None:
    assert issubclass(UnknownVenueError, ConfigError)
    assert issubclass(UnknownVenueError, VenueError)
