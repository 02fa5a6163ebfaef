"""Metrics over arrays, each with its formula and source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.types.protocols import Doubles

# Bootstrap intervals, paired: one resample of the queries is the same for every policy that is compared.
#
# Every figure here is a function of sums over queries, so a resample needs no copy of the rows: it is a weight for each
# of up to :data:`MOST_BATCHES` random batches of rows, and the sums of a thousand resamples are one matrix product.
# Drawing batches in place of rows gives the same standard error on average (the method of random groups; Wolter,
# "Introduction to Variance Estimation", 2007, chapter 2); with 2,000 batches that error is itself known to some 1.6%.
# With fewer rows than that each row is its own batch, and it is the plain bootstrap (Efron, 1979).

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


# How many queries an interval of the wanted width takes.


def outcomes_needed(difference: NDArray[np.floating], half_width: float, *, level: float = 0.95) -> int:
    """Queries for an interval of ``+- half_width`` around the mean difference of two policies.

    ``n = (z * s / half_width)^2`` with ``s`` the standard deviation of the difference query by query, which is smaller
    than that of two separate samples where the policies mostly agree (Cochran, "Sampling Techniques",
    1977, chapter 4). At least 1.

    Args:
        difference: ``(n,)`` quality of one policy less that of the other on the same query.
        half_width: of the interval, in the unit of quality; above 0.
        level: confidence.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    return max(1, math.ceil((z * _deviation(difference) / half_width) ** 2))


def outcomes_to_detect(
    difference: NDArray[np.floating], effect: float, *, level: float = 0.95, power: float = 0.8
) -> int:
    """Queries with which a true mean difference of ``effect`` is told from 0 with probability ``power``.

    ``n = ((z_level + z_power) * s / effect)^2``, for a two-sided test (Cohen, "Statistical Power Analysis for the
    Behavioral Sciences", 1988, chapter 2, for paired observations).
    """
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return max(1, math.ceil((z * _deviation(difference) / effect) ** 2))


def _deviation(difference: NDArray[np.floating]) -> float:
    return float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0


# What the metrics of curves have in common.


def ratio(part: Doubles | float, whole: Doubles | float) -> Doubles:
    """``part / whole`` with NaN where ``whole`` is not above 0; the two are broadcast."""
    above, below = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.asarray(np.divide(above, below, out=np.full(shape, np.nan), where=below > 0))


def trapezoid(x: Doubles, y: Doubles) -> Doubles:
    """Area under the straight lines through ``(..., k)`` points, x ascending along the last axis."""
    return np.asarray((np.diff(x, axis=-1) * (y[..., 1:] + y[..., :-1])).sum(axis=-1) / 2)


def first_reaching(x: Doubles, y: Doubles, level: float) -> Doubles:
    """The smallest x at which the straight lines through ``(..., k)`` points reach ``level``; NaN where they do not.

    x ascends along the last axis; y need not. Where the first point is at or above ``level``, its x.
    """
    reached = y >= level
    first = reached.argmax(axis=-1)[..., None]
    before = np.maximum(first - 1, 0)
    x0, x1, y0, y1 = (
        np.take_along_axis(values, place, axis=-1)[..., 0] for values in (x, y) for place in (before, first)
    )
    rise = y1 - y0
    part = np.divide(level - y0, rise, out=np.zeros_like(rise), where=rise > 0)
    return np.where(reached.any(axis=-1), x0 + part * (x1 - x0), np.nan)


# A mean with its interval.


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


# Results as values that JSON knows.


def plain(value: object) -> object:
    """Tuples as lists, dataclasses as dicts, all the way down."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)  # type: ignore[call-overload]
    return value


def finite(value: object) -> object:
    """The same with None in place of NaN and infinity, which are no JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


Floats = NDArray[np.float64] | NDArray[np.float32]


def accuracy(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows whose best category is the labelled one; 0 for no rows."""
    return float(np.mean(scores.argmax(axis=1) == labels)) if len(labels) else 0.0


def auroc(positive: Floats, negative: Floats) -> float | None:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counting half.

    The Mann-Whitney statistic, ``U / (n+ * n-)``; Hanley and McNeil, Radiology, 1982. None when either side is empty.
    """
    if len(positive) == 0 or len(negative) == 0:
        return None
    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    values = np.asarray(positive, dtype=np.float64)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return float((below + not_above).sum() / 2 / (len(values) * len(ordered)))


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> float:
    """ECE over equal-width bins: ``sum over bins of |accuracy - mean confidence| * share of rows``; 0 for no rows.

    Naeini et al., AAAI 2015, with the bins of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    if len(confidence) == 0:
        return 0.0
    place = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(place, weights=right.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """``(classes, classes)`` counts, rows the truth, columns the prediction."""
    flat = np.bincount(true * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def precision_recall_f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(classes, 3)`` precision, recall and F1 of a confusion matrix; 0 where a denominator is 0."""
    hit = np.diag(matrix).astype(np.float64)

    def share(parts: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)

    precision, recall = share(hit, matrix.sum(axis=0)), share(hit, matrix.sum(axis=1))
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.column_stack([precision, recall, f1])


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a proportion; Wilson, JASA, 1927. ``(0, 1)`` for no rows."""
    if n == 0:
        return 0.0, 1.0
    share, shift = hits / n, z * z / n
    middle = (share + shift / 2) / (1 + shift)
    half = z / (1 + shift) * float(np.sqrt(share * (1 - share) / n + shift / (4 * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


# A share of cases, with its interval.


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


# Rows that say the same are one draw, not many: what a test or an interval may count.

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """Values of rows, put together by group; the groups stand in the order in which they come first.

    Attributes:
        value: ``(g,)`` sum over each group, over the mean number of rows in a group: their mean is that of the rows.
        size: ``(g,)`` rows of each group over the mean number.
    """

    value: Numbers
    size: Numbers

    @classmethod
    def of(cls, values: NDArray[np.floating], group: NDArray[np.int64] | None) -> Totals:
        """From ``(n,)`` values and the group of each; None where every row is its own."""
        if group is None or not len(group):
            return cls(np.asarray(values, np.float64), np.ones(len(values)))
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        place, share = rank[inverse], len(first) / len(group)
        sums, counts = np.bincount(place, weights=values), np.bincount(place)
        return cls(np.asarray(sums * share, np.float64), np.asarray(counts * share, np.float64))

    @property
    def mean(self) -> Numbers:
        """``(g,)`` mean of each group."""
        return self.value / self.size

    @property
    def residual(self) -> Numbers:
        """``(g,)`` each value less what its size alone lets expect: the spread of the mean is that of these.

        The mean of the rows is a ratio of two sums over groups (Cochran, "Sampling Techniques", 1977, section 9A.2).
        """
        return self.value - float(self.value.mean()) * self.size

    @property
    def error(self) -> float:
        """Standard error of the mean of the rows; NaN of one group."""
        residual = self.residual
        return float(residual.std(ddof=1) / np.sqrt(len(residual))) if len(residual) > 1 else float("nan")
