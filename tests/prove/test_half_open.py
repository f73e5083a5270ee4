"""Connections that stay open and say nothing: only a clock can tell, and every venue has its own patience."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from coby import _core
from coby.simulator.exchange import SECOND
from coby.simulator.faults import Fault
from coby.simulator.venues import VENUES
from support.lived import Kept, engine_on, not_live, until, venues_of
from support.loopback import Loopback

pytestmark = pytest.mark.prove

SILENCE = {spec["id"]: spec["silence"] for spec in _core.venues()}
LATE_NS = 2 * SECOND
"""Between two looks at a silent connection, and a frame on its way."""
BACK_SECONDS = 30
"""Within which a venue is live again once its connection was given up."""


def silences(store: Kept) -> dict[str, list[dict[str, Any]]]:
    """Gap rows with that cause, by venue."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in store.batches.get("gaps", ()):
        for row in batch.to_pylist():
            if row["cause"] == "silence" and row["channel"] == "book":
                found[row["venue"]].append(row)
    return found


async def freeze_all(tape: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    store = Kept()
    with Loopback(VENUES, symbols=("BTC", "XRP"), seed=3) as loopback:
        async with engine_on(tape, {}, loopback, store) as (engine, _):
            await until(lambda: venues_of(engine) and not not_live(engine), 20, lambda: not_live(engine))
            loopback.add(Fault("freeze", 0.0, venue, seconds=0) for venue in VENUES)

            def not_healed() -> list[str]:
                found = silences(store)
                return [venue for venue in VENUES if all(row["to"] is None for row in found[venue])]

            longest = max(SILENCE[venue] for venue in VENUES)
            await until(lambda: not not_healed(), longest + BACK_SECONDS, not_healed)
            await until(lambda: not not_live(engine), BACK_SECONDS, lambda: not_live(engine))
        frozen = {fault.venue: fault.at for fault in loopback.ledger.faults if fault.kind == "freeze"}
    return silences(store), frozen


def test_a_half_open_connection_is_found_by_its_silence_at_every_venue(tmp_path: Path) -> None:
    found, frozen = asyncio.run(freeze_all(tmp_path / "tape"))
    assert frozen.keys() == set(VENUES)
    for venue in VENUES:
        row = next(row for row in found[venue] if row["to"] is not None)
        opened = next(other for other in found[venue] if other["id"] == row["id"] and other["to"] is None)
        assert row["from"] <= frozen[venue] + LATE_NS, venue
        assert opened["ts_recv"] >= frozen[venue] + SILENCE[venue] * SECOND - LATE_NS, venue
        assert opened["ts_recv"] <= frozen[venue] + 9 * SILENCE[venue] * SECOND // 8 + LATE_NS, venue
        assert row["to"] <= opened["ts_recv"] + BACK_SECONDS * SECOND, venue
