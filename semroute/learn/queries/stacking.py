"""The heads weighed against each other by what they say of rows that they were not fitted on.

Wolpert, "Stacked generalization", Neural Networks 5, 1992; weights of at least 0 as Breiman, "Stacked regressions",
Machine Learning 24, 1996, found best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.queries.classifier import stacked
from semroute.heads.queries.head import Quality
from semroute.learn.queries.estimator import Known

STACK = "stack"

NEGLIGIBLE = 0.05
"""Share of all weight below which a head is dropped: it would cost time in every decision. (To drop whatever the
cross-validated error can spare was tried, and cost accuracy on new queries: that error cannot tell so finely.)
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """What was chosen.

    Attributes:
        chosen: the stack, or the name of the one head that did as well.
        weights: by head, of those that are kept; one of 1 and no other where a single head was chosen.
        losses: mean squared error on left-out rows, of each head and of the stack.
        left_out: ``(n, m)`` what the choice says of rows that neither heads nor weights were fitted on.
    """

    chosen: str
    weights: Mapping[str, float]
    losses: Mapping[str, float]
    left_out: Quality


def choose_stack(
    predictions: Mapping[str, Quality], quality: Known, prior: NDArray[np.float64], fold: NDArray[np.int64]
) -> Stack:
    """Weigh the heads, or choose one of them where the stack is no better; heads that add next to nothing are dropped.

    Args:
        predictions: by head, ``(n, m)`` what it says of rows that it was not fitted on.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(n,)`` number of the part that a row was left out with; the weights that judge the stack on a part are
            fitted on the others.
    """
    losses = {name: squared_error(guess, quality) for name, guess in predictions.items()}
    best = min(losses, key=lambda name: losses[name])
    if len(predictions) == 1:
        return Stack(best, {best: 1.0}, losses, predictions[best])

    weights = _weights(list(predictions.values()), quality, prior)
    least = NEGLIGIBLE * weights.sum()
    # Where no head tells anything, all weights are 0 and none is dropped.
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
    """Weigh one head more against all the others, as few of whose rows can judge it: their weights among themselves,
    from all rows, stay, and only how much the new head counts beside them is fitted.

    Args:
        stack: of the others; ``left_out`` holds the ``k`` rows that the new head was not fitted on.
        name: of the new head.
        guess: ``(k, m)`` what it says.
        quality: ``(k, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(k,)`` as of ``choose_stack``.

    Returns:
        ``stack`` itself where the new head adds next to nothing, or the error with it is no smaller. The new head alone
        is never preferred for its smaller error: on few rows that is often luck. Losses are not filled in.
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
    """``(n, m)`` what the stack of some heads says of each part, with weights that were fitted on the others."""
    whole = np.empty(quality.shape)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        weights = _weights([guess[others] for guess in guesses], quality[others], prior)
        whole[own] = stacked([guess[own] for guess in guesses], prior, weights)
    return whole


def squared_error(predicted: Quality, quality: Known) -> float:
    """The mean over known cells (of good or bad alone: the Brier score)."""
    return float(np.nanmean((predicted - quality) ** 2))


def _weights(guesses: Sequence[Quality], quality: Known, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(h,)`` least squares with weights of at least 0, over all known cells at once.

    The models share the weights: few rows of a new model then take nothing from it.
    """
    optimize = require("scipy.optimize", what="training a classifier", extra="build")
    known = np.isfinite(quality)
    columns = np.column_stack([(guess - prior)[known] for guess in guesses])
    found, _ = optimize.nnls(columns, (quality - prior)[known])
    # All zero where no head tells anything: what is left is the prior.
    return np.asarray(found, np.float64)
