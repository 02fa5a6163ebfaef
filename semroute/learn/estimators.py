"""Gradient boosting (Friedman, "Stochastic gradient boosting", 2002), a sequence of small trees for each model."""

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
from semroute.types import Matrix

# From trees that scikit-learn has grown to the arrays of a head.


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


# What trains a head, by the conventions of scikit-learn: the constructor stores, ``fit`` returns self, ``head_`` is
# what came of it.

Known = NDArray[np.float64]
"""``(n, m)`` quality, NaN where it is not known; each model is known somewhere."""


class Estimator(Protocol):
    """Trains one head."""

    @property
    def head_(self) -> QueryHead:
        """What was trained last."""
        ...

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        ...


def out_of_fold(
    make: Estimator, inputs: QueryInputs, quality: Known, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Quality:
    """``(len(test), m)`` predictions by what was fitted on other rows."""
    return make.fit(inputs.take(train), quality[train]).head_.predict(inputs.take(test))


def group_by_missingness(quality: Known) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Columns that are known in the same rows, with these rows: they can be fitted at once.

    In complete outcomes these are all models; a model that joined later stands alone.
    """
    known = np.isfinite(quality)
    patterns, group = np.unique(known.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield np.flatnonzero(group.reshape(-1) == number), np.flatnonzero(pattern)


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


# Tables of quality by cluster, over k-means in FAISS.


class ClusterEstimator:
    """Several tables, each over clusters that were begun elsewhere.

    Args:
        tables: how many.
        rows_per_cluster: training rows for each cluster.
        most: clusters of a table.
        prior: rows of the overall mean that each cluster's mean is mixed with.
        seed: of the first table; the others take the numbers after it.
    """

    def __init__(
        self, tables: int = 6, rows_per_cluster: int = 30, most: int = 150, prior: float = 10.0, seed: int = 0
    ) -> None:
        self.tables = tables
        self.rows_per_cluster = rows_per_cluster
        self.most = most
        self.prior = prior
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        count = int(np.clip(len(inputs) // self.rows_per_cluster, 1, self.most))
        overall = np.nanmean(quality, axis=0)
        centroids, tables = [], []
        for number in range(self.tables):
            found = _centroids(inputs, count, self.seed + number)
            cluster = (inputs.vectors @ found.T).argmax(axis=1)
            sums, counts = group_sums(quality, cluster, count)
            centroids.append(found)
            tables.append((sums + self.prior * overall) / (counts + self.prior))
        self.head_ = ClusterHead(np.stack(centroids), np.stack(tables).astype(np.float32))
        return self


def _centroids(inputs: QueryInputs, count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    # Spherical, as vectors are compared by cosine; FAISS warns of clusters with few points, and those are mixed.
    clusters = faiss.Kmeans(
        inputs.vectors.shape[1], count, niter=15, seed=seed, spherical=True, min_points_per_centroid=1
    )
    clusters.train(np.ascontiguousarray(inputs.vectors))
    return np.asarray(clusters.centroids, np.float32).reshape(count, -1)


# A forest of extremely randomised trees (Geurts et al., Machine Learning 63, 2006).


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


# Ridge regression over vector and features.

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


# Nearest neighbours: nothing is fitted, the rows are kept.


class NeighbourEstimator:
    """k nearest neighbours by cosine.

    Args:
        k: neighbours that count.
        most: rows that are kept, drawn at random where there are more.
        seed: of the draw.
    """

    def __init__(self, k: int = 50, most: int = 100_000, seed: int = 0) -> None:
        self.k = k
        self.most = most
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(inputs))[: self.most])
        self.head_ = NeighbourHead(
            inputs.vectors[rows].astype(np.float16),
            quality[rows].astype(np.float32),
            np.asarray(np.nanmean(quality, axis=0)),
            min(self.k, len(rows)),
        )
        return self


# The rows that a classifier of queries is trained on.

LEAST_QUERIES = 50
"""Queries below which nothing is trained."""
LEAST_KNOWN = 30
"""Answers of a model below which it is not trained on."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What is trained on.

    Attributes:
        queries: ``n`` texts.
        inputs: their vectors and features.
        quality: ``(n, m)``, NaN where it is not known; every row and every model is known somewhere.
        models: ``m`` names.
    """

    queries: Sequence[str]
    inputs: QueryInputs
    quality: Known
    models: tuple[str, ...]

    @classmethod
    def of(
        cls, queries: Sequence[str], vectors: Matrix, quality: Known, models: tuple[str, ...], categories: Matrix
    ) -> TrainingRows:
        """The rows of ``n`` texts and their ``(n, d)`` unit vectors; ``categories`` as of :class:`Setting`."""
        return cls(queries, QueryInputs.of(queries, vectors, categories), quality, models)


@dataclass(frozen=True, slots=True)
class Usable:
    """Which rows can be trained on.

    Attributes:
        rows: their numbers in the table.
        left_out: rows that were left out: those that know no quality, and those beyond the most.
    """

    rows: NDArray[np.int64]
    left_out: int


def usable_rows(table: OutcomeTable, *, most: int, seed: int) -> Usable:
    """The rows that know the quality of a model; a sample of them where there are more than ``most``.

    Raises:
        InputError: too few, or a model with too few answers, or nobody has judged them.
    """
    check_judged(table)
    known = np.isfinite(table.quality)
    rows = np.flatnonzero(known.any(axis=1))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    if len(rows) < LEAST_QUERIES:
        raise InputError(
            f"{len(rows)} queries with the quality of an answer, and at least {LEAST_QUERIES} are needed to train; "
            f"{judging_remedy(table)}give more outcomes"
        )
    _check_models(table.take(rows))
    return Usable(rows, len(table) - len(rows))


def _check_models(table: OutcomeTable) -> None:
    models, counts = table.models, np.isfinite(table.quality).sum(axis=0)
    few = [(model, int(count)) for model, count in zip(models, counts, strict=True) if count < LEAST_KNOWN]
    if few:
        model, count = few[0]
        others = ",".join(name for name in models if name not in dict(few))
        raise InputError(
            f'the quality of "{model}" is known for {count} queries, and at least {LEAST_KNOWN} are needed; '
            f"{judging_remedy(table.with_models([model]))}give more outcomes of it, or leave it out with "
            f"--models {others or 'A,B'}"
        )
