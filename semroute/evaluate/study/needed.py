"""How many outcomes a comparison with the best single model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.power import outcomes_needed, outcomes_to_detect
from semroute.evaluate.risk.units import Totals

LEAST = 30
"""Independent queries below which the spread of a difference is itself not known."""

_NO_SPREAD = 1e-9
"""Below it a deviation is rounding."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Outcomes needed.

    Attributes:
        half_width: of the 95% interval of the mean difference in quality.
        for_interval: outcomes for that interval; None where they cannot be told: of fewer than :data:`LEAST`
            independent queries, or where the difference never varies.
        to_detect: outcomes with which a true difference of ``half_width`` is found four times out of five; None alike.
        deviation: standard deviation of the difference, query by query; of independent queries where some say the
            same (the square root of the design effect times that of the rows).
        queries: independent ones that this is told from.
    """

    half_width: float
    for_interval: int | None
    to_detect: int | None
    deviation: float
    queries: int

    @property
    def unknown(self) -> str | None:
        """Why the numbers cannot be told; None where they are."""
        if self.for_interval is not None:
            return None
        return "too few rows to tell" if self.queries < LEAST else "-; the difference is the same on every query"


def needed(difference: NDArray[np.float64], half_width: float, group: NDArray[np.int64] | None = None) -> Needed:
    """From the ``(n,)`` differences in quality, query by query (:mod:`semroute.evaluate.curves.power`).

    Args:
        difference: in quality.
        half_width: of the interval.
        group: ``(n,)`` of each query: as many more are needed as say the same; None where none do.
    """
    totals = Totals.of(difference, group)
    # Of a mean over g groups of n rows the variance is that of the totals over g: of n rows, n / g times as much each.
    spread = totals.residual * math.sqrt(len(difference) / max(1, len(totals.value)))
    deviation = float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0
    if deviation < _NO_SPREAD or len(spread) < LEAST:
        return Needed(half_width, None, None, deviation, len(spread))
    found = outcomes_needed(spread, half_width), outcomes_to_detect(spread, half_width)
    return Needed(half_width, *found, deviation, len(spread))
