"""The non-decreasing convex hull of points of cost and quality, and the area under it.

Hu et al., "RouterBench: A Benchmark for Multi-LLM Routing System", 2024, https://arxiv.org/abs/2403.12031.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.shapes import trapezoid
from semroute.types.vectors import Doubles


def pareto(cost: Doubles, quality: Doubles) -> NDArray[np.int64]:
    """Numbers of the ``(k,)`` points that no other beats, costs ascending: none is as cheap and better, or cheaper and
    as good. Of equal points the first is kept.
    """
    order = np.lexsort((np.arange(len(cost)), -quality, cost))
    best = np.maximum.accumulate(quality[order])
    is_better = np.append(True, best[1:] > best[:-1]) if len(order) else np.zeros(0, np.bool_)
    return np.asarray(order[is_better], np.int64)


def hull(cost: Doubles, quality: Doubles) -> tuple[Doubles, Doubles]:
    """The non-decreasing convex hull of ``(k,)`` points: the best quality that mixing them gives for each cost.

    Choosing at random between two policies gives every point of the straight line between theirs (RouterBench,
    definition of interpolation), and spending more than a policy costs is no gain (extrapolation), so the hull starts
    at the cheapest point (of equally cheap ones, the best), ends at the best (of equally good ones, the cheapest),
    rises strictly and is concave. Points on a straight line between two others are left out.
    """
    corners: list[int] = []
    for place in pareto(cost, quality).tolist():
        while len(corners) > 1 and _is_below(cost, quality, corners[-2], corners[-1], place):
            corners.pop()
        corners.append(place)
    return cost[corners], quality[corners]


def quality_at(hull_cost: Doubles, hull_quality: Doubles, budget: Doubles | float) -> Doubles:
    """Quality that a hull gives for a mean cost of ``budget``; NaN below its cheapest point."""
    inside = np.interp(budget, hull_cost, hull_quality)
    return np.where(np.asarray(budget) < hull_cost[0], np.nan, inside)


def aiq(cost: Doubles, quality: Doubles, low: float, high: float) -> float:
    """Average improvement in quality: the mean height of the hull of ``(k,)`` points over costs ``low`` to ``high``.

    ``1 / (high - low) * integral of the hull``. Beyond its last point the hull goes on level. Below its first point a
    router has no answer, and the height is 0: give all routers that are compared the same range, from the cheapest
    model's cost. (The authors' program starts at the router's own first point and divides by ``high``, not by
    ``high - low``.) NaN where ``high`` is not above ``low``.
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
    """Whether ``middle`` is not above the straight line from ``left`` to ``right``."""
    rise = (quality[middle] - quality[left]) * (cost[right] - cost[left])
    return bool(rise <= (quality[right] - quality[left]) * (cost[middle] - cost[left]))
