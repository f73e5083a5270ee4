"""Each test runs in an interpreter of its own: what has been imported before decides what an import does."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import COBY.recording, coby.recording; print(COBY.recording is coby.recording)",
        "import coby.recording, COBY.recording; print(COBY.recording is coby.recording)",
        "from COBY.recording import read; import coby.recording; print(read is coby.recording.read)",
        "import COBY.utils.exceptions as a, coby.utils.exceptions as b; print(a is b)",
        "import COBY, coby; print(COBY.decode is coby.decode and callable(COBY.decode))",
        "import importlib as i; a = i.import_module('COBY.storage.schema'); print(a.__name__ == 'coby.storage.schema')",
        "import COBY.recording as r; print(r.__spec__.name == 'coby.recording')",
        "import COBY.recording as r, importlib as i; print(i.reload(r) is r)",
    ],
)
def test_both_names_give_the_same_module(code: str) -> None:
    assert run(code) == "True"


def test_what_does_not_exist_is_reported_under_the_name_that_was_asked_for() -> None:
    code = "try:\n import COBY.nothing\nexcept ModuleNotFoundError as e: print(e.name)"
    assert run(code) == "COBY.nothing"
