"""What validation chooses: prototypes per category, the share of the head, and the calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import accuracy
from semroute.extras import require
from semroute.index.scoring import Calibration, best_and_margin, blend
from semroute.learn.validation import HeldOut
from semroute.types import Matrix

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the head that are tried. Above a half the score says more about which category than about whether any."""


def choose_prototypes(held: HeldOut) -> int:
    """The number of prototypes that classifies held-out examples best; the smallest of equals."""
    return max(held.similarities, key=lambda choice: (accuracy(held.similarities[choice], held.labels), -choice))


def choose_weight(similarities: Matrix, probabilities: Matrix | None, labels: NDArray[np.int64]) -> float:
    """The smallest share of the head that is within half a standard error of the most accurate one.

    A small share is preferred because the similarity is what tells out-of-scope queries apart.
    """
    if probabilities is None:
        return 0.0
    by_weight = {weight: accuracy(blend(similarities, probabilities, weight), labels) for weight in WEIGHTS}
    best = max(by_weight.values())
    tolerance = 0.5 * float(np.sqrt(max(best * (1 - best), 1e-12) / len(labels)))
    return min(weight for weight, value in by_weight.items() if value >= best - tolerance)


def calibrate(scores: Matrix, labels: NDArray[np.int64]) -> Calibration:
    """Fit the probability that the best category is right, on scores of examples that the model did not see.

    Targets are smoothed as Platt does, ``(n+ + 1) / (n+ + 2)`` and ``1 / (n- + 2)``, so that a set without a single
    mistake does not give certainty.
    """
    linear = require("sklearn.linear_model", what="calibrating confidence", extra="build")
    best, margin = best_and_margin(scores)
    right = scores.argmax(axis=1) == labels
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    inputs = np.column_stack([best, margin])
    # A fractional target is the same row once with each label, weighted.
    model = linear.LogisticRegression(C=100.0, max_iter=1000)
    model.fit(
        np.concatenate([inputs, inputs]),
        np.repeat([1, 0], len(inputs)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return Calibration(bias=float(model.intercept_[0]), score=float(model.coef_[0, 0]), margin=float(model.coef_[0, 1]))
