"""Advise from the log whether a category's cascade pays for itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from semroute.evaluate.log_report import Times
from semroute.evaluate.metrics import Interval, Rate, finite, mean_interval
from semroute.types import LoggedOutcome, Usage

PriceOf: TypeAlias = Callable[[str, Usage], float | None]
"""USD of a call of a tier, by its label, with these tokens; None if no price is known."""


@dataclass(slots=True)
class AdviceTally:
    """Per-query columns of the outcomes that one cascade served.

    Attributes:
        tiers: model or group of each tier, with its effort (:func:`~semroute.types.tier_label`), cheapest first.
        usd: cost of the calls and samples behind each answer; NaN where the price of a call is not known.
        first_usd: the first tier's part of ``usd``.
        straight_usd: by tier, the query's cost if it were sent there alone; NaN where that is not known.
        latency_ms: to the end of the answer.
        tier_ms: by tier, over the queries that it was called for, to the end of its answer, deciding included.
        accepted: by tier, number of its accepted answers, over the queries that it was called for.
        escalated: True where more than one tier was called.
    """

    tiers: tuple[str, ...]
    usd: list[float] = field(default_factory=list)
    first_usd: list[float] = field(default_factory=list)
    straight_usd: list[list[float]] = field(init=False)
    latency_ms: list[float] = field(default_factory=list)
    tier_ms: list[list[float]] = field(init=False)
    accepted: list[int] = field(init=False)
    escalated: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.straight_usd = [[] for _ in self.tiers]
        self.tier_ms = [[] for _ in self.tiers]
        self.accepted = [0 for _ in self.tiers]

    def takes(self, outcome: LoggedOutcome) -> bool:
        """Return True if the tiers that an outcome called belong to this cascade."""
        position = -1
        for tier in outcome.tiers:
            if tier.label not in self.tiers[position + 1 :]:
                return False
            position = self.tiers.index(tier.label, position + 1)
        return outcome.model is not None and any(tier.called for tier in outcome.tiers)

    def add(self, outcome: LoggedOutcome, price_of: PriceOf) -> None:
        """Add an outcome that :meth:`takes` accepted."""
        cost_of_tier = {
            result.label: sum(
                _or_nan(call.cost_usd) for call in outcome.calls if call.tier == result.tier and call.role != "judge"
            )
            for result in outcome.tiers
        }
        results = {result.label: result for result in outcome.tiers if result.called}
        self.usd.append(sum(cost_of_tier.values()))
        self.first_usd.append(cost_of_tier.get(self.tiers[0], 0.0))
        self.latency_ms.append(outcome.latency_ms)
        self.escalated.append(len(results) > 1)
        usage = None
        if outcome.input_tokens is not None and outcome.output_tokens is not None:
            usage = Usage(outcome.input_tokens, outcome.output_tokens)
        for position, name in enumerate(self.tiers):
            result = results.get(name)
            if result is not None:
                self.tier_ms[position].append(outcome.decide_ms + result.latency_ms)
                self.accepted[position] += result.accepted
            answers = None if result is None else _answer_cost(outcome, result.tier)
            cost = answers if answers is not None else None if usage is None else price_of(name, usage)
            self.straight_usd[position].append(_or_nan(cost))


def _answer_cost(outcome: LoggedOutcome, tier: int) -> float | None:
    """Return the cost of a tier's calls without check samples, or None."""
    costs = [call.cost_usd for call in outcome.calls if call.tier == tier and call.role == "answer"]
    priced = [cost for cost in costs if cost is not None]
    return sum(priced) if priced and len(priced) == len(costs) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


# Recommend for each category its cascade, or one tier for all of its queries.

Verdict: TypeAlias = Literal["cascade", "straight", "unclear", "few"]

MIN_QUERIES = 30
"""Minimum number of queries for advice: below it the normal interval of a mean cost is not reliable."""


@dataclass(frozen=True, slots=True)
class TierFigures:
    """Acceptance, cost and latency of one tier of a category.

    Attributes:
        name: model or group.
        accepted: share of accepted answers among the queries that it was called for.
        usd: mean cost per query if all were sent to this tier alone; None where no price is known. A query that never
            reached the tier is priced by the tokens of its final answer.
        latency: over the queries that it was called for, as if it had been called first, milliseconds. Higher tiers are
            called for the queries that lower ones failed at, so these are not a fair sample of all.
    """

    name: str
    accepted: Rate
    usd: float | None
    latency: Times


