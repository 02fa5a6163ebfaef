"""One number for quality and cost together: the arena score.

"RouterArena: An Open Platform for Comprehensive Comparison of LLM Routers", 2025, https://arxiv.org/abs/2510.00202.
"""

from __future__ import annotations

import numpy as np

from semroute.evaluate.curves.shapes import ratio
from semroute.types.vectors import Doubles

BETA = 0.1
"""Weight of cost against accuracy; the arena's."""
LOWEST, HIGHEST = 0.0044, 200.0
"""USD for 1,000 queries between which the arena scales costs."""


def arena_score(quality: Doubles | float, cost: Doubles | float, *, beta: float = BETA) -> Doubles:
    """``(1 + beta) * quality * cheapness / (beta * quality + cheapness)``, in 0..1.

    A weighted harmonic mean of the quality and of the cheapness ``(log2 HIGHEST - log2 c) / (log2 HIGHEST - log2
    LOWEST)``, where ``c`` is the cost of 1,000 queries. Costs outside of the arena's range count as its ends, so that a
    free model scores too; the arena's own program refuses them.

    Args:
        quality: mean quality, 0..1.
        cost: mean USD a query.
        beta: weight of the cost.
    """
    good = np.asarray(quality, np.float64)
    dear = np.clip(np.asarray(cost, np.float64) * 1000, LOWEST, HIGHEST)
    cheap = np.log2(HIGHEST / dear) / np.log2(HIGHEST / LOWEST)
    below = beta * good + cheap
    return np.nan_to_num(ratio((1 + beta) * good * cheap, below))
