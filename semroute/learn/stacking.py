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
from semroute.predictors.quality_heads import Quality, TunedHead
from semroute.predictors.query_quality import calibrated, logits, stacked
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
    for model, known in enumerate(quality.T):
        rows = np.isfinite(known)
        good = known[rows]
        if not len(good) or np.ptp(good) == 0:
            continue
        # Almost no penalty: two parameters from many rows need none.
        column = np.tile(score[rows, model], 2)[:, None]
        label = np.repeat([1, 0], len(good))
        fitted = linear.LogisticRegression(C=1e6).fit(column, label, sample_weight=np.concatenate([good, 1.0 - good]))
        if fitted.coef_[0, 0] > 0:
            slope[model], shift[model] = fitted.coef_[0, 0], fitted.intercept_[0]
    return slope, shift


def cross_calibrated(raw: Quality, quality: Known, fold: NDArray[np.int64]) -> Quality:
    """Return ``(n, m)`` probabilities, calibrated out of fold."""
    found = np.empty_like(raw)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        found[own] = calibrated(raw[own], *calibration(raw[others], quality[others]))
    return found


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
    losses = {name: squared_error(guess, quality) for name, guess in predictions.items()}
    best = min(losses, key=lambda name: losses[name])
    if len(predictions) == 1:
        return Stack(best, {best: 1.0}, losses, predictions[best])

    weights = _weights(list(predictions.values()), quality, prior)
    least = NEGLIGIBLE * weights.sum()
    # Where no head predicts better than the prior, all weights are 0 and none is dropped.
    kept = [name for name, weight in zip(predictions, weights, strict=True) if weight > least] or list(predictions)
    guesses = [predictions[name] for name in kept]
    whole = _crossed(guesses, quality, prior, fold)
    losses[STACK] = squared_error(whole, quality)
    if losses[STACK] >= losses[best]:
        return Stack(best, {best: 1.0}, losses, predictions[best])
    again = _weights(guesses, quality, prior).tolist()
    return Stack(STACK, dict(zip(kept, again, strict=True)), losses, whole)


def join(
    stack: Stack, name: str, guess: Quality, quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Stack:
    """Add a head that can be validated on few rows only to a stack.

    The weights of the others among themselves, from all rows, stay, and only the weight of the new head against them is
    fitted.

    Args:
        stack: of the others; ``left_out`` holds the ``k`` rows that the new head was not fitted on.
        name: of the new head.
        guess: ``(k, m)`` its predictions.
        quality: ``(k, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(k,)`` as of ``choose_stack``.

    Returns:
        ``stack`` itself where the weight of the new head is negligible, or the error with it is no smaller. The new
        head alone is never preferred for its smaller error: on few rows that is often luck. Losses are not filled in.
    """
    guesses = [stack.left_out, guess]
    beside, own = _weights(guesses, quality, prior).tolist()
    whole = _crossed(guesses, quality, prior, fold)
    least = NEGLIGIBLE * (beside + own)
    if own <= least or squared_error(whole, quality) >= squared_error(stack.left_out, quality):
        return stack
    # A stack is the prior and weighted differences from it, so that weights of weights are their products.
    others = {head: beside * weight for head, weight in stack.weights.items()} if beside > least else {}
    return Stack(STACK if others else name, others | {name: own}, {}, whole)


def _crossed(
    guesses: Sequence[Quality], quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Quality:
    """Return ``(n, m)`` stack predictions with out-of-fold weights."""
    whole = np.empty(quality.shape)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        weights = _weights([guess[others] for guess in guesses], quality[others], prior)
        whole[own] = stacked([guess[own] for guess in guesses], prior, weights)
    return whole


def squared_error(predicted: Quality, quality: Known) -> float:
    """Return the mean over known cells (the Brier score of binary quality)."""
    return float(np.nanmean((predicted - quality) ** 2))


def _weights(guesses: Sequence[Quality], quality: Known, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(h,)`` non-negative least squares weights.

    They are fitted over all known cells at once. The models share the weights, so that few rows of a new model do no
    harm.
    """
    optimize = require("scipy.optimize", what="training a classifier", extra="build")
    known = np.isfinite(quality)
    columns = np.column_stack([(guess - prior)[known] for guess in guesses])
    found, _ = optimize.nnls(columns, (quality - prior)[known])
    # All zero where no head predicts anything: the prediction is then the prior.
    return np.asarray(found, np.float64)


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
        _, own = np.unique(self.group[rows], return_inverse=True)
        return _numbers(k_folds(own, self.folds, seed=self.seed), len(rows))


def _numbers(parts: Sequence[Fold], count: int) -> Indices:
    found = np.zeros(count, np.int64)
    for number, part in enumerate(parts):
        found[part.test] = number
    return found


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
    every = np.arange(len(quality))
    fold = grouping.fold
    whole = choose_stack(predictions, quality, prior, fold) if predictions else None
    if tuned is None:
        assert whole is not None  # a classifier has a head
        return HeadChoice(whole, every, fold, len(every))
    rows, name = tuned.judged, TunedHead.kind
    known, own_fold = quality[rows], grouping.of_some(rows)
    if whole is None:
        return HeadChoice(choose_stack({name: tuned.predicted}, known, prior, own_fold), rows, own_fold, len(rows))
    here = replace(whole, left_out=whole.left_out[rows])
    found = join(here, name, tuned.predicted, known, prior, own_fold)
    losses = {head: squared_error(said[rows], known) for head, said in predictions.items()}
    losses[name] = squared_error(tuned.predicted, known)
    if found is not here or len(here.weights) > 1:
        losses[STACK] = squared_error(found.left_out, known)
    if found is here:
        return HeadChoice(replace(whole, losses=losses), every, fold, len(rows))
    return HeadChoice(replace(found, losses=losses), rows, own_fold, len(rows))
