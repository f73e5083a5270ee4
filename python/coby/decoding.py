"""Recorded frames to events, purely: the same sessions, keepers and books that a live feed runs through."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from coby._core import Decoder, Event

_BATCH = 256


def decode(venue: str, frames: Iterable[Mapping[str, Any]], *, sync: bool = True) -> Iterator[Event]:
    """Yields the events that recorded frames release.

    Args:
        venue: Venue id, such as `binance_futures`.
        frames: Mappings in the recording format (see `coby.recording`). An iterator may be endless: a frame's
            events come out before the next frame is asked for.
        sync: With False each book message is an event as it stands: no sequence rules, no joining with a
            snapshot. For isolated samples.

    Yields:
        Events; `.frame` is the index, from 0, of the frame whose processing released the event.

    Raises:
        UnknownVenueError: At once, not at the first event.
        RecordingError: A frame lacks a field or has a wrong one.
    """
    decoder = Decoder(venue, sync=sync)
    return _events(decoder, frames)


def _events(decoder: Decoder, frames: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    if isinstance(frames, Sequence):
        # All of them exist already: nothing can wait, so a batch only saves calls.
        for start in range(0, len(frames), _BATCH):
            yield from decoder.feed(list(frames[start : start + _BATCH]))
    else:
        for frame in frames:
            yield from decoder.feed([frame])