@dataclass(frozen=True, slots=True)
class Advice:
    """Recommendation for the cascade of a category, with its figures.

    Attributes:
        category: its name; "" for queries without one.
        tiers: as configured now, cheapest first.
        queries: outcomes of this cascade.
        others: outcomes with tiers that are no longer configured; they are not counted.
        escalation: share of queries for which more than one tier was called.
        usd: mean cost per query, samples and rejected answers included; None where no price is known.
        saved: USD per query, the last tier alone minus the cascade, with a normal 95% interval of the paired
            difference.
        break_even: share of escalated queries at which the cascade costs as much as the last tier alone.
        latency: to the whole answer, milliseconds.
        verdict: ``cascade`` or ``straight`` to the last tier where the interval of ``saved`` lies on one side of zero.
    """

    category: str
    tiers: tuple[TierFigures, ...]
    queries: int
    others: int
    escalation: Rate
    usd: float | None
    saved: Interval | None
    break_even: float | None
    latency: Times
    verdict: Verdict

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; undefined figures are None."""
        return {name: finite(value) for name, value in asdict(self).items()}


def advise(
    outcomes: Iterable[LoggedOutcome], tiers_of: Callable[[str | None], tuple[str, ...]], price_of: PriceOf
) -> tuple[Advice, ...]:
    """Advise on every category that has a cascade, most queries first.

    Args:
        outcomes: read once.
        tiers_of: returns the configured tiers of a category; none where it has no cascade.
        price_of: returns the cost of a call.
    """
    tallies: dict[str, AdviceTally] = {}
    skipped: dict[str, int] = {}
    for outcome in outcomes:
        if not outcome.tiers:
            continue
        name = outcome.category or ""
        tally = tallies.setdefault(name, AdviceTally(tiers_of(outcome.category)))
        if tally.takes(outcome):
            tally.add(outcome, price_of)
        else:
            skipped[name] = skipped.get(name, 0) + 1
    advices = (_advice(name, tally, skipped.get(name, 0)) for name, tally in tallies.items() if tally.tiers)
    return tuple(sorted(advices, key=lambda advice: (-advice.queries, advice.category)))


def _advice(name: str, tally: AdviceTally, others: int) -> Advice:
    usd, first = np.array(tally.usd), np.array(tally.first_usd)
    alone = [_impute_mean(np.array(column)) for column in tally.straight_usd]
    escalated = np.array(tally.escalated, dtype=bool)
    differences = alone[-1] - usd
    saved = mean_interval(differences[np.isfinite(differences)].tolist())
    return Advice(
        category=name,
        tiers=tuple(
            TierFigures(
                tier, Rate.of(tally.accepted[position], len(tally.tier_ms[position])), _finite_mean(alone[position]),
                Times.of(np.array(tally.tier_ms[position])),
            )
            for position, tier in enumerate(tally.tiers)
        ),
        queries=len(usd),
        others=others,
        escalation=Rate.of(int(escalated.sum()), len(usd)),
        usd=_finite_mean(usd),
        saved=saved,
        break_even=break_even(alone[-1], first, usd - first, escalated),
        latency=Times.of(np.array(tally.latency_ms)),
        verdict=_verdict(len(usd), saved),
    )  # fmt: skip


def break_even(straight: np.ndarray, first: np.ndarray, rest: np.ndarray, escalated: np.ndarray) -> float | None:
    """Return the escalation rate at which a cascade costs its last tier alone.

    A cascade costs ``a + r e`` a query: ``a`` for the first tier with its samples, and ``e`` for all later tiers at the
    escalation rate ``r``. It pays while that is less than ``s``, the last tier alone: ``r < (s - a) / e``; with two
    tiers ``e = s``, which is the well-known ``1 - c_small / c_big``. Where no query was escalated, ``e`` is taken to be
    ``s``.

    Args:
        straight: ``(n,)`` USD of each query at the last tier alone.
        first: ``(n,)`` USD of it at the first tier.
        rest: ``(n,)`` USD of all that came after the first tier.
        escalated: ``(n,)`` bool.

    Returns:
        0 to 1; None where prices are not known.
    """
    direct, start = _finite_mean(straight), _finite_mean(first)
    later = _finite_mean(rest[escalated]) if escalated.any() else direct
    if direct is None or start is None or later is None:
        return None
    if later <= 0:
        return 1.0 if direct > start else 0.0
    return min(1.0, max(0.0, (direct - start) / later))


def _impute_mean(column: np.ndarray) -> np.ndarray:
    """Fill the NaN cells of a column with the mean of the known ones."""
    is_known = np.isfinite(column)
    return np.where(is_known, column, column[is_known].mean()) if is_known.any() else column


def _finite_mean(column: np.ndarray) -> float | None:
    finite = column[np.isfinite(column)]
    return float(finite.mean()) if len(finite) else None


def _verdict(queries: int, saved: Interval | None) -> Verdict:
    if queries < MIN_QUERIES:
        return "few"
    if saved is None or not saved.excludes_zero:
        return "unclear"
    return "cascade" if saved.value > 0 else "straight"


def overrides(
    advices: Iterable[Advice], efforts: Mapping[str, tuple[str, str]] = MappingProxyType({})
) -> Mapping[str, Mapping[str, object]]:
    """Return a section ``categories`` of ``semroute.yaml`` by the advice.

    Queries without a category are left out, since they have no section of their own.

    Args:
        advices: of the categories.
        efforts: model or group, and effort, of each tier with an effort, by its name in the advice.
    """
    return {
        advice.category: _straight(advice.tiers[-1].name, efforts)
        for advice in advices
        if advice.verdict == "straight" and advice.category
    }


def _straight(name: str, efforts: Mapping[str, tuple[str, str]]) -> Mapping[str, object]:
    """Return an override that sends queries straight to a tier.

    It is the only tier of a cascade where it has an effort.
    """
    if name not in efforts:
        return {"models": [name], "cascade": False}
    use, effort = efforts[name]
    return {"models": [use], "cascade": {"tiers": [{"use": use, "effort": effort}], "accept": {"format": False}}}
