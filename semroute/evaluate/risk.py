"""Tests that a policy keeps a promise, exact for any number of rows.

The test of a mean holds for any distribution within bounds:

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal Statistical
Society B 86, 2024, https://arxiv.org/abs/2010.09686.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.evaluate.metrics import Totals

_MAX_STAKE = 0.9
"""Largest part of the capital that one bet may lose."""


def mean_is_below(values: NDArray[np.floating], bound: float, low: float, high: float, risk: float) -> bool:
    """Return True if the mean is shown to be below ``bound``.

    The mean is that of the distribution of ``values``. A gambler bets against "the mean is ``bound`` or more", row
    after row; under that hypothesis the capital exceeds ``1 / risk`` times its start with probability at most ``risk``
    (Ville's inequality). The stake follows from the rows before (predictable plug-in, section 3.3 of the paper).

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
    stakes = np.minimum(stakes, _MAX_STAKE / max(1.0 - limit, 1e-12))
    capital = np.cumsum(np.log1p(stakes * (limit - scaled)))
    return bool(capital.max() >= math.log(1.0 / risk))


# Test a promise in the long run and over the next ``ahead`` queries.

Named = TypeVar("Named")


@dataclass(frozen=True, slots=True)
class Promise:
    """Confidence and horizon of a promise.

    Attributes:
        confidence: probability that the promise is kept, in 0..1.
        ahead: queries over whose mean it is to be kept; None for the long run alone.
    """

    confidence: float = 0.95
    ahead: int | None = None

    def is_kept(
        self, shortfall: NDArray[np.floating], low: float, high: float, group: NDArray[np.int64] | None = None
    ) -> bool:
        """Return True if the mean shortfall is shown to be at most 0.

        Two bounds must both hold: betting (exact, of the long run), and Student's prediction bound for the mean of the
        next ``ahead`` rows, ``mean + t * s * sqrt(1 / n + 1 / ahead)`` (Hahn and Meeker, "Statistical Intervals", 1991,
        section 4.7): the next rows are drawn too, and their mean is twice as uncertain as the long run if as many are
        seen. Rows of one group are one draw. Betting uses the mean of each group, whatever its size: one with many rows
        would widen the bounds of all, and leave nothing to bet on. Student's bound weighs it by its rows.

        Args:
            shortfall: ``(n,)`` rows; their groups are independent and in random order. That none of a few falls short
                proves little.
            low: no value is lower.
            high: no value is higher.
            group: ``(n,)`` of each row; None where every row is its own.
        """
        if not mean_is_below(Totals.of(shortfall, group).mean, 0.0, low, high, 1.0 - self.confidence):
            return False
        return self.upper(shortfall, group) <= 0

    def upper(self, values: NDArray[np.floating], group: NDArray[np.int64] | None = None) -> float:
        """Return Student's upper bound of the mean.

        It is that of the next ``ahead`` rows or of the long run.
        """
        t = require("scipy.stats", what="testing a promise", extra="build").t
        totals = Totals.of(values, group)
        count = len(totals.value)
        if count < 2:
            return math.inf
        ahead = self.ahead * count / len(values) if self.ahead else math.inf
        spread = float(np.std(totals.residual, ddof=1)) * math.sqrt(1.0 / count + 1.0 / ahead)
        return float(totals.value.mean()) + float(t.ppf(self.confidence, count - 1)) * spread


def last_kept(tests: Iterable[tuple[Named, bool]]) -> Named | None:
    """Return the last item that passes before the first failure, or None.

    Fixed sequence testing: where the order was set without the test rows, the error of the whole sequence is that of a
    single test (Angelopoulos et al., "Learn then Test", 2021, https://arxiv.org/abs/2110.01052). Tests after the first
    failure are not made.
    """
    last = None
    for name, is_kept in tests:
        if not is_kept:
            break
        last = name
    return last
