"""Outcomes of a log as columns: what a report needs of each, in a few bytes."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semroute.types import LoggedCall, LoggedOutcome

NOTHING = math.nan
"""For what is not known of an outcome."""

PURPOSES = ("answers", "rejected answers", "failed calls", "calls given up", "samples", "judge")
"""What money was spent on, in the order in which it is shown."""


ABANDONED = "Abandoned"
"""Kind of the error of a call that nobody waited for any more."""


@dataclass(slots=True)
class Spent:
    """Calls of one kind together. ``unpriced`` have no known price, ``estimated`` were reckoned from text."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    estimated: int = 0

    def add(self, call: LoggedCall) -> None:
        """Count a call in."""
        self.calls += 1
        self.input_tokens += call.input_tokens or 0
        self.output_tokens += call.output_tokens or 0
        self.usd += call.cost_usd or 0.0
        self.unpriced += call.cost_usd is None
        self.estimated += call.cost_estimated


@dataclass(slots=True)
class LogColumns:
    """A row for each outcome, and sums over their calls; about a hundred bytes an outcome.

    Attributes:
        at: arrival, seconds since the epoch.
        category: number of the category, as ``categories`` names them.
        cost, baseline: USD; NaN where it is not known.
        latency, first_token, decide: milliseconds; NaN where there was none.
        answered, escalated, cascaded: 0 or 1.
        categories: names by number; an outcome without a category has the name "".
        by_model, by_category, by_purpose: what calls took.
        by_day: USD by day (number of days since the epoch) and model.
        checks: verdicts by check: accepted, rejected.
        judged: feedback by model.
        strategies, errors: counts by name.
        fallbacks: outcomes that went to the fallback.
        baseline_models: counts of the models that were held to be the strongest.
    """

    at: array[float] = field(default_factory=lambda: array("d"))
    category: array[int] = field(default_factory=lambda: array("l"))
    cost: array[float] = field(default_factory=lambda: array("d"))
    baseline: array[float] = field(default_factory=lambda: array("d"))
    latency: array[float] = field(default_factory=lambda: array("d"))
    first_token: array[float] = field(default_factory=lambda: array("d"))
    decide: array[float] = field(default_factory=lambda: array("d"))
    answered: array[int] = field(default_factory=lambda: array("b"))
    escalated: array[int] = field(default_factory=lambda: array("b"))
    cascaded: array[int] = field(default_factory=lambda: array("b"))
    categories: dict[str, int] = field(default_factory=dict)
    by_model: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    by_category: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    by_purpose: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    by_day: defaultdict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))
    checks: Counter[tuple[str, bool]] = field(default_factory=Counter)
    judged: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    strategies: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    fallbacks: int = 0
    baseline_models: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.at)

    def add(self, outcome: LoggedOutcome) -> None:
        """Count an outcome in."""
        name = outcome.category or ""
        self.at.append(outcome.at.timestamp())
        self.category.append(self.categories.setdefault(name, len(self.categories)))
        self.cost.append(_known(outcome.cost_usd))
        self.baseline.append(_known(outcome.baseline_usd))
        self.latency.append(outcome.latency_ms)
        self.first_token.append(_known(outcome.first_token_ms))
        self.decide.append(outcome.decide_ms)
        self.answered.append(outcome.model is not None)
        self.escalated.append(outcome.escalated)
        self.cascaded.append(bool(outcome.trials))
        day = int(outcome.at.timestamp() // 86_400)
        for call in outcome.calls:
            self.by_model[call.model].add(call)
            self.by_category[name].add(call)
            self.by_purpose[purpose(call, outcome)].add(call)
            self.by_day[day, call.model] += call.cost_usd or 0.0
        self.checks.update((check.check, check.accepted) for check in outcome.checks)
        if outcome.feedback is not None and outcome.model is not None:
            self.judged[outcome.model].append(outcome.feedback)
        self.strategies[outcome.strategy] += 1
        self.fallbacks += outcome.is_fallback
        if outcome.error_kind is not None:
            self.errors[outcome.error_kind] += 1
        if outcome.baseline_model is not None:
            self.baseline_models[outcome.baseline_model] += 1

    def array(self, name: str) -> NDArray[np.float64]:
        """A column as ``(n,)`` float64."""
        return np.array(getattr(self, name), dtype=np.float64)


def columns(outcomes: Iterable[LoggedOutcome]) -> LogColumns:
    """The columns of outcomes, read once."""
    made = LogColumns()
    for outcome in outcomes:
        made.add(outcome)
    return made


def purpose(call: LoggedCall, outcome: LoggedOutcome) -> str:
    """What a call was for, and what became of it: one of :data:`PURPOSES`."""
    if call.role == "judge":
        return "judge"
    # Hedges that lost, what was under way when the caller left, and answers that nobody waited for any more.
    if call.error_kind == ABANDONED or (call.error_kind is None and outcome.model is None):
        return "calls given up"
    if call.error_kind is not None:
        return "failed calls"
    if call.role == "sample":
        return "samples"
    return "answers" if call.tier == outcome.tier else "rejected answers"


def _known(value: float | None) -> float:
    return NOTHING if value is None else value
