"""Estimators of answer quality from a query: trees, ridge, clusters, k-NN.

Gradient boosting is that of Friedman, "Stochastic gradient boosting", 2002: a sequence of small trees for each model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.errors import InputError
from semroute.outcomes.files import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable, group_sums
from semroute.predictors.quality_heads import (
    LEAF,
    ClusterHead,
    LinearHead,
    NeighbourHead,
    Quality,
    QueryHead,
    TreesHead,
    design_matrix,
    tree_columns,
)
from semroute.predictors.query_features import QueryInputs
from semroute.text.signals import Signals
from semroute.types import Matrix

# Conversion of scikit-learn's trees to the arrays of a head.


class TreeEnsembleBuilder:
    """Builder of a tree head from trees of scikit-learn.

    Args:
        models: number of models that the head predicts.
    """

    def __init__(self, models: int) -> None:
        self._models = models
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("feature", "threshold", "left", "right")}
        self._values: list[Matrix] = []
        self._roots: list[int] = []
        self._nodes = 0

    def add(self, tree: Any, models: NDArray[np.int64], factor: float) -> None:
        """Add a tree of scikit-learn (``tree_``) that predicts some models.

        Its values are multiplied by ``factor``.
        """
        is_leaf = tree.children_left == -1
        node = np.arange(tree.node_count)
        for name, values in (
            ("feature", np.where(is_leaf, LEAF, tree.feature)),
            ("threshold", _down(tree.threshold)),
            ("left", self._nodes + np.where(is_leaf, node, tree.children_left)),
            ("right", self._nodes + np.where(is_leaf, node, tree.children_right)),
        ):
            self._parts[name].append(values)
        values = np.zeros((tree.node_count, self._models), np.float32)
        values[:, models] = tree.value[:, :, 0] * factor
        self._values.append(values)
        self._roots.append(self._nodes)
        self._nodes += tree.node_count

    def head(self, directions: Matrix, bias: NDArray[np.float64]) -> TreesHead:
        """Return the head of all trees."""
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return TreesHead(
            directions=directions,
            feature=arrays["feature"].astype(np.int32),
            threshold=arrays["threshold"],
            left=arrays["left"].astype(np.int32),
            right=arrays["right"].astype(np.int32),
            values=np.concatenate(self._values),
            roots=np.array(self._roots, np.int32),
            bias=bias,
        )


def main_directions(inputs: QueryInputs, count: int, seed: int) -> Matrix:
    """Return ``(d, count)`` principal directions of the vectors.

    At most as many as there are rows and dimensions.
    """
    decomposition = require("sklearn.decomposition", what="training a classifier", extra="build")
    count = min(count, *inputs.vectors.shape)
    pca = decomposition.PCA(count, svd_solver="randomized", random_state=seed).fit(inputs.vectors)
    return np.ascontiguousarray(pca.components_.T, np.float32)


def _down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round thresholds down to float32.

    For a float32 x, ``x <= threshold`` is unchanged.
    """
    rounded = threshold.astype(np.float32)
    return np.where(rounded.astype(np.float64) > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)


# Estimators follow the conventions of scikit-learn: the constructor stores, ``fit`` returns self, ``head_`` is the
# result.

Known = NDArray[np.float64]
"""``(n, m)`` quality, NaN where it is not known; each model is known in some row."""


class Estimator(Protocol):
    """Trainer of one head."""

    @property
    def head_(self) -> QueryHead:
        """Return the head of the last fit."""
        ...

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        ...


