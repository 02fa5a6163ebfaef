"""Rejection trade-off: out-of-scope queries caught, in-scope ones lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.routing import ScoredQueries, decide

FALSE_REJECTIONS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Shares of in-scope queries rejected at which the trade-off is reported."""


@dataclass(frozen=True, slots=True)
class RejectionPoint:
    """Thresholds shifted together, with their results.

    Attributes:
        shift: added to every threshold.
        false_rejection: share of in-scope queries rejected, at most the wanted one.
        oos_recall: share of out-of-scope queries rejected.
    """

    shift: float
    false_rejection: float
    oos_recall: float


def rejection_curve(scored: ScoredQueries, thresholds: NDArray[np.float64]) -> tuple[RejectionPoint, ...]:
    """Return the trade-off around the thresholds of an index.

    At each of :data:`FALSE_REJECTIONS`, all thresholds are shifted by the largest amount that rejects no more of the
    in-scope queries. Empty without in-scope or without out-of-scope queries.

    Args:
        scored: labelled queries with scores.
        thresholds: ``(categories,)`` minimum scores.
    """
    inside = scored.in_scope
    if inside.all() or not inside.any():
        return ()
    top, _ = decide(scored.scores, thresholds)
    above = scored.scores[np.arange(len(top)), top].astype(np.float64) - thresholds[top]
    ranked = np.sort(above[inside])
    points = []
    for share in FALSE_REJECTIONS:
        # A score that equals its threshold is accepted: the first one that is to stay is the shift.
        shift = float(ranked[min(int(share * len(ranked) + 1e-9), len(ranked) - 1)])
        rejected = above < shift
        points.append(RejectionPoint(shift, float(rejected[inside].mean()), float(rejected[~inside].mean())))
    return tuple(points)
