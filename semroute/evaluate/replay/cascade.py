"""A cascade replayed: models in order, each answer accepted where its score is high enough, every attempt paid for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.bootstrap import Resampling
from semroute.evaluate.replay.curve import Curve
from semroute.types import Matrix


def stops(scores: Matrix, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """``(n,)`` position of the tier whose answer is given.

    Args:
        scores: ``(n, tiers - 1)`` score of the answer of each tier but the last, which is always accepted.
        thresholds: of each tier but the last; an answer is accepted where its score is at least that.
    """
    accepted = scores >= np.asarray(thresholds, scores.dtype)
    return np.asarray(np.where(accepted.any(axis=1), accepted.argmax(axis=1), scores.shape[1]))


def replay_cascade(
    quality: Matrix, cost: Matrix, tiers: Sequence[int], stop: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(n,)`` quality of the answer that is given, and ``(n,)`` USD of it and of all rejected ones before it.

    Args:
        quality: ``(n, m)`` of every model.
        cost: ``(n, m)`` USD.
        tiers: columns of the models, in the order in which they are tried.
        stop: ``(n,)`` as of :func:`stops`.
    """
    spent = np.cumsum(cost[:, list(tiers)], axis=1, dtype=np.float64)
    place = stop[:, None]
    given = np.take_along_axis(quality[:, list(tiers)], place, axis=1)[:, 0]
    return given.astype(np.float64), np.take_along_axis(spent, place, axis=1)[:, 0]


def cascade_curve(
    quality: Matrix,
    cost: Matrix,
    tiers: Sequence[int],
    scores: Matrix,
    thresholds: Sequence[float],
    resampling: Resampling,
) -> Curve:
    """The curve over one threshold for all tiers; ``parameters`` are the thresholds.

    Args:
        quality: ``(n, m)`` of every model.
        cost: ``(n, m)`` USD.
        tiers: columns of the models, in the order in which they are tried.
        scores: ``(n, tiers - 1)`` as of :func:`stops`.
        thresholds: the parameters, in any order; minus infinity accepts every first answer.
        resampling: of the ``n`` rows.
    """
    sums, shares = [], []
    for threshold in thresholds:
        stop = stops(scores, [threshold] * scores.shape[1])
        sums.append(resampling.batch_sums(np.column_stack(replay_cascade(quality, cost, tiers, stop))))
        answers = np.asarray(tiers)[stop]
        shares.append(np.bincount(answers, minlength=quality.shape[1]) / max(len(stop), 1))
    both = np.stack(sums, axis=-1)
    counts = resampling.resampled(resampling.batch_counts[:, None])
    return Curve(
        parameters=np.asarray(thresholds, np.float64),
        quality=resampling.resampled(both[:, 0]) / counts,
        cost=resampling.resampled(both[:, 1]) / counts,
        shares=np.array(shares),
    )
