"""Ridge regression over vector and features."""

from __future__ import annotations

from typing import Self

import numpy as np

from semroute.extras import require
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.linear import LinearHead, design_matrix
from semroute.learn.queries.estimator import Known, group_by_missingness

LEAST = 5
"""Rows below which a model has its mean in place of a line."""
PENALTIES = (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)


class LinearEstimator:
    """Ridge regression of each model's quality; the penalty by generalised cross-validation (scikit-learn's RidgeCV).

    Args:
        penalties: L2 penalties to choose from.
    """

    def __init__(self, penalties: tuple[float, ...] = PENALTIES) -> None:
        self.penalties = penalties

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        linear = require("sklearn.linear_model", what="training a classifier", extra="build")
        features = inputs.features.astype(np.float64)
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        scale = np.where(deviation > 1e-6, deviation, 1.0)
        columns = design_matrix(inputs, mean, scale)
        weights, bias = np.zeros((columns.shape[1], quality.shape[1])), np.zeros(quality.shape[1])
        for models, rows in group_by_missingness(quality):
            if len(rows) < LEAST:
                bias[models] = quality[np.ix_(rows, models)].mean(axis=0)
                continue
            ridge = linear.RidgeCV(alphas=self.penalties).fit(columns[rows], quality[np.ix_(rows, models)])
            weights[:, models] = np.reshape(ridge.coef_, (len(models), -1)).T
            bias[models] = ridge.intercept_
        self.head_ = LinearHead(mean, scale, weights, bias)
        return self
