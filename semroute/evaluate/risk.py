"""Tests that a policy keeps a promise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.evaluate.metrics import Totals

WORST_ROWS = ((0.975, 2.0), (0.995, 3.0), (0.999, 4.0), (1.0, 5.0))
"""Rows of the highest possible shortfall that a test assumes besides those that were seen, up to each confidence.

Student's bound alone is too low where bad rows are rare and few or none of them were seen. With such rows it is
wrong at most as often as it may be for the most skewed shortfall there is, of two values, by the exact binomial
probability, for 30 to 3,000 rows and any share of bad ones
(``tests/evaluate/test_promise.py``). A test by betting (Waudby-Smith and Ramdas, 2024) is exact for any
distribution, but its bound is half as wide again, which costs half of what a policy can save on 1,000 rows.
"""


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

    def is_kept(self, shortfall: NDArray[np.floating], high: float, group: NDArray[np.int64] | None = None) -> bool:
        """Return True if the mean shortfall is shown to be at most 0.

        Rows of one group are one draw, weighed by its rows.

        Args:
            shortfall: ``(n,)`` rows; their groups are independent. That none of a few falls short proves little.
            high: no value is higher.
            group: ``(n,)`` of each row; None where every row is its own.
        """
        return self.upper(shortfall, group, worst=high) <= 0

    def upper(
        self, values: NDArray[np.floating], group: NDArray[np.int64] | None = None, *, worst: float | None = None
    ) -> float:
        """Return Student's upper bound of the mean, in future or in the long run.

        ``ahead`` is the number of future rows; None means the long run.

        ``mean + t * s * sqrt(1 / n + 1 / ahead)`` (Hahn and Meeker, "Statistical Intervals", 1991, section 4.7): the
        next rows are drawn too, and their mean is twice as uncertain as the long run if as many are seen.

        Args:
            values: ``(n,)`` rows.
            group: ``(n,)`` of each row; None where every row is its own.
            worst: highest possible value, of which :data:`WORST_ROWS` more rows are assumed; None assumes none.
        """
        totals = Totals.of(values, group)
        count = len(totals.value)
        if count < 2:
            return math.inf
        ahead = self.ahead * count / len(values) if self.ahead else math.inf
        mean = float(totals.value.mean())
        squares = float(np.square(totals.residual).sum())
        freedom = count - 1.0
        if worst is not None:
            extra = next(rows for limit, rows in WORST_ROWS if self.confidence <= limit)
            assumed = count + extra
            shifted = (mean * count + extra * worst) / assumed
            # Around the new mean; the residuals of the rows seen have a mean of 0.
            squares += count * (mean - shifted) ** 2 + extra * (worst - shifted) ** 2
            mean, freedom = shifted, assumed - 1.0
        spread = math.sqrt(squares / freedom) * math.sqrt(1.0 / count + 1.0 / ahead)
        return mean + _student(self.confidence, count - 1) * spread


@lru_cache(maxsize=4096)
def _student(confidence: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, cached for searches."""
    return float(require("scipy.stats", what="testing a promise", extra="build").t.ppf(confidence, freedom))


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
