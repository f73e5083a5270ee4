"""`make bench-peers`: other software on the same recordings as COBY, frame by frame, in the same minutes.

Installs pinned releases of the peers below target/peers, times each on the frames of each recording in turn with COBY
(interleaved rounds on one core), compares the final books, prints one table and writes target/bench-peers.json.
"""

import argparse
import base64
import gzip
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from install import HERE, PLACE, ROOT, Worker, commands

OUT = ROOT / "target" / "bench-peers.json"
CAPTURED = ("binance_futures", "coinbase", "kucoin", "bitstamp")
# Currencies that prices are in, for symbols without a separator.
QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "BTC", "ETH")
BASE = "COBY, Rust: bytes -> book"
DECODED = "COBY, Python: decode to events"
REPLAYED = "COBY, Python: tape to Arrow, all rows"
# Why books of a peer differ, where the reason is known.
BECAUSE = {
    (
        "ccxt pro 4.5.90",
        "bitstamp",
    ): "it asks for a snapshot at a symbol's first change, and drops all changes that waited"
    " unless one has the snapshot's very time",
    ("cryptofeed 3.0.1", "kraken"): "it cuts the book to its depth after each level, not after each message",
}


@dataclass
class Line:
    """One row of the table."""

    recording: str
    name: str
    samples: list[float] = field(default_factory=list)
    reason: str | None = None
    books: str = ""
    agreed: int = 1
    """How many books are COBY's."""
    ratio: float | None = None

    def report(self) -> dict[str, Any]:
        """As in the JSON file."""
        low, median, high = quartiles(self.samples) if self.samples else (None, None, None)
        return {
            "recording": self.recording,
            "name": self.name,
            "unit": "ns/frame",
            "median": median,
            "quartiles": [low, high],
            "ratio": self.ratio,
            "against": BASE,
            "books": self.books,
            "reason": self.reason,
        }


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high


def symbol(venue: str, native: str) -> dict[str, str]:
    """What an instrument list would say."""
    if venue == "hyperliquid":
        return {"base": native, "quote": "USDC", "kind": "perpetual"}
    kind = "perpetual" if venue == "binance_futures" or native.endswith(("-SWAP", "-PERP", "PERPETUAL")) else "spot"
    bare = native.removesuffix("-SWAP").removeprefix("t" if venue == "bitfinex" else "")
    for separator in "-/_:":
        if separator in bare:
            base, quote = bare.split(separator)[:2]
            return {"base": base, "quote": quote, "kind": kind}
    if venue == "bitfinex":
        return {"base": bare[:-3], "quote": bare[-3:].replace("UST", "USDT"), "kind": kind}
    upper = bare.upper()
    quote = next((quote for quote in QUOTES if upper.endswith(quote) and upper != quote), "USD")
    return {"base": upper.removesuffix(quote), "quote": quote, "kind": kind}


def compared(ours: dict[str, Any], theirs: dict[str, Any], peer: str, venue: str) -> tuple[int, str]:
    """How many books have the same best ten levels, and what to say of it."""
    equal = [native for native in ours if native in theirs and same(ours[native], theirs[native])]
    if len(equal) == len(ours):
        return len(equal), f"equal ({len(ours)} books)"
    missing = [native for native in ours if native not in theirs]
    example = next((native for native in ours if native in theirs and native not in equal), None)
    parts = [f"{len(equal)} of {len(ours)} books equal"]
    if missing:
        parts.append(f"none for {', '.join(missing)}")
    if example:
        place, here, there = first_difference(ours[example], theirs[example])
        parts.append(f"{example} {place}: {there}, COBY {here}")
    if (peer, venue) in BECAUSE:
        parts.append(BECAUSE[peer, venue])
    return len(equal), "; ".join(parts)


