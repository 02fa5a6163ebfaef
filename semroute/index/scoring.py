"""Scoring path of categories, shared by build, tuning and serving.

All of them, and the evaluation, call :class:`Scorer`. :class:`FirstStage` and :func:`answers` decide which queries a
cheaper encoder answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.index.prototypes import PrototypeIndex
from semroute.types import CategoryScorer, Encoder, Head, Matrix
from semroute.types.protocols import Doubles


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic model of the probability that the best category is right.

    Its inputs are the best score and its margin over the next best: Platt, "Probabilistic outputs for support vector
    machines", 1999, with the margin as second input. With a single category the margin is 1.
    """

    bias: float
    score: float
    margin: float

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """Return ``(n,)`` probabilities from ``(n, categories)`` scores."""
        best, margin = best_and_margin(scores)
        logit = self.bias + self.score * best + self.margin * margin
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scorer of every category for a query.

    ``score = (1 - weight) * cosine to the nearest prototype + weight * probability of the head``. Without a head the
    score is the plain cosine. A background head takes its share of that (:func:`blend_background`).

    Attributes:
        prototypes: the index of centroids.
        head: a trained head over the same vectors, or None.
        weight: share of the head, 0 to 1; validation chose it.
        calibration: from scores to confidence.
        background: a head over the same vectors whose last class is that of no category, or None.
        background_weight: its share, 0 to 1.
    """

    prototypes: PrototypeIndex
    head: Head | None
    weight: float
    calibration: Calibration
    background: Head | None = None
    background_weight: float = 0.0

    def scores(self, vectors: Matrix) -> Matrix:
        """Return ``(n, categories)`` float32 scores of ``(n, d)`` unit vectors."""
        scores = self.prototypes.similarities(vectors)
        if self.head is not None and self.weight != 0.0:
            scores = blend(scores, self.head.probabilities(vectors), self.weight)
        if self.background is None or self.background_weight == 0.0:
            return scores
        return blend_background(scores, in_scope_share(self.background.probabilities(vectors)), self.background_weight)

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """Return the ``(n,)`` calibrated confidence in each row's best category."""
        return self.calibration.confidence(scores)


def blend(similarities: Matrix, probabilities: Matrix, weight: float) -> Matrix:
    """Return ``(1 - weight) * similarities + weight * probabilities``.

    float32, the score of :class:`Scorer`.
    """
    share = np.float32(weight)
    return (np.float32(1.0) - share) * similarities + share * probabilities


def in_scope_share(probabilities: Matrix) -> NDArray[np.float64]:
    """Return ``(n,)`` ``p(best) / (p(best) + p(other))``, 0 to 1.

    It is the logistic function of ``log p(best) - log p(other)``.

    Args:
        probabilities: ``(n, categories + 1)``; the last class is that of no category.
    """
    best = probabilities[:, :-1].max(axis=1).astype(np.float64)
    return np.asarray(best / np.maximum(best + probabilities[:, -1], 1e-30))


def blend_background(scores: Matrix, shares: NDArray[np.float64], weight: float) -> Matrix:
    """Return ``(1 - weight) * scores + weight * shares``, float32.

    A query's share is the same for all categories, so that their order stays.

    Args:
        scores: ``(n, categories)``.
        shares: ``(n,)`` of :func:`in_scope_share`.
        weight: share of the latter, 0 to 1.
    """
    share = np.float32(weight)
    return (np.float32(1.0) - share) * scores + share * shares.astype(np.float32)[:, None]


def best_and_margin(scores: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's best score and its margin over the next best.

    The margin is 1 where there is only one category.
    """
    best = scores.max(axis=1).astype(np.float64)
    if scores.shape[1] == 1:
        return best, np.ones_like(best)
    second = np.partition(scores, -2, axis=1)[:, -2]
    return best, best - second


# First stage: a cheap encoder answers the queries with a high margin score; the index's own encoder scores the rest.
#
# Whichever stage answers, a query has one row of scores, so thresholds, decision and metrics are the same for both.


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Cheap encoder with a scorer of its own.

    Attributes:
        encoder: text to vectors of its own space.
        scorer: scores of all categories from those vectors.
        bar: minimum margin score at which it answers; see :func:`margin_score`.
    """

    encoder: Encoder
    scorer: CategoryScorer
    bar: float


def margin_score(scores: Matrix) -> Doubles:
    """Return the ``(n,)`` best score plus margin, to compare with a bar."""
    best, margin = best_and_margin(scores)
    return best + margin


def answers(scores: Matrix, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
    """Return a mask of the queries that the first stage answers.

    Their margin score reaches the bar, and the best category reaches its threshold.

    All other queries go to the index's own encoder, so that only this one ever rejects a query.

    Args:
        scores: ``(n, categories)`` of the first stage.
        thresholds: ``(categories,)`` minimum scores, or ``(n, categories)`` where each query has its own.
        bar: minimum margin score, for all queries or ``(n,)``.
    """
    top = scores.argmax(axis=1)
    minimum = thresholds[top] if thresholds.ndim == 1 else thresholds[np.arange(len(top)), top]
    best, margin = best_and_margin(scores)
    is_accepted: NDArray[np.bool_] = (best + margin >= bar) & (best >= minimum)
    return is_accepted


@dataclass(frozen=True, slots=True)
class BothScores:
    """Scores of both stages for the same queries.

    For choosing bars and thresholds; serving runs the second stage only if it is needed.

    Attributes:
        first: ``(n, categories)`` scores of the first stage; None where the index has none.
        second: ``(n, categories)`` scores of the index's own encoder.
    """

    first: Matrix | None
    second: Matrix

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> BothScores:
        """Select queries by mask or row numbers."""
        return BothScores(None if self.first is None else self.first[rows], self.second[rows])

    def answered(self, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
        """Return a ``(n,)`` mask of the queries that the first stage answers.

        See :func:`answers`.
        """
        if self.first is None:
            return np.zeros(len(self.second), dtype=np.bool_)
        return answers(self.first, thresholds, bar)

    def scores(self, thresholds: Doubles, bar: float | Doubles) -> Matrix:
        """Return the ``(n, categories)`` scores of the answering stage.

        As in serving.
        """
        if self.first is None:
            return self.second
        return np.where(self.answered(thresholds, bar)[:, None], self.first, self.second)

    def strongest(self, bar: float) -> Matrix:
        """Return the scores that stay accepted longest as thresholds rise.

        ``(n, categories)``, for fitting thresholds.

        A query that reaches the bar of the first stage is rejected once both best scores are below their thresholds:
        the higher one of the two decides (both stages nearly always have the same category then).
        """
        if self.first is None:
            return self.second
        stronger = (margin_score(self.first) >= bar) & (self.first.max(axis=1) > self.second.max(axis=1))
        return np.where(stronger[:, None], self.first, self.second)
