"""The whole report of a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.mean import mean_interval
from semroute.evaluate.plain import finite, plain
from semroute.evaluate.rate import Rate
from semroute.evaluate.report.columns import PURPOSES, LogColumns, Spent, columns
from semroute.evaluate.report.latency import LogLatency, latency
from semroute.evaluate.report.saving import Saving, saving
from semroute.types import LoggedOutcome


@dataclass(frozen=True, slots=True)
class Group:
    """Outcomes or calls of one name. ``queries`` is None where calls are counted, which are not a query each."""

    name: str
    spent: Spent
    share: float
    queries: int | None = None
    escalation: Rate | None = None
    feedback: Interval | None = None
    judged: int = 0


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a log says.

    Attributes:
        queries: outcomes in all.
        first, last: seconds since the epoch; None without outcomes.
        saving: the bill against the strongest model's.
        models, categories, purposes: who and what the money went to, dearest first.
        escalation: among queries that went up a cascade.
        checks: share of accepted answers by check.
        latency: times.
        strategies: who decided, most first.
        errors: failed queries by kind.
        fallbacks: queries that went to the fallback.
        unanswered: queries that were charged and got no answer: they failed, or their caller left.
        unanswered_usd: what those cost; in no sum of ``saving``.
        unpriced_calls, estimated_calls: calls that no price is known of, and those whose tokens were not counted.
        columns: what it was made of, for plots.
    """

    queries: int
    first: float | None
    last: float | None
    saving: Saving
    models: tuple[Group, ...]
    categories: tuple[Group, ...]
    purposes: tuple[Group, ...]
    escalation: Rate
    checks: Mapping[str, Rate]
    latency: LogLatency
    strategies: Mapping[str, int]
    errors: Mapping[str, int]
    fallbacks: Rate
    unanswered: int
    unanswered_usd: float
    unpriced_calls: int
    estimated_calls: int
    columns: LogColumns

    def to_dict(self) -> dict[str, object]:
        """JSON-ready values; what is not defined is None."""
        told = {name: plain(getattr(self, name)) for name in self.__slots__ if name != "columns"}
        told["saving"] = {**asdict(self.saving), "saved_usd": self.saving.saved_usd, "is_short": self.saving.is_short}
        told["latency"] = {**asdict(self.latency), "hides": self.latency.hides}
        return {name: finite(value) for name, value in told.items()}


def report(outcomes: Iterable[LoggedOutcome]) -> LogReport:
    """Report on outcomes, which are read once."""
    made = columns(outcomes)
    total = sum(spent.usd for spent in made.by_model.values())
    cascaded, escalated = made.array("cascaded") > 0, made.array("escalated") > 0
    at, cost = made.array("at"), made.array("cost")
    unanswered = (cost > 0) & (made.array("answered") == 0)
    return LogReport(
        queries=len(made),
        first=float(at.min()) if len(made) else None,
        last=float(at.max()) if len(made) else None,
        saving=saving(made),
        models=_sorted(
            Group(name, spent, _share(spent.usd, total), judged=len(made.judged.get(name, ())),
                  feedback=mean_interval(made.judged.get(name, ()), low=0, high=1))
            for name, spent in made.by_model.items()
        ),
        categories=_sorted(_categories(made, total, cascaded, escalated)),
        purposes=tuple(
            Group(name, made.by_purpose[name], _share(made.by_purpose[name].usd, total))
            for name in PURPOSES
            if name in made.by_purpose
        ),
        escalation=Rate.of(int((cascaded & escalated).sum()), int(cascaded.sum())),
        checks={
            name: Rate.of(made.checks[name, True], made.checks[name, True] + made.checks[name, False])
            for name in sorted({name for name, _ in made.checks})
        },
        latency=latency(made),
        strategies=dict(made.strategies.most_common()),
        errors=dict(made.errors.most_common()),
        fallbacks=Rate.of(made.fallbacks, len(made)),
        unanswered=int(unanswered.sum()),
        unanswered_usd=float(cost[unanswered].sum()),
        unpriced_calls=sum(spent.unpriced for spent in made.by_model.values()),
        estimated_calls=sum(spent.estimated for spent in made.by_model.values()),
        columns=made,
    )  # fmt: skip


def _categories(
    made: LogColumns,
    total: float,
    cascaded: np.ndarray,
    escalated: np.ndarray,
) -> Iterable[Group]:
    numbers = np.array(made.category, dtype=np.int64)
    for name, number in made.categories.items():
        rows = numbers == number
        tried = int((rows & cascaded).sum())
        spent = made.by_category.get(name, Spent())
        yield Group(
            name,
            spent,
            _share(spent.usd, total),
            queries=int(rows.sum()),
            escalation=Rate.of(int((rows & escalated & cascaded).sum()), tried) if tried else None,
        )


def _sorted(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(
        sorted(groups, key=lambda group: (-group.spent.usd, -(group.queries or group.spent.calls), group.name))
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