def same(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether both sides' best levels agree, as far as the floats that most peers have can tell."""
    return all(
        len(ours[side]) == len(theirs[side])
        and all(
            math.isclose(here, there, rel_tol=1e-12)
            for mine, yours in zip(ours[side], theirs[side], strict=True)
            for here, there in zip(map(float, mine), map(float, yours), strict=True)
        )
        for side in (0, 1)
    )


def first_difference(ours: list[Any], theirs: list[Any]) -> tuple[str, object, object]:
    """Where two books part."""
    for side, name in enumerate(("bid", "ask")):
        for at in range(max(len(ours[side]), len(theirs[side]))):
            here, there = ([*map(float, book[side][at])] if at < len(book[side]) else None for book in (ours, theirs))
            if here != there:
                return f"{name} {at + 1}", here, there
    return "sides", None, None


def workers() -> tuple[list[Worker], dict[str, str]]:
    """All workers, COBY first, and what cannot be run at all."""
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "-p", "coby-benches"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [
        Worker(BASE, [target / "release" / "coby-benches", "--serve"]),
        Worker(DECODED, [sys.executable, HERE / "coby_peer.py", "decode"]),
        Worker(REPLAYED, [sys.executable, HERE / "coby_peer.py", "arrow"]),
        Worker("COBY, Python: decode, OrderBook.apply", [sys.executable, HERE / "coby_peer.py", "book"]),
    ]
    peers, missing = commands()
    found += [Worker(name, command) for name, command in peers.items()]
    return found, missing


def simulated(seconds: float) -> list[tuple[str, str, Path]]:
    """A recording of each venue that can be simulated."""
    place = ROOT / "target" / f"simulated-{seconds:g}"
    if not place.is_dir():
        command = [sys.executable, "-m", "coby.simulator", "--record", str(place), "--seconds", str(seconds)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    paths = {path.name.removesuffix(".jsonl.gz"): path for path in sorted(place.iterdir())}
    recordings = []
    for venue, path in paths.items():
        plain = inflated(path)
        recordings += [(venue, f"{venue}, simulated, inflated", plain)] if plain else []
        recordings.append((venue, f"{venue}, simulated", path))
    return recordings


def inflated(path: Path) -> Path | None:
    """The recording as if the venue did not compress its frames; nothing if it does not."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        frames = [json.loads(line) for line in lines]
    found = False
    for frame in frames:
        body = base64.b64decode(frame["body"]) if frame["kind"] == "binary_b64" else b""
        if body.startswith(b"\x1f\x8b"):
            frame["kind"], frame["body"], found = "text", gzip.decompress(body).decode(), True
    if not found:
        return None
    out = PLACE / f"{path.name.removesuffix('.jsonl.gz')}-inflated.jsonl"
    out.write_text("".join(json.dumps(frame) + "\n" for frame in frames), encoding="utf-8")
    return out


def measured(found: list[Worker], venue: str, name: str, path: Path, rounds: int) -> tuple[str, list[Line]]:
    """What every worker makes of one recording."""
    coby = found[0]
    loaded = coby.ask(op="load", venue=venue, path=str(path))
    case = {
        "venue": venue,
        "recording": str(path),
        "warm": loaded["warm"],
        "frames": loaded["frames"],
        "symbols": {native: symbol(venue, native) for native in loaded["books"]},
    }
    file = PLACE / "case.json"
    file.write_text(json.dumps(case), encoding="utf-8")
    title = f"{name}, {len(loaded['frames'])} frames of {loaded['bytes']} B and {loaded['levels']:.1f} levels"
    lines = [Line(title, worker.name) for worker in found]
    for worker, line in zip(found[1:], lines[1:], strict=True):
        line.reason = worker.ask(op="load", case=str(file)).get("reason")
    for number in range(rounds + 1):
        for worker, line in zip(found, lines, strict=True):
            if line.reason is not None:
                continue
            answer = worker.ask(op="round")
            if "reason" in answer:
                because = BECAUSE.get((worker.name, venue))
                line.reason = answer["reason"] + (f"; {because}" if because else "")
                line.samples.clear()
                continue
            if number == 0:
                # The first round warms caches and, in Node, the compiler; it only counts for the books.
                if line.name not in {BASE, DECODED, REPLAYED}:
                    line.agreed, line.books = compared(loaded["books"], answer["books"], worker.name, venue)
                if not line.agreed:
                    line.reason = line.books
                continue
            line.samples.append(answer["nanos"] / len(loaded["frames"]))
    base = lines[0].samples
    for line in lines:
        if line.samples:
            line.ratio = statistics.median(there / here for there, here in zip(line.samples, base, strict=True))
    return title, lines


def table(lines: list[Line]) -> str:
    """One row a line; reasons instead of figures where there are none."""
    rows = [("", "ns/frame", "quartiles", "times COBY's", "final books")]
    for line in lines:
        if line.samples:
            low, median, high = quartiles(line.samples)
            rows.append((line.name, f"{median:.0f}", f"{low:.0f}..{high:.0f}", f"{line.ratio:.1f}", line.books))
        else:
            rows.append((line.name, "-", "", "", line.reason or ""))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> int:
    """Install, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the simulated recordings")
    parser.add_argument("--only", default="", help="recordings whose name contains this")
    arguments = parser.parse_args()
    captures = Path(os.environ.get("COBY_CAPTURES", ROOT.parent / "shared" / "captures"))
    recordings = [(venue, f"{venue}, captured", captures / f"{venue}.jsonl.gz") for venue in CAPTURED]
    recordings = [recording for recording in recordings if recording[2].exists()] + simulated(arguments.seconds)
    found, missing = workers()
    reports: list[dict[str, Any]] = []
    fastest: list[tuple[str, str, float]] = []
    try:
        for venue, name, path in recordings:
            if arguments.only not in name:
                continue
            title, lines = measured(found, venue, name, path, arguments.rounds)
            lines += [Line(title, peer, reason=reason) for peer, reason in missing.items()]
            sys.stdout.write(f"{title}\n{table(lines)}\n\n")
            sys.stdout.flush()
            reports += [line.report() for line in lines]
            peers = [line for line in lines if line.ratio and not line.name.startswith("COBY")]
            if peers:
                best = min(peers, key=lambda line: line.ratio or 0)
                fastest.append((name, best.name, best.ratio or 0))
    finally:
        for worker in found:
            worker.end()
    for name, peer, ratio in fastest:
        sys.stdout.write(f"{name}: {ratio:.1f} times as fast as the fastest peer, {peer}\n")
    report = {"python": sys.version.split()[0], "lines": reports}
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
