"""The metrics of two models and of predictions on every resample at once.

A curve over all queries would need all of them again for each resample. Its points are merged into at most
:data:`MOST_KNOTS` steps of equal numbers of queries first, queries of equal score together; the figure for the rows as
they are is computed on the same steps. On 100,000 queries that moves an APGR by a millionth or two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.bootstrap import Resampling
from semroute.evaluate.curves.shapes import ratio
from semroute.types.vectors import Doubles

MOST_KNOTS = 1000


def steps(score: NDArray[np.floating], most: int = MOST_KNOTS) -> NDArray[np.int64]:
    """``(n,)`` number of the step of each row, the highest scores in step 0; equal scores are in the same step."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    is_new = np.append(False, ordered[1:] != ordered[:-1])
    group = np.cumsum(is_new)
    if len(score) and group[-1] >= most:
        # A step starts where its first row would be due if all scores differed.
        start = np.flatnonzero(np.append(True, is_new[1:])) * most // len(score)
        group = np.unique(start, return_inverse=True)[1][group]
    found = np.empty(len(score), np.int64)
    found[order] = group
    return found


def by_step(resampling: Resampling, step: NDArray[np.int64], values: NDArray[np.floating]) -> Doubles:
    """``(1 + resamples, steps, k)`` sums of ``(n, k)`` values in each step, over all rows and over every resample."""
    batches, count = resampling.weights.shape[1], int(step.max()) + 1
    place = resampling.batch * count + step
    tables = [
        resampling.resampled(np.bincount(place, weights=column, minlength=batches * count).reshape(batches, count))
        for column in values.T
    ]
    return np.stack(tables, axis=-1)


def strong_share_curves(
    resampling: Resampling,
    score: NDArray[np.floating],
    weak: NDArray[np.floating],
    strong: NDArray[np.floating],
) -> tuple[Doubles, Doubles]:
    """:func:`~semroute.evaluate.curves.pair.strong_share_curve` on all rows and on every resample.

    Returns:
        ``(1 + resamples, k)`` share and quality, for :func:`~semroute.evaluate.curves.pair.apgr` and
        :func:`~semroute.evaluate.curves.pair.cpt`.
    """
    values = np.column_stack([np.ones(len(score)), weak, strong])
    sums = by_step(resampling, steps(score), values)
    whole = sums.sum(axis=1, keepdims=True)
    count = np.maximum(whole[..., 0], 1)
    nothing = np.zeros_like(count)
    share = np.concatenate([nothing, np.cumsum(sums[..., 0], axis=1)], axis=1) / count
    gain = np.concatenate([nothing, np.cumsum(sums[..., 2] - sums[..., 1], axis=1)], axis=1)
    return share, (whole[..., 1] + gain) / count


def aurocs(resampling: Resampling, score: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> Doubles:
    """``(1 + resamples,)`` AUROC (:func:`~semroute.evaluate.metrics.auroc`); scores of one step count as ties.

    NaN where a resample has only one class.
    """
    sums = by_step(resampling, steps(score), np.column_stack([is_positive, ~is_positive]))
    positive, negative = sums[..., 0], sums[..., 1]
    below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
    won = (positive * (below + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return ratio(won, pairs)


def calibration_errors(
    resampling: Resampling, predicted: NDArray[np.floating], quality: NDArray[np.floating], bins: int = 15
) -> Doubles:
    """``(1 + resamples,)`` ECE (:func:`~semroute.evaluate.metrics.expected_calibration_error`) of predicted quality."""
    place = np.clip((predicted * bins).astype(np.int64), 0, bins - 1)
    values = np.column_stack([np.ones(len(predicted)), quality - predicted])
    sums = by_step(resampling, place, values)
    return np.asarray(np.abs(sums[..., 1]).sum(axis=1) / np.maximum(sums[..., 0].sum(axis=1), 1))
