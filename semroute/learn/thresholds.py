"""Minimum scores per category, for a stated target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.semantic import OUT_OF_SCOPE
from semroute.types import Matrix

FALSE_REJECTION = 0.03
"""Share of held-out in-scope queries that thresholds reject where no out-of-scope examples are given. Real queries lie
further from the examples than examples from each other, so the share in use is higher."""

ABOVE = 1e-9
"""Far below what tells two scores apart, far above the rounding of their sums."""

PRIOR = 30
"""Queries of one category that weigh as much as what all categories say together."""


@dataclass(frozen=True, slots=True)
class Target:
    """What thresholds aim at.

    Attributes:
        oos_recall: share of out-of-scope queries to reject, where there are labelled ones.
        false_rejection: share of in-scope queries to reject, where there are none.
    """

    oos_recall: float = 0.9
    false_rejection: float = FALSE_REJECTION


def thresholds_for(scores: Matrix, labels: NDArray[np.int64], target: Target) -> NDArray[np.float64]:
    """Thresholds for ``target`` from ``(n, categories)`` scores: by the out-of-scope queries where there are any."""
    outside = labels == OUT_OF_SCOPE
    if outside.any():
        return thresholds_for_recall(scores[outside], target.oos_recall)
    return thresholds_for_false_rejection(scores, target.false_rejection)


def thresholds_for_recall(scores: Matrix, target: float) -> NDArray[np.float64]:
    """Thresholds that reject a share ``target`` of out-of-scope queries.

    Each category takes the quantile of the scores of those queries that land in it, drawn towards the quantile of all
    (by :data:`PRIOR`); all are then moved together until the target holds on the whole.

    Args:
        scores: ``(m, categories)`` scores of out-of-scope queries.
        target: share to reject, between 0 and 1.
    """
    top, best = scores.argmax(axis=1), scores.max(axis=1).astype(np.float64)
    thresholds = _shrunk_quantiles(top, best, scores.shape[1], target)
    # The least shift with which the target is met: each query needs `best - threshold` of its category.
    needed = np.sort(best - thresholds[top])
    rejected = max(1, int(np.ceil(target * len(needed) - 1e-9)))
    # Just above the score itself, by more than float64 rounds away: a score that equals its threshold is accepted.
    return np.asarray(thresholds + (needed[rejected - 1] + ABOVE), dtype=np.float64)


def thresholds_for_false_rejection(scores: Matrix, target: float) -> NDArray[np.float64]:
    """Thresholds that reject a share ``target`` of in-scope queries, where no out-of-scope ones are known.

    Args:
        scores: ``(m, categories)`` held-out scores of in-scope queries.
        target: share to reject, between 0 and 1.
    """
    return _shrunk_quantiles(scores.argmax(axis=1), scores.max(axis=1).astype(np.float64), scores.shape[1], target)


def _shrunk_quantiles(
    top: NDArray[np.int64], best: NDArray[np.float64], categories: int, share: float
) -> NDArray[np.float64]:
    overall = float(np.quantile(best, share))
    found = np.full(categories, overall)
    for category in range(categories):
        own = best[top == category]
        if len(own):
            weight = len(own) / (len(own) + PRIOR)
            found[category] = weight * float(np.quantile(own, share)) + (1 - weight) * overall
    return found
