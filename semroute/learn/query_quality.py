"""Train the classifier of queries that predicts answer quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, product

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import auroc, expected_calibration_error, finite
from semroute.evaluate.replay import Fold, choose, replay, values
from semroute.learn.estimators import (
    BoostingEstimator,
    ClusterEstimator,
    Estimator,
    ForestEstimator,
    Known,
    LinearEstimator,
    NeighbourEstimator,
    TrainingRows,
    out_of_fold,
)
from semroute.learn.finetuning import TunedPart
from semroute.learn.novelty import (
    PARTS,
    LeftOut,
    NoveltyFigures,
    TrainedNovelty,
    fit_novelty,
    kind_folds,
    novelty_figures,
)
from semroute.learn.stacking import Grouping, Stack, calibration, choose_heads, cross_calibrated
from semroute.predictors.quality_heads import Quality, QueryHead, calibrated, stacked
from semroute.predictors.query_features import QueryInputs, signal_matrix
from semroute.predictors.query_quality import CallCosts, QueryClassifier, seen_queries
from semroute.text.normalise import digest_of
from semroute.text.signals import SIGNALS
from semroute.types import Matrix
from semroute.types.protocols import StepProgress

# Value of quality at which the choices match the best single model at the lowest cost.


@dataclass(frozen=True, slots=True)
class Worth:
    """A value of quality with its out-of-fold results.

    Attributes:
        value: USD per +1.0 of quality; infinity where only quality counts.
        quality: mean of the chosen answers.
        cost: mean USD a query.
        single_quality, single_cost: of the best single model.
        rows: number of complete rows that the results are from.
    """

    value: float
    quality: float
    cost: float
    single_quality: float
    single_cost: float
    rows: int


def matching_value(
    predicted: NDArray[np.float64],
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> Worth | None:
    """Return the lowest value that matches the best single model's quality.

    The value of the best quality where none matches it.

    Args:
        predicted: ``(n, m)`` out-of-fold predictions.
        quality: ``(n, m)``, NaN where it is not known: incomplete rows are not counted.
        cost: ``(n, m)`` USD of the calls.
        expected: ``(n, m)`` USD expected before the calls.

    Returns:
        None where no row is complete.
    """
    rows = np.flatnonzero(np.isfinite(quality).all(axis=1))
    if not len(rows):
        return None
    known_quality, cost_rows = quality[rows], cost[rows].astype(np.float64)
    predicted_rows, expected_rows = predicted[rows].astype(np.float32), expected[rows].astype(np.float32)
    means = known_quality.mean(axis=0)
    single = int(np.lexsort((cost_rows.mean(axis=0), -means))[0])
    best: Worth | None = None
    for value in values(predicted_rows, expected_rows).tolist():
        choice = choose(predicted_rows, expected_rows, value)
        mean_quality = float(replay(known_quality.astype(np.float32), choice).mean())
        spent = float(replay(cost_rows.astype(np.float32), choice).mean())
        candidate = Worth(
            value, mean_quality, spent, float(means[single]), float(cost_rows[:, single].mean()), len(rows)
        )
        if mean_quality >= candidate.single_quality:
            return candidate
        if best is None or mean_quality > best.quality:
            best = candidate
    return best


# Training of the classifier of queries: fit the heads, weigh them, calibrate.

FOLDS = 3
"""Number of folds; with a third fewer rows the heads compare nearly as with all."""


def estimators(seed: int = 0) -> dict[str, Estimator]:
    """Return the estimators that are tried by default, by name."""
    return {
        "linear": LinearEstimator(),
        "neighbours": NeighbourEstimator(seed=seed),
        "clusters": ClusterEstimator(seed=seed),
        "boosting": BoostingEstimator(seed=seed),
        "forest": ForestEstimator(seed=seed),
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of a classifier besides the rows.

    Attributes:
        encoder: fingerprint of the encoder that made the vectors.
        costs: expected costs of calls.
        categories: ``(c, d)`` unit rows whose similarity is a feature; may have no rows.
    """

    encoder: str
    costs: CallCosts
    categories: Matrix


