"""Two numbers for each model that make its predictions probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.queries.classifier import calibrated, logits
from semroute.heads.queries.head import Quality
from semroute.learn.queries.estimator import Known


def calibration(raw: Quality, quality: Known) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and shift of each model (Platt scaling; a quality between 0 and 1 counts in part as good and in part as
    bad).

    The slope is above 0, so that the order of queries stays. A model that is always as good, or whose order would turn,
    keeps slope 1 and shift 0.

    Args:
        raw: ``(n, m)`` predictions for rows that were left out.
        quality: ``(n, m)``, NaN where it is not known.

    Returns:
        ``(m,)`` slopes and ``(m,)`` shifts.
    """
    linear = require("sklearn.linear_model", what="training a classifier", extra="build")
    slope, shift = np.ones(raw.shape[1]), np.zeros(raw.shape[1])
    score = logits(raw)
    for model, known in enumerate(quality.T):
        rows = np.isfinite(known)
        good = known[rows]
        if not len(good) or np.ptp(good) == 0:
            continue
        # Nearly no penalty: two numbers from many rows need none.
        column = np.tile(score[rows, model], 2)[:, None]
        label = np.repeat([1, 0], len(good))
        fitted = linear.LogisticRegression(C=1e6).fit(column, label, sample_weight=np.concatenate([good, 1.0 - good]))
        if fitted.coef_[0, 0] > 0:
            slope[model], shift[model] = fitted.coef_[0, 0], fitted.intercept_[0]
    return slope, shift


def cross_calibrated(raw: Quality, quality: Known, fold: NDArray[np.int64]) -> Quality:
    """``(n, m)`` probabilities, each by slope and shift that were fitted on the other parts."""
    found = np.empty_like(raw)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        found[own] = calibrated(raw[own], *calibration(raw[others], quality[others]))
    return found
