"""Calibrate and stack the heads of the classifier of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.evaluate.replay import Fold, k_folds
from semroute.learn.estimators import Known
from semroute.learn.finetuning import TunedPart
from semroute.predictors.quality_heads import Quality, TunedHead, calibrated, logits, stacked
from semroute.types.protocols import Indices


def calibration(raw: Quality, quality: Known) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and shift of each model by Platt scaling.

    A quality between 0 and 1 counts in part as good and in part as bad. The slope is above 0, so that the order of
    queries is kept. A model with constant quality, or whose order would be reversed, keeps slope 1 and shift 0.

    Args:
        raw: ``(n, m)`` out-of-fold predictions.
        quality: ``(n, m)``, NaN where it is not known.

    Returns:
        ``(m,)`` slopes and ``(m,)`` shifts.
    """
    linear = require("sklearn.linear_model", what="training a classifier", extra="build")
    slope, shift = np.ones(raw.shape[1]), np.zeros(raw.shape[1])
    score = logits(raw)
    for model, known_quality in enumerate(quality.T):
        rows = np.isfinite(known_quality)
        truth = known_quality[rows]
        if not len(truth) or np.ptp(truth) == 0:
            continue
        # Almost no penalty: two parameters from many rows need none.
        column = np.tile(score[rows, model], 2)[:, None]
        label = np.repeat([1, 0], len(truth))
        fitted = linear.LogisticRegression(C=1e6).fit(column, label, sample_weight=np.concatenate([truth, 1.0 - truth]))
        if fitted.coef_[0, 0] > 0:
            slope[model], shift[model] = fitted.coef_[0, 0], fitted.intercept_[0]
    return slope, shift


def cross_calibrated(raw: Quality, quality: Known, fold: NDArray[np.int64]) -> Quality:
    """Return ``(n, m)`` probabilities, calibrated out of fold."""
    result = np.empty_like(raw)
    for number in np.unique(fold):
        in_fold, out_fold = fold == number, fold != number
        result[in_fold] = calibrated(raw[in_fold], *calibration(raw[out_fold], quality[out_fold]))
    return result


# Stacking: the heads are weighted by their out-of-fold predictions.
#
# Wolpert, "Stacked generalization", Neural Networks 5, 1992; weights of at least 0, which Breiman, "Stacked
# regressions", Machine Learning 24, 1996, found best.

STACK = "stack"

NEGLIGIBLE = 0.05
"""Share of all weight below which a head is dropped: it would cost time in every decision. (Dropping as many heads as
the cross-validated error allows was tried, and cost accuracy on new queries: that error is too coarse for it.)
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of heads, or a single head, with its out-of-fold predictions.

    Attributes:
        chosen: the stack, or the name of the one head that did as well.
        weights: by kept head; one of 1 and no other where a single head was chosen.
        losses: out-of-fold mean squared error, of each head and of the stack.
        left_out: ``(n, m)`` predictions for rows that neither heads nor weights were fitted on.
    """

    chosen: str
    weights: Mapping[str, float]
    losses: Mapping[str, float]
    left_out: Quality


