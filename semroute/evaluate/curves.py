"""Quality-cost curves and their metrics: arena score, AIQ, APGR, deferral.

The arena score is from "RouterArena: An Open Platform for Comprehensive Comparison of LLM Routers", 2025,
https://arxiv.org/abs/2510.00202; the other sections name their sources.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import Resampling, first_reaching, ratio, trapezoid
from semroute.types.protocols import Doubles

BETA = 0.1
"""Weight of cost against accuracy in the arena score; RouterArena's value."""
LOWEST, HIGHEST = 0.0044, 200.0
"""Range of USD per 1,000 queries over which the arena score scales costs."""


def arena_score(quality: Doubles | float, cost: Doubles | float, *, beta: float = BETA) -> Doubles:
    """Return the arena score, in 0..1.

    ``(1 + beta) * quality * cheapness / (beta * quality + cheapness)``: a weighted harmonic mean of the quality and of
    the cheapness ``(log2 HIGHEST - log2 c) / (log2 HIGHEST - log2 LOWEST)``, where ``c`` is the cost of 1,000 queries.
    Costs outside of the arena's range are clipped to it, so that a free model has a score; RouterArena's program
    refuses such costs.

    Args:
        quality: mean quality, 0..1.
        cost: mean USD a query.
        beta: weight of the cost.
    """
    accuracy = np.asarray(quality, np.float64)
    usd = np.clip(np.asarray(cost, np.float64) * 1000, LOWEST, HIGHEST)
    cheapness = np.log2(HIGHEST / usd) / np.log2(HIGHEST / LOWEST)
    denominator = beta * accuracy + cheapness
    return np.nan_to_num(ratio((1 + beta) * accuracy * cheapness, denominator))


# Cascades: quality over the share of queries deferred to the larger model.
#
# Gupta et al., "Language Model Cascades: Token-level uncertainty and beyond", ICLR 2024,
# https://arxiv.org/abs/2404.10136; Jitkrittum et al., "When Does Confidence-Based Cascade Deferral Suffice?",
# NeurIPS 2023, https://arxiv.org/abs/2307.02764.


def deferral_area(deferred: Doubles, quality: Doubles) -> Doubles:
    """Return the area under the deferral curve.

    It is the mean quality over all shares of queries deferred, from 0 to 1.

    Args:
        deferred: ``(..., k)`` share of queries deferred, ascending from 0 to 1.
        quality: ``(..., k)`` mean quality; straight lines between the points, which is what deferring at random among
            queries of equal confidence gives.
    """
    return trapezoid(deferred, quality)


def deferral_gain(deferred: Doubles, quality: Doubles) -> Doubles:
    """Return ``area / random - 1``, the gain over random deferral.

    The area is that of :func:`deferral_area`; the curve of random deferral is the straight line. NaN where random
    deferral has no quality at all.
    """
    random = (quality[..., 0] + quality[..., -1]) / 2
    return ratio(deferral_area(deferred, quality), random) - 1


# The non-decreasing convex hull of points of cost and quality, and the area under it.
#
# Hu et al., "RouterBench: A Benchmark for Multi-LLM Routing System", 2024, https://arxiv.org/abs/2403.12031.


def pareto(cost: Doubles, quality: Doubles) -> NDArray[np.int64]:
    """Return the numbers of ``(k,)`` Pareto-optimal points, costs ascending.

    A point is Pareto-optimal if no other is as cheap and better, or cheaper and as good. The first of equal points.
    """
    order = np.lexsort((np.arange(len(cost)), -quality, cost))
    best = np.maximum.accumulate(quality[order])
    is_better = np.append(True, best[1:] > best[:-1]) if len(order) else np.zeros(0, np.bool_)
    return np.asarray(order[is_better], np.int64)


