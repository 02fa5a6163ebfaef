"""Gradient boosting (Friedman, "Stochastic gradient boosting", 2002), a sequence of small trees for each model."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.trees import tree_columns
from semroute.learn.queries.estimator import Known
from semroute.learn.queries.grown import TreeEnsembleBuilder, main_directions
from semroute.types import Matrix


class BoostingEstimator:
    """Boosted regression of each model's quality on its own.

    Args:
        trees: of each model.
        rate: what each tree counts.
        depth: of a tree.
        leaf: least rows of a leaf.
        columns: that a split chooses from.
        directions: main directions of vectors.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        trees: int = 100,
        rate: float = 0.06,
        depth: int = 4,
        leaf: int = 20,
        columns: int = 16,
        directions: int = 32,
        seed: int = 0,
    ) -> None:
        self.trees = trees
        self.rate = rate
        self.depth = depth
        self.leaf = leaf
        self.columns = columns
        self.directions = directions
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        ensemble = require("sklearn.ensemble", what="training a classifier", extra="build")
        joblib = require("joblib", what="training a classifier", extra="build")
        directions = main_directions(inputs, self.directions, self.seed)
        columns = tree_columns(inputs, directions)
        bias = np.nanmean(quality, axis=0)
        # Growing a tree holds no lock of Python's, so that threads are enough.
        grow = joblib.delayed(self._grown)
        found = joblib.Parallel(n_jobs=-1, prefer="threads")(
            grow(ensemble, columns, known - mean) for known, mean in zip(quality.T, bias, strict=True)
        )
        grove = TreeEnsembleBuilder(quality.shape[1])
        for model, trees in enumerate(found):
            for tree in trees:
                grove.add(tree.tree_, np.array([model]), self.rate)
        self.head_ = grove.head(directions, np.asarray(bias))
        return self

    def _grown(self, ensemble: Any, columns: Matrix, target: NDArray[np.float64]) -> list[Any]:
        """The trees of one model, on the rows where it is known."""
        rows = np.flatnonzero(np.isfinite(target))
        boosting = ensemble.GradientBoostingRegressor(
            n_estimators=self.trees, learning_rate=self.rate, max_depth=self.depth, min_samples_leaf=self.leaf,
            subsample=0.5, max_features=min(self.columns, columns.shape[1]), random_state=self.seed, init="zero",
        )  # fmt: skip
        return list(boosting.fit(columns[rows], target[rows]).estimators_[:, 0])
