"""The fallback threshold against what it accepts and what it catches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.semantic import OUT_OF_SCOPE, ScoredQueries


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One threshold for all categories, and what it does.

    Attributes:
        threshold: the minimum score.
        coverage: share of in-scope queries accepted.
        accuracy_accepted: share of accepted queries, in scope or not, that go to the right category; 1 for none.
        oos_caught: share of out-of-scope queries rejected; None without any.
        accuracy: share of all queries decided rightly.
    """

    threshold: float
    coverage: float
    accuracy_accepted: float
    oos_caught: float | None
    accuracy: float


def sweep(scored: ScoredQueries, thresholds: NDArray[np.float64]) -> list[SweepPoint]:
    """Try each of ``thresholds`` for all categories at once."""
    best = scored.scores.max(axis=1).astype(np.float64)
    right = scored.scores.argmax(axis=1) == scored.labels
    outside = scored.labels == OUT_OF_SCOPE
    points = []
    for threshold in thresholds:
        accepted = best >= threshold
        points.append(
            SweepPoint(
                threshold=float(threshold),
                coverage=float(accepted[~outside].mean()) if not outside.all() else 0.0,
                accuracy_accepted=float(right[accepted].mean()) if accepted.any() else 1.0,
                oos_caught=float((~accepted)[outside].mean()) if outside.any() else None,
                accuracy=float(np.where(accepted, right, outside).mean()),
            )
        )
    return points


def threshold_grid(scored: ScoredQueries, step: float = 0.01) -> NDArray[np.float64]:
    """Multiples of ``step`` from where every query is accepted to where none is."""
    best = scored.scores.max(axis=1).astype(np.float64)
    first, last = int(np.floor(best.min() / step)), int(np.floor(best.max() / step)) + 1
    return np.arange(first, last + 1, dtype=np.float64) * np.float64(step)


def recommend(points: list[SweepPoint], oos_target: float) -> SweepPoint:
    """The lowest threshold that catches ``oos_target`` of the out-of-scope queries; the most accurate one without any.

    Where no threshold of the sweep reaches the target, the one that catches most.
    """
    if points[0].oos_caught is None:
        return max(points, key=lambda point: (point.accuracy, -point.threshold))
    enough = [point for point in points if (point.oos_caught or 0.0) >= oos_target]
    if enough:
        return min(enough, key=lambda point: point.threshold)
    return max(points, key=lambda point: (point.oos_caught or 0.0, -point.threshold))
