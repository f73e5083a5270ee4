"""Recordings of real traffic that lie beside the repository where they are there; they are not part of it."""

from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[3] / "shared" / "captures"
NAMES = ("binance_futures", "coinbase", "kucoin", "bitstamp")


def capture(name: str) -> Path:
    """The recording of a venue; the test is skipped where it is not there."""
    path = DIRECTORY / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no recording {path.name} beside the repository")
    return path
