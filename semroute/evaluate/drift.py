"""Detect drift of queries, quality and prices since a policy was tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError
from semroute.evaluate.log_report import percent
from semroute.evaluate.metrics import Interval, Rate, finite, mean_interval

# Baseline of drift detection: queries, quality and prices when the policy was tuned.

Numbers = NDArray[np.float64] | NDArray[np.float32]
Prices = Mapping[str, tuple[float, float]]

BINS = 10
"""Maximum number of bins: where many scores are equal there are fewer cuts between them."""

_FOREIGN = "not a drift baseline of semroute tune-policy; tune the policy again"
_NUMBERS = ("below", "quality", "quality_low", "cost_usd", "cost_high")


@dataclass(frozen=True, slots=True)
class DriftBaseline:
    """Scores, quality, cost and prices on which a policy was tuned.

    Attributes:
        cuts: ascending scores of the best category that cut the distinct queries into bins of about equal size.
        shares: share of the queries in each bin; one more than there are cuts. Equal scores share a bin, so the sizes
            are only about equal.
        thresholds: thresholds by category at tuning time; the policy may have changed them since.
        below: share of the distinct queries below the threshold of their best category.
        quality: mean of the policy's answers on held-out queries.
        quality_low: lower end of its 95% interval.
        cost_usd: mean cost of a held-out query.
        cost_high: upper end of its 95% interval.
        prices: of models, USD per million input and output tokens.
        rows: distinct queries.
        index: fingerprint of the index that gave the scores; scores of another index are not comparable.
        at: time of tuning, with a zone.
        mix: share of the distinct queries by category; those below their threshold under :data:`NO_CATEGORY`. Empty in
            baselines of before and without categories.
    """

    cuts: tuple[float, ...]
    shares: tuple[float, ...]
    thresholds: Mapping[str, float]
    below: float
    quality: float
    quality_low: float
    cost_usd: float
    cost_high: float
    prices: Prices
    rows: int
    index: str
    at: datetime
    mix: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        scores: Numbers,
        below: NDArray[np.bool_],
        quality: Interval,
        cost: Interval,
        prices: Prices,
        *,
        thresholds: Mapping[str, float],
        index: str,
        at: datetime,
        categories: Sequence[str] = (),
    ) -> Self:
        """Create the baseline from ``(n,)`` best scores of distinct queries.

        ``below`` is True where the score is below its category's threshold; ``categories`` are their ``n`` categories,
        as of :func:`named`, or none.
        """
        cuts = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
        shares = count_by_bin(cuts, scores) / max(1, len(scores))
        return cls(
            cuts=tuple(map(float, cuts)),
            shares=tuple(map(float, shares)),
            thresholds=dict(thresholds),
            below=float(below.mean()),
            quality=quality.value,
            quality_low=quality.low,
            cost_usd=cost.value,
            cost_high=cost.high,
            prices=dict(prices),
            rows=len(scores),
            index=index,
            at=at,
            mix={name: count / len(categories) for name, count in sorted(Counter(categories).items())},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Parse the output of :meth:`to_dict`.

        Raises:
            ArtifactError: it is not a baseline.
        """
        if not isinstance(values, dict):
            raise ArtifactError(_FOREIGN)
        try:
            baseline = cls(
                cuts=tuple(map(float, values["cuts"])),
                shares=tuple(map(float, values["shares"])),
                thresholds={str(name): float(value) for name, value in values["thresholds"].items()},
                prices={str(model): (float(value[0]), float(value[1])) for model, value in values["prices"].items()},
                rows=int(values["rows"]),
                index=str(values["index"]),
                at=datetime.fromisoformat(values["at"]),
                mix={str(name): float(share) for name, share in values.get("mix", {}).items()},
                **{name: float(values[name]) for name in _NUMBERS},
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArtifactError(_FOREIGN) from error
        if len(baseline.shares) != len(baseline.cuts) + 1 or baseline.at.tzinfo is None:
            raise ArtifactError(_FOREIGN)
        return baseline


def count_by_bin(cuts: Numbers, scores: Numbers) -> NDArray[np.int64]:
    """Return ``(len(cuts) + 1,)`` counts of the scores in each bin.

    A score equal to a cut lies above it.
    """
    return np.bincount(np.searchsorted(cuts, scores, side="right"), minlength=len(cuts) + 1)


LARGE_SHIFT = 0.2
"""Population stability index from which distributions count as different (Siddiqi, "Credit Risk Scorecards", 2006)."""
MIN_QUERIES = 100
"""Minimum number of queries to compare their distribution or their cost."""
_CHANCE_QUANTILE = 0.999
NO_CATEGORY = "(no category)"
_LEAST_EXPECTED = 5.0
"""Queries that must be expected of a category in both samples; rarer ones are compared together (Cochran's rule)."""
_NAMED_MOVES = 2
MIN_JUDGED = 30
TOLERATED_CHANGE = 0.05
"""Tolerated change of the share below the threshold, and relative change of a price."""
TOLERATED_MOVE = 0.03
"""Share of the queries that may change category, beyond chance."""
MORE_EXPENSIVE = 1.25
"""Relative mean cost of a query from which a rise counts, if it is also significant."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Changes since a policy was tuned.

    Attributes:
        queries: number of distinct queries compared.
        stability: population stability index of their best scores; None for too few.
        moved: share of the queries that would have to change category for the mix to be that of the tuning, beyond
            what chance moves; None for too few, or where the mix is not known.
        moves: categories whose shares have moved most, with the share then and now; none where the mix differs by no
            more than chance.
        below: share of them that fits no category; None where scores are not known.
        same_index: True if the index is the one that the policy was tuned with; else queries are not compared.
        quality: mean feedback with its interval; None without any.
        judged: answers with feedback.
        cost_usd: mean cost of a query with its interval; None where none is known.
        costed: queries whose cost is known.
        prices: models whose price has changed, with the price then and now.
        reasons: reasons to tune the policy again; empty where there are none.
    """

    queries: int
    stability: float | None
    below: Rate | None
    same_index: bool
    quality: Interval | None
    judged: int
    cost_usd: Interval | None
    costed: int
    prices: Mapping[str, tuple[tuple[float, float], tuple[float, float]]]
    reasons: tuple[str, ...]
    moved: float | None = None
    moves: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; undefined figures are None."""
        return {name: finite(value) for name, value in asdict(self).items()}


def drift(
    baseline: DriftBaseline,
    scores: Numbers | None,
    below: NDArray[np.bool_] | None,
    feedback: Sequence[float],
    costs: Sequence[float],
    prices: Prices,
    *,
    index: str,
    categories: Sequence[str] = (),
) -> Drift:
    """Compare recent queries, feedback and prices with a policy's baseline.

    Args:
        baseline: at tuning time.
        scores: ``(n,)`` best scores of the distinct queries now; None where they are not known.
        below: ``(n,)`` True where a score is below its threshold.
        feedback: judgements of answers, 0..1.
        costs: USD of queries.
        prices: now.
        index: fingerprint of the index that gives the scores now.
        categories: ``n`` categories of the queries, as of :func:`named`; none where they are not known.
    """
    same_index = index == baseline.index
    if not same_index:
        scores, below, categories = None, None, ()
    count = 0 if scores is None else len(scores)
    changed = {
        model: (tuned, prices[model])
        for model, tuned in baseline.prices.items()
        if model in prices and _has_changed(tuned, prices[model])
    }
    change = Drift(
        queries=count,
        stability=stability(baseline, scores) if scores is not None and count >= MIN_QUERIES else None,
        below=None if below is None or not count else Rate.of(int(below.sum()), count),
        same_index=same_index,
        quality=mean_interval(feedback, low=0, high=1),
        judged=len(feedback),
        cost_usd=mean_interval(costs, low=0),
        costed=len(costs),
        prices=changed,
        reasons=(),
    )
    if baseline.mix and len(categories) >= MIN_QUERIES:
        moved, moves = mix_shift(baseline, categories)
        change = replace(change, moved=moved, moves=moves)
    return replace(change, reasons=tuple(_reasons(baseline, change)))


def stability(baseline: DriftBaseline, scores: Numbers) -> float:
    """Return the population stability index (PSI), corrected for chance.

    ``sum over bins of (now - then) * ln(now / then)``. Without any drift it is about ``chi2 * (1 / n + 1 / rows)``,
    with one degree of freedom less than there are bins (Yurdakul and Naranjo, "Statistical properties of the population
    stability index", Journal of Risk Model Validation 14, 2020). Its 99.9% quantile is subtracted, so that a small
    sample is not taken for drift. Empty bins count as half a query.
    """
    counts = count_by_bin(np.array(baseline.cuts), scores)
    now = np.maximum(counts, 0.5) / max(1, len(scores))
    then = np.maximum(np.array(baseline.shares), 0.5 / max(1, baseline.rows))
    chance = _chi_square(len(then) - 1) * (1.0 / len(scores) + 1.0 / max(1, baseline.rows))
    return max(0.0, float(((now - then) * np.log(now / then)).sum()) - chance)


def named(scores: Numbers, below: NDArray[np.bool_], categories: Sequence[str]) -> list[str]:
    """Return the category of each query, or :data:`NO_CATEGORY`.

    Args:
        scores: ``(n, c)`` of the categories.
        below: ``(n,)`` True where the best is below its threshold.
        categories: ``c`` names; none gives no names.
    """
    if not categories:
        return []
    best = scores.argmax(axis=1)
    return [NO_CATEGORY if is_below else categories[number] for is_below, number in zip(below, best, strict=True)]


def mix_shift(baseline: DriftBaseline, categories: Sequence[str]) -> tuple[float, Mapping[str, tuple[float, float]]]:
    """Compare the shares of the categories with those at tuning time.

    The chi-square test of two samples at 99.9% decides whether anything has moved; how much is half the sum of the
    absolute differences (total variation), less what it is expected to be by chance.

    Args:
        baseline: with its mix.
        categories: of the queries now.

    Returns:
        The share moved, 0 where the test finds nothing, and the categories that moved most.
    """
    counts, rows, count = Counter(categories), max(1, baseline.rows), len(categories)
    names = sorted(baseline.mix.keys() | counts.keys())
    then = np.array([baseline.mix.get(name, 0.0) for name in names])
    now = np.array([counts[name] / count for name in names])
    pooled = (then * rows + now * count) / (rows + count)
    is_rare = pooled * min(rows, count) < _LEAST_EXPECTED
    before, after, both = (
        np.append(shares[~is_rare], shares[is_rare].sum()) if is_rare.any() else shares
        for shares in (then, now, pooled)
    )
    noise = 1.0 / rows + 1.0 / count
    if len(both) < 2 or float((np.square(after - before) / both).sum()) / noise <= _chi_square(len(both) - 1):
        return 0.0, {}
    chance = 0.5 * float(np.sqrt(2.0 / np.pi * both * (1.0 - both) * noise).sum())
    moved = max(0.0, 0.5 * float(np.abs(after - before).sum()) - chance)
    most = np.argsort(-np.abs(now - then), kind="stable")[:_NAMED_MOVES]
    return moved, {names[number]: (float(then[number]), float(now[number])) for number in most}


def _chi_square(freedom: int) -> float:
    """Return the 99.9% quantile of chi-square, to some per cent.

    Wilson and Hilferty, PNAS 17, 1931; scipy is an optional dependency.
    """
    spread = 2.0 / (9.0 * freedom)
    return freedom * float(1.0 - spread + NormalDist().inv_cdf(_CHANCE_QUANTILE) * spread**0.5) ** 3


def _reasons(baseline: DriftBaseline, change: Drift) -> Iterator[str]:
    """Yield reasons to tune again: large, significant changes on enough rows."""
    if not change.same_index:
        yield "the index is not the one that it was tuned with, so scores are not comparable"
    if change.stability is not None and change.stability > LARGE_SHIFT:
        index = f"stability index {change.stability:.2f}, above {LARGE_SHIFT:g}"
        yield f"the queries differ from those that it was tuned on ({index})"
    if change.moved is not None and change.moved > TOLERATED_MOVE:
        moves = ", ".join(f"{name} {then:.0%} then, {now:.0%} now" for name, (then, now) in change.moves.items())
        yield f"the mix of queries has moved by {change.moved:.0%} ({moves}), and a promise holds for the same mix"
    below, quality, cost = change.below, change.quality, change.cost_usd
    if below is not None and change.queries >= MIN_QUERIES and below.low > baseline.below + TOLERATED_CHANGE:
        yield f"{below.value:.0%} of the queries fit no category, and {baseline.below:.0%} did"
    if quality is not None and change.judged >= MIN_JUDGED and quality.high < baseline.quality_low:
        yield (
            f"answers are worse: {quality.value:.1%} of {change.judged:,} judged ones are good, and "
            f"{baseline.quality:.1%} were"
        )
    if (
        cost is not None
        and change.costed >= MIN_QUERIES
        and cost.low > baseline.cost_high
        and cost.value > MORE_EXPENSIVE * baseline.cost_usd > 0
    ):
        yield f"a query costs USD {cost.value:.3g}, and cost {baseline.cost_usd:.3g}"
    if change.prices:
        yield f"prices have changed: {', '.join(change.prices)}"


def _has_changed(then: tuple[float, float], now: tuple[float, float]) -> bool:
    return any(abs(new - old) > TOLERATED_CHANGE * max(old, 1e-9) for old, new in zip(then, now, strict=True))


# Drift in words, the same in a terminal and on a page.

FITS = "the policy fits: no known figure has moved far from its value at tuning time"


@dataclass(frozen=True, slots=True)
class Compared:
    """A drift baseline with the changes since.

    Attributes:
        then: the baseline.
        found: the changes.
    """

    then: DriftBaseline
    found: Drift

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, value then and value now of each comparison.

        A dash for an unknown value.
        """
        then, now = self.then, self.found
        yield "different queries", f"{then.rows:,}", f"{now.queries:,}"
        yield "their stability index", "", "-" if now.stability is None else f"{now.stability:.2f}"
        yield "queries that changed category", "", "-" if now.moved is None else percent(now.moved)
        yield "fit no category", percent(then.below), "-" if now.below is None else percent(now.below.value)
        quality = "-" if now.quality is None else f"{percent(now.quality.value)} of {now.judged:,} judged"
        yield "quality", percent(then.quality), quality
        cost = "-" if now.cost_usd is None else f"{1000 * now.cost_usd.value:.4f} of {now.costed:,}"
        yield "USD for 1,000 queries", f"{1000 * then.cost_usd:.4f}", cost
        for model, (old, new) in now.prices.items():
            yield f"price of {model}", f"{old[0]:g}, {old[1]:g}", f"{new[0]:g}, {new[1]:g}"

    def warnings(self) -> Iterator[str]:
        """Yield the reasons to tune the policy again, a sentence each."""
        for reason in self.found.reasons:
            yield f"tune the policy again: {reason}"