def out_of_fold(
    estimator: Estimator, inputs: QueryInputs, quality: Known, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Quality:
    """Return ``(len(test), m)`` out-of-fold predictions."""
    return estimator.fit(inputs.take(train), quality[train]).head_.predict(inputs.take(test))


def group_by_missingness(quality: Known) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Group the columns that are known in the same rows, to fit them at once.

    Yields columns and their rows. In complete outcomes all models are one group; a model that joined later is alone.
    """
    known = np.isfinite(quality)
    patterns, group = np.unique(known.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield np.flatnonzero(group.reshape(-1) == number), np.flatnonzero(pattern)


class BoostingEstimator:
    """Gradient-boosted regression of each model's quality.

    Args:
        trees: per model.
        rate: learning rate (shrinkage) of each tree.
        depth: of a tree.
        leaf: minimum rows of a leaf.
        columns: number of candidate columns of a split.
        directions: principal directions of the vectors.
        seed: of all random draws.
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
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        ensemble = require("sklearn.ensemble", what="training a classifier", extra="build")
        joblib = require("joblib", what="training a classifier", extra="build")
        directions = main_directions(inputs, self.directions, self.seed)
        columns = tree_columns(inputs, directions)
        bias = np.nanmean(quality, axis=0)
        # Growing a tree releases Python's lock (GIL), so threads are enough.
        grow = joblib.delayed(self._grown)
        trees_by_model = joblib.Parallel(n_jobs=-1, prefer="threads")(
            grow(ensemble, columns, column - mean) for column, mean in zip(quality.T, bias, strict=True)
        )
        builder = TreeEnsembleBuilder(quality.shape[1])
        for model, trees in enumerate(trees_by_model):
            for tree in trees:
                builder.add(tree.tree_, np.array([model]), self.rate)
        self.head_ = builder.head(directions, np.asarray(bias))
        return self

    def _grown(self, ensemble: Any, columns: Matrix, target: NDArray[np.float64]) -> list[Any]:
        """Return the trees of one model, on the rows where it is known."""
        rows = np.flatnonzero(np.isfinite(target))
        boosting = ensemble.GradientBoostingRegressor(
            n_estimators=self.trees, learning_rate=self.rate, max_depth=self.depth, min_samples_leaf=self.leaf,
            subsample=0.5, max_features=min(self.columns, columns.shape[1]), random_state=self.seed, init="zero",
        )  # fmt: skip
        return list(boosting.fit(columns[rows], target[rows]).estimators_[:, 0])


# Tables of mean quality by cluster, over k-means in FAISS.


class ClusterEstimator:
    """Tables of mean quality by cluster, each with its own k-means seed.

    Args:
        tables: number of tables.
        rows_per_cluster: training rows for each cluster.
        max_clusters: maximum clusters of a table.
        prior: rows of the overall mean that each cluster's mean is mixed with.
        seed: of the first table; the others take the numbers after it.
    """

    def __init__(
        self, tables: int = 6, rows_per_cluster: int = 30, max_clusters: int = 150, prior: float = 10.0, seed: int = 0
    ) -> None:
        self.tables = tables
        self.rows_per_cluster = rows_per_cluster
        self.max_clusters = max_clusters
        self.prior = prior
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        count = int(np.clip(len(inputs) // self.rows_per_cluster, 1, self.max_clusters))
        overall = np.nanmean(quality, axis=0)
        centroids, tables = [], []
        for number in range(self.tables):
            centroids_found = _centroids(inputs, count, self.seed + number)
            cluster = (inputs.vectors @ centroids_found.T).argmax(axis=1)
            sums, counts = group_sums(quality, cluster, count)
            centroids.append(centroids_found)
            tables.append((sums + self.prior * overall) / (counts + self.prior))
        self.head_ = ClusterHead(np.stack(centroids), np.stack(tables).astype(np.float32))
        return self


def _centroids(inputs: QueryInputs, count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    # Spherical, as vectors are compared by cosine; FAISS warns of clusters with few points, which the prior handles.
    clusters = faiss.Kmeans(
        inputs.vectors.shape[1], count, niter=15, seed=seed, spherical=True, min_points_per_centroid=1
    )
    clusters.train(np.ascontiguousarray(inputs.vectors))
    return np.asarray(clusters.centroids, np.float32).reshape(count, -1)


# Forest of extremely randomised trees (Geurts et al., Machine Learning 63, 2006).


class ForestEstimator:
    """Forest that predicts all models at once, from features and vectors.

    The vectors enter by their principal directions.

    Args:
        trees: number of trees.
        leaf: minimum rows of a leaf.
        directions: principal directions of the vectors.
        share: of the columns that are candidates of a split.
        seed: of all random draws.
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
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        ensemble = require("sklearn.ensemble", what="training a classifier", extra="build")
        directions = main_directions(inputs, self.directions, self.seed)
        columns = tree_columns(inputs, directions)
        builder = TreeEnsembleBuilder(quality.shape[1])
        for models, rows in group_by_missingness(quality):
            forest = ensemble.ExtraTreesRegressor(
                self.trees, min_samples_leaf=self.leaf, max_features=self.share, n_jobs=-1,
                random_state=self.seed,
            )  # fmt: skip
            cells = quality[np.ix_(rows, models)]
            forest.fit(columns[rows], cells if len(models) > 1 else cells[:, 0])
            for tree in forest.estimators_:
                builder.add(tree.tree_, models, 1.0 / self.trees)
        self.head_ = builder.head(directions, np.zeros(quality.shape[1]))
        return self


# Ridge regression over vector and features.

MIN_ROWS = 5
"""Rows below which a model gets its mean in place of a regression."""
PENALTIES = (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)


class LinearEstimator:
    """Ridge regression of each model's quality.

    The penalty is chosen by generalised cross-validation (scikit-learn's RidgeCV).

    Args:
        penalties: L2 penalties to choose from.
    """

    def __init__(self, penalties: tuple[float, ...] = PENALTIES) -> None:
        self.penalties = penalties

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        linear = require("sklearn.linear_model", what="training a classifier", extra="build")
        features = inputs.features.astype(np.float64)
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        scale = np.where(deviation > 1e-6, deviation, 1.0)
        columns = design_matrix(inputs, mean, scale)
        weights, bias = np.zeros((columns.shape[1], quality.shape[1])), np.zeros(quality.shape[1])
        for models, rows in group_by_missingness(quality):
            if len(rows) < MIN_ROWS:
                bias[models] = quality[np.ix_(rows, models)].mean(axis=0)
                continue
            ridge = linear.RidgeCV(alphas=self.penalties).fit(columns[rows], quality[np.ix_(rows, models)])
            weights[:, models] = np.reshape(ridge.coef_, (len(models), -1)).T
            bias[models] = ridge.intercept_
        self.head_ = LinearHead(mean, scale, weights, bias)
        return self


# Nearest neighbours: nothing is fitted, the rows are stored.


class NeighbourEstimator:
    """k-nearest-neighbour regression by cosine.

    Args:
        k: number of neighbours.
        max_rows: maximum rows stored, drawn at random where there are more.
        seed: of the draw.
    """

    def __init__(self, k: int = 50, max_rows: int = 100_000, seed: int = 0) -> None:
        self.k = k
        self.max_rows = max_rows
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of their answers."""
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(inputs))[: self.max_rows])
        self.head_ = NeighbourHead(
            inputs.vectors[rows].astype(np.float16),
            quality[rows].astype(np.float32),
            np.asarray(np.nanmean(quality, axis=0)),
            min(self.k, len(rows)),
        )
        return self


# Training rows of a classifier of queries.

MIN_QUERIES = 50
"""Minimum number of queries to train on."""
MIN_KNOWN = 30
"""Minimum number of known answers of a model to train on."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Training data of a classifier of queries.

    Attributes:
        queries: ``n`` texts.
        inputs: their vectors and features.
        quality: ``(n, m)``, NaN where it is not known; every row and every model has a known cell.
        models: ``m`` names.
        tasks: ``n`` names of tasks, which are left out whole to learn what carries over to new ones; None, and names
            that are all the same, leave out clusters of vectors.
        signals: of the conversation of each query, which are among its features; None where no row has any.
    """

    queries: Sequence[str]
    inputs: QueryInputs
    quality: Known
    models: tuple[str, ...]
    tasks: Sequence[str] | None = None
    signals: Sequence[Signals] | None = None

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        vectors: Matrix,
        quality: Known,
        models: tuple[str, ...],
        categories: Matrix,
        tasks: Sequence[str] | None = None,
        signals: Sequence[Signals] | None = None,
    ) -> TrainingRows:
        """Create the rows from ``n`` texts and their ``(n, d)`` unit vectors.

        ``categories`` is as of :class:`Setting`.
        """
        return cls(queries, QueryInputs.of(queries, vectors, categories, signals), quality, models, tasks, signals)

    @property
    def with_signals(self) -> int:
        """Number of rows of a conversation that has signals."""
        return 0 if self.signals is None else sum(map(bool, self.signals))


@dataclass(frozen=True, slots=True)
class Usable:
    """Selection of the rows that can be trained on.

    Attributes:
        rows: their numbers in the table.
        left_out: number of rows left out: without known quality, or beyond the maximum.
    """

    rows: NDArray[np.int64]
    left_out: int


def usable_rows(table: OutcomeTable, *, max_rows: int, seed: int) -> Usable:
    """Select the rows with known quality, sampled down to ``max_rows``.

    Raises:
        InputError: there are too few, a model has too few answers, or no answer was judged.
    """
    check_judged(table)
    is_known = np.isfinite(table.quality)
    rows = np.flatnonzero(is_known.any(axis=1))
    if len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:max_rows])
    if len(rows) < MIN_QUERIES:
        raise InputError(
            f"{len(rows)} queries have the quality of an answer, and at least {MIN_QUERIES} are needed to train; "
            f"{judging_remedy(table)}give more outcomes"
        )
    _check_models(table.take(rows))
    return Usable(rows, len(table) - len(rows))


def _check_models(table: OutcomeTable) -> None:
    models, counts = table.models, np.isfinite(table.quality).sum(axis=0)
    too_few = [(model, int(count)) for model, count in zip(models, counts, strict=True) if count < MIN_KNOWN]
    if too_few:
        model, count = too_few[0]
        remaining = ",".join(name for name in models if name not in dict(too_few))
        raise InputError(
            f'the quality of "{model}" is known for {count} queries, and at least {MIN_KNOWN} are needed; '
            f"{judging_remedy(table.with_models([model]))}give more outcomes of it, or leave it out with "
            f"--models {remaining or 'A,B'}"
        )
