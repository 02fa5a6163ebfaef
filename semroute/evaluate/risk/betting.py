"""A test of a mean that is exact for any number of rows and any distribution within bounds.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal Statistical
Society B 86, 2024, https://arxiv.org/abs/2010.09686.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MOST = 0.9
"""Of the capital that may be lost in one bet."""


def mean_is_below(values: NDArray[np.floating], bound: float, low: float, high: float, risk: float) -> bool:
    """Whether the mean of what ``values`` were drawn from is shown to be below ``bound``.

    A gambler bets against "the mean is ``bound`` or more", row after row; under that hypothesis his capital exceeds
    ``1 / risk`` times what he began with at most ``risk`` of the time (Ville's inequality). How much he stakes follows
    from the rows before (predictable plug-in, section 3.3 of the paper).

    Args:
        values: ``(n,)`` independent rows in random order.
        bound: of the mean.
        low: no value is lower.
        high: no value is higher.
        risk: greatest probability of being wrong, in 0..1.
    """
    if bound > high:
        return True
    if bound <= low or not len(values):
        return False
    scaled = (np.asarray(values, np.float64) - low) / (high - low)
    limit = (bound - low) / (high - low)
    count = np.arange(1, len(scaled) + 1)
    means = (0.5 + np.cumsum(scaled)) / (count + 1)
    variances = (0.25 + np.cumsum((scaled - means) ** 2)) / (count + 1)
    before = np.append(0.25, variances[:-1])
    stakes = np.sqrt(2.0 * math.log(1.0 / risk) / (len(scaled) * before))
    # 1 + stake * (limit - x) must stay above 0 for every x up to 1.
    stakes = np.minimum(stakes, _MOST / max(1.0 - limit, 1e-12))
    capital = np.cumsum(np.log1p(stakes * (limit - scaled)))
    return bool(capital.max() >= math.log(1.0 / risk))
