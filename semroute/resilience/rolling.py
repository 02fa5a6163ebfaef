"""How many events there were lately, in memory that does not grow with them."""

from __future__ import annotations

from collections import deque


class RollingCount:
    """Events of the last ``window_s`` seconds, counted in buckets.

    Never counts an event older than the window, and may forget one up to a bucket's width early: a health estimate does
    not need more, and at most ``buckets`` small pairs are kept whatever the rate. Adding and asking are O(1) amortised.
    Buckets begin at multiples of their width, so that two counts with the same window forget at the same moments.
    """

    __slots__ = ("_buckets", "_kept", "_total", "_width_s")

    def __init__(self, window_s: float, buckets: int = 30) -> None:
        self._width_s = window_s / buckets
        self._kept = buckets
        self._buckets: deque[list[int]] = deque()
        self._total = 0

    def add(self, now: float) -> None:
        """Count one event."""
        index = self._forget(now)
        if self._buckets and self._buckets[-1][0] == index:
            self._buckets[-1][1] += 1
        else:
            self._buckets.append([index, 1])
        self._total += 1

    def total(self, now: float) -> int:
        """Events in the window that ends now."""
        self._forget(now)
        return self._total

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()
        self._total = 0

    def _forget(self, now: float) -> int:
        index = int(now // self._width_s)
        while self._buckets and self._buckets[0][0] <= index - self._kept:
            self._total -= self._buckets.popleft()[1]
        return index
