"""The bill against what the strongest model alone would have charged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.report.columns import LogColumns

MONTH_DAYS = 30.44
"""Mean length of a month, days."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Saving:
    """What routing saved.

    Attributes:
        compared: outcomes whose cost and comparison are both known; the rest is in neither sum.
        answered: outcomes that were answered.
        usd: what they cost, every call counted.
        baseline_usd: what the strongest model would have charged for their answers.
        baseline_models: who that was.
        share: part of the bill that was saved, 0 to 1; negative where routing cost more.
        days: from the first outcome to the last.
        monthly_usd, monthly_baseline_usd: both sums for a month of such days; None where all came in one moment.
    """

    compared: int
    answered: int
    usd: float
    baseline_usd: float
    baseline_models: tuple[str, ...]
    share: Interval | None
    days: float
    monthly_usd: float | None
    monthly_baseline_usd: float | None

    @property
    def saved_usd(self) -> float:
        """The difference of the two sums."""
        return self.baseline_usd - self.usd

    @property
    def is_short(self) -> bool:
        """Whether less than a day was seen, so that a month is a guess."""
        return self.days < 1.0


def saving(columns: LogColumns) -> Saving:
    """Compare the two bills.

    The interval is that of a ratio of sums: with ``r = C / B`` the variance of ``r`` is about
    ``n var(c - r b) / B^2`` (Cochran, Sampling Techniques, 1977, 6.4), queries taken as independent.
    """
    cost, baseline = columns.array("cost"), columns.array("baseline")
    known = np.isfinite(cost) & np.isfinite(baseline)
    c, b = cost[known], baseline[known]
    days = float(np.ptp(columns.array("at"))) / DAY_S if len(columns) else 0.0
    total, compared = float(c.sum()), float(b.sum())
    factor = MONTH_DAYS / days if days > 0 else None
    return Saving(
        compared=int(known.sum()),
        answered=int(columns.array("answered").sum()),
        usd=total,
        baseline_usd=compared,
        baseline_models=tuple(name for name, _ in columns.baseline_models.most_common()),
        share=None if compared <= 0 else _share(c, b),
        days=days,
        monthly_usd=None if factor is None else total * factor,
        monthly_baseline_usd=None if factor is None else compared * factor,
    )


def _share(cost: np.ndarray, baseline: np.ndarray) -> Interval:
    n, total = len(cost), float(baseline.sum())
    ratio = float(cost.sum()) / total
    error = float(np.sqrt(n * np.var(cost - ratio * baseline, ddof=1))) / total if n > 1 else float("nan")
    return Interval(1.0 - ratio, 1.0 - ratio - 1.96 * error, 1.0 - ratio + 1.96 * error)
