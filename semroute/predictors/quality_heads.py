"""Heads that predict every model's quality from a query.

Clusters, a linear model, nearest neighbours, decision trees, and a fine-tuned encoder;
:mod:`semroute.predictors.query_quality` stacks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.encoders.onnx import TextGraph
from semroute.predictors.query_features import QueryInputs
from semroute.types import Matrix

# Protocol of a head.

Quality = NDArray[np.float64]
"""``(n, m)`` float64, by query and model; a prediction may slightly exceed 0..1."""

Arrays = Mapping[str, NDArray[Any]]


class QueryHead(Protocol):
    """Trained head, at inference.

    Attributes:
        kind: its name in an artifact.
        needs_vectors: true if it uses vectors and features; otherwise it uses the texts alone.
    """

    kind: ClassVar[str]
    needs_vectors: ClassVar[bool]

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        ...

    def arrays(self) -> Arrays:
        """Return the arrays of the head, by name."""
        ...


class ArrayHead(QueryHead, Protocol):
    """Head that consists of arrays alone."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Build the head from its :meth:`arrays`.

        Raises:
            KeyError, ValueError: the arrays are not those of such a head.
        """
        ...


@dataclass(frozen=True)
class ClusterHead:
    """Mean of several tables of quality, each over its own clusters.

    A query at the edge of a cluster in one table is inside a cluster of another.

    Attributes:
        centroids: ``(r, c, d)`` float32 unit rows.
        table: ``(r, c, m)`` float32 mean quality of each cluster, shrunk towards the overall mean.
    """

    centroids: Matrix
    table: Matrix

    kind: ClassVar[str] = "clusters"
    needs_vectors: ClassVar[bool] = True

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        predicted = np.zeros((len(inputs), self.table.shape[2]))
        for centroids, table in zip(self.centroids, self.table, strict=True):
            predicted += table[(inputs.vectors @ centroids.T).argmax(axis=1)]
        return predicted / len(self.table)

    def arrays(self) -> Arrays:
        """Return the arrays of the head, by name."""
        return {"centroids": self.centroids, "table": self.table}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Build the head from its arrays."""
        centroids, table = (np.asarray(arrays[name], np.float32) for name in ("centroids", "table"))
        if centroids.shape[:2] != table.shape[:2]:
            raise ValueError("clusters and their table do not fit together")
        return cls(centroids, table)


# Linear regression for each model, over vector and features.

CUT = 3.0
"""Standard deviations at which a feature is clipped, so that no unusual query exceeds the training data."""

VECTOR_WEIGHT = 20.0
"""Weight of a vector's unit length relative to one standard deviation of a feature, under the same penalty."""


@dataclass(frozen=True)
class LinearHead:
    """Linear regression on the vector and the standardised features.

    ``weights . [20 vector, clip((features - mean) / scale)] + bias``

    Attributes:
        mean, scale: ``(f,)`` float64 of the features.
        weights: ``(d + f, m)`` float64.
        bias: ``(m,)`` float64.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    kind: ClassVar[str] = "linear"
    needs_vectors: ClassVar[bool] = True

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        return np.asarray(design_matrix(inputs, self.mean, self.scale) @ self.weights + self.bias)

    def arrays(self) -> Arrays:
        """Return the arrays of the head, by name."""
        return {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Build the head from its arrays."""
        return cls(*(np.asarray(arrays[name], np.float64) for name in ("mean", "scale", "weights", "bias")))


