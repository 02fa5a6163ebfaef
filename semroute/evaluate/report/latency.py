"""How long answers took, with the escalated ones apart.

The split is the point: a cascade that answers nine queries of ten at the cheap tier has a better median than before,
and the tenth waits for two models. A median alone hides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.report.columns import LogColumns

QUANTILES = (0.5, 0.9, 0.99)
HIDDEN = 1.5
"""So many times the p99 of queries that did not escalate, the p99 of all is worth a warning."""


@dataclass(frozen=True, slots=True)
class Times:
    """Quantiles of some times, milliseconds; None where there were none. ``n``: how many."""

    n: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Times:
        """Of the values that are known (linear between neighbours, as NumPy's default)."""
        known = values[np.isfinite(values)]
        if not len(known):
            return cls(0)
        return cls(len(known), *map(float, np.quantile(known, QUANTILES)))


@dataclass(frozen=True, slots=True)
class LogLatency:
    """Times of answered queries: to the whole answer in three parts, to the first piece, and of deciding."""

    total: Times
    not_escalated: Times
    escalated: Times
    first_token: Times
    deciding: Times

    @property
    def hides(self) -> bool:
        """Whether escalated queries wait so much longer that the p99 of all tells of them and the median does not."""
        plain = self.not_escalated.p99
        return plain is not None and self.total.p99 is not None and self.total.p99 > HIDDEN * plain


def latency(columns: LogColumns) -> LogLatency:
    """The times of a log."""
    took, answered = columns.array("latency"), columns.array("answered") > 0
    escalated = columns.array("escalated") > 0
    return LogLatency(
        total=Times.of(took[answered]),
        not_escalated=Times.of(took[answered & ~escalated]),
        escalated=Times.of(took[answered & escalated]),
        first_token=Times.of(columns.array("first_token")[answered]),
        deciding=Times.of(columns.array("decide")),
    )
