"""How many queries an interval of the wanted width takes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def outcomes_needed(difference: NDArray[np.floating], half_width: float, *, level: float = 0.95) -> int:
    """Queries for an interval of ``+- half_width`` around the mean difference of two policies.

    ``n = (z * s / half_width)^2`` with ``s`` the standard deviation of the difference query by query, which is smaller
    than that of two separate samples where the policies mostly agree (Cochran, "Sampling Techniques",
    1977, chapter 4). At least 1.

    Args:
        difference: ``(n,)`` quality of one policy less that of the other on the same query.
        half_width: of the interval, in the unit of quality; above 0.
        level: confidence.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    return max(1, math.ceil((z * _deviation(difference) / half_width) ** 2))


def outcomes_to_detect(
    difference: NDArray[np.floating], effect: float, *, level: float = 0.95, power: float = 0.8
) -> int:
    """Queries with which a true mean difference of ``effect`` is told from 0 with probability ``power``.

    ``n = ((z_level + z_power) * s / effect)^2``, for a two-sided test (Cohen, "Statistical Power Analysis for the
    Behavioral Sciences", 1988, chapter 2, for paired observations).
    """
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return max(1, math.ceil((z * _deviation(difference) / effect) ** 2))


def _deviation(difference: NDArray[np.floating]) -> float:
    return float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0