@dataclass(frozen=True, slots=True)
class TrainedQueries:
    """A trained classifier with its out-of-fold predictions.

    Attributes:
        classifier: fitted on all rows, except a tuned encoder.
        stack: the chosen heads.
        judged: ``(k,)`` numbers of the validation rows: all, or, where a tuned encoder is among its heads, those that
            it was not tuned on.
        left_out: ``(k, m)`` calibrated; heads, weights and calibration were fitted on other rows.
        compared: number of rows that the heads' losses are means over: all, or those that a tuned encoder was not tuned
            on.
        novelty: figures on kinds of queries that were left out; None where the classifier tells no novelty.
    """

    classifier: QueryClassifier
    stack: Stack
    judged: NDArray[np.int64]
    left_out: Quality
    compared: int
    novelty: NoveltyFigures | None = None


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
    """Train a classifier of queries on outcomes.

    The same rows, setting and seed give the same classifier. Duplicate queries are in the same fold.

    Args:
        rows: training rows.
        setting: encoder, costs and categories.
        heads: estimators to try, by name; None tries all.
        tuned: an encoder that was tuned on a part of these rows, as one more head.
        folds: number of folds.
        seed: of the folds.
        progress: called with the fits done and their total.

    Raises:
        InputError: fewer distinct queries than folds.
        MissingExtraError: the extra "build" is not installed.
    """
    estimators_of = dict(estimators(seed) if heads is None else heads)
    inputs, quality = rows.inputs, np.asarray(rows.quality, np.float64)
    prior = np.asarray(np.nanmean(quality, axis=0))
    grouping = Grouping(duplicates(rows.queries, inputs.vectors).group, folds, seed)
    steps, total = count(1), len(estimators_of) * (len(grouping.parts) + 1 + PARTS)

    def step() -> None:
        progress(next(steps), total)

    predictions = _out_of_fold_by_head(estimators_of, inputs, quality, grouping.parts, step)
    choice = choose_heads(predictions, tuned, quality, prior, grouping)
    stack, judged, known_quality = choice.stack, choice.judged, quality[choice.judged]
    fitted: list[QueryHead] = []
    for name in stack.weights:
        fitted.append(
            tuned.head
            if tuned is not None and name not in estimators_of
            else estimators_of[name].fit(inputs, quality).head_
        )
        step()
    classifier = _calibrated(rows, setting, prior, fitted, stack, known_quality)
    left_out, figures = cross_calibrated(stack.left_out, known_quality, choice.fold), None
    kinds = kind_folds(rows, grouping.group, seed) if set(stack.weights) <= set(estimators_of) else None
    if kinds is not None:
        kept = {name: estimators_of[name] for name in stack.weights}
        unseen = list(_out_of_fold_by_head(kept, inputs, quality, kinds.parts, step).values())
        known = LeftOut(left_out, [predictions[name] for name in kept], choice.fold)
        novelty = fit_novelty(rows, kinds, unseen, known, grouping.group, seed)
        classifier, left_out, figures = _with_novelty(classifier, novelty, rows, unseen, left_out)
    progress(total, total)
    return TrainedQueries(classifier, stack, judged, left_out, choice.compared, figures)


def _with_novelty(
    classifier: QueryClassifier,
    novelty: TrainedNovelty,
    rows: TrainingRows,
    unseen: Sequence[Quality],
    left_out: Quality,
) -> tuple[QueryClassifier, Quality, NoveltyFigures]:
    """Return the classifier with a novelty, its predictions, and figures.

    Predictions are out of fold; the figures are those on kinds that were left out.

    ``unseen`` has each head's predictions for kinds that it was not fitted on.
    """
    near = calibrated(stacked(unseen, classifier.prior, classifier.weights), classifier.slope, classifier.shift)
    figures = novelty_figures(novelty, rows, near)
    classifier = replace(classifier, novelty=replace(novelty.novelty, takes_over=figures.pays))
    return classifier, novelty.left_out if figures.pays else left_out, figures


def _calibrated(
    rows: TrainingRows,
    setting: Setting,
    prior: NDArray[np.float64],
    heads: Sequence[QueryHead],
    stack: Stack,
    known_quality: Known,
) -> QueryClassifier:
    """Join the heads by their weights, calibrated on out-of-fold predictions."""
    slope, shift = calibration(stack.left_out, known_quality)
    return QueryClassifier(
        models=rows.models,
        prior=prior,
        heads=tuple(heads),
        weights=np.array(list(stack.weights.values())),
        slope=slope,
        shift=shift,
        categories=setting.categories,
        encoder=setting.encoder,
        costs=setting.costs,
        seen=seen_queries(rows.queries),
        signals=() if rows.signals is None else SIGNALS,
    )


