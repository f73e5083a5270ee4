import json
import pickle

import pytest

from coby.utils import correlation, exceptions
from coby.utils.exceptions import (
    AmbiguousSymbolError,
    CobyError,
    ConfigError,
    EngineError,
    RecordingError,
    StoreError,
    UnknownVenueError,
    VenueError,
)

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


# The closed list of the HTTP API, with the statuses that it goes with.
API_CODES = {
    "bad_parameter": 400,
    "ambiguous_symbol": 400,
    "unknown_symbol": 404,
    "unknown_venue": 404,
    "session_not_found": 404,
    "store_unavailable": 503,
    "internal": 500,
}


@pytest.mark.parametrize("kind", TREE)
def test_every_error_has_a_place_in_the_api(kind: type[CobyError]) -> None:
    assert API_CODES[kind.api_code] == kind.http_status


def test_a_problem_is_what_the_api_sends() -> None:
    error = UnknownVenueError("no venue", context={"venue": "x", "nearest": ["y"], "where": ("a", 1)})
    with correlation("abc"):
        problem = error.to_problem()
    assert json.loads(json.dumps(problem)) == {
        "type": "urn:coby:error:unknown_venue",
        "title": "Unknown venue",
        "status": 404,
        "detail": "no venue",
        "message": "no venue",
        "code": "unknown_venue",
        "context": {"venue": "x", "nearest": ["y"], "where": ["a", 1]},
        "correlation_id": "abc",
    }
    assert error.to_problem("other")["correlation_id"] == "other"
    assert error.to_problem()["correlation_id"] is None
    assert CobyError("x").to_problem()["title"] == "Internal error"
    assert AmbiguousSymbolError("x").to_problem()["title"] == "Ambiguous symbol"


def test_responses_hold_no_secret_and_nothing_that_json_does_not_know() -> None:
    error = StoreError(
        "postgresql://me:geheim@db/x: refused", context={"db_password": "geheim", "cause": OSError("no")}
    )
    told = error.to_dict()
    assert "geheim" not in json.dumps(told)
    assert told == {
        "code": "store",
        "message": "postgresql://***@db/x: refused",
        "context": {"db_password": "***", "cause": "no"},
        "correlation_id": None,
    }
    assert EngineError("x", "engine.panic").to_dict()["code"] == "engine.panic"
