"""A share of cases, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semroute.evaluate.metrics import wilson_interval


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of some cases with its 95% interval (Wilson)."""

    hits: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """The rate of ``hits`` among ``n``; NaN among none."""
        return cls(hits, n, hits / n if n else math.nan, *wilson_interval(hits, n))
