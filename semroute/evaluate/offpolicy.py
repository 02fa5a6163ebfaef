"""What a policy would have done, from outcomes that know only the models that another policy tried.

Replaying such a log as if it knew all is biased: the model that was asked was chosen for that query. With the
probability with which each known answer came to be known, the estimates here are unbiased:

* IPS, inverse propensity score: Horvitz and Thompson, JASA, 1952; for policies Strehl et al., "Learning from Logged
  Implicit Exploration Data", NeurIPS 2010, https://arxiv.org/abs/1003.0120.
* SNIPS, self-normalised: Swaminathan and Joachims, NeurIPS 2015. A little biased in small samples, less variance.
* DR, doubly robust: Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011,
  https://arxiv.org/abs/1103.4601. Unbiased if the probabilities or the predictions are right; least variance.

The probability of an answer is that it is known at all (of a log with one model a query, that the model was chosen); it
must be above 0 for every model that the judged policy may choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.risk.units import Totals
from semroute.types import Matrix
from semroute.types.vectors import Doubles

Group = NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """A policy's mean quality (or cost) and how sure it is.

    Attributes:
        value: the estimate.
        error: its standard error, with queries of one group counted as one.
        matched: queries whose chosen model's answer is known.
        mean_weight: mean of the weights; near 1 where the probabilities are right.
    """

    value: float
    error: float
    matched: int
    mean_weight: float


def ips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """``mean of known * reward / probability`` over the chosen cells.

    Args:
        reward: ``(n, m)`` quality or cost, NaN where it is not known.
        probability: ``(n, m)`` in (0, 1], that the cell is known; only read where it is.
        choice: ``(n,)`` the models that the judged policy chooses.
        group: ``(n,)`` of each query: those that say the same are one draw; None where every query is its own.
    """
    weight, chosen = _chosen(reward, probability, choice)
    return _estimate(weight * chosen, weight, group)


def snips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """``sum of weight * reward / sum of weights``, with ``weight = known / probability``; arguments as of :func:`ips`.

    NaN where no chosen cell is known.
    """
    weight, chosen = _chosen(reward, probability, choice)
    if not weight.any():
        return OffPolicyEstimate(float("nan"), float("nan"), 0, 0.0)
    value = float((weight * chosen).sum() / weight.sum())
    # The ratio's linearisation: Owen, "Monte Carlo theory, methods and examples", 2013, section 9.2.
    part = weight * (chosen - value) / weight.mean()
    return OffPolicyEstimate(value, Totals.of(part, group).error, int((weight > 0).sum()), float(weight.mean()))


def doubly_robust(
    reward: Matrix, probability: Matrix, choice: NDArray[np.int64], predicted: Matrix, group: Group = None
) -> OffPolicyEstimate:
    """``mean of predicted + known * (reward - predicted) / probability`` over the chosen cells.

    Args:
        reward: as of :func:`ips`.
        probability: as of :func:`ips`.
        choice: as of :func:`ips`.
        predicted: ``(n, m)`` of every cell, from what was not fitted on the row itself.
        group: as of :func:`ips`.
    """
    weight, _ = _chosen(reward, probability, choice)
    completed = completed_by_prediction(reward, probability, predicted)
    return _estimate(_pick(completed, choice), weight, group)


def completed_by_prediction(reward: Matrix, probability: Matrix, predicted: Matrix) -> Matrix:
    """``(n, m)`` float32 with every cell filled, so that the mean over any policy's choices is its doubly robust value.

    ``predicted + known * (reward - predicted) / probability``; single cells may lie outside of 0..1. The arguments are
    those of :func:`doubly_robust`.
    """
    known = np.isfinite(reward)
    weight = np.where(known, 1 / np.where(known, probability, 1), 0)
    return (predicted + weight * (np.where(known, reward, 0) - predicted)).astype(np.float32)


def _chosen(reward: Matrix, probability: Matrix, choice: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """``(n,)`` weight of each row, 0 where its chosen cell is not known, and ``(n,)`` reward, 0 there."""
    picked, chance = _pick(reward, choice), _pick(probability, choice)
    known = np.isfinite(picked)
    return np.where(known, 1 / np.where(known, chance, 1), 0), np.where(known, picked, 0)


def _pick(cells: Matrix, choice: NDArray[np.int64]) -> Doubles:
    return np.take_along_axis(cells, choice[:, None], axis=1)[:, 0].astype(np.float64)


def _estimate(parts: Doubles, weight: Doubles, group: Group) -> OffPolicyEstimate:
    mean_weight = float(weight.mean()) if len(weight) else 0.0
    value = float(parts.mean()) if len(parts) else float("nan")
    return OffPolicyEstimate(value, Totals.of(parts, group).error, int((weight > 0).sum()), mean_weight)
