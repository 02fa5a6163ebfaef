"""A policy as choices: for each query a model, from predicted quality, expected cost and what quality is worth.

With quality worth ``value`` USD per +1.0, the model with the highest ``value * quality - cost`` is chosen (Hu et al.,
RouterBench, 2024: willingness to pay). From 0, where only cost counts, to infinity, where only quality does, the value
draws the policy's curve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.types import Matrix

Costs = NDArray[np.float32] | NDArray[np.float64]
POINTS = 41
"""Values on a curve; the two ends among them."""

_SAMPLE = 20_000
_CHUNK = 65_536
_HALVINGS = 40


def choose(predicted: Matrix, expected_cost: Costs, value: float) -> NDArray[np.int64]:
    """``(n,)`` the chosen model of each query.

    Of models whose worth is equal, the cheaper is chosen, then the first.

    Args:
        predicted: ``(n, m)`` predicted quality.
        expected_cost: ``(n, m)`` USD.
        value: USD per +1.0 of quality, 0 to infinity.
    """
    choice = np.empty(len(predicted), np.int64)
    for start in range(0, len(predicted), _CHUNK):
        rows = slice(start, start + _CHUNK)
        choice[rows] = _choose(predicted[rows].astype(np.float64), expected_cost[rows].astype(np.float64), value)
    return choice


def _choose(predicted: NDArray[np.float64], cost: NDArray[np.float64], value: float) -> NDArray[np.int64]:
    worth = predicted if np.isinf(value) else value * predicted - cost
    best = worth.max(axis=1, keepdims=True)
    return np.asarray(np.where(worth == best, cost, np.inf).argmin(axis=1))


def value_within(predicted: Matrix, expected_cost: Costs, budget: float) -> float | None:
    """The highest value whose choices are expected to cost at most ``budget`` USD a query, on average.

    Higher values never choose cheaper models, so it is found by halving. None where even the cheapest are too dear.
    """

    def spent(value: float) -> float:
        choice = choose(predicted, expected_cost, value)
        return float(np.take_along_axis(expected_cost, choice[:, None], axis=1).mean(dtype=np.float64))

    if spent(0.0) > budget:
        return None
    if spent(np.inf) <= budget:
        return float(np.inf)
    turns = values(predicted, expected_cost)[1:-1]
    low, high = 0.0, float(turns[-1]) * 2.0 if len(turns) else 1.0
    while spent(high) <= budget:
        low, high = high, high * 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if spent(middle) <= budget else (low, middle)
    return low


def values(predicted: Matrix, expected_cost: Costs, points: int = POINTS, *, seed: int = 0) -> NDArray[np.float64]:
    """``(points,)`` values from 0 to infinity at which equally many queries change their model.

    A query changes from one model to a better and dearer one at ``(difference of cost) / (difference of quality)``; the
    values are quantiles of these over a sample of queries and all pairs of models. Where no query ever changes, the two
    ends alone.
    """
    rows = np.random.default_rng(seed).permutation(len(predicted))[:_SAMPLE]
    quality, cost = predicted[rows].astype(np.float64), expected_cost[rows].astype(np.float64)
    found = []
    for one in range(quality.shape[1]):
        better = quality - quality[:, [one]]
        dearer = cost - cost[:, [one]]
        changes = (better > 0) & (dearer > 0)
        found.append(dearer[changes] / better[changes])
    turns = np.concatenate(found) if found else np.zeros(0)
    if not len(turns):
        return np.array([0.0, np.inf])
    inner = np.unique(np.quantile(turns, np.linspace(0, 1, points - 2)))
    return np.concatenate([[0.0], inner[inner > 0], [np.inf]])
