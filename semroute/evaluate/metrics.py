"""Metrics, bootstrap intervals and sample sizes over arrays, with sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.types.protocols import Doubles

# Paired bootstrap intervals: one resample of the queries is the same for every policy that is compared.
#
# Every figure here is a function of sums over queries, so a resample needs no copy of the rows: it is a weight for each
# of up to :data:`MAX_BATCHES` random batches of rows, and the sums of a thousand resamples are one matrix product.
# Drawing batches in place of rows gives the same standard error on average (the method of random groups; Wolter,
# "Introduction to Variance Estimation", 2007, chapter 2); with 2,000 batches that error is itself known to some 1.6%.
# With fewer rows than that each row is its own batch, and it is the plain bootstrap (Efron, 1979).

RESAMPLES = 1000
MAX_BATCHES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap percentile interval.

    All NaN where undefined.

    Attributes:
        value: the figure on the original rows.
        low, high: ends of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Return True if 0 lies outside, as for a significant difference."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON-ready values; None where undefined."""
        ends = (("value", self.value), ("low", self.low), ("high", self.high))
        return {name: end if math.isfinite(end) else None for name, end in ends}


@dataclass(frozen=True, slots=True)
class Resampling:
    """Bootstrap resamples of ``n`` rows, drawn in batches.

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
        batches: int = MAX_BATCHES,
        group: NDArray[np.int64] | None = None,
    ) -> Resampling:
        """Draw resamples: random batches of ``n`` rows, drawn with replacement.

        Args:
            n: rows.
            seed: of the draw.
            resamples: number of resamples.
            batches: maximum number of batches.
            group: ``(n,)`` duplicate group of each row; rows of one group are drawn together (Davison and Hinkley,
                "Bootstrap Methods and their Application", 1997, section 3.8). None where every row is its own.
        """
        random = np.random.default_rng(seed)
        group_of_row = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
        groups = int(group_of_row.max()) + 1 if n else 0
        count = min(groups, batches)
        batch = random.permutation(groups)[group_of_row] % count if n else np.zeros(0, np.int64)
        weights = (
            random.multinomial(count, np.full(count, 1 / count), size=resamples) if n else np.zeros((resamples, 0))
        )
        return cls(batch.astype(np.int64), weights.astype(np.float64))

    @property
    def batch_counts(self) -> Doubles:
        """Return ``(batches,)`` rows in each batch."""
        return np.bincount(self.batch, minlength=self.weights.shape[1]).astype(np.float64)

    def batch_sums(self, values: NDArray[np.floating]) -> Doubles:
        """Return ``(batches, k)`` sums of ``(n, k)`` values."""
        sums = np.empty((self.weights.shape[1], values.shape[1]))
        for column in range(values.shape[1]):
            sums[:, column] = np.bincount(self.batch, weights=values[:, column], minlength=len(sums))
        return sums

    def sums(self, values: NDArray[np.floating]) -> Doubles:
        """Return ``(1 + resamples, k)`` sums of ``(n, k)`` values.

        The first are over all rows, the others over every resample.
        """
        return self.resampled(self.batch_sums(values))

    def means(self, values: NDArray[np.floating]) -> Doubles:
        """Return ``(1 + resamples, k)`` means of ``(n, k)`` values.

        The first are over all rows, the others over every resample.
        """
        return self.sums(values) / self.resampled(self.batch_counts[:, None])

    def resampled(self, batch_sums: NDArray[Any]) -> Doubles:
        """Return ``(1 + resamples, k)`` totals of ``(batches, k)`` sums.

        The first are over all batches, the others over every resample.
        """
        return np.vstack([batch_sums.sum(axis=0, keepdims=True), self.weights @ batch_sums])


def interval(figures: Doubles, *, level: float = LEVEL) -> Interval:
    """Return the percentile interval of a figure from its resampled values.

    The ``(1 + resamples,)`` values start with that on the original rows. Percentiles are over the resamples in which
    the figure is defined. Those in which it is not (no gap between two models, say) are left out; where they are more
    than half, the figure is undefined.
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
    """Return the bootstrap interval of any function of row numbers.

    For figures of ``n`` rows that are not functions of sums. Slow, and the reference for the faster intervals.
    """
    random = np.random.default_rng(seed)
    values = [figure(np.arange(n)), *(figure(random.integers(0, n, n)) for _ in range(resamples))]
    return interval(np.array(values))


