"""How much a client may ask for: whatever is counted starts anew at each multiple of a length of time."""

from collections.abc import Hashable


class Quota:
    """So much in each window of `window_ns`, for each key by itself."""

    def __init__(self, most: int, window_ns: int) -> None:
        self.most = most
        self._window_ns = window_ns
        self._used: dict[Hashable, tuple[int, int]] = {}

    def spend(self, now_ns: int, key: Hashable = None, cost: int = 1) -> int:
        """Takes a cost off; what is left of the window, below 0 if that was too much."""
        window = now_ns // self._window_ns
        at, used = self._used.get(key, (window, 0))
        used = cost + (used if at == window else 0)
        self._used[key] = (window, used)
        return self.most - used

    def reset_ns(self, now_ns: int) -> int:
        """When the next window begins."""
        return (now_ns // self._window_ns + 1) * self._window_ns
