"""Train the classifier of queries: fit the heads, weigh them, calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.duplicates import duplicates
from semroute.evaluate.replay.folds import Fold
from semroute.heads.queries.classifier import QueryClassifier
from semroute.heads.queries.costs import CallCosts
from semroute.heads.queries.head import Quality, QueryHead
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.seen import seen_queries
from semroute.learn.queries.boosting import BoostingEstimator
from semroute.learn.queries.calibration import calibration, cross_calibrated
from semroute.learn.queries.choice import Grouping, choose_heads
from semroute.learn.queries.clusters import ClusterEstimator
from semroute.learn.queries.estimator import Estimator, Known, out_of_fold
from semroute.learn.queries.forest import ForestEstimator
from semroute.learn.queries.linear import LinearEstimator
from semroute.learn.queries.neighbours import NeighbourEstimator
from semroute.learn.queries.rows import TrainingRows
from semroute.learn.queries.stacking import Stack
from semroute.learn.queries.tuned_part import TunedPart
from semroute.types import Matrix
from semroute.types.progress import StepProgress

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
    """A classifier, and what it says of training rows when they were left out.

    Attributes:
        classifier: fitted on all rows, but for a tuned encoder.
        stack: what was chosen.
        judged: ``(k,)`` numbers of the rows that it was judged on: all, or, where a tuned encoder is among its heads,
            those that this has not seen.
        left_out: ``(k, m)`` calibrated; heads, weights and calibration were fitted on other rows.
        compared: rows that the heads' losses are means over: all, or those that a tuned encoder has not seen.
    """

    classifier: QueryClassifier
    stack: Stack
    judged: NDArray[np.int64]
    left_out: Quality
    compared: int


def train_queries(
    rows: TrainingRows,
    setting: Setting,
    *,
    heads: Mapping[str, Estimator] | None = None,
    tuned: TunedPart | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: StepProgress = lambda done, total: None,
) -> TrainedQueries:
    """Train on outcomes. The same rows, setting and seed give the same classifier.

    Queries that say the same are left out together.

    Args:
        rows: what is trained on.
        setting: what is known beside them.
        heads: what is tried, by name; all that there are when None.
        tuned: an encoder that was tuned on a part of these rows, one head more.
        folds: parts to leave out in turn.
        seed: of the parts.
        progress: called with the fits done and their total.

    Raises:
        InputError: fewer different queries than folds.
        MissingExtraError: the extra "build" is not installed.
    """
    tried = dict(estimators(seed) if heads is None else heads)
    inputs, quality = rows.inputs, np.asarray(rows.quality, np.float64)
    prior = np.asarray(np.nanmean(quality, axis=0))
    grouping = Grouping(duplicates(rows.queries, inputs.vectors).group, folds, seed)
    steps, total = count(1), len(tried) * (len(grouping.parts) + 1)

    def step() -> None:
        progress(next(steps), total)

    predictions = _left_out_by_each(tried, inputs, quality, grouping.parts, step)
    choice = choose_heads(predictions, tuned, quality, prior, grouping)
    stack, judged, known = choice.stack, choice.judged, quality[choice.judged]
    fitted: list[QueryHead] = []
    for name in stack.weights:
        fitted.append(tuned.head if tuned is not None and name not in tried else tried[name].fit(inputs, quality).head_)
        step()
    slope, shift = calibration(stack.left_out, known)
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
        seen=seen_queries(rows.queries),
    )
    progress(total, total)
    return TrainedQueries(
        classifier, stack, judged, cross_calibrated(stack.left_out, known, choice.fold), choice.compared
    )


def _left_out_by_each(
    tried: Mapping[str, Estimator], inputs: QueryInputs, quality: Known, parts: Sequence[Fold], step: Callable[[], None]
) -> dict[str, Quality]:
    """By head, ``(n, m)`` what it says of each row when it was fitted on the other parts."""
    prior = np.asarray(np.nanmean(quality, axis=0))
    predictions: dict[str, Quality] = {name: np.empty(quality.shape) for name in tried}
    for (name, estimator), part in product(tried.items(), parts):
        # A model that is not known in the other parts is predicted by its prior.
        filled = _with_known(quality, part.train, prior)
        predictions[name][part.test] = out_of_fold(estimator, inputs, filled, part.train, part.test)
        step()
    return predictions


def _with_known(quality: Known, train: NDArray[np.int64], prior: NDArray[np.float64]) -> Known:
    """The same, where a model of which no training row knows anything has its prior in the first of them."""
    lacking = ~np.isfinite(quality[train]).any(axis=0)
    if not lacking.any():
        return quality
    filled = quality.copy()
    filled[train[0], lacking] = prior[lacking]
    return filled
