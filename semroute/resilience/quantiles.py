"""True quantiles of the latest values, kept sorted as they come and go."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def quantile(ordered: Sequence[float], q: float) -> float:
    """The ``q`` quantile of at least one value in ascending order, between neighbours by a straight line.

    Type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996); numpy's default.

    Raises:
        ValueError: ``q`` is not within 0 to 1.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile is from 0 to 1, not {q}")
    place = q * (len(ordered) - 1)
    below = int(place)
    if below + 1 >= len(ordered):
        return ordered[below]
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below)


class SortedValues:
    """Values in ascending order, for a few hundred of them.

    Adding and removing search by halves and move memory, about a microsecond; sorting anew after each call would cost
    a hundred times as much.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """Add a value."""
        insort(self._values, value)

    def remove(self, value: float) -> None:
        """Remove a value that was added."""
        del self._values[bisect_left(self._values, value)]

    def ordered(self) -> tuple[float, ...]:
        """The values as they are now, ascending."""
        return tuple(self._values)
