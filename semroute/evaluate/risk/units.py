"""Rows that say the same are one draw, not many: what a test or an interval may count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """Values of rows, put together by group; the groups stand in the order in which they come first.

    Attributes:
        value: ``(g,)`` sum over each group, over the mean number of rows in a group: their mean is that of the rows.
        size: ``(g,)`` rows of each group over the mean number.
    """

    value: Numbers
    size: Numbers

    @classmethod
    def of(cls, values: NDArray[np.floating], group: NDArray[np.int64] | None) -> Totals:
        """From ``(n,)`` values and the group of each; None where every row is its own."""
        if group is None or not len(group):
            return cls(np.asarray(values, np.float64), np.ones(len(values)))
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        place, share = rank[inverse], len(first) / len(group)
        sums, counts = np.bincount(place, weights=values), np.bincount(place)
        return cls(np.asarray(sums * share, np.float64), np.asarray(counts * share, np.float64))

    @property
    def mean(self) -> Numbers:
        """``(g,)`` mean of each group."""
        return self.value / self.size

    @property
    def residual(self) -> Numbers:
        """``(g,)`` each value less what its size alone lets expect: the spread of the mean is that of these.

        The mean of the rows is a ratio of two sums over groups (Cochran, "Sampling Techniques", 1977, section 9A.2).
        """
        return self.value - float(self.value.mean()) * self.size

    @property
    def error(self) -> float:
        """Standard error of the mean of the rows; NaN of one group."""
        residual = self.residual
        return float(residual.std(ddof=1) / np.sqrt(len(residual))) if len(residual) > 1 else float("nan")
