"""For each category: go on with its cascade, or send its queries straight to one tier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np

from semroute.evaluate.advice.tally import AdviceTally, PriceOf
from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.mean import mean_interval
from semroute.evaluate.plain import finite
from semroute.evaluate.rate import Rate
from semroute.evaluate.report.latency import Times
from semroute.types import LoggedOutcome

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
