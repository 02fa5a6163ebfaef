"""A policy's curve against the best single model and against other policies.

Li et al., "LLMRouterBench: A Massive Benchmark and Unified Framework for LLM Routing", 2026,
https://arxiv.org/abs/2601.07206, metrics of the trade-off of performance and cost.
"""

from __future__ import annotations

import numpy as np

from semroute.evaluate.curves.hull import pareto
from semroute.evaluate.curves.shapes import ratio
from semroute.types.vectors import Doubles


def perf_gain(quality: Doubles, best_single: Doubles | float) -> Doubles:
    """PerfGain: ``max over the curve's (..., k) points of quality / best_single - 1``.

    The best point is chosen with the outcomes that it is measured on, which flatters it; name it so. NaN where the best
    single model's quality is 0.
    """
    return ratio(np.asarray(quality, np.float64).max(axis=-1), best_single) - 1


def cost_save(cost: Doubles, quality: Doubles, best_cost: Doubles | float, best_quality: Doubles | float) -> Doubles:
    """CostSave: ``1 - cost / best_cost`` at the cheapest of the curve's ``(..., k)`` points that is as good as the best
    single model.

    Only the points themselves count, nothing between them. Negative where being as good costs more than the model; NaN
    where no point is as good, or the model costs nothing.
    """
    enough = quality >= np.asarray(best_quality)[..., None]
    cheapest = np.where(enough, cost, np.inf).min(axis=-1)
    spent = ratio(cheapest, best_cost)
    return np.where(np.isfinite(spent), 1 - spent, np.nan)


def pareto_distance(cost: Doubles, quality: Doubles, all_cost: Doubles, all_quality: Doubles) -> float:
    """ParetoDist: the mean distance of a policy's ``(k,)`` points from the Pareto frontier of all points compared.

    The distance is Euclidean, to the nearest point of the frontier, with both axes scaled so that all points lie
    between 0 and 1 (the paper's axes have no common unit either; this scale is ours). 0 for a policy that is the
    frontier.
    """
    frontier = pareto(all_cost, all_quality)
    scale = [max(float(np.ptp(axis)), np.finfo(np.float64).tiny) for axis in (all_cost, all_quality)]
    across = (cost[:, None] - all_cost[frontier][None, :]) / scale[0]
    up = (quality[:, None] - all_quality[frontier][None, :]) / scale[1]
    return float(np.sqrt(across**2 + up**2).min(axis=1).mean())
