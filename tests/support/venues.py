"""Venues as a live engine's status tells them."""

from typing import Any


def venue(name: str = "kraken", state: str = "live", **facts: Any) -> dict[str, Any]:
    book = {"native": "BTC/USDT", "symbol": "BTC-USDT", "state": "live", "crossed": False, "since": 0, "last": 0}
    known: dict[str, Any] = {
        "venue": name,
        "state": state,
        "error": None,
        "next_attempt": None,
        "attempts": 0,
        "instruments": 2,
        "frames": 0,
        "last_frame": None,
        "errors": 0,
        "unknown": 0,
        "duplicates": 0,
        "links": [],
        "unresolved": [],
        "books": [book],
    }
    return known | facts
