"""Means over groups of rows, where not every cell is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different names in the order in which they come first, and ``(n,)`` the number of each row's."""
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, len(names))
    return list(numbers), rows


def group_sums(
    values: NDArray[np.floating], groups: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(count, m)`` sums of the finite cells of ``(n, m)`` values by the group of their row, and how many they are."""
    sums, counts = np.empty((count, values.shape[1])), np.empty((count, values.shape[1]))
    for column, cells in enumerate(values.T):
        known = np.isfinite(cells)
        sums[:, column] = np.bincount(groups[known], weights=cells[known], minlength=count)
        counts[:, column] = np.bincount(groups[known], minlength=count)
    return sums, counts


def group_means(values: NDArray[np.floating], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """``(count, m)`` mean of the finite cells of each group and column.

    Where a group has none in a column: the column's mean over all groups, else the group's over all columns, else the
    mean of all; NaN where no cell is finite.
    """
    sums, counts = group_sums(values, groups, count)
    means = _ratio(sums, counts)
    for wider in (
        _ratio(sums.sum(axis=0), counts.sum(axis=0))[None, :],
        _ratio(sums.sum(axis=1), counts.sum(axis=1))[:, None],
        _ratio(sums.sum(), counts.sum()),
    ):
        means = np.where(np.isfinite(means), means, wider)
    return means


def _ratio(sums: NDArray[np.float64] | np.float64, counts: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    sums, counts = np.asarray(sums), np.asarray(counts)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0), np.float64)
