"""Many small decision trees over features and the main directions of vectors; the sum of what their leaves say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Arrays, Quality
from semroute.heads.queries.inputs import QueryInputs
from semroute.types import Matrix

LEAF = -1
_CHUNK = 512


@dataclass(frozen=True)
class TreesHead:
    """Trees as arrays of nodes. A forest's leaves hold their share of the mean; those of boosting, their step.

    Attributes:
        directions: ``(d, p)`` float32: vectors times these stand after the features.
        feature: ``(nodes,)`` int32, the column that a node asks about; :data:`LEAF` for leaves.
        threshold: ``(nodes,)`` float32; up to it the left child is next.
        left, right: ``(nodes,)`` int32 numbers of the children; a leaf's are its own.
        values: ``(nodes, m)`` float32, what a leaf adds.
        roots: ``(trees,)`` int32.
        bias: ``(m,)`` float64.
    """

    directions: Matrix
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    values: Matrix
    roots: NDArray[np.int32]
    bias: NDArray[np.float64]

    _asked: NDArray[np.int32] = field(init=False, repr=False, compare=False)
    _children: NDArray[np.int32] = field(init=False, repr=False, compare=False)
    _depth: int = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "trees"
    needs_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # A leaf asks about the first column, and both its children are itself: all trees go down equally far.
        object.__setattr__(self, "_asked", np.maximum(self.feature, 0))
        object.__setattr__(self, "_children", np.column_stack([self.right, self.left]).reshape(-1))
        object.__setattr__(self, "_depth", self._levels())

    def _levels(self) -> int:
        levels, nodes = 0, self.roots
        while len(nodes := nodes[self.feature[nodes] != LEAF]):
            nodes = np.concatenate([self.left[nodes], self.right[nodes]])
            levels += 1
        return levels

    @property
    def columns(self) -> int:
        """The least number of columns that the trees need."""
        return int(self.feature.max(initial=LEAF)) + 1

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        columns = tree_columns(inputs, self.directions)
        found = np.empty((len(inputs), len(self.bias)))
        for start in range(0, len(inputs), _CHUNK):
            part = columns[start : start + _CHUNK]
            found[start : start + _CHUNK] = self.values[self._leaves(part)].sum(axis=1, dtype=np.float64)
        return found + self.bias

    def _leaves(self, columns: Matrix) -> NDArray[np.int32]:
        """``(n, trees)`` the leaf of each row in each tree: all trees go down a level at a time.

        ``take`` from flat arrays is several times as fast as indexing with pairs, which counts for a single query.
        """
        flat, width = np.ascontiguousarray(columns).reshape(-1), columns.shape[1]
        offset = (np.arange(len(columns), dtype=np.int32) * width)[:, None]
        nodes = np.repeat(self.roots[None], len(columns), axis=0)
        for _ in range(self._depth):
            goes_left = flat.take(self._asked.take(nodes) + offset) <= self.threshold.take(nodes)
            nodes = self._children.take(2 * nodes + goes_left)
        return nodes

    def arrays(self) -> Arrays:
        """Everything that it is made of, by name."""
        return {name: getattr(self, name) for name in _TYPES}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The head of these arrays."""
        found = {name: np.asarray(arrays[name], dtype) for name, dtype in _TYPES.items()}
        nodes = len(found["feature"])
        if {len(found[name]) for name in ("threshold", "left", "right", "values")} != {nodes}:
            raise ValueError("the arrays of trees are of different lengths")
        _check_trees(found["feature"], found["left"], found["right"], found["roots"])
        return cls(**found)


_TYPES: dict[str, type[np.generic]] = {
    "directions": np.float32, "feature": np.int32, "threshold": np.float32, "left": np.int32, "right": np.int32,
    "values": np.float32, "roots": np.int32, "bias": np.float64,
}  # fmt: skip


def _check_trees(
    feature: NDArray[np.int32], left: NDArray[np.int32], right: NDArray[np.int32], roots: NDArray[np.int32]
) -> None:
    """Refuse nodes that are no trees: going down would not end, or double at each level.

    Raises:
        ValueError: a child is no node, or a node is the child of two.
    """
    if not len(roots) or {feature.ndim, left.ndim, right.ndim, roots.ndim} != {1} or feature.min(initial=LEAF) < LEAF:
        raise ValueError("the arrays of trees hold no trees")
    inner = feature != LEAF
    told = np.concatenate([left[inner], right[inner], roots])
    if told.min() < 0 or told.max() >= len(feature) or len(np.unique(told)) != len(told):
        raise ValueError("a node of a tree is there twice, or not at all")


def tree_columns(inputs: QueryInputs, directions: Matrix) -> Matrix:
    """``(n, f + p)`` float32: what the trees ask about."""
    return np.hstack([inputs.features, inputs.vectors @ directions]).astype(np.float32)
