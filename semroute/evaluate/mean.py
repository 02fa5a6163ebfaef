"""A mean with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean, stdev

from semroute.evaluate.curves.bootstrap import Interval


def mean_interval(values: Iterable[float], *, low: float = -math.inf, high: float = math.inf) -> Interval | None:
    """A mean with its 95% normal interval, cut to what the values can be.

    None without values; of one alone the ends are NaN: it says nothing of how far others lie apart.
    """
    known = list(values)
    if not known:
        return None
    mean = fmean(known)
    if len(known) == 1:
        return Interval(mean, math.nan, math.nan)
    half = 1.96 * stdev(known) / math.sqrt(len(known))
    return Interval(mean, max(low, mean - half), min(high, mean + half))