def choose_stack(
    predictions: Mapping[str, Quality], quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Stack:
    """Choose the weights of the heads, or one head that is as good.

    Heads of negligible weight are dropped.

    Args:
        predictions: by head, its ``(n, m)`` out-of-fold predictions.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(n,)`` number of the fold that a row was left out with; the weights that evaluate the stack on a fold
            are fitted on the others.
    """
    losses = {name: squared_error(prediction, quality) for name, prediction in predictions.items()}
    best = min(losses, key=lambda name: losses[name])
    if len(predictions) == 1:
        return Stack(best, {best: 1.0}, losses, predictions[best])

    weights = stack_weights(list(predictions.values()), quality, prior)
    min_weight = NEGLIGIBLE * weights.sum()
    # Where no head predicts better than the prior, all weights are 0 and none is dropped.
    names = [name for name, weight in zip(predictions, weights, strict=True) if weight > min_weight] or list(
        predictions
    )
    kept_predictions = [predictions[name] for name in names]
    stacked = _cross_stacked(kept_predictions, quality, prior, fold)
    losses[STACK] = squared_error(stacked, quality)
    if losses[STACK] >= losses[best]:
        return Stack(best, {best: 1.0}, losses, predictions[best])
    final_weights = stack_weights(kept_predictions, quality, prior).tolist()
    return Stack(STACK, dict(zip(names, final_weights, strict=True)), losses, stacked)


def join(
    stack: Stack, name: str, prediction: Quality, quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Stack:
    """Add a head that can be validated on few rows only to a stack.

    The weights of the others among themselves, from all rows, stay, and only the weight of the new head against them is
    fitted.

    Args:
        stack: of the others; ``left_out`` holds the ``k`` rows that the new head was not fitted on.
        name: of the new head.
        prediction: ``(k, m)`` its predictions.
        quality: ``(k, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(k,)`` as of ``choose_stack``.

    Returns:
        ``stack`` itself where the weight of the new head is negligible, or the error with it is no smaller. The new
        head alone is never preferred for its smaller error: on few rows that is often luck. Losses are not filled in.
    """
    pair = [stack.left_out, prediction]
    stack_weight, head_weight = stack_weights(pair, quality, prior).tolist()
    stacked = _cross_stacked(pair, quality, prior, fold)
    min_weight = NEGLIGIBLE * (stack_weight + head_weight)
    if head_weight <= min_weight or squared_error(stacked, quality) >= squared_error(stack.left_out, quality):
        return stack
    # A stack is the prior and weighted differences from it, so that weights of weights are their products.
    joined = (
        {head: stack_weight * weight for head, weight in stack.weights.items()} if stack_weight > min_weight else {}
    )
    return Stack(STACK if joined else name, joined | {name: head_weight}, {}, stacked)


def _cross_stacked(
    predictions: Sequence[Quality], quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Quality:
    """Return ``(n, m)`` stack predictions with out-of-fold weights."""
    result = np.empty(quality.shape)
    for number in np.unique(fold):
        in_fold, out_fold = fold == number, fold != number
        weights = stack_weights([prediction[out_fold] for prediction in predictions], quality[out_fold], prior)
        result[in_fold] = stacked([prediction[in_fold] for prediction in predictions], prior, weights)
    return result


def squared_error(predicted: Quality, quality: Known) -> float:
    """Return the mean over known cells (the Brier score of binary quality)."""
    return float(np.nanmean((predicted - quality) ** 2))


def stack_weights(predictions: Sequence[Quality], quality: Known, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(h,)`` non-negative least squares weights.

    They are fitted over all known cells at once. The models share the weights, so that few rows of a new model do no
    harm.
    """
    optimize = require("scipy.optimize", what="training a classifier", extra="build")
    is_known = np.isfinite(quality)
    columns = np.column_stack([(prediction - prior)[is_known] for prediction in predictions])
    weights, _ = optimize.nnls(columns, (quality - prior)[is_known])
    # All zero where no head predicts anything: the prediction is then the prior.
    return np.asarray(weights, np.float64)


# Choice of the heads and weights of a classifier, and of the rows that it is validated on.


@dataclass(frozen=True)
class Grouping:
    """Folds over groups of duplicate queries.

    Attributes:
        group: ``(n,)`` duplicates are in one group, and in one fold.
        folds: number of folds.
        seed: of the draw.
    """

    group: Indices
    folds: int
    seed: int

    @cached_property
    def parts(self) -> list[Fold]:
        """Return the folds of all rows."""
        return k_folds(self.group, self.folds, seed=self.seed)

    @property
    def fold(self) -> Indices:
        """Return the ``(n,)`` fold number of each row."""
        return _numbers(self.parts, len(self.group))

    def of_some(self, rows: Indices) -> Indices:
        """Return the ``(k,)`` fold numbers of some rows, split on their own."""
        _, group_of_row = np.unique(self.group[rows], return_inverse=True)
        return _numbers(k_folds(group_of_row, self.folds, seed=self.seed), len(rows))


def _numbers(parts: Sequence[Fold], count: int) -> Indices:
    numbers = np.zeros(count, np.int64)
    for number, part in enumerate(parts):
        numbers[part.test] = number
    return numbers


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """The chosen heads.

    Attributes:
        stack: the heads and their weights; ``left_out`` is of the judged rows.
        judged: ``(k,)`` numbers of the validation rows: all, unless a tuned encoder is among the heads.
        fold: ``(k,)`` the fold of each.
        compared: number of rows that the losses are means over.
    """

    stack: Stack
    judged: Indices
    fold: Indices
    compared: int


def choose_heads(
    predictions: Mapping[str, Quality],
    tuned: TunedPart | None,
    quality: Known,
    prior: NDArray[np.float64],
    grouping: Grouping,
) -> HeadChoice:
    """Choose and weigh the heads, on all rows.

    A tuned encoder is weighed against their stack, on the rows that it was not tuned on. Where its weight is negligible
    the choice is that without it: few rows can validate it, and the others keep the benefit of all.

    Args:
        predictions: by head, its ``(n, m)`` out-of-fold predictions; may be empty with ``tuned``.
        tuned: an encoder tuned on a part of the rows.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        grouping: groups and folds.

    Raises:
        InputError: fewer groups than folds among the rows.
    """
    all_rows = np.arange(len(quality))
    fold = grouping.fold
    base = choose_stack(predictions, quality, prior, fold) if predictions else None
    if tuned is None:
        assert base is not None  # a classifier has a head
        return HeadChoice(base, all_rows, fold, len(all_rows))
    rows, name = tuned.judged, TunedHead.kind
    known_quality, fold_of_rows = quality[rows], grouping.of_some(rows)
    if base is None:
        return HeadChoice(
            choose_stack({name: tuned.predicted}, known_quality, prior, fold_of_rows), rows, fold_of_rows, len(rows)
        )
    base_on_rows = replace(base, left_out=base.left_out[rows])
    joined = join(base_on_rows, name, tuned.predicted, known_quality, prior, fold_of_rows)
    losses = {head: squared_error(prediction[rows], known_quality) for head, prediction in predictions.items()}
    losses[name] = squared_error(tuned.predicted, known_quality)
    if joined is not base_on_rows or len(base_on_rows.weights) > 1:
        losses[STACK] = squared_error(joined.left_out, known_quality)
    if joined is base_on_rows:
        return HeadChoice(replace(base, losses=losses), all_rows, fold, len(rows))
    return HeadChoice(replace(joined, losses=losses), rows, fold_of_rows, len(rows))
