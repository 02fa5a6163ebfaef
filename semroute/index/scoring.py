"""The one scoring path: build, tune, evaluate and serve all call :class:`Scorer`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.index.prototypes import PrototypeIndex
from semroute.types import Head, Matrix


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
