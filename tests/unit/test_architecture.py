"""Who may import whom: the rule of the architecture, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

import coby

ROOT = Path(coby.__file__).parent
LEAVES = {"models", "utils"}
IMPLEMENTATIONS = {
    "api",
    "connectors",
    "engine",
    "monitoring",
    "publishing",
    "replay",
    "simulator",
    "storage",
    "terminal",
}
WIRING = {"cli", "daemon", "market"}
# What implementations may use besides themselves: the core, and modules without any of theirs.
SHARED = {"_core", "config", "decoding", "interfaces", "models", "recording", "utils"}


def imports(file: Path) -> set[str]:
    """The parts of coby (its direct children) that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative imports hide where things come from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("coby.")}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_what_its_place_allows(file: Path) -> None:
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    used = imports(file) - {part}
    if part in LEAVES:
        assert used == set()
    elif part == "interfaces":
        assert used <= {"models"}
    elif part in IMPLEMENTATIONS:
        assert used <= SHARED
    else:
        assert part in WIRING | SHARED | {"__init__"}, "a new part: say above what it is"
    if part not in WIRING:
        assert not used & WIRING


@pytest.mark.parametrize("name", ["environ", "getenv"])
def test_only_the_configuration_reads_the_environment(name: str) -> None:
    readers = {
        file.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == name
    }
    assert readers <= {"config.py"}
