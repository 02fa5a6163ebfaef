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


@dataclass(frozen=True, slots=True)
class Stack:
    """What was chosen.

    Attributes:
        chosen: the stack, or the name of the one head that did as well.
        weights: by head; one of 1 and no other where a single head was chosen.
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
    """Weigh the heads, or choose one of them where the stack is no better.

    Args:
        predictions: by head, ``(n, m)`` what it says of rows that it was not fitted on.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        fold: ``(n,)`` number of the part that a row was left out with; the weights that judge the stack on a part are
            fitted on the others.
    """
    names, guesses = list(predictions), list(predictions.values())
    whole = np.empty(quality.shape)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        weights = _weights([guess[others] for guess in guesses], quality[others], prior)
        whole[own] = stacked([guess[own] for guess in guesses], prior, weights)
    losses = {name: squared_error(guess, quality) for name, guess in predictions.items()}
    best = min(losses, key=lambda name: losses[name])
    losses[STACK] = squared_error(whole, quality)
    if len(names) > 1 and losses[STACK] < losses[best]:
        weights = _weights(guesses, quality, prior)
        return Stack(STACK, dict(zip(names, weights.tolist(), strict=True)), losses, whole)
    return Stack(best, {best: 1.0}, losses, predictions[best])


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
