"""The slow book that everything is compared with: a dict and exact decimals."""

from collections.abc import Iterable
from decimal import Decimal


class NaiveBook:
    """Absolute sizes by price; zero removes; a snapshot replaces; then cut to `depth` levels a side."""

    def __init__(self) -> None:
        self._sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})

    def apply(
        self,
        bids: Iterable[tuple[str, str]],
        asks: Iterable[tuple[str, str]],
        *,
        snapshot: bool = False,
        depth: int | None = None,
    ) -> None:
        for side, changes in zip(self._sides, (bids, asks), strict=True):
            if snapshot:
                side.clear()
            for price, size in exact(changes):
                side[price] = size
                if not size:
                    del side[price]
        if depth is not None:
            for side, levels in zip(self._sides, (self.bids, self.asks), strict=True):
                for beyond, _ in levels[depth:]:
                    del side[beyond]

    @property
    def bids(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._sides[0].items(), reverse=True)

    @property
    def asks(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._sides[1].items())


def exact(levels: Iterable[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    """Levels as numbers: trailing zeros mean nothing."""
    return [(Decimal(price), Decimal(size)) for price, size in levels]