def design_matrix(inputs: QueryInputs, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(n, d + f)`` design matrix of the linear head."""
    standard = np.clip((inputs.features - mean) / scale, -CUT, CUT)
    return np.hstack([inputs.vectors * VECTOR_WEIGHT, standard])


# Mean quality of the nearest training queries.

PRIOR = 5.0
"""Number of pseudo-neighbours of the overall mean quality that are mixed in."""

_NEIGHBOUR_CHUNK = 4096


@dataclass(frozen=True)
class NeighbourHead:
    """k nearest neighbours by cosine, searched exactly in FAISS.

    Attributes:
        vectors: ``(n, d)`` float16 unit rows of the training queries: half the memory, and cosines accurate to 1e-3.
        quality: ``(n, m)`` float32 of their answers, NaN where it is not known.
        prior: ``(m,)`` float64 mean quality.
        k: number of neighbours.
    """

    vectors: NDArray[np.float16]
    quality: Matrix
    prior: NDArray[np.float64]
    k: int
    _index: Any = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "neighbours"
    needs_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        index = faiss.IndexFlatIP(self.vectors.shape[1])
        index.add(np.ascontiguousarray(self.vectors, np.float32))
        object.__setattr__(self, "_index", index)

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        chunks = [
            self._neighbour_mean(inputs.vectors[start : start + _NEIGHBOUR_CHUNK])
            for start in range(0, len(inputs), _NEIGHBOUR_CHUNK)
        ]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.quality.shape[1]))

    def _neighbour_mean(self, vectors: Matrix) -> Quality:
        _, rows = self._index.search(np.ascontiguousarray(vectors), min(self.k, len(self.vectors)))
        neighbours = self.quality[rows].astype(np.float64)
        is_known = np.isfinite(neighbours)
        sums, counts = np.where(is_known, neighbours, 0.0).sum(axis=1), is_known.sum(axis=1)
        return np.asarray((sums + PRIOR * self.prior) / (counts + PRIOR))

    def arrays(self) -> Arrays:
        """Return the arrays of the head, by name."""
        return {"vectors": self.vectors, "quality": self.quality, "prior": self.prior, "k": np.array(self.k)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Build the head from its arrays."""
        vectors, quality = np.asarray(arrays["vectors"], np.float16), np.asarray(arrays["quality"], np.float32)
        k = int(arrays["k"])
        if {vectors.ndim, quality.ndim} != {2} or not 0 < len(vectors) == len(quality) or k < 1:
            raise ValueError("neighbours and their quality do not fit together")
        return cls(vectors, quality, np.asarray(arrays["prior"], np.float64), k)


# Ensemble of small decision trees over features and principal directions of vectors; leaf values are summed.

LEAF = -1
_TREE_CHUNK = 512


@dataclass(frozen=True)
class TreesHead:
    """Ensemble of decision trees, as arrays of nodes.

    Leaves of a forest hold their share of the mean; those of boosting, their step.

    Attributes:
        directions: ``(d, p)`` float32; vectors times these are the columns after the features.
        feature: ``(nodes,)`` int32, the column that a node compares; :data:`LEAF` for leaves.
        threshold: ``(nodes,)`` float32; values up to it go to the left child.
        left, right: ``(nodes,)`` int32 numbers of the children; a leaf is its own child.
        values: ``(nodes, m)`` float32, the contribution of a leaf.
        roots: ``(trees,)`` int32 numbers of the root nodes.
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

    _split_feature: NDArray[np.int32] = field(init=False, repr=False, compare=False)
    _children: NDArray[np.int32] = field(init=False, repr=False, compare=False)
    _depth: int = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "trees"
    needs_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # A leaf compares the first column, and both its children are itself: all trees are walked to the same depth.
        object.__setattr__(self, "_split_feature", np.maximum(self.feature, 0))
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
        """Minimum number of columns that the trees need."""
        return int(self.feature.max(initial=LEAF)) + 1

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        columns = tree_columns(inputs, self.directions)
        predicted = np.empty((len(inputs), len(self.bias)))
        for start in range(0, len(inputs), _TREE_CHUNK):
            part = columns[start : start + _TREE_CHUNK]
            predicted[start : start + _TREE_CHUNK] = self.values[self._leaves(part)].sum(axis=1, dtype=np.float64)
        return predicted + self.bias

    def _leaves(self, columns: Matrix) -> NDArray[np.int32]:
        """Return the ``(n, trees)`` leaf of each row in each tree.

        All trees are walked one level at a time.

        ``take`` from flat arrays is several times as fast as indexing with pairs, which counts for a single query.
        """
        cells, width = np.ascontiguousarray(columns).reshape(-1), columns.shape[1]
        offset = (np.arange(len(columns), dtype=np.int32) * width)[:, None]
        nodes = np.repeat(self.roots[None], len(columns), axis=0)
        for _ in range(self._depth):
            goes_left = cells.take(self._split_feature.take(nodes) + offset) <= self.threshold.take(nodes)
            nodes = self._children.take(2 * nodes + goes_left)
        return nodes

    def arrays(self) -> Arrays:
        """Return the arrays of the head, by name."""
        return {name: getattr(self, name) for name in _TYPES}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Build the head from its arrays."""
        values = {name: np.asarray(arrays[name], dtype) for name, dtype in _TYPES.items()}
        nodes = len(values["feature"])
        if {len(values[name]) for name in ("threshold", "left", "right", "values")} != {nodes}:
            raise ValueError("the arrays of trees are of different lengths")
        _check_trees(values["feature"], values["left"], values["right"], values["roots"])
        return cls(**values)


_TYPES: dict[str, type[np.generic]] = {
    "directions": np.float32, "feature": np.int32, "threshold": np.float32, "left": np.int32, "right": np.int32,
    "values": np.float32, "roots": np.int32, "bias": np.float64,
}  # fmt: skip


def _check_trees(
    feature: NDArray[np.int32], left: NDArray[np.int32], right: NDArray[np.int32], roots: NDArray[np.int32]
) -> None:
    """Raise unless the nodes form trees.

    Otherwise the walk would not end, or would double at each level.

    Raises:
        ValueError: a child is not a node, or a node is the child of two.
    """
    if not len(roots) or {feature.ndim, left.ndim, right.ndim, roots.ndim} != {1} or feature.min(initial=LEAF) < LEAF:
        raise ValueError("the arrays of trees hold no trees")
    inner = feature != LEAF
    references = np.concatenate([left[inner], right[inner], roots])
    if references.min() < 0 or references.max() >= len(feature) or len(np.unique(references)) != len(references):
        raise ValueError("a node of a tree has two parents, or none")


def tree_columns(inputs: QueryInputs, directions: Matrix) -> Matrix:
    """Return the ``(n, f + p)`` float32 columns that the trees compare."""
    return np.hstack([inputs.features, inputs.vectors @ directions]).astype(np.float32)


# Fine-tuned encoder: from the text to every model's quality in one ONNX graph.


@dataclass(frozen=True)
class TunedHead:
    """Fine-tuned transformer with a linear output for each model, int8.

    It uses the text alone.

    Attributes:
        graph: texts to ``(n, m)`` quality.
        model_path: its ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        models: number of models, ``m``.
        max_tokens: longest text; longer ones keep head and tail.
    """

    graph: TextGraph
    model_path: Path
    tokenizer_path: Path
    models: int
    max_tokens: int

    kind: ClassVar[str] = "tuned"
    needs_vectors: ClassVar[bool] = False

    def predict(self, inputs: QueryInputs) -> Quality:
        """Return the ``(n, m)`` predicted quality."""
        return self.graph(inputs.queries).astype(np.float64)

    def arrays(self) -> Arrays:
        """Return the parameters that :meth:`open` needs besides the files."""
        return {"models": np.array(self.models), "max_tokens": np.array(self.max_tokens)}

    @classmethod
    def open(cls, model_path: Path, tokenizer_path: Path, arrays: Arrays) -> TunedHead:
        """Open the head from its files.

        Raises:
            EncoderError: a file is missing or damaged.
            KeyError, ValueError: the arrays are not those of such a head.
        """
        models, max_tokens = int(arrays["models"]), int(arrays["max_tokens"])
        graph = TextGraph(model_path, tokenizer_path, width=models, max_tokens=max_tokens)
        return cls(graph, model_path, tokenizer_path, models, max_tokens)


# Stack of heads: the prior plus their weighted deviations, calibrated for each model.

SURE = 0.005
"""Distance from 0 and 1 to which raw predictions are clipped before calibration."""


def stacked(predictions: Sequence[Quality], prior: NDArray[np.float64], weights: NDArray[np.float64]) -> Quality:
    """Return the ``(n, m)`` prior plus the heads' weighted deviations."""
    total = np.zeros_like(predictions[0])
    for weight, predicted in zip(weights.tolist(), predictions, strict=True):
        total += weight * (predicted - prior)
    return total + prior


def logits(quality: Quality) -> Quality:
    """Return ``log(p / (1 - p))`` of predictions.

    They are clipped to ``SURE .. 1 - SURE`` first.
    """
    clipped = np.clip(quality, SURE, 1.0 - SURE)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


def calibrated(raw: Quality, slope: NDArray[np.float64], shift: NDArray[np.float64]) -> Quality:
    """Return ``(n, m)`` calibrated probabilities in 0..1."""
    return np.asarray(1.0 / (1.0 + np.exp(-(slope * logits(raw) + shift))))
