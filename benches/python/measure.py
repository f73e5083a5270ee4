"""Interleaved rounds, medians and spread: what benches/src/measure.rs does, in its terms."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One thing to measure. A call does a round and gives its figure, or several by the end of the line's name."""

    name: str
    work: Callable[[], float | dict[str, float]]
    against: str | None = None


def rounds(
    group: str, unit: str, contestants: list[Contestant], count: int, *, noisy: bool = False
) -> list[dict[str, Any]]:
    """Runs all contestants in turn, round after round, after one that does not count; gives lines for the table."""
    samples: dict[str, list[float]] = {}
    for number in range(count + 1):
        for contestant in contestants:
            done = contestant.work()
            for part, figure in (done if isinstance(done, dict) else {"": done}).items():
                if number:
                    samples.setdefault(contestant.name + part, []).append(figure)
    lines = []
    against = {contestant.name: contestant.against for contestant in contestants}
    for name, figures in samples.items():
        whose = max((other for other in against if name.startswith(other)), key=len)
        other = against[whose]
        reference = None if other is None else other + name.removeprefix(whose)
        ratios = None
        if reference is not None:
            ratios = quartiles([there / here for there, here in zip(samples[reference], figures, strict=True)])
        low, median, high = quartiles(figures)
        lines.append(
            {
                "group": group,
                "name": name,
                "unit": unit,
                "median": median,
                "quartiles": [low, high],
                "least": min(figures),
                "against": reference,
                "ratio": ratios and ratios[1],
                "ratio_quartiles": ratios and [ratios[0], ratios[2]],
                "noisy": noisy,
            }
        )
    return lines


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high
