"""Train the classifier of queries: fit the heads, weigh them, calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.duplicates import duplicates
from semroute.evaluate.replay.folds import Fold, k_folds
from semroute.heads.queries.classifier import QueryClassifier
from semroute.heads.queries.costs import CallCosts
from semroute.heads.queries.head import Quality
from semroute.heads.queries.inputs import Inputs
from semroute.learn.queries.boosting import BoostingEstimator
from semroute.learn.queries.calibration import calibration, cross_calibrated
from semroute.learn.queries.clusters import ClusterEstimator
from semroute.learn.queries.estimator import Estimator, Known, left_out
from semroute.learn.queries.forest import ForestEstimator
from semroute.learn.queries.linear import LinearEstimator
from semroute.learn.queries.neighbours import NeighbourEstimator
from semroute.learn.queries.stacking import Stack, choose_stack
from semroute.types import Matrix

Progress: TypeAlias = Callable[[int, int], None]

FOLDS = 3
"""Parts that heads are left out with; a third fewer rows tell enough of how the heads compare."""


def estimators(seed: int = 0) -> dict[str, Estimator]:
    """What is tried unless a caller says otherwise, by name."""
    return {
        "linear": LinearEstimator(),
        "neighbours": NeighbourEstimator(seed=seed),
        "clusters": ClusterEstimator(seed=seed),
        "boosting": BoostingEstimator(seed=seed),
        "forest": ForestEstimator(seed=seed),
    }


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
    inputs: Inputs
    quality: Known
    models: tuple[str, ...]

    @classmethod
    def of(
        cls, queries: Sequence[str], vectors: Matrix, quality: Known, models: tuple[str, ...], categories: Matrix
    ) -> TrainingRows:
        """The rows of ``n`` texts and their ``(n, d)`` unit vectors; ``categories`` as of :class:`Setting`."""
        return cls(queries, Inputs.of(queries, vectors, categories), quality, models)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a classifier knows beside the rows.

    Attributes:
        encoder: fingerprint of the encoder that made the vectors.
        costs: what calls are expected to cost.
        categories: ``(c, d)`` unit rows whose similarity is a feature; may have no rows.
    """

    encoder: str
    costs: CallCosts
    categories: Matrix


@dataclass(frozen=True, slots=True)
class TrainedQueries:
    """A classifier, and what it says of each training row when that row was left out.

    Attributes:
        classifier: fitted on all rows.
        stack: what was chosen.
        left_out: ``(n, m)`` calibrated; heads, weights and calibration were fitted on other rows.
    """

    classifier: QueryClassifier
    stack: Stack
    left_out: Quality


def train_queries(
    rows: TrainingRows,
    setting: Setting,
    *,
    heads: Mapping[str, Estimator] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> TrainedQueries:
    """Train on outcomes. The same rows, setting and seed give the same classifier.

    Queries that say the same are left out together.

    Raises:
        InputError: fewer different queries than folds.
        MissingExtraError: the extra "build" is not installed.
    """
    tried = dict(heads or estimators(seed))
    inputs, quality = rows.inputs, np.asarray(rows.quality, np.float64)
    prior = np.asarray(np.nanmean(quality, axis=0))
    parts = k_folds(duplicates(rows.queries, inputs.vectors).group, folds, seed=seed)
    total, done = len(tried) * (len(parts) + 1), 0
    predictions: dict[str, Quality] = {name: np.empty(quality.shape) for name in tried}
    for name, estimator in tried.items():
        for part in parts:
            # A model that is not known in the other parts is predicted by its prior.
            filled = _with_known(quality, part.train, prior)
            predictions[name][part.test] = left_out(estimator, inputs, filled, part.train, part.test)
            done += 1
            progress(done, total)
    fold = _numbers(parts, len(quality))
    stack = choose_stack(predictions, quality, prior, fold)
    fitted = []
    for name in stack.weights:
        fitted.append(tried[name].fit(inputs, quality).head_)
        done += 1
        progress(done, total)
    slope, shift = calibration(stack.left_out, quality)
    classifier = QueryClassifier(
        models=rows.models,
        prior=prior,
        heads=tuple(fitted),
        weights=np.array(list(stack.weights.values())),
        slope=slope,
        shift=shift,
        categories=setting.categories,
        encoder=setting.encoder,
        costs=setting.costs,
    )
    progress(total, total)
    return TrainedQueries(classifier, stack, cross_calibrated(stack.left_out, quality, fold))


def _with_known(quality: Known, train: NDArray[np.int64], prior: NDArray[np.float64]) -> Known:
    """The same, where a model of which no training row knows anything has its prior in the first of them."""
    lacking = ~np.isfinite(quality[train]).any(axis=0)
    if not lacking.any():
        return quality
    filled = quality.copy()
    filled[train[0], lacking] = prior[lacking]
    return filled


def _numbers(parts: Sequence[Fold], count: int) -> NDArray[np.int64]:
    found = np.zeros(count, np.int64)
    for number, part in enumerate(parts):
        found[part.test] = number
    return found
