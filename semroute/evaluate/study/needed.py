"""How many outcomes a comparison with the best single model takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.power import outcomes_needed, outcomes_to_detect


@dataclass(frozen=True, slots=True)
class Needed:
    """Outcomes needed.

    Attributes:
        half_width: of the 95% interval of the mean difference in quality.
        for_interval: outcomes for that interval.
        to_detect: outcomes with which a true difference of ``half_width`` is found four times out of five.
        deviation: standard deviation of the difference, query by query.
    """

    half_width: float
    for_interval: int
    to_detect: int
    deviation: float


def needed(difference: NDArray[np.float64], half_width: float) -> Needed:
    """From the ``(n,)`` differences in quality, query by query (:mod:`semroute.evaluate.curves.power`)."""
    return Needed(
        half_width=half_width,
        for_interval=outcomes_needed(difference, half_width),
        to_detect=outcomes_to_detect(difference, half_width),
        deviation=float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0,
    )
