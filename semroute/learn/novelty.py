"""Validate a classifier of queries on kinds that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import expected_calibration_error, perfect_calibration_error
from semroute.evaluate.replay import Fold, task_folds
from semroute.learn.estimators import Known, TrainingRows
from semroute.learn.stacking import calibration, squared_error, stack_weights
from semroute.predictors.novelty import NEAREST, Novelty, UnseenStack, length_column, log_lengths
from semroute.predictors.quality_heads import Quality, stacked
from semroute.types import Matrix
from semroute.types.protocols import Indices

Doubles = NDArray[np.float64]

PARTS = 3
"""Number of parts that whole kinds are left out in; more take longer to fit."""
MIN_ROWS = 30
"""Rows below which neither a part nor the rest of the rows validates anything."""
MAX_REFERENCES = 2048
"""Most training queries that distances are measured to: a decision searches them all."""
ROWS_PER_KIND, MAX_KINDS = 50, 12
"""Clusters of vectors stand for kinds where the outcomes name no tasks: one for so many rows, and at most so many."""
RANGES = ((60.0, 95.0), (80.0, 99.0), (95.0, 100.0))
"""Percentiles of the training queries' own distances, each without itself and its duplicates, between which the unseen
stack gets half the weight. The first is taken that costs little on left-out rows of known kinds, else the last. On
MMLU and ZeroEval, whole subjects and tasks left out, a start of 40 to 75 made hardly a difference.
"""
COST = 0.02
"""Increase of the squared error on left-out rows of known kinds that is accepted."""
LIMIT = 99.0
"""Percentile beyond which a query is called unlike the training queries."""
LENGTH = 0.02
"""Weight of the length rule: it orders queries where nothing else carries over. Fitted on few kinds it came out
anywhere between 0 and 1.2, and was wrong for the next kind.
"""
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class KindFolds:
    """Folds that leave whole kinds of queries out.

    Attributes:
        by: name of the kinds, "tasks" or "clusters".
        parts: the folds.
        fold: ``(n,)`` number of the fold of each row.
    """

    by: str
    parts: list[Fold]
    fold: Indices


def kind_folds(rows: TrainingRows, group: Indices, seed: int) -> KindFolds | None:
    """Split into folds of whole tasks; of clusters without named tasks.

    Args:
        rows: training rows.
        group: ``(n,)`` group of duplicates of each row.
        seed: of the draw.

    Returns:
        None where there are too few rows, or of one kind alone.
    """
    by, kinds = "tasks", list(rows.tasks or ())
    if len(set(kinds)) < 2:
        by, kinds = "clusters", _clusters(rows.inputs.vectors, seed)
    if len(set(kinds)) < 2:
        return None
    parts = task_folds(kinds, group, PARTS, seed=seed)
    if len(parts) < 2 or min(min(len(part.train), len(part.test)) for part in parts) < MIN_ROWS:
        return None
    fold = np.zeros(len(kinds), np.int64)
    for number, part in enumerate(parts):
        fold[part.test] = number
    return KindFolds(by, parts, fold)


def _clusters(vectors: Matrix, seed: int) -> list[str]:
    count = min(len(vectors) // ROWS_PER_KIND, MAX_KINDS)
    if count < 2 or not vectors.shape[1]:
        return []
    clusters = faiss.Kmeans(vectors.shape[1], count, niter=15, seed=seed, spherical=True, min_points_per_centroid=1)
    clusters.train(np.ascontiguousarray(vectors, np.float32))
    centroids = np.asarray(clusters.centroids, np.float32).reshape(count, -1)
    return [str(cluster) for cluster in (vectors @ centroids.T).argmax(axis=1).tolist()]


@dataclass(frozen=True, slots=True)
class NoveltyFigures:
    """Figures on rows of kinds that were left out, before and after blending.

    Attributes:
        by: name of the kinds, "tasks" or "clusters".
        parts: number of parts that they were left out in.
        unlike: share of the rows that count as unlike the training queries.
        squared_error_before, squared_error: of the stack for near queries alone, and blended with the unseen stack.
        calibration_error_before, calibration_error: likewise, mean over the models.
        perfect_calibration_error: what the error would be on average if the blended probabilities were true.
    """

    by: str
    parts: int
    unlike: float
    squared_error_before: float
    squared_error: float
    calibration_error_before: float
    calibration_error: float
    perfect_calibration_error: float

    @property
    def pays(self) -> bool:
        """True if blending lowers squared error without worse calibration."""
        return (
            self.squared_error < self.squared_error_before and self.calibration_error <= self.calibration_error_before
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Predictions for left-out rows of known kinds.

    Attributes:
        near: ``(n, m)`` by the stack, calibrated out of fold.
        heads: ``(n, m)`` of each head, out of fold.
        fold: ``(n,)`` number of the random fold of each row.
    """

    near: Quality
    heads: Sequence[Quality]
    fold: Indices


@dataclass(frozen=True, slots=True)
class TrainedNovelty:
    """A fitted novelty with the predictions of the training rows.

    Attributes:
        novelty: for the classifier.
        left_out: ``(n, m)`` out-of-fold predictions, blended as in a decision.
        unseen_distances: ``(n,)`` distances from the rows of other kinds.
        kinds: the folds of kinds.
        predictions: by head, ``(n, m)`` for rows of kinds that it was not fitted on.
    """

    novelty: Novelty
    left_out: Quality
    unseen_distances: Doubles
    kinds: KindFolds
    predictions: Sequence[Quality]


