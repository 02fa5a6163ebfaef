"""How many outcomes a comparison with the best single model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.power import outcomes_needed, outcomes_to_detect
from semroute.evaluate.risk.units import Totals


@dataclass(frozen=True, slots=True)
class Needed:
    """Outcomes needed.

    Attributes:
        half_width: of the 95% interval of the mean difference in quality.
        for_interval: outcomes for that interval.
        to_detect: outcomes with which a true difference of ``half_width`` is found four times out of five.
        deviation: standard deviation of the difference, query by query; of independent queries where some say the
            same (the square root of the design effect times that of the rows).
    """

    half_width: float
    for_interval: int
    to_detect: int
    deviation: float


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
    return Needed(
        half_width=half_width,
        for_interval=outcomes_needed(spread, half_width),
        to_detect=outcomes_to_detect(spread, half_width),
        deviation=float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0,
    )
