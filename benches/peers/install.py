"""The peers' pinned releases, how they are installed below target/peers, and the processes that they run in."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / "target" / "peers"
TARDIS = "tardis-dev 13.35.3"


@dataclass(frozen=True)
class Environment:
    """A virtual environment below target/peers."""

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]
    """Versions that its wheels exist for, the wanted first."""

    def python(self) -> Path:
        """Its interpreter."""
        return PLACE / self.name / "bin" / "python"

    def install(self) -> str | None:
        """Makes it; says why if it cannot be made."""
        done = PLACE / self.name / "installed"
        if done.exists() and done.read_text(encoding="utf-8").split() == list(self.requirements):
            return None
        interpreter = next(filter(None, map(interpreter_of, self.pythons)), None)
        if interpreter is None:
            return f"needs Python {' or '.join(self.pythons)}, which is not here"
        shutil.rmtree(PLACE / self.name, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", PLACE / self.name], check=True)
        made = subprocess.run([self.python(), "-m", "pip", "install", "--quiet", *self.requirements], check=False)
        if made.returncode:
            return f"cannot be installed: {' '.join(self.requirements)}"
        done.write_text("\n".join(self.requirements), encoding="utf-8")
        return None


def interpreter_of(version: str) -> str | None:
    """A Python of that version, from the path or pyenv."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-c", ""], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return found
    own = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(path) for path in sorted(own.glob(f"{version}.*/bin/python"), reverse=True)), None)


CURRENT = Environment(
    "current",
    # ccxt reads MEXC's frames with the package that they name.
    ("cryptofeed==3.0.1", "ccxt==4.5.90", "protobuf==5.29.5", "orjson==3.13.0", "nautilus_trader==1.231.0"),
    ("3.13", "3.14"),
)
# The last release that speaks the protocols which 3.x has left behind, and which the captures have.
BEFORE = Environment("before", ("cryptofeed==2.4.1",), ("3.12",))
NODE = "tardis-dev@13.35.3"


def install_node() -> str | None:
    """Installs the npm peer; says why if it cannot."""
    if not (shutil.which("npm") and shutil.which("node")):
        return "needs Node.js with npm, which is not here"
    place = PLACE / "node"
    done = place / "installed"
    if done.exists() and done.read_text(encoding="utf-8") == NODE:
        return None
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", place, NODE],
        check=False,
    )
    if made.returncode:
        return f"cannot be installed: {NODE}"
    done.write_text(NODE, encoding="utf-8")
    return None


class Worker:
    """A process that is asked for rounds, on the core that all share."""

    def __init__(self, name: str, command: list[Any], stderr: int | None = None) -> None:
        self.name = name
        pinned = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
        self.process = subprocess.Popen(
            [*pinned, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer; a worker that has died refuses."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"reason": f"its process ended with {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Closes its input and waits."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def commands() -> tuple[dict[str, list[Any]], dict[str, str]]:
    """How to run each peer, after installing it, and why those that are missing cannot be run."""
    found: dict[str, list[Any]] = {}
    missing: dict[str, str] = {}
    python_peers = [
        (CURRENT, "cryptofeed 3.0.1", "cryptofeed_peer.py"),
        (BEFORE, "cryptofeed 2.4.1", "cryptofeed_peer.py"),
        (CURRENT, "ccxt pro 4.5.90", "ccxt_peer.py"),
        (CURRENT, "nautilus_trader 1.231.0", "nautilus_peer.py"),
    ]
    PLACE.mkdir(parents=True, exist_ok=True)
    reasons = {environment.name: environment.install() for environment in (CURRENT, BEFORE)}
    for environment, name, script in python_peers:
        reason = reasons[environment.name]
        if reason is None:
            found[name] = [environment.python(), HERE / script]
        else:
            missing[name] = reason
    reason = install_node()
    if reason is None:
        found[TARDIS] = ["node", "--expose-gc", HERE / "tardis_peer.js", PLACE / "node"]
    else:
        missing[TARDIS] = reason
    return found, missing