def fit_unseen(
    predictions: Sequence[Quality], quality: Known, prior: Doubles, lengths: Doubles, mean_length: float
) -> UnseenStack:
    """Fit weights and calibration on predictions for kinds that were left out.

    Args:
        predictions: by head, ``(n, m)``.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        lengths: ``(n,)`` log lengths.
        mean_length: of the training queries.
    """
    weights = stack_weights(predictions, quality, prior)
    raw = stacked(predictions, prior, weights) + LENGTH * length_column(lengths, mean_length, prior)
    slope, shift = calibration(raw, quality)
    # Few kinds show too little to make predictions for new ones more extreme; and without a head there are only the
    # means and the order by length, which no slope improves.
    shrinks = (slope <= 1.0) & weights.any()
    slope, shift = np.where(shrinks, slope, 1.0), np.where(shrinks, shift, 0.0)
    return UnseenStack(weights, slope, shift, (mean_length, LENGTH))


def fit_novelty(
    rows: TrainingRows,
    kinds: KindFolds,
    predictions: Sequence[Quality],
    known: LeftOut,
    group: Indices,
    seed: int,
) -> TrainedNovelty:
    """Fit the novelty of queries on the training rows.

    Args:
        rows: training rows.
        kinds: folds of whole kinds.
        predictions: by head, ``(n, m)`` for kinds that it was not fitted on.
        known: predictions for left-out rows of known kinds.
        group: ``(n,)`` group of duplicates of each row.
        seed: of the sample of references.
    """
    quality = np.asarray(rows.quality, np.float64)
    prior, lengths = np.asarray(np.nanmean(quality, axis=0)), log_lengths(rows.queries)
    vectors = rows.inputs.vectors
    chosen = np.sort(np.random.default_rng(seed).permutation(len(lengths))[:MAX_REFERENCES])
    references = vectors[chosen].astype(np.float16)
    as_stored = references.astype(np.float32)
    distances = _distances(vectors, as_stored, group, group[chosen])
    unseen_distances = _distances(vectors, as_stored, kinds.fold, kinds.fold[chosen])
    stack = fit_unseen(predictions, quality, prior, lengths, float(lengths.mean()))
    by_unseen = _left_out(rows, predictions, known.heads, known.fold)
    limit, accepted = float(np.percentile(distances, LIMIT)), (1.0 + COST) * squared_error(known.near, quality)
    for ends in RANGES:
        start, end = np.percentile(distances, ends).tolist()
        novelty = Novelty(references, start, end, limit, stack)
        share = novelty.share(distances)[:, None]
        blended = (1.0 - share) * known.near + share * by_unseen
        if squared_error(blended, quality) <= accepted:
            break
    return TrainedNovelty(novelty, blended, unseen_distances, kinds, predictions)


def _distances(vectors: Matrix, references: Matrix, group: Indices, group_of_reference: Indices) -> Doubles:
    """Return ``(n,)`` distances to the references of other groups."""
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines = vectors[rows] @ references.T
        cosines[group[rows, None] == group_of_reference] = np.nan
        count = min(NEAREST, len(references))
        nearest = -np.partition(-np.nan_to_num(cosines, nan=-1.0), count - 1, axis=1)[:, :count]
        found[rows] = 1.0 - nearest.mean(axis=1, dtype=np.float64)
    return found


def _left_out(
    rows: TrainingRows, fitted_on: Sequence[Quality], predictions: Sequence[Quality], fold: Indices
) -> Quality:
    """Return ``(n, m)`` out-of-fold predictions of the stacks.

    Args:
        rows: training rows.
        fitted_on: by head, ``(n, m)`` for kinds that it was not fitted on.
        predictions: by head, ``(n, m)`` that the stacks are applied to.
        fold: ``(n,)`` number of the fold of each row.
    """
    quality, lengths = np.asarray(rows.quality, np.float64), log_lengths(rows.queries)
    prior, mean_length = np.asarray(np.nanmean(quality, axis=0)), float(lengths.mean())
    result = np.empty(quality.shape)
    for number in np.unique(fold):
        in_fold, out_fold = fold == number, fold != number
        heads = [one[out_fold] for one in fitted_on]
        fitted = fit_unseen(heads, quality[out_fold], prior, lengths[out_fold], mean_length)
        result[in_fold] = fitted.predict([one[in_fold] for one in predictions], prior, lengths[in_fold])
    return result


def novelty_figures(trained: TrainedNovelty, rows: TrainingRows, near: Quality) -> NoveltyFigures:
    """Return the figures on kinds that were left out.

    Args:
        trained: the novelty.
        rows: training rows.
        near: ``(n, m)`` by the stack for near queries, from heads that were fitted without the row's kind.
    """
    quality, kinds = np.asarray(rows.quality, np.float64), trained.kinds
    share = trained.novelty.share(trained.unseen_distances)[:, None]
    blended = (1.0 - share) * near + share * _left_out(rows, trained.predictions, trained.predictions, kinds.fold)
    return NoveltyFigures(
        kinds.by,
        len(kinds.parts),
        float((trained.unseen_distances > trained.novelty.limit).mean()),
        squared_error(near, quality),
        squared_error(blended, quality),
        _calibration_error(near, quality),
        _calibration_error(blended, quality),
        float(np.mean([perfect_calibration_error(column) for column in _known(blended, quality)])),
    )


def _calibration_error(predicted: Quality, quality: Known) -> float:
    """Return the mean of the models' calibration errors."""
    pairs = zip(_known(predicted, quality), _known(quality, quality), strict=True)
    return float(np.mean([expected_calibration_error(told, truth) for told, truth in pairs]))


def _known(values: Quality, quality: Known) -> list[NDArray[Any]]:
    return [column[np.isfinite(known)] for column, known in zip(values.T, quality.T, strict=True)]
