"""What the outcomes of a category tell of its cascade, in columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from semroute.evaluate.log_report import Times
from semroute.evaluate.metrics import Interval, Rate, finite, mean_interval
from semroute.types import LoggedOutcome, Usage

PriceOf: TypeAlias = Callable[[str, Usage], float | None]
"""USD of a call of a model or group with these tokens; None where no price is known."""


@dataclass(slots=True)
class AdviceTally:
    """Outcomes that went up one cascade.

    Attributes:
        tiers: what the tiers call, cheapest first.
        usd: of each query, the answer's calls and samples alone; NaN where a call's price is not known.
        first_usd: the part of it that the first tier took.
        straight_usd: by tier, what the query would have cost there alone; NaN where that is not known.
        latency_ms: to the end of the answer.
        tier_ms: by tier, of the queries that it was called for, to the end of its answer, deciding included.
        accepted: by tier, how many of its answers were accepted, of the queries that it was called for.
        escalated: whether more than one tier was called.
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
        """Whether an outcome is an answer of this cascade, as far as its trials tell."""
        position = -1
        for trial in outcome.trials:
            if trial.candidate not in self.tiers[position + 1 :]:
                return False
            position = self.tiers.index(trial.candidate, position + 1)
        return outcome.model is not None and any(trial.called for trial in outcome.trials)

    def add(self, outcome: LoggedOutcome, price_of: PriceOf) -> None:
        """Count in an outcome that :meth:`takes` has let through."""
        spent = {
            trial.candidate: sum(
                _usd(call.cost_usd) for call in outcome.calls if call.tier == trial.tier and call.role != "judge"
            )
            for trial in outcome.trials
        }
        called = {trial.candidate: trial for trial in outcome.trials if trial.called}
        self.usd.append(sum(spent.values()))
        self.first_usd.append(spent.get(self.tiers[0], 0.0))
        self.latency_ms.append(outcome.latency_ms)
        self.escalated.append(len(called) > 1)
        usage = None
        if outcome.input_tokens is not None and outcome.output_tokens is not None:
            usage = Usage(outcome.input_tokens, outcome.output_tokens)
        for place, name in enumerate(self.tiers):
            trial = called.get(name)
            if trial is not None:
                self.tier_ms[place].append(outcome.decide_ms + trial.latency_ms)
                self.accepted[place] += trial.accepted
            answers = None if trial is None else _answered(outcome, trial.tier)
            told = answers if answers is not None else None if usage is None else price_of(name, usage)
            self.straight_usd[place].append(_usd(told))


def _answered(outcome: LoggedOutcome, tier: int) -> float | None:
    """What a tier's own calls cost without the samples that checked them; None where that is not known."""
    costs = [call.cost_usd for call in outcome.calls if call.tier == tier and call.role == "answer"]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _usd(value: float | None) -> float:
    return math.nan if value is None else value


# For each category: go on with its cascade, or send its queries straight to one tier.

Verdict: TypeAlias = Literal["cascade", "straight", "unclear", "few"]

LEAST = 30
"""Queries below which nothing is advised: the normal interval of a mean of costs is no good with fewer."""


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One tier of a category.

    Attributes:
        name: model or group.
        accepted: share of accepted answers among the queries that it was called for.
        usd: mean of a query if all were sent there and nowhere else; None where no price is known. A query that never
            got there is priced by the tokens of the answer that it was given.
        latency: of the queries that it was called for, as if it had been called at once, milliseconds. Higher tiers
            are called for the queries that lower ones failed at, so that is no fair sample of all.
    """

    name: str
    accepted: Rate
    usd: float | None
    latency: Times


@dataclass(frozen=True, slots=True)
class Advice:
    """What the log says of a category's cascade.

    Attributes:
        category: its name; "" for queries without one.
        tiers: cheapest first, as they are configured now.
        queries: outcomes that went up this cascade.
        others: outcomes with tiers that are not configured any more; they are not counted.
        escalation: share of queries for which more than one tier was called.
        usd: mean of a query, samples and rejected answers included; None where no price is known.
        saved: USD a query, the last tier alone less the cascade, with a normal 95% interval of the paired difference.
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