def _out_of_fold_by_head(
    estimators_of: Mapping[str, Estimator],
    inputs: QueryInputs,
    quality: Known,
    parts: Sequence[Fold],
    step: Callable[[], None],
) -> dict[str, Quality]:
    """Return the ``(n, m)`` out-of-fold predictions of each head."""
    prior = np.asarray(np.nanmean(quality, axis=0))
    predictions: dict[str, Quality] = {name: np.empty(quality.shape) for name in estimators_of}
    for (name, estimator), part in product(estimators_of.items(), parts):
        # A model that is not known in the other folds is predicted by its prior.
        filled = _with_known(quality, part.train, prior)
        predictions[name][part.test] = out_of_fold(estimator, inputs, filled, part.train, part.test)
        step()
    return predictions


def _with_known(quality: Known, train: NDArray[np.int64], prior: NDArray[np.float64]) -> Known:
    """Fill in the prior of models without a known training row.

    It is set in the first training row.
    """
    is_unknown = ~np.isfinite(quality[train]).any(axis=0)
    if not is_unknown.any():
        return quality
    filled = quality.copy()
    filled[train[0], is_unknown] = prior[is_unknown]
    return filled


GOOD = 0.5
"""Quality from which an answer counts as good for AUROC."""


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """Out-of-fold accuracy of the predictions for one model.

    Attributes:
        known: rows where its quality is known.
        mean: mean quality; NaN where none is known.
        auroc: probability that a good answer was predicted better than a bad one; None where there is only one class.
        ece: calibration error, 15 bins.
    """

    known: int
    mean: float
    auroc: float | None
    ece: float


def model_figures(trained: TrainedQueries, rows: TrainingRows) -> dict[str, ModelFigures]:
    """Return the figures of every model."""
    figures = {}
    for column, model in enumerate(rows.models):
        quality = rows.quality[trained.judged, column]
        is_known = np.isfinite(quality)
        prediction, truth = trained.left_out[is_known, column], quality[is_known]
        is_good = truth >= GOOD
        figures[model] = ModelFigures(
            known=int(is_known.sum()),
            mean=float(truth.mean()) if len(truth) else float("nan"),
            auroc=auroc(prediction[is_good], prediction[~is_good]),
            ece=expected_calibration_error(prediction, truth),
        )
    return figures


def training_report(
    trained: TrainedQueries, rows: TrainingRows, worth: Worth | None, *, backbone: str | None = None, seed: int
) -> dict[str, object]:
    """Return the JSON-ready training report; infinity is null.

    ``backbone`` names the encoder that was tuned, if any.
    """
    import semroute

    return {
        "trained": {
            "semroute": semroute.__version__,
            "queries": len(rows.queries),
            "data_sha256": data_fingerprint(rows),
            "judged_on": len(trained.judged),
            "fine_tuned": backbone,
            **({"with_signals": rows.with_signals} if trained.classifier.needs_signals else {}),
            "seed": seed,
        },
        "validation": {
            "chosen": trained.stack.chosen,
            "weights": dict(trained.stack.weights),
            "squared_error": dict(trained.stack.losses),
            "squared_error_on": trained.compared,
            "models": finite({model: asdict(figures) for model, figures in model_figures(trained, rows).items()}),
            **_effort_shares(trained.classifier.costs),
            "new_kinds": None
            if trained.novelty is None
            else finite(asdict(trained.novelty) | {"pays": trained.novelty.pays}),
            "worth": None if worth is None else finite(asdict(worth)),
        },
    }


def _effort_shares(costs: CallCosts) -> dict[str, object]:
    """Return each model's length share by effort; nothing without efforts.

    The share is relative to the model's mean output tokens.
    """
    shares = {
        effort or "none asked": dict(zip(costs.models, row.tolist(), strict=True))
        for effort, row in zip(costs.efforts, costs.effort_share, strict=True)
    }
    return {"output_tokens_by_effort": shares} if shares else {}


def data_fingerprint(rows: TrainingRows) -> str:
    """Return the hex SHA-256 of queries, models, quality and any signals."""
    signals = b"" if rows.signals is None else signal_matrix(rows.signals).tobytes()
    return digest_of((*rows.models, *rows.queries), np.ascontiguousarray(rows.quality, np.float32).tobytes() + signals)
