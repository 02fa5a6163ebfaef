"""What quality must be worth for the choices to be as good as the best single model, as cheaply as can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.choices import choose, values
from semroute.evaluate.replay.curve import replay


@dataclass(frozen=True, slots=True)
class Worth:
    """A value of quality and what it leads to on rows that were left out.

    Attributes:
        value: USD per +1.0 of quality; infinity where only quality counts.
        quality: mean of the chosen answers.
        cost: mean USD a query.
        single_quality, single_cost: of the best single model.
        rows: complete rows that this was reckoned on.
    """

    value: float
    quality: float
    cost: float
    single_quality: float
    single_cost: float
    rows: int


def matching_value(
    predicted: NDArray[np.float64],
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> Worth | None:
    """The lowest value whose choices are as good as the best single model; the best one where none is.

    Args:
        predicted: ``(n, m)`` of rows that were left out.
        quality: ``(n, m)``, NaN where it is not known: rows that lack a model are not counted.
        cost: ``(n, m)`` USD that calls did cost.
        expected: ``(n, m)`` USD that they were expected to.

    Returns:
        None where no row is complete.
    """
    rows = np.flatnonzero(np.isfinite(quality).all(axis=1))
    if not len(rows):
        return None
    known, paid = quality[rows], cost[rows].astype(np.float64)
    guess, ahead = predicted[rows].astype(np.float32), expected[rows].astype(np.float32)
    means = known.mean(axis=0)
    single = int(np.lexsort((paid.mean(axis=0), -means))[0])
    best: Worth | None = None
    for value in values(guess, ahead).tolist():
        choice = choose(guess, ahead, value)
        reached = float(replay(known.astype(np.float32), choice).mean())
        spent = float(replay(paid.astype(np.float32), choice).mean())
        found = Worth(value, reached, spent, float(means[single]), float(paid[:, single].mean()), len(rows))
        if reached >= found.single_quality:
            return found
        if best is None or reached > best.quality:
            best = found
    return best
