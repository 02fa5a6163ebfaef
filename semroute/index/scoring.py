"""The one scoring path: build, tune, evaluate and serve all call :class:`Scorer`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.index.prototypes import PrototypeIndex
from semroute.types import CategoryScorer, Encoder, Head, Matrix
from semroute.types.protocols import Doubles


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability that the best category is the right one, from its score and its lead over the next.

    A logistic model with two inputs: Platt, "Probabilistic outputs for support vector machines", 1999, with the margin
    as second input. A query with one category only has a lead of 1.
    """

    bias: float
    score: float
    margin: float

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """``(n,)`` probabilities from ``(n, categories)`` scores."""
        best, margin = best_and_margin(scores)
        logit = self.bias + self.score * best + self.margin * margin
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores every category for a query.

    ``score = (1 - weight) * cosine to the nearest prototype + weight * probability of the head``. Without a head the
    score is the plain cosine.

    Attributes:
        prototypes: the index of centroids.
        head: a trained head over the same vectors, or None.
        weight: share of the head, 0 to 1; validation chose it.
        calibration: from scores to confidence.
    """

    prototypes: PrototypeIndex
    head: Head | None
    weight: float
    calibration: Calibration

    def scores(self, vectors: Matrix) -> Matrix:
        """``(n, categories)`` float32 scores of ``(n, d)`` unit vectors."""
        similarities = self.prototypes.similarities(vectors)
        if self.head is None or self.weight == 0.0:
            return similarities
        return blend(similarities, self.head.probabilities(vectors), self.weight)

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """``(n,)`` calibrated probability that the best category of each row of ``scores`` is right."""
        return self.calibration.confidence(scores)


def blend(similarities: Matrix, probabilities: Matrix, weight: float) -> Matrix:
    """The score: ``(1 - weight) * similarities + weight * probabilities``, float32."""
    share = np.float32(weight)
    return (np.float32(1.0) - share) * similarities + share * probabilities


def best_and_margin(scores: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best score of each row, and its lead over the next best (1 where there is no other category)."""
    best = scores.max(axis=1).astype(np.float64)
    if scores.shape[1] == 1:
        return best, np.ones_like(best)
    second = np.partition(scores, -2, axis=1)[:, -2]
    return best, best - second


# The rule of a first stage: a cheap encoder answers what it is sure of, and the index's own takes the rest.
#
# Whichever stage answers, a query has one row of scores, and everything after works on rows alone: the same thresholds,
# the same decision, the same figures.


@dataclass(frozen=True, slots=True)
class FirstStage:
    """A cheap encoder with a scorer of its own.

    Attributes:
        encoder: text to vectors of its own space.
        scorer: scores of all categories from those vectors.
        bar: the sureness from which on it answers; see :func:`sureness`.
    """

    encoder: Encoder
    scorer: CategoryScorer
    bar: float


def margin_score(scores: Matrix) -> Doubles:
    """``(n,)`` what a bar is compared with: the best score of each row plus its lead over the next best."""
    best, margin = best_and_margin(scores)
    return best + margin


def answers(scores: Matrix, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
    """Whether the first stage answers each query: it is sure, and its best category reaches its threshold.

    What it would reject always goes on, so that only the index's own encoder ever rejects a query.

    Args:
        scores: ``(n, categories)`` of the first stage.
        thresholds: ``(categories,)`` minimum scores, or ``(n, categories)`` where each query has its own.
        bar: for all queries, or ``(n,)``.
    """
    top = scores.argmax(axis=1)
    needed = thresholds[top] if thresholds.ndim == 1 else thresholds[np.arange(len(top)), top]
    best, margin = best_and_margin(scores)
    reached: NDArray[np.bool_] = (best + margin >= bar) & (best >= needed)
    return reached


@dataclass(frozen=True, slots=True)
class BothScores:
    """What both stages say of the same queries, for choosing bars and thresholds; serving asks the second only if it
    must.

    Attributes:
        first: ``(n, categories)`` scores of the first stage; None where the index has none.
        second: ``(n, categories)`` scores of the index's own encoder.
    """

    first: Matrix | None
    second: Matrix

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> BothScores:
        """Some of the queries."""
        return BothScores(None if self.first is None else self.first[rows], self.second[rows])

    def answered(self, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
        """``(n,)`` whether the first stage answers; see :func:`answers`."""
        if self.first is None:
            return np.zeros(len(self.second), dtype=np.bool_)
        return answers(self.first, thresholds, bar)

    def scores(self, thresholds: Doubles, bar: float | Doubles) -> Matrix:
        """``(n, categories)`` the row of the stage that answers, as in serving."""
        if self.first is None:
            return self.second
        return np.where(self.answered(thresholds, bar)[:, None], self.first, self.second)

    def strongest(self, bar: float) -> Matrix:
        """``(n, categories)`` the row that holds out longest as thresholds rise, for fitting those.

        A query that the first stage is sure of is rejected once both best scores are below their thresholds: the higher
        one of the two decides (both stages nearly always have the same category then).
        """
        if self.first is None:
            return self.second
        stronger = (margin_score(self.first) >= bar) & (self.first.max(axis=1) > self.second.max(axis=1))
        return np.where(stronger[:, None], self.first, self.second)
