"""Bootstrap intervals, paired: one resample of the queries is the same for every policy that is compared.

Every figure here is a function of sums over queries, so a resample needs no copy of the rows: it is a weight for each
of up to :data:`MOST_BATCHES` random batches of rows, and the sums of a thousand resamples are one matrix product.
Drawing batches in place of rows gives the same standard error on average (the method of random groups; Wolter,
"Introduction to Variance Estimation", 2007, chapter 2); with 2,000 batches that error is itself known to some 1.6%.
With fewer rows than that each row is its own batch, and it is the plain bootstrap (Efron, 1979).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.types.vectors import Doubles

RESAMPLES = 1000
MOST_BATCHES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap percentile interval; all NaN where the figure is not defined.

    Attributes:
        value: the figure on the rows as they are.
        low, high: ends of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside, as for the difference of two policies that are not equally good."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Resampling:
    """Resamples of ``n`` rows.

    Attributes:
        batch: ``(n,)`` int64, the batch of each row; rows of one group are in the same.
        weights: ``(resamples, batches)`` float64, how often each batch was drawn; rows sum to ``batches``.
    """

    batch: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def draw(
        cls,
        n: int,
        *,
        seed: int,
        resamples: int = RESAMPLES,
        batches: int = MOST_BATCHES,
        group: NDArray[np.int64] | None = None,
    ) -> Resampling:
        """Put ``n`` rows into batches at random, and draw batches with replacement ``resamples`` times.

        Args:
            n: rows.
            seed: of the draw.
            resamples: how many.
            batches: at most.
            group: ``(n,)`` of each row; rows of one group say the same, and are drawn together (Davison and Hinkley,
                "Bootstrap Methods and their Application", 1997, section 3.8). None where every row is its own.
        """
        random = np.random.default_rng(seed)
        own = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
        groups = int(own.max()) + 1 if n else 0
        count = min(groups, batches)
        batch = random.permutation(groups)[own] % count if n else np.zeros(0, np.int64)
        weights = (
            random.multinomial(count, np.full(count, 1 / count), size=resamples) if n else np.zeros((resamples, 0))
        )
        return cls(batch.astype(np.int64), weights.astype(np.float64))

    @property
    def batch_counts(self) -> Doubles:
        """``(batches,)`` rows in each batch."""
        return np.bincount(self.batch, minlength=self.weights.shape[1]).astype(np.float64)

    def batch_sums(self, values: NDArray[np.floating]) -> Doubles:
        """``(batches, k)`` sums of ``(n, k)`` values."""
        sums = np.empty((self.weights.shape[1], values.shape[1]))
        for column in range(values.shape[1]):
            sums[:, column] = np.bincount(self.batch, weights=values[:, column], minlength=len(sums))
        return sums

    def sums(self, values: NDArray[np.floating]) -> Doubles:
        """``(1 + resamples, k)`` sums of ``(n, k)`` values: over all rows, then over every resample."""
        return self.resampled(self.batch_sums(values))

    def means(self, values: NDArray[np.floating]) -> Doubles:
        """``(1 + resamples, k)`` means of ``(n, k)`` values: over all rows, then over every resample."""
        return self.sums(values) / self.resampled(self.batch_counts[:, None])

    def resampled(self, batch_sums: NDArray[Any]) -> Doubles:
        """``(1 + resamples, k)`` totals of ``(batches, k)`` sums: over all batches, then over every resample."""
        return np.vstack([batch_sums.sum(axis=0, keepdims=True), self.weights @ batch_sums])


def interval(figures: Doubles, *, level: float = LEVEL) -> Interval:
    """The interval of a figure from its ``(1 + resamples,)`` values, the first of them on the rows as they are.

    Percentiles over the resamples in which the figure is defined. Resamples in which it is not (no gap between two
    models, say) are left out; where they are more than half, the figure is not defined.
    """
    value, resampled = float(figures[0]), figures[1:]
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or 2 * len(known) < len(resampled):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def bootstrap(
    figure: Callable[[NDArray[np.int64]], float], n: int, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The interval of any figure of ``n`` rows, by calling it with the row numbers of every resample.

    For figures that are no function of sums; slow, and the yardstick of the others.
    """
    random = np.random.default_rng(seed)
    values = [figure(np.arange(n)), *(figure(random.integers(0, n, n)) for _ in range(resamples))]
    return interval(np.array(values))
