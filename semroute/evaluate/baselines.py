"""Baseline quality predictors for comparisons, and out-of-fold prediction.

Each is fitted on the training rows of a split and predicts the test rows; see :func:`out_of_fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.replay import Fold
from semroute.outcomes.table import group_means, group_sums, numbered
from semroute.types import Matrix, QualityPredictor
from semroute.types.protocols import Indices

PRIOR = 10.0
"""Weight, in rows, of the overall mean in the mean of a task or cluster, so that few rows do not decide."""

ROWS_PER_CLUSTER = 30
MAX_CLUSTERS = 150


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """Queries of a comparison, and the quality of the answers to fit on.

    Attributes:
        queries: ``n`` texts.
        tasks: ``n`` names.
        vectors: ``(n, d)`` unit rows; None where there are none.
        quality: ``(n, m)`` of every model, of all rows; a predictor reads its training rows only.
        seed: of all random draws.
    """

    queries: Sequence[str]
    tasks: Sequence[str]
    vectors: Matrix | None
    quality: Matrix
    seed: int = 0


class BaselinePredictor(Protocol):
    """Predictor of the quality of every model's answer to the test rows."""

    def __call__(self, data: EvaluationData, train: Indices, test: Indices) -> Matrix:
        """Return ``(len(test), m)`` float32 predicted quality."""
        ...


def out_of_fold(predictor: BaselinePredictor, data: EvaluationData, folds: Sequence[Fold]) -> Matrix:
    """Predict each row by a fit without it.

    Returns:
        ``(n, m)`` float32; NaN for rows that are in no test part.
    """
    predicted = np.full(data.quality.shape, np.nan, np.float32)
    for fold in folds:
        predicted[fold.test] = predictor(data, fold.train, fold.test)
    return predicted


def mean_quality(data: EvaluationData, train: Indices, test: Indices) -> Matrix:
    """Predict the models' mean quality, the same for every query.

    It chooses the best single model, or the cheapest that is worth its price.
    """
    means = np.asarray(np.nanmean(data.quality[train], axis=0, dtype=np.float64))
    return np.repeat(means[None, :], len(test), axis=0).astype(np.float32)


def prompt_length(data: EvaluationData, train: Indices, test: Indices) -> Matrix:
    """Predict by least squares on the logarithm of the query's length.

    One straight line for each model, over characters. With two models the predicted gap is a line too, so within a fold
    queries are ordered by length alone, in the direction of the training rows.
    """
    length = np.log1p(lengths(data.queries))
    features = np.column_stack([np.ones(len(length)), length])
    lines, *_ = np.linalg.lstsq(features[train], data.quality[train].astype(np.float64), rcond=None)
    return np.asarray(features[test] @ lines, np.float32)


def lengths(queries: Sequence[str]) -> NDArray[np.float64]:
    """Return ``(n,)`` characters of each query."""
    return np.fromiter(map(len, queries), np.float64, len(queries))


def task_table(data: EvaluationData, train: Indices, test: Indices) -> Matrix:
    """Predict the models' mean quality in the query's task.

    It is mixed with :data:`PRIOR` rows of the overall mean. A task without training rows gets the overall mean, and a
    model without training rows the mean of all models.
    """
    names, task = numbered(data.tasks)
    return _table(data, train, task[train], task[test], len(names))


def cluster_table(data: EvaluationData, train: Indices, test: Indices) -> Matrix:
    """Predict the models' mean quality in the query's cluster of vectors.

    Clusters are from k-means, one for :data:`ROWS_PER_CLUSTER` training rows, at most :data:`MAX_CLUSTERS`; the means
    are mixed as in :func:`task_table`.

    Raises:
        InputError: there are no vectors.
    """
    import faiss

    if data.vectors is None:
        raise InputError("a cluster table needs the queries' vectors")
    count = int(np.clip(len(train) // ROWS_PER_CLUSTER, 1, MAX_CLUSTERS))
    fitted = np.ascontiguousarray(data.vectors[train], np.float32)
    # Spherical, as vectors are compared by cosine; FAISS draws at most max_points_per_centroid rows for each cluster.
    clusters = faiss.Kmeans(fitted.shape[1], count, niter=25, seed=data.seed, spherical=True, min_points_per_centroid=1)
    clusters.train(fitted)
    assigned = [clusters.index.search(np.ascontiguousarray(data.vectors[rows]), 1)[1][:, 0] for rows in (train, test)]
    return _table(data, train, assigned[0].astype(np.int64), assigned[1].astype(np.int64), count)


def fitted(fit: Callable[[Sequence[str], Matrix, Matrix], QualityPredictor]) -> BaselinePredictor:
    """Wrap a trainer as a predictor fitted on the training rows of each split.

    Args:
        fit: takes texts, ``(n, d)`` unit vectors and ``(n, m)`` quality, and returns a predictor of the same models in
            the same order.
    """

    def predict(data: EvaluationData, train: Indices, test: Indices) -> Matrix:
        vectors = _vectors(data)
        predictor = fit([data.queries[row] for row in train.tolist()], vectors[train], data.quality[train])
        return predictor.predict([data.queries[row] for row in test.tolist()], vectors[test])

    return predict


def _vectors(data: EvaluationData) -> Matrix:
    return np.zeros((len(data.queries), 0), np.float32) if data.vectors is None else data.vectors


def _table(
    data: EvaluationData, train: Indices, train_group: NDArray[np.int64], test_group: NDArray[np.int64], count: int
) -> Matrix:
    quality = data.quality[train]
    sums, counts = group_sums(quality, train_group, count)
    overall = group_means(quality, np.zeros(len(train), np.int64), 1)
    return ((sums + PRIOR * overall) / (counts + PRIOR)).astype(np.float32)[test_group]
