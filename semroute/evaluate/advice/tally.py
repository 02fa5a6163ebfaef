"""What the outcomes of a category tell of its cascade, in columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

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
