"""Whether the world is still the one that a policy was tuned on: its queries, its quality, its prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError
from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.mean import mean_interval
from semroute.evaluate.rate import Rate

Numbers = NDArray[np.float64] | NDArray[np.float32]

BINS = 10
MUCH = 0.2
"""Population stability index from which distributions count as different (Siddiqi, "Credit Risk Scorecards", 2006)."""
LEAST = 100
"""Queries below which nothing is said of their distribution."""
LEAST_JUDGED = 30
SHIFT = 0.05
"""By how much the share below the threshold, or a price (of itself), may move."""
DEARER = 1.25
"""Mean cost of a query, of what it was, from which it counts."""

_FOREIGN = "not what semroute tune-policy keeps of its tuning; tune the policy again"

Prices = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a policy was tuned on.

    Attributes:
        cuts: ``BINS - 1`` scores of the best category that cut the queries in parts of equal size.
        below: share of queries that fit no category.
        quality: mean of the policy's answers on held-out queries.
        quality_low: lower end of its 95% interval.
        cost_usd: mean cost of a query.
        prices: of models, USD per million input and output tokens.
        rows: queries.
    """

    cuts: tuple[float, ...]
    below: float
    quality: float
    quality_low: float
    cost_usd: float
    prices: Prices
    rows: int

    @classmethod
    def of(cls, scores: Numbers, below: NDArray[np.bool_], quality: Interval, cost_usd: float, prices: Prices) -> Self:
        """From the ``(n,)`` best scores of the tuning queries, and whether each is ``below`` its threshold."""
        cuts = np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1])
        return cls(
            tuple(map(float, cuts)),
            float(below.mean()),
            quality.value,
            quality.low,
            cost_usd,
            dict(prices),
            len(scores),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: object) -> Self:
        """What :meth:`to_dict` gave.

        Raises:
            ArtifactError: it is no baseline.
        """
        if not isinstance(told, dict):
            raise ArtifactError(_FOREIGN)
        try:
            prices = {str(model): (float(one[0]), float(one[1])) for model, one in told["prices"].items()}
            numbers = {name: float(told[name]) for name in ("below", "quality", "quality_low", "cost_usd")}
            return cls(cuts=tuple(map(float, told["cuts"])), prices=prices, rows=int(told["rows"]), **numbers)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArtifactError(_FOREIGN) from error


@dataclass(frozen=True, slots=True)
class Drift:
    """What has changed.

    Attributes:
        queries: how many were looked at.
        stability: population stability index of their best scores; None for too few.
        below: share of them that fits no category; None where scores are not known.
        quality: mean feedback with its interval; None without any.
        judged: answers with feedback.
        cost_usd: mean cost of a query; None where none is known.
        prices: models whose price has moved, with the price then and now.
        reasons: why the policy should be tuned again; none where it need not.
    """

    queries: int
    stability: float | None
    below: Rate | None
    quality: Interval | None
    judged: int
    cost_usd: float | None
    prices: Mapping[str, tuple[tuple[float, float], tuple[float, float]]]
    reasons: tuple[str, ...]


def drift(
    baseline: Baseline,
    scores: Numbers | None,
    below: NDArray[np.bool_] | None,
    feedback: Sequence[float],
    costs: Sequence[float],
    prices: Prices,
) -> Drift:
    """Compare what came lately with what a policy was tuned on.

    Args:
        baseline: then.
        scores: ``(n,)`` best scores of the queries now; None where they are not known.
        below: ``(n,)`` whether each is below its threshold.
        feedback: judgements of answers, 0..1.
        costs: USD of queries.
        prices: now.
    """
    count = 0 if scores is None else len(scores)
    stable = stability(baseline, scores) if scores is not None and count >= LEAST else None
    share = None if below is None or not count else Rate.of(int(below.sum()), count)
    moved = {
        model: (then, prices[model])
        for model, then in baseline.prices.items()
        if model in prices and _moved(then, prices[model])
    }
    cost = float(np.mean(costs)) if len(costs) else None
    quality = mean_interval(feedback, low=0, high=1)
    reasons = tuple(_reasons(baseline, stable, share if count >= LEAST else None, quality, len(feedback), cost, moved))
    return Drift(count, stable, share, quality, len(feedback), cost, moved, reasons)


def stability(baseline: Baseline, scores: Numbers) -> float:
    """Population stability index: ``sum over bins of (now - then) * ln(now / then)``, less what chance alone gives.

    Without any drift it is about ``(bins - 1) * (1 / n + 1 / rows)``, which is taken off, so that few queries do not
    look like other ones. Empty bins count as half a query.
    """
    counts = np.bincount(np.searchsorted(np.array(baseline.cuts), scores, side="right"), minlength=BINS)
    now = np.maximum(counts, 0.5) / max(1, len(scores))
    then = 1.0 / BINS
    chance = (BINS - 1) * (1.0 / len(scores) + 1.0 / max(1, baseline.rows))
    return max(0.0, float(((now - then) * np.log(now / then)).sum()) - chance)


def _reasons(
    then: Baseline,
    stable: float | None,
    below: Rate | None,
    quality: Interval | None,
    judged: int,
    cost: float | None,
    moved: Mapping[str, tuple[tuple[float, float], tuple[float, float]]],
) -> Iterator[str]:
    if stable is not None and stable > MUCH:
        yield f"queries are others than those that it was tuned on (stability index {stable:.2f}, above {MUCH:g})"
    if below is not None and below.low > then.below + SHIFT:
        yield f"{below.value:.0%} of the queries fit no category, and {then.below:.0%} did"
    if quality is not None and judged >= LEAST_JUDGED and quality.high < then.quality_low:
        yield f"answers are worse: {quality.value:.1%} of {judged:,} judged ones are good, and {then.quality:.1%} were"
    if cost is not None and then.cost_usd > 0 and cost > DEARER * then.cost_usd:
        yield f"a query costs USD {cost:.3g}, and cost {then.cost_usd:.3g}"
    if moved:
        yield f"prices have changed: {', '.join(moved)}"


def _moved(then: tuple[float, float], now: tuple[float, float]) -> bool:
    return any(abs(new - old) > SHIFT * max(old, 1e-9) for old, new in zip(then, now, strict=True))