# Sample size for an interval of a given width.


def outcomes_needed(difference: NDArray[np.floating], half_width: float, *, level: float = 0.95) -> int:
    """Return the sample size for an interval of ``+- half_width``.

    The interval is that of the mean difference of two policies.

    ``n = (z * s / half_width)^2`` with ``s`` the standard deviation of the per-query difference, which is smaller
    than that of two separate samples where the policies mostly agree (Cochran, "Sampling Techniques",
    1977, chapter 4). At least 1.

    Args:
        difference: ``(n,)`` quality of one policy minus that of the other on the same query.
        half_width: of the interval, in the unit of quality; above 0.
        level: confidence.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    return max(1, math.ceil((z * _deviation(difference) / half_width) ** 2))


def outcomes_to_detect(
    difference: NDArray[np.floating], effect: float, *, level: float = 0.95, power: float = 0.8
) -> int:
    """Return the sample size that detects a mean difference of ``effect``.

    The probability of detection is ``power``.

    ``n = ((z_level + z_power) * s / effect)^2``, for a two-sided test (Cohen, "Statistical Power Analysis for the
    Behavioral Sciences", 1988, chapter 2, for paired observations).
    """
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return max(1, math.ceil((z * _deviation(difference) / effect) ** 2))


def _deviation(difference: NDArray[np.floating]) -> float:
    return float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0


# Helpers that the metrics of curves share.


def ratio(part: Doubles | float, whole: Doubles | float) -> Doubles:
    """Return ``part / whole``, broadcast; NaN where ``whole`` is not above 0."""
    numerator, denominator = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.asarray(np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0))


def trapezoid(x: Doubles, y: Doubles) -> Doubles:
    """Return the area under the lines through ``(..., k)`` points.

    x ascends along the last axis.
    """
    return np.asarray((np.diff(x, axis=-1) * (y[..., 1:] + y[..., :-1])).sum(axis=-1) / 2)


def first_reaching(x: Doubles, y: Doubles, level: float) -> Doubles:
    """Return the smallest x at which ``(..., k)`` points reach ``level``.

    The points are joined by straight lines. NaN where they do not reach it.

    x ascends along the last axis; y need not. Where the first point is at or above ``level``, its x.
    """
    is_reached = y >= level
    first = is_reached.argmax(axis=-1)[..., None]
    before = np.maximum(first - 1, 0)
    x0, x1, y0, y1 = (
        np.take_along_axis(values, index, axis=-1)[..., 0] for values in (x, y) for index in (before, first)
    )
    rise = y1 - y0
    part = np.divide(level - y0, rise, out=np.zeros_like(rise), where=rise > 0)
    return np.where(is_reached.any(axis=-1), x0 + part * (x1 - x0), np.nan)


# A mean with its interval.


def mean_interval(values: Iterable[float], *, low: float = -math.inf, high: float = math.inf) -> Interval | None:
    """Return a mean and its 95% normal interval within ``low`` and ``high``.

    Wilson's interval where all values are 0 or 1: the normal one has no width where all are the same. None without
    values; for a single value of another kind the ends are NaN, as its spread is unknown.
    """
    known = list(values)
    if not known:
        return None
    mean = fmean(known)
    if low == 0 and high == 1 and set(known) <= {0.0, 1.0}:
        return Interval(mean, *wilson_interval(round(sum(known)), len(known)))
    if len(known) == 1:
        return Interval(mean, math.nan, math.nan)
    half = 1.96 * stdev(known) / math.sqrt(len(known))
    return Interval(mean, max(low, mean - half), min(high, mean + half))


# Results as JSON-ready values.


def plain(value: object) -> object:
    """Convert tuples to lists and dataclasses to dicts, recursively."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)  # type: ignore[call-overload]
    return value


def finite(value: object) -> object:
    """Replace NaN and infinity, which JSON has not, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


Floats = NDArray[np.float64] | NDArray[np.float32]


def accuracy(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the share of rows whose best category is the label.

    0 for no rows.
    """
    return float(np.mean(scores.argmax(axis=1) == labels)) if len(labels) else 0.0


def auroc(positive: Floats, negative: Floats) -> float | None:
    """Return the area under the ROC curve (AUROC).

    The probability that a positive scores above a negative, ties counting half. The Mann-Whitney statistic, ``U / (n+ *
    n-)``; Hanley and McNeil, Radiology, 1982. None when either side is empty.
    """
    if len(positive) == 0 or len(negative) == 0:
        return None
    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    values = np.asarray(positive, dtype=np.float64)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return float((below + not_above).sum() / 2 / (len(values) * len(ordered)))


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error (ECE) over equal-width bins.

    ``sum over bins of |accuracy - mean confidence| * share of rows``; 0 for no rows. Naeini et al., AAAI 2015, with the
    bins of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    if len(confidence) == 0:
        return 0.0
    bin_ = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(bin_, weights=right.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def perfect_calibration_error(confidence: NDArray[np.float64], bins: int = 15, *, draws: int = 200) -> float:
    """Return the mean ECE of the same confidences under perfect calibration.

    It is not 0: with few rows in a bin, chance alone moves the share that is right (Gruber and Buettner, "Better
    Uncertainty Calibration via Proper Scores", NeurIPS 2022, https://arxiv.org/abs/2203.07835). The labels are drawn by
    the confidences, ``draws`` times, with a fixed seed; 0 for no rows.
    """
    random = np.random.default_rng(0)
    drawn = (
        expected_calibration_error(confidence, random.random(len(confidence)) < confidence, bins) for _ in range(draws)
    )
    return fmean(drawn) if len(confidence) else 0.0


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return ``(classes, classes)`` counts; rows are true, columns predicted."""
    flat = np.bincount(true * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def precision_recall_f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(classes, 3)`` precision, recall and F1 of a confusion matrix.

    0 where a denominator is 0.
    """
    hits = np.diag(matrix).astype(np.float64)

    def share(parts: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)

    precision, recall = share(hits, matrix.sum(axis=0)), share(hits, matrix.sum(axis=1))
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.column_stack([precision, recall, f1])


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95% interval of a proportion; Wilson, JASA, 1927.

    ``(0, 1)`` for no rows.
    """
    if n == 0:
        return 0.0, 1.0
    share, shift = hits / n, z * z / n
    centre = (share + shift / 2) / (1 + shift)
    half = z / (1 + shift) * float(np.sqrt(share * (1 - share) / n + shift / (4 * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


# A proportion with its interval.


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its 95% interval (Wilson)."""

    hits: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """Return the rate of ``hits`` among ``n``; NaN for ``n`` = 0."""
        return cls(hits, n, hits / n if n else math.nan, *wilson_interval(hits, n))


# Duplicate rows are one draw, not many: the independent rows of a test or an interval.

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """Values of rows aggregated by group, in order of first appearance.

    Attributes:
        value: ``(g,)`` sum over each group, over the mean number of rows in a group: their mean is that of the rows.
        size: ``(g,)`` rows of each group over the mean number.
    """

    value: Numbers
    size: Numbers

    @classmethod
    def of(cls, values: NDArray[np.floating], group: NDArray[np.int64] | None) -> Totals:
        """Aggregate ``(n,)`` values by the group of each.

        None where every row is its own.
        """
        if group is None or not len(group):
            return cls(np.asarray(values, np.float64), np.ones(len(values)))
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        position, share = rank[inverse], len(first) / len(group)
        sums, counts = np.bincount(position, weights=values), np.bincount(position)
        return cls(np.asarray(sums * share, np.float64), np.asarray(counts * share, np.float64))

    @property
    def mean(self) -> Numbers:
        """Return the ``(g,)`` mean of each group."""
        return self.value / self.size

    @property
    def residual(self) -> Numbers:
        """Return ``(g,)`` residuals of the ratio estimate.

        Each is the value minus its expectation by size.

        Their spread is that of the mean of the rows, a ratio of two sums over groups (Cochran, "Sampling Techniques",
        1977, section 9A.2).
        """
        return self.value - float(self.value.mean()) * self.size

    @property
    def error(self) -> float:
        """Return the standard error of the mean of the rows; NaN for one group."""
        residual = self.residual
        return float(residual.std(ddof=1) / np.sqrt(len(residual))) if len(residual) > 1 else float("nan")