def hull(cost: Doubles, quality: Doubles) -> tuple[Doubles, Doubles]:
    """Return the non-decreasing convex hull of ``(k,)`` points.

    The hull is the best quality at each cost that a random mixture of the points reaches.

    Choosing at random between two policies gives every point of the straight line between theirs (RouterBench,
    definition of interpolation), and spending more than a policy costs is no gain (extrapolation), so the hull starts
    at the cheapest point (of equally cheap ones, the best), ends at the best (of equally good ones, the cheapest),
    rises strictly and is concave. Points on a straight line between two others are left out.
    """
    corners: list[int] = []
    for point in pareto(cost, quality).tolist():
        while len(corners) > 1 and _is_below(cost, quality, corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return cost[corners], quality[corners]


def quality_at(hull_cost: Doubles, hull_quality: Doubles, budget: Doubles | float) -> Doubles:
    """Return the hull's quality at a mean cost of ``budget``.

    NaN below its cheapest point.
    """
    inside = np.interp(budget, hull_cost, hull_quality)
    return np.where(np.asarray(budget) < hull_cost[0], np.nan, inside)


def aiq(cost: Doubles, quality: Doubles, low: float, high: float) -> float:
    """Return the average improvement in quality (AIQ).

    The mean height of the hull of ``(k,)`` points over costs ``low`` to ``high``, ``1 / (high - low) * integral of the
    hull``. Beyond its last point the hull is extended level. Below its first point a router has no answer, and the
    height is 0: give all routers that are compared the same range, from the cheapest model's cost. (The authors'
    program starts at the router's own first point and divides by ``high``, not by ``high - low``.) NaN where ``high``
    is not above ``low``.
    """
    if not high > low:
        return float("nan")
    corners, heights = hull(cost, quality)
    start = max(low, float(corners[0]))
    if start >= high:
        return 0.0
    inside = (corners > start) & (corners < high)
    knots = np.concatenate([[start], corners[inside], [high]])
    return float(trapezoid(knots, np.interp(knots, corners, heights)) / (high - low))


def _is_below(cost: Doubles, quality: Doubles, left: int, middle: int, right: int) -> bool:
    """Return True if ``middle`` is not above the line ``left`` to ``right``."""
    rise = (quality[middle] - quality[left]) * (cost[right] - cost[left])
    return bool(rise <= (quality[right] - quality[left]) * (cost[middle] - cost[left]))


# A policy's curve against the best single model and against other policies.
#
# Li et al., "LLMRouterBench: A Massive Benchmark and Unified Framework for LLM Routing", 2026,
# https://arxiv.org/abs/2601.07206, metrics of the trade-off of performance and cost.


def perf_gain(quality: Doubles, best_single: Doubles | float) -> Doubles:
    """Return PerfGain: ``max of quality / best_single - 1`` over the points.

    The curve has ``(..., k)`` points. The best one is chosen with the outcomes that it is measured on, so the figure is
    optimistic; name it so. NaN where the best single model's quality is 0.
    """
    return ratio(np.asarray(quality, np.float64).max(axis=-1), best_single) - 1


def cost_save(cost: Doubles, quality: Doubles, best_cost: Doubles | float, best_quality: Doubles | float) -> Doubles:
    """Return CostSave: ``1 - cost / best_cost`` at the best model's quality.

    It is taken at the cheapest of the curve's ``(..., k)`` points of at least that quality. Only the points themselves
    count, without interpolation. Negative where that quality costs more than the model; NaN where no point reaches it,
    or the model costs nothing.
    """
    is_enough = quality >= np.asarray(best_quality)[..., None]
    cheapest = np.where(is_enough, cost, np.inf).min(axis=-1)
    spent = ratio(cheapest, best_cost)
    return np.where(np.isfinite(spent), 1 - spent, np.nan)


def pareto_distance(cost: Doubles, quality: Doubles, all_cost: Doubles, all_quality: Doubles) -> float:
    """Return ParetoDist: mean distance of ``(k,)`` points from the frontier.

    The frontier is that of all points compared. The distance is Euclidean, to the nearest point of the frontier, with
    both axes scaled so that all points lie between 0 and 1 (the paper's axes have no common unit either; this scale is
    ours). 0 for a policy that is the frontier.
    """
    frontier = pareto(all_cost, all_quality)
    scale = [max(float(np.ptp(axis)), np.finfo(np.float64).tiny) for axis in (all_cost, all_quality)]
    cost_distance = (cost[:, None] - all_cost[frontier][None, :]) / scale[0]
    up = (quality[:, None] - all_quality[frontier][None, :]) / scale[1]
    return float(np.sqrt(cost_distance**2 + up**2).min(axis=1).mean())


# Two models, one strong and one weak: quality over the share of queries that go to the strong one.
#
# Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", 2024, https://arxiv.org/abs/2406.18665.

_NO_GAP = 1e-12
"""Differences of two means below it are rounding."""


def strong_share_curve(
    score: NDArray[np.floating], weak: NDArray[np.floating], strong: NDArray[np.floating]
) -> tuple[Doubles, Doubles]:
    """Return mean quality over the share of queries sent to the strong model.

    The highest scores go first. The curve runs from all queries at the weak model to all at the strong one, with a
    point for each threshold that separates queries. Of queries of equal score a share is taken at random, which is the
    straight line between the points on either side.

    Args:
        score: ``(n,)`` predicted need of the strong model.
        weak: ``(n,)`` quality of the weak model's answers.
        strong: ``(n,)`` quality of the strong model's answers.

    Returns:
        ``(k,)`` share in 0..1, ascending from 0 to 1, and ``(k,)`` mean quality.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    gain = np.cumsum((np.asarray(strong, np.float64) - weak)[order])
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    n = len(score)
    share = np.append(0.0, (np.flatnonzero(is_last) + 1) / n)
    quality = np.mean(weak, dtype=np.float64) + np.append(0.0, gain[is_last] / n)
    return share, quality


def pgr(quality: Doubles, weak: Doubles | float, strong: Doubles | float) -> Doubles:
    """Return ``(quality - weak) / (strong - weak)``, the gap recovered (PGR).

    0 is as good as the weak model, 1 as the strong one. NaN where the strong model is not better: there is no gap.
    """
    gap = np.asarray(strong, np.float64) - weak
    return ratio(np.asarray(quality, np.float64) - weak, np.where(gap > _NO_GAP, gap, 0.0))


def apgr(share: Doubles, quality: Doubles) -> Doubles:
    """Return the average performance gap recovered (APGR).

    It is the mean of :func:`pgr` over all shares from 0 to 1.

    RouteLLM's measure as the exact area under the piecewise linear curve; the authors' program takes the trapezoids
    of ten thresholds at equal numbers of queries. 0.5 is what random routing gives; NaN where there is no gap.

    Args:
        share: ``(..., k)`` as of :func:`strong_share_curve`.
        quality: ``(..., k)`` as of :func:`strong_share_curve`.
    """
    return pgr(trapezoid(share, quality), quality[..., 0], quality[..., -1])


def cpt(share: Doubles, quality: Doubles, level: float) -> Doubles:
    """Return the call-performance threshold (CPT).

    It is the smallest share of strong calls with which :func:`pgr` is ``level``: CPT(50%) is ``cpt(share, quality,
    0.5)``. Between points of the curve it is interpolated, and where the curve passes the level more than once, the
    first time counts. (The authors' program interpolates share over quality, which takes the quality to ascend.) NaN
    where there is no gap or the level is not reached.
    """
    gaps = pgr(quality, quality[..., :1], quality[..., -1:])
    smallest = first_reaching(share, gaps, level)
    return np.where(np.isfinite(gaps[..., 0]), smallest, np.nan)


# The metrics of two models and of predictions on every resample at once.
#
# A curve over all queries would need all of them again for each resample. Its points are therefore merged into at most
# :data:`MAX_KNOTS` steps of equal numbers of queries first, queries of equal score together; the figure on the
# original rows is computed on the same steps. On 100,000 queries that moves an APGR by a millionth or two.

MAX_KNOTS = 1000


def steps(score: NDArray[np.floating], max_steps: int = MAX_KNOTS) -> NDArray[np.int64]:
    """Return the ``(n,)`` step of each row, the highest scores in step 0.

    Equal scores share a step.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    is_new = np.append(False, ordered[1:] != ordered[:-1])
    group = np.cumsum(is_new)
    if len(score) and group[-1] >= max_steps:
        # A step starts where its first row would be due if all scores differed.
        start = np.flatnonzero(np.append(True, is_new[1:])) * max_steps // len(score)
        group = np.unique(start, return_inverse=True)[1][group]
    step = np.empty(len(score), np.int64)
    step[order] = group
    return step


def by_step(resampling: Resampling, step: NDArray[np.int64], values: NDArray[np.floating]) -> Doubles:
    """Return ``(1 + resamples, steps, k)`` sums of ``(n, k)`` values by step.

    The first are over all rows, the others over every resample.
    """
    batches, count = resampling.weights.shape[1], int(step.max()) + 1
    cell = resampling.batch * count + step
    tables = [
        resampling.resampled(np.bincount(cell, weights=column, minlength=batches * count).reshape(batches, count))
        for column in values.T
    ]
    return np.stack(tables, axis=-1)


def strong_share_curves(
    resampling: Resampling,
    score: NDArray[np.floating],
    weak: NDArray[np.floating],
    strong: NDArray[np.floating],
) -> tuple[Doubles, Doubles]:
    """Return the strong-share curve on all rows and on every resample.

    See :func:`~semroute.evaluate.curves.strong_share_curve`.

    Returns:
        ``(1 + resamples, k)`` share and quality, for :func:`~semroute.evaluate.curves.apgr` and
        :func:`~semroute.evaluate.curves.cpt`.
    """
    values = np.column_stack([np.ones(len(score)), weak, strong])
    sums = by_step(resampling, steps(score), values)
    totals = sums.sum(axis=1, keepdims=True)
    count = np.maximum(totals[..., 0], 1)
    zeros = np.zeros_like(count)
    share = np.concatenate([zeros, np.cumsum(sums[..., 0], axis=1)], axis=1) / count
    gain = np.concatenate([zeros, np.cumsum(sums[..., 2] - sums[..., 1], axis=1)], axis=1)
    return share, (totals[..., 1] + gain) / count


def aurocs(resampling: Resampling, score: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> Doubles:
    """Return ``(1 + resamples,)`` AUROC; scores of one step count as ties.

    See :func:`~semroute.evaluate.metrics.auroc`. NaN where a resample has only one class.
    """
    sums = by_step(resampling, steps(score), np.column_stack([is_positive, ~is_positive]))
    positive, negative = sums[..., 0], sums[..., 1]
    below_positive = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
    wins = (positive * (below_positive + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return ratio(wins, pairs)


def calibration_errors(
    resampling: Resampling, predicted: NDArray[np.floating], quality: NDArray[np.floating], bins: int = 15
) -> Doubles:
    """Return ``(1 + resamples,)`` ECE of predicted quality.

    See :func:`~semroute.evaluate.metrics.expected_calibration_error`.
    """
    bin_ = np.clip((predicted * bins).astype(np.int64), 0, bins - 1)
    values = np.column_stack([np.ones(len(predicted)), quality - predicted])
    sums = by_step(resampling, bin_, values)
    return np.asarray(np.abs(sums[..., 1]).sum(axis=1) / np.maximum(sums[..., 0].sum(axis=1), 1))
