"""Fit minimum scores per category for a rejection target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.routing import OUT_OF_SCOPE
from semroute.types import Matrix

FALSE_REJECTION = 0.03
"""Share of the held-out queries to reject where no out-of-scope examples are given. Real queries are further from the
examples than examples from each other, so the share in use is higher."""

FALSE_REJECTION_WITH_BACKGROUND = 0.05
"""The same where scores have a background head, with which a little more of it rejects many more other queries."""

ABOVE = 1e-9
"""Margin above a score: far below any real difference of scores, far above the rounding of their sums."""

PRIOR = 30
"""Weight of all categories together, in queries of one category."""

LOCATION_PRIOR = 1
"""Weight of the mean over all categories (each of one weight) in a category's mean score, in queries."""

SLACK = 0.02
"""Share of a category's own queries that may be rejected beyond the target, where it is estimated from others."""


@dataclass(frozen=True, slots=True)
class RejectionTarget:
    """Target of the thresholds.

    Attributes:
        oos_recall: share of out-of-scope queries to reject, where there are labelled ones.
        false_rejection: share of in-scope queries to reject, where there are none.
    """

    oos_recall: float = 0.9
    false_rejection: float = FALSE_REJECTION


def thresholds_for(scores: Matrix, labels: NDArray[np.int64], target: RejectionTarget) -> NDArray[np.float64]:
    """Return thresholds for ``target`` from ``(n, categories)`` scores.

    They follow from the out-of-scope queries where there are any.
    """
    out_of_scope = labels == OUT_OF_SCOPE
    if out_of_scope.any():
        return thresholds_for_recall(scores[out_of_scope], target.oos_recall)
    return thresholds_for_false_rejection(scores, target.false_rejection, labels)


def thresholds_for_recall(scores: Matrix, target: float) -> NDArray[np.float64]:
    """Return thresholds that reject a share of out-of-scope queries.

    Each category takes the quantile of the scores of those queries that are assigned to it, shrunk towards the quantile
    of all (by :data:`PRIOR`); all are then shifted together until the target holds over all categories.

    Args:
        scores: ``(m, categories)`` scores of out-of-scope queries.
        target: share to reject, between 0 and 1.
    """
    top, best = scores.argmax(axis=1), scores.max(axis=1).astype(np.float64)
    thresholds = _shrunk_quantiles(top, best, scores.shape[1], target)
    # The smallest shift that meets the target: each query needs `best - threshold` of its category.
    shifts = np.sort(best - thresholds[top])
    rejected = max(1, int(np.ceil(target * len(shifts) - 1e-9)))
    # Just above the score itself, by more than float64 rounds away: a score that equals its threshold is accepted.
    return np.asarray(thresholds + (shifts[rejected - 1] + ABOVE), dtype=np.float64)


def thresholds_for_false_rejection(
    scores: Matrix, target: float, labels: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return thresholds that reject a share of in-scope queries.

    For use where no out-of-scope queries are known. A category with many queries takes their quantile. One with few
    takes its mean, shrunk towards the mean over the categories (by :data:`LOCATION_PRIOR`), plus the quantile of all
    deviations from their category's mean. Categories weigh the same in both, however many queries each has, and none
    gets a threshold that rejects more than a share ``target`` + :data:`SLACK` of its own queries. Queries that are
    assigned to another category than their own are rejected more often: where the whole exceeds the target because of
    them, all thresholds are lowered together until it does not; so a higher target may lower one category's threshold
    where it raises another's.

    Args:
        scores: ``(m, categories)`` held-out scores of in-scope queries.
        target: share to reject, between 0 and 1.
        labels: ``(m,)`` true categories; None takes the best ones as true.
    """
    own_scores = _own_scores(scores, scores.argmax(axis=1) if labels is None else labels)
    non_empty = [values for values in own_scores if len(values)]
    centre = float(np.mean([values.mean() for values in non_empty]))
    # The deviations of n values from their own mean are too small by this factor.
    deviations = [(values - values.mean()) * np.sqrt(len(values) / max(1, len(values) - 1)) for values in non_empty]
    sizes = np.array([len(values) for values in non_empty])
    deviation = _weighted_quantile(np.concatenate(deviations), np.repeat(1.0 / sizes, sizes), target)
    thresholds = np.full(len(own_scores), centre + deviation)
    for category, values in enumerate(own_scores):
        if (count := len(values)) == 0:
            continue
        location = (values.sum() + LOCATION_PRIOR * centre) / (count + LOCATION_PRIOR)
        weight = count / (count + PRIOR)
        shrunk = weight * float(np.quantile(values, target)) + (1 - weight) * (location + deviation)
        thresholds[category] = min(shrunk, float(np.quantile(values, target + min(target, SLACK, 1 - target))))
    return thresholds + min(
        0.0, _margin(scores, thresholds, scores.argmax(axis=1) if labels is None else labels, target)
    )


def _margin(scores: Matrix, thresholds: NDArray[np.float64], labels: NDArray[np.int64], share: float) -> float:
    """Return the quantile of scores minus thresholds of the assigned category.

    Categories weigh the same.
    """
    top = scores.argmax(axis=1)
    above = scores.max(axis=1).astype(np.float64) - thresholds[top]
    sizes = np.bincount(labels, minlength=scores.shape[1])
    return _weighted_quantile(above, 1.0 / sizes[labels], share)


def _own_scores(scores: Matrix, labels: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return each category's scores of its own queries assigned to it.

    Where none is assigned, all of its own queries count.
    """
    top = scores.argmax(axis=1)
    scores_of = []
    for category in range(scores.shape[1]):
        owned = labels == category
        assigned = owned & (top == category)
        scores_of.append(scores[assigned if assigned.any() else owned, category].astype(np.float64))
    return scores_of


def _weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    """Return the quantile of weighted values.

    It is that of ``numpy.quantile`` where the weights are equal.
    """
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(weights[order]) - weights[order] / 2
    if middle[-1] <= middle[0]:
        return float(values[0])
    return float(np.interp(share, (middle - middle[0]) / (middle[-1] - middle[0]), values[order]))


def _shrunk_quantiles(
    top: NDArray[np.int64], best: NDArray[np.float64], categories: int, share: float
) -> NDArray[np.float64]:
    overall = float(np.quantile(best, share))
    quantiles = np.full(categories, overall)
    for category in range(categories):
        own_scores = best[top == category]
        if len(own_scores):
            weight = len(own_scores) / (len(own_scores) + PRIOR)
            quantiles[category] = weight * float(np.quantile(own_scores, share)) + (1 - weight) * overall
    return quantiles
