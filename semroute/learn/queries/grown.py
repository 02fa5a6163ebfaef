"""From trees that scikit-learn has grown to the arrays of a head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.trees import LEAF, TreesHead
from semroute.types import Matrix


class TreeEnsembleBuilder:
    """Gathers trees.

    Args:
        models: how many models a leaf speaks of.
    """

    def __init__(self, models: int) -> None:
        self._models = models
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("feature", "threshold", "left", "right")}
        self._values: list[Matrix] = []
        self._roots: list[int] = []
        self._nodes = 0

    def add(self, tree: Any, models: NDArray[np.int64], factor: float) -> None:
        """Add a tree of scikit-learn (``tree_``) that predicts some of the models; its values are times ``factor``."""
        is_leaf = tree.children_left == -1
        own = np.arange(tree.node_count)
        for name, values in (
            ("feature", np.where(is_leaf, LEAF, tree.feature)),
            ("threshold", _down(tree.threshold)),
            ("left", self._nodes + np.where(is_leaf, own, tree.children_left)),
            ("right", self._nodes + np.where(is_leaf, own, tree.children_right)),
        ):
            self._parts[name].append(values)
        values = np.zeros((tree.node_count, self._models), np.float32)
        values[:, models] = tree.value[:, :, 0] * factor
        self._values.append(values)
        self._roots.append(self._nodes)
        self._nodes += tree.node_count

    def head(self, directions: Matrix, bias: NDArray[np.float64]) -> TreesHead:
        """The head of all trees."""
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return TreesHead(
            directions=directions,
            feature=whole["feature"].astype(np.int32),
            threshold=whole["threshold"],
            left=whole["left"].astype(np.int32),
            right=whole["right"].astype(np.int32),
            values=np.concatenate(self._values),
            roots=np.array(self._roots, np.int32),
            bias=bias,
        )


def main_directions(inputs: QueryInputs, count: int, seed: int) -> Matrix:
    """``(d, count)`` principal directions of the vectors, at most as many as there are rows and dimensions."""
    decomposition = require("sklearn.decomposition", what="training a classifier", extra="build")
    count = min(count, *inputs.vectors.shape)
    found = decomposition.PCA(count, svd_solver="randomized", random_state=seed).fit(inputs.vectors)
    return np.ascontiguousarray(found.components_.T, np.float32)


def _down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 that is not above: for a float32 x, ``x <= threshold`` stays what it is."""
    near = threshold.astype(np.float32)
    return np.where(near.astype(np.float64) > threshold, np.nextafter(near, np.float32(-np.inf)), near)
