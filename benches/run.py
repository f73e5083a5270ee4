"""`make bench`: runs the Rust benches pinned to one core, prints one table and writes target/bench.json.

`--compare baseline.json --percent P` fails when a ratio to its ceiling has fallen by more than P percent against a
run of the baseline commit in the same job.
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


def measured(rounds: int) -> dict[str, Any]:
    """What the Rust side measures, from the captures if they are there."""
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "-p", "coby-benches"], cwd=ROOT, check=True)
    captures = Path(os.environ.get("COBY_CAPTURES", ROOT.parent / "shared" / "captures"))
    command = [str(ROOT / "target" / "release" / "coby-benches"), "--captures", str(captures), "--rounds", str(rounds)]
    if shutil.which("taskset"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(output)
    return result


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
    """The lines whose ratio fell by more than `percent`."""
    before = {(line["group"], line["name"]): line["ratio"] for line in baseline}
    found = []
    for line in lines:
        old = before.get((line["group"], line["name"]))
        if old and line["ratio"] is not None and line["ratio"] < old * (1 - percent / 100):
            found.append(f"{line['group']}, {line['name']}: {old:.2f} before, {line['ratio']:.2f} now")
    return found


def main() -> int:
    """Measure, print, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--percent", type=float, default=15.0)
    arguments = parser.parse_args()
    report = measured(arguments.rounds)
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
