"""Who may import whom: the rule of the architecture, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

import coby

ROOT = Path(coby.__file__).parent
LEAVES = {"models", "utils"}
"""They import nothing else of coby."""
INTERFACES = {"interfaces"}
IMPLEMENTATIONS = {
    "api",
    "connectors",
    "doctor",
    "engine",
    "monitoring",
    "publishing",
    "replay",
    "simulator",
    "storage",
    "terminal",
}
"""They import what is shared, never each other."""
WIRING = {"cli", "daemon", "market"}
"""Only they know the implementations; nothing but the package itself imports them."""
SHARED = {"_core", "config", "decoding", "interfaces", "models", "recording", "utils"}
"""What implementations may use besides themselves: the core, and modules without any of theirs."""
ALLOWED = {
    "models": set[str](),
    "utils": set[str](),
    "interfaces": {"models"},
    "config": {"utils"},
    "recording": {"utils"},
    "decoding": {"_core", "recording", "utils"},
    "__init__": SHARED | WIRING,
} | dict.fromkeys(IMPLEMENTATIONS, SHARED)
"""What the files of each part may import of the others; the wiring may import everything."""
KEPT_TO = {
    "pydantic_settings": {"config"},
    "asyncpg": {"storage"},
    "redis": {"publishing"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "prometheus_client": {"monitoring"},
    "psutil": {"monitoring"},
    "uvicorn": {"api", "daemon"},
    "rich": {"cli", "terminal"},
    "sqlite3": {"storage"},
}
"""Packages that belong to a part, so that nothing else depends on them."""


def imported(source: str, name: str) -> set[str]:
    """The modules that a file imports, and the names it takes out of them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide where things come from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def parts(modules: set[str]) -> set[str]:
    """The direct children of coby among them."""
    return {module.split(".")[1] for module in modules if module.startswith("coby.")}


def faults(part: str, source: str) -> list[str]:
    """What a file of `part` imports against the rule."""
    modules = imported(source, part)
    found = []
    if part not in WIRING:
        found = sorted(parts(modules) - {part} - ALLOWED[part])
    return found + sorted(
        package for package in {module.split(".")[0] for module in modules} if part not in KEPT_TO.get(package, {part})
    )


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_what_its_place_allows(file: Path) -> None:
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in WIRING | ALLOWED.keys(), "a new part: say above what it is"
    assert faults(part, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("part", "source", "found"),
    [
        ("models", "from coby.utils import validation", ["utils"]),
        ("models", "def late():\n import coby.config", ["config"]),
        ("utils", "from coby import models", ["models"]),
        ("interfaces", "from coby.models import Gap\nfrom coby.utils.exceptions import CobyError", ["utils"]),
        ("config", "from coby import _core", ["_core"]),
        ("storage", "import coby.engine.drain, coby._core", ["engine"]),
        ("engine", "from coby.daemon import run", ["daemon"]),
        ("api", "import pydantic_settings, fastapi", ["pydantic_settings"]),
        ("cli", "import sqlite3\nfrom coby.storage.embedded import EmbeddedStore", ["sqlite3"]),
        ("storage", "import sqlite3\nfrom coby.interfaces import StorageManager", []),
    ],
)
def test_what_is_against_the_rule_is_found(part: str, source: str, found: list[str]) -> None:
    assert faults(part, source) == found


def test_the_shared_parts_do_not_import_each_other_in_a_circle() -> None:
    shared = {part: ALLOWED[part] - {"_core"} for part in SHARED - {"_core"}}
    while shared:
        ready = {part for part, needed in shared.items() if not needed & shared.keys()}
        assert ready, f"a circle among {sorted(shared)}"
        shared = {part: needed for part, needed in shared.items() if part not in ready}


@pytest.mark.parametrize("name", ["environ", "getenv"])
def test_only_the_configuration_reads_the_environment(name: str) -> None:
    readers = {
        file.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names})
    }
    assert readers <= {"config.py"}