def advise(
    outcomes: Iterable[LoggedOutcome], tiers_of: Callable[[str | None], tuple[str, ...]], price_of: PriceOf
) -> tuple[Advice, ...]:
    """Advise on every category that has a cascade, those with most queries first.

    Args:
        outcomes: read once.
        tiers_of: what the tiers of a category call now; none where it has no cascade.
        price_of: what a call costs.
    """
    tallies: dict[str, AdviceTally] = {}
    others: dict[str, int] = {}
    for outcome in outcomes:
        if not outcome.trials:
            continue
        name = outcome.category or ""
        tally = tallies.setdefault(name, AdviceTally(tiers_of(outcome.category)))
        if tally.takes(outcome):
            tally.add(outcome, price_of)
        else:
            others[name] = others.get(name, 0) + 1
    found = (_advice(name, tally, others.get(name, 0)) for name, tally in tallies.items() if tally.tiers)
    return tuple(sorted(found, key=lambda advice: (-advice.queries, advice.category)))


def _advice(name: str, tally: AdviceTally, others: int) -> Advice:
    usd, first = np.array(tally.usd), np.array(tally.first_usd)
    straight = [_filled(np.array(column)) for column in tally.straight_usd]
    escalated = np.array(tally.escalated, dtype=bool)
    differences = straight[-1] - usd
    saved = mean_interval(differences[np.isfinite(differences)].tolist())
    return Advice(
        category=name,
        tiers=tuple(
            TierFigures(
                tier, Rate.of(tally.accepted[place], len(tally.tier_ms[place])), _known(straight[place]),
                Times.of(np.array(tally.tier_ms[place])),
            )
            for place, tier in enumerate(tally.tiers)
        ),
        queries=len(usd),
        others=others,
        escalation=Rate.of(int(escalated.sum()), len(usd)),
        usd=_known(usd),
        saved=saved,
        break_even=break_even(straight[-1], first, usd - first, escalated),
        latency=Times.of(np.array(tally.latency_ms)),
        verdict=_verdict(len(usd), saved),
    )  # fmt: skip


def break_even(straight: np.ndarray, first: np.ndarray, rest: np.ndarray, escalated: np.ndarray) -> float | None:
    """Share of escalated queries at which a cascade costs as much as its last tier alone.

    A cascade costs ``a + r e`` a query: the first tier with its samples, and with rate ``r`` what follows. It pays
    while that is less than ``s``, the last tier alone: ``r < (s - a) / e``; with two tiers ``e = s`` and that is the
    well-known ``1 - c_small / c_big``. Where no query was escalated, ``e`` is taken to be ``s``.

    Args:
        straight: ``(n,)`` USD of each query at the last tier alone.
        first: ``(n,)`` USD of it at the first tier.
        rest: ``(n,)`` USD of all that came after the first tier.
        escalated: ``(n,)`` bool.

    Returns:
        0 to 1; None where prices are not known.
    """
    alone, cheap = _known(straight), _known(first)
    after = _known(rest[escalated]) if escalated.any() else alone
    if alone is None or cheap is None or after is None:
        return None
    if after <= 0:
        return 1.0 if alone > cheap else 0.0
    return min(1.0, max(0.0, (alone - cheap) / after))


def _filled(column: np.ndarray) -> np.ndarray:
    """A column whose gaps hold the mean of the rest."""
    known = np.isfinite(column)
    return np.where(known, column, column[known].mean()) if known.any() else column


def _known(column: np.ndarray) -> float | None:
    finite = column[np.isfinite(column)]
    return float(finite.mean()) if len(finite) else None


def _verdict(queries: int, saved: Interval | None) -> Verdict:
    if queries < LEAST:
        return "few"
    if saved is None or not saved.excludes_zero:
        return "unclear"
    return "cascade" if saved.value > 0 else "straight"


def overrides(advices: Iterable[Advice]) -> Mapping[str, Mapping[str, object]]:
    """What to write under ``categories`` of ``semroute.yaml`` to follow the advice; queries without a category are
    not in it, since they have no section of their own.
    """
    return {
        advice.category: {"models": [advice.tiers[-1].name], "cascade": False}
        for advice in advices
        if advice.verdict == "straight" and advice.category
    }


def as_dict(advice: Advice) -> dict[str, object]:
    """JSON-ready values; what is not defined is None."""
    return {name: finite(value) for name, value in asdict(advice).items()}
