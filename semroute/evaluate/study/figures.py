"""The figures of one policy against the models themselves, each with its paired bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.arena import arena_score
from semroute.evaluate.curves.bootstrap import Interval, interval
from semroute.evaluate.curves.gains import cost_save, pareto_distance, perf_gain
from semroute.evaluate.curves.hull import aiq
from semroute.evaluate.replay.curve import Curve
from semroute.types.vectors import Doubles


@dataclass(frozen=True, slots=True)
class Reference:
    """The single models on all rows and on every resample; what policies are held against.

    Attributes:
        quality: ``(1 + resamples, m)`` mean quality of each model.
        cost: ``(1 + resamples, m)`` mean USD a query.
        best: ``(1 + resamples, 2)`` quality and cost of the best single model, chosen on the training rows of folds.
        zero: ``(1 + resamples,)`` AIQ of the zero router: the hull of the single models.
    """

    quality: Doubles
    cost: Doubles
    best: Doubles
    zero: Doubles

    @classmethod
    def of(cls, quality: Doubles, cost: Doubles, best: Doubles) -> Reference:
        """The reference of these means; arguments as the attributes."""
        low, high = cost.min(axis=1), cost.max(axis=1)
        return cls(quality, cost, best, _aiqs(cost, quality, low, high))

    def aiqs(self, cost: Doubles, quality: Doubles) -> Doubles:
        """``(1 + resamples,)`` AIQ of ``(1 + resamples, k)`` points, between the cheapest and the dearest cost."""
        return _aiqs(cost, quality, self.cost.min(axis=1), self.cost.max(axis=1))


@dataclass(frozen=True, slots=True)
class CurveFigures:
    """What a policy's curve is worth.

    Attributes:
        aiq: average improvement in quality, from the cheapest model's cost to the dearest's.
        aiq_gain: ``aiq`` less the zero router's.
        perf_gain: best point's quality relative to the best single model's, less 1.
        full_gain: the same for the end of the curve at which only quality counts: no point is chosen with the outcomes.
        cost_save: share of the best single model's cost that is saved by the cheapest point that is as good.
        pareto_distance: mean distance of its points from the frontier of all policies but the oracle.
        arena: best arena score of its points.
        matching: number of the cheapest point that is as good as the best single model, else of the best point.
    """

    aiq: Interval
    aiq_gain: Interval
    perf_gain: Interval
    full_gain: Interval
    cost_save: Interval
    pareto_distance: Interval
    arena: Interval
    matching: int


def curve_figures(curve: Curve, reference: Reference, frontier: tuple[Doubles, Doubles]) -> CurveFigures:
    """The figures of a curve.

    Args:
        curve: the policy's.
        reference: the single models on the same resamples.
        frontier: ``(1 + resamples, p)`` cost and quality of the points that make the frontier.
    """
    best_quality, best_cost = reference.best.T
    areas = reference.aiqs(curve.cost, curve.quality)
    rows = zip(curve.cost, curve.quality, *frontier, strict=True)
    distances = np.array([pareto_distance(*row) for row in rows])
    return CurveFigures(
        aiq=interval(areas),
        aiq_gain=interval(areas - reference.zero),
        perf_gain=interval(perf_gain(curve.quality, best_quality)),
        full_gain=interval(perf_gain(curve.quality[:, -1:], best_quality)),
        cost_save=interval(cost_save(curve.cost, curve.quality, best_cost, best_quality)),
        pareto_distance=interval(distances),
        arena=interval(arena_score(curve.quality, curve.cost).max(axis=1)),
        matching=matching(curve, float(best_quality[0])),
    )


def _aiqs(cost: Doubles, quality: Doubles, low: Doubles, high: Doubles) -> Doubles:
    return np.array([aiq(*row[:2], float(row[2]), float(row[3])) for row in zip(cost, quality, low, high, strict=True)])


def matching(curve: Curve, quality: float) -> int:
    """Number of the cheapest point that reaches ``quality``, else of the best (of equally good ones the cheapest)."""
    points, costs = curve.quality[0], curve.cost[0]
    enough: NDArray[np.bool_] = points >= quality
    if not enough.any():
        enough = points == points.max()
    return int(np.where(enough, costs, np.inf).argmin())
