"""`make bench`: runs the Rust benches pinned to one core, then the Python ones; one table and target/bench.json.

`--compare baseline.json --percent P` fails when a ratio to its ceiling has fallen by more than P percent against a
run of the baseline commit in the same job; by three times as much for lines that two threads take part in.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "bench.json"
CAPTURES = Path(os.environ.get("COBY_CAPTURES", ROOT.parent / "shared" / "captures"))
SIMULATED = ROOT / "target" / "simulated-60"
# Only looked at by benches: not among the locked packages, since it does not exist for every platform.
UVLOOP = "uvloop==0.23.0"


def measured(rounds: int) -> dict[str, Any]:
    """What the Rust side measures, from the captures if they are there, and else from simulated recordings."""
    if not SIMULATED.is_dir():
        command = [sys.executable, "-m", "coby.simulator", "--record", str(SIMULATED), "--seconds", "60"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "-p", "coby-benches"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = [str(target / "release" / "coby-benches"), "--captures", str(CAPTURES), "--simulated", str(SIMULATED)]
    command += ["--rounds", str(rounds)]
    if shutil.which("taskset"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def measured_in_python(rounds: int) -> list[dict[str, Any]]:
    """What a Python program has of it; `coby` must be installed, optimised."""
    extra = ROOT / "target" / "bench-python"
    if not extra.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(extra), UVLOOP]
        if subprocess.run(command, check=False).returncode:
            sys.stderr.write(f"bench: {UVLOOP} cannot be installed\n")
    script = Path(__file__).resolve().parent / "python" / "run.py"
    command = [sys.executable, str(script), "--captures", str(CAPTURES), "--rounds", str(rounds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(extra), os.environ.get("PYTHONPATH", "")])}
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, env=environment).stdout
    lines: list[dict[str, Any]] = json.loads(output)
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """One row a line: median and quartiles, and the ratio to what it is compared with."""
    rows = [("group", "what", "median", "quartiles", "ratio", "against")]
    for line in lines:
        low, high = line["quartiles"]
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.2f}"
        figures = (f"{line['median']:.1f} {line['unit']}", f"{low:.1f}..{high:.1f}")
        rows.append((line["group"], line["name"], *figures, ratio, line["against"] or ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def fallen(lines: list[dict[str, Any]], baseline: list[dict[str, Any]], percent: float) -> list[str]:
    """The lines whose ratio fell by more than `percent`, and by more than it varied within either run."""
    before = {(line["group"], line["name"]): line for line in baseline}
    found = []
    for line in lines:
        old = before.get((line["group"], line["name"]))
        if old is None or not old["ratio"] or line["ratio"] is None:
            continue
        allowed = percent * (3 if line.get("noisy") else 1)
        apart = line["ratio_quartiles"][1] < old["ratio_quartiles"][0]
        if apart and line["ratio"] < old["ratio"] * (1 - allowed / 100):
            found.append(f"{line['group']}, {line['name']}: {old['ratio']:.2f} before, {line['ratio']:.2f} now")
    return found


def main() -> int:
    """Measure, print, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--percent", type=float, default=15.0)
    arguments = parser.parse_args()
    report = measured(arguments.rounds)
    report["lines"] += measured_in_python(max(arguments.rounds // 4, 1))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(report["lines"]) + "\n")
    if arguments.compare is None:
        return 0
    worse = fallen(
        report["lines"], json.loads(arguments.compare.read_text(encoding="utf-8"))["lines"], arguments.percent
    )
    sys.stdout.write("".join(f"slower: {line}\n" for line in worse))
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
