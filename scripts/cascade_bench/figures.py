"""Quality and cost of a contender at every escalation rate.

Computed on all rows and on every resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_bench.contenders import Contender
from semroute.evaluate.curves import deferral_area
from semroute.evaluate.metrics import Interval, Resampling, auroc, first_reaching, interval

Floats = NDArray[np.float64]
POINTS = 101
LEVELS = (0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """Outcomes of two models, ``(n,)`` each."""

    weak_quality: Floats
    strong_quality: Floats
    weak_cost: Floats
    strong_cost: Floats


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one contender.

    Attributes:
        name: its name.
        auroc: of its score, for the weak model's answer being right; None without a score.
        area: mean quality over all shares of escalated queries (deferral curve).
        cost_area: mean quality over all costs between the weak and the strong model alone.
        over_random: ``cost_area`` less that of random mixing of the two models, paired by resample.
        cost_at: relative to the strong model's cost, the cost of reaching a share of its quality.
        share, quality, cost: ``(points,)`` the curve on all rows.
    """

    name: str
    auroc: float | None
    area: Interval
    cost_area: Interval
    over_random: Interval
    cost_at: dict[float, Interval]
    share: Floats
    quality: Floats
    cost: Floats


def figures(contender: Contender, pair: Pair, resampling: Resampling) -> Figures:
    """Return the figures of a contender."""
    shares = np.linspace(0, 1, POINTS)
    up = np.column_stack([_escalated(contender.score, share, len(pair.weak_quality)) for share in shares])
    kept = 1.0 - up
    quality = resampling.means(kept * pair.weak_quality[:, None] + up * pair.strong_quality[:, None])
    first = np.ones_like(up) if contender.asks_first else kept
    cost = resampling.means(first * pair.weak_cost[:, None] + up * pair.strong_cost[:, None])
    ends = resampling.means(np.column_stack([pair.weak_cost, pair.strong_cost, pair.weak_quality, pair.strong_quality]))
    area = _cost_area(cost, quality, ends[:, 0], ends[:, 1])
    right = pair.weak_quality >= 0.5
    score = contender.score
    return Figures(
        contender.name,
        None if score is None else auroc(score[right], score[~right]),
        interval(deferral_area(resampling.means(up), quality)),
        interval(area),
        interval(area - (ends[:, 2] + ends[:, 3]) / 2),
        {
            level: interval(first_reaching(cost, quality - level * ends[:, 3:4], -1e-12) / ends[:, 1])
            for level in LEVELS
        },
        shares,
        quality[0],
        cost[0],
    )  # fmt: skip


def _escalated(score: Floats | None, share: float, n: int) -> Floats:
    """Return ``(n,)`` probabilities of escalation, lowest scores first.

    Equal scores have equal probabilities.
    """
    if score is None:
        return np.full(n, share)
    wanted = share * n
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    part: Floats = np.clip((wanted - before) / counts, 0.0, 1.0)
    return part[place]


def _cost_area(cost: Floats, quality: Floats, low: Floats, high: Floats) -> Floats:
    """Return each row's mean quality over costs from ``low`` to ``high``.

    Costs above ``high`` are cut off. Below its first point a curve has the weak model's quality, that of the point.
    """
    areas = np.empty(len(cost))
    for row in range(len(cost)):
        at = np.linspace(low[row], high[row], 201)
        areas[row] = np.trapezoid(np.interp(at, cost[row], quality[row]), at) / (high[row] - low[row])
    return areas
