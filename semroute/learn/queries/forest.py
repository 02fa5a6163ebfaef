"""A forest of extremely randomised trees (Geurts et al., Machine Learning 63, 2006)."""

from __future__ import annotations

from typing import Self

import numpy as np

from semroute.extras import require
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.trees import tree_columns
from semroute.learn.queries.estimator import Known, group_by_missingness
from semroute.learn.queries.grown import TreeEnsembleBuilder, main_directions


class ForestEstimator:
    """Trees that predict all models at once, over features and the main directions of vectors.

    Args:
        trees: how many.
        leaf: least rows of a leaf.
        directions: main directions of vectors.
        share: of the columns that a split chooses from.
        seed: of all that is drawn.
    """

    def __init__(
        self, trees: int = 150, leaf: int = 8, directions: int = 48, share: float = 0.25, seed: int = 0
    ) -> None:
        self.trees = trees
        self.leaf = leaf
        self.directions = directions
        self.share = share
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        ensemble = require("sklearn.ensemble", what="training a classifier", extra="build")
        directions = main_directions(inputs, self.directions, self.seed)
        columns = tree_columns(inputs, directions)
        grove = TreeEnsembleBuilder(quality.shape[1])
        for models, rows in group_by_missingness(quality):
            forest = ensemble.ExtraTreesRegressor(
                self.trees, min_samples_leaf=self.leaf, max_features=self.share, n_jobs=-1,
                random_state=self.seed,
            )  # fmt: skip
            known = quality[np.ix_(rows, models)]
            forest.fit(columns[rows], known if len(models) > 1 else known[:, 0])
            for tree in forest.estimators_:
                grove.add(tree.tree_, models, 1.0 / self.trees)
        self.head_ = grove.head(directions, np.zeros(quality.shape[1]))
        return self
