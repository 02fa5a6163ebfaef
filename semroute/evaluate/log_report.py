"""Report cost, savings and latency of routing from a log of outcomes."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import Interval, Rate, finite, mean_interval, plain
from semroute.types import LoggedCall, LoggedOutcome, tier_label


@dataclass(frozen=True, slots=True)
class Bill:
    """Monthly bill before and after routing, for input tokens alone.

    Attributes:
        queries: a month.
        tokens: input tokens of a query.
        simple: share of queries that the weak model handles, 0 to 1.
        strong_price, weak_price: USD per million input tokens.
    """

    queries: int
    tokens: float
    simple: float
    strong_price: float
    weak_price: float

    @property
    def before(self) -> float:
        """Return USD with every query at the strong model."""
        return self._usd(1.0, self.strong_price)

    @property
    def routed(self) -> float:
        """Return USD of perfect routing.

        Simple queries go to the weak model, the others to the strong one.
        """
        return self._usd(self.simple, self.weak_price) + self._usd(1.0 - self.simple, self.strong_price)

    def cascaded(self, escalated: float) -> float:
        """Return USD of a cascade that escalates the share ``escalated``.

        Every query goes to the weak model first, and that share to the strong one as well.
        """
        return self._usd(1.0, self.weak_price) + self._usd(escalated, self.strong_price)

    @property
    def break_even(self) -> float:
        """Return the escalation rate of equal cost with the strong model alone.

        ``w + r s = s`` at ``r = 1 - w / s``. Where the weak model is not cheaper, a cascade never pays: 0.
        """
        return max(0.0, 1.0 - self.weak_price / self.strong_price) if self.strong_price > 0 else 0.0

    @property
    def routing_even(self) -> float:
        """Return the escalation rate of equal cost with perfect routing.

        Above it a cascade costs more.
        """
        return max(0.0, (self.routed - self.cascaded(0.0)) / self._usd(1.0, self.strong_price)) if self.before else 0.0

    def _usd(self, share: float, price: float) -> float:
        return self.queries * share * self.tokens * price / 1e6


# Outcomes of a log as columns, since a report reads few figures of each and a log has many outcomes.

NOTHING = math.nan
"""Value for an unknown figure of an outcome."""

PURPOSES = ("answers", "rejected answers", "failed calls", "calls given up", "samples", "judge")
"""Purposes of spending, in the order in which they are shown."""


ABANDONED = "Abandoned"
"""Error kind of a call whose caller had stopped waiting."""


@dataclass(slots=True)
class Spent:
    """Cost of calls of one kind.

    ``unpriced`` have no known price, ``estimated`` have token counts estimated from text.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    estimated: int = 0

    def add(self, call: LoggedCall) -> None:
        """Add a call."""
        self.calls += 1
        self.input_tokens += call.input_tokens or 0
        self.output_tokens += call.output_tokens or 0
        self.usd += call.cost_usd or 0.0
        self.unpriced += call.cost_usd is None
        self.estimated += call.cost_estimated


@dataclass(slots=True)
class LogColumns:
    """One row per outcome, and sums over their calls.

    About a hundred bytes an outcome.

    Attributes:
        at: arrival, seconds since the epoch.
        category: number of the category in ``categories``.
        cost, baseline: USD; NaN where it is not known.
        latency, first_token, decide: milliseconds; NaN where there was none.
        answered, escalated, cascaded: 0 or 1.
        categories: names by number; an outcome without a category has the name "".
        by_model, by_category, by_purpose, by_key: cost of the calls.
        by_effort: cost of the calls by model and reasoning effort, "" for calls that asked for none.
        keys: outcomes by the gateway's virtual key.
        by_day: USD by day (number of days since the epoch) and model.
        checks: check results by check: accepted, rejected.
        judged: feedback by model.
        strategies, errors: counts by name.
        fallbacks: outcomes that went to the fallback.
        baseline_models: counts of the models taken as the strongest.
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
    by_key: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    by_effort: defaultdict[tuple[str, str], Spent] = field(default_factory=lambda: defaultdict(Spent))
    keys: Counter[str] = field(default_factory=Counter)
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
        """Add an outcome."""
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
        self.cascaded.append(bool(outcome.tiers))
        day, key = int(outcome.at.timestamp() // 86_400), key_of(outcome)
        if key is not None:
            self.keys[key] += 1
        for call in outcome.calls:
            self.by_model[call.model].add(call)
            self.by_effort[call.model, call.effort or ""].add(call)
            self.by_category[name].add(call)
            self.by_purpose[purpose(call, outcome)].add(call)
            if key is not None:
                self.by_key[key].add(call)
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
        """Return a column as ``(n,)`` float64."""
        return np.array(getattr(self, name), dtype=np.float64)


def columns(outcomes: Iterable[LoggedOutcome]) -> LogColumns:
    """Collect the columns of outcomes, which are read once."""
    collected = LogColumns()
    for outcome in outcomes:
        collected.add(outcome)
    return collected


def purpose(call: LoggedCall, outcome: LoggedOutcome) -> str:
    """Return the purpose of a call, one of :data:`PURPOSES`."""
    if call.role == "judge":
        return "judge"
    # Hedged calls that lost, and calls and answers that were under way when the caller left.
    if call.error_kind == ABANDONED or (call.error_kind is None and outcome.model is None):
        return "calls given up"
    if call.error_kind is not None:
        return "failed calls"
    if call.role == "sample":
        return "samples"
    return "answers" if call.tier == outcome.tier else "rejected answers"


def key_of(outcome: LoggedOutcome) -> str | None:
    """Return name and id of an outcome's virtual key; None without one."""
    name, id = outcome.metadata.get("key"), outcome.metadata.get("key_id")
    return name if name is None or id is None else f"{name} ({id})"


def _known(value: float | None) -> float:
    return NOTHING if value is None else value


# Latency of answers, with the escalated ones apart.
#
# They are split because a cascade that answers nine queries of ten at the cheap tier improves the median while the
# tenth query waits for two models.

QUANTILES = (0.5, 0.9, 0.99)
HIDDEN = 1.5
"""Ratio of the p99 of all queries to that of queries without escalation from which the report warns."""


@dataclass(frozen=True, slots=True)
class Times:
    """Latency quantiles in milliseconds, None without values.

    ``n`` is the number of values.
    """

    n: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Times:
        """Compute quantiles of the known values, by NumPy's linear interpolation."""
        known = values[np.isfinite(values)]
        if not len(known):
            return cls(0)
        return cls(len(known), *map(float, np.quantile(known, QUANTILES)))


@dataclass(frozen=True, slots=True)
class LogLatency:
    """Latency of answered queries.

    To the whole answer in three parts, to the first token, and of deciding.
    """

    total: Times
    not_escalated: Times
    escalated: Times
    first_token: Times
    deciding: Times

    @property
    def hides(self) -> bool:
        """Return True if only the p99, not the median, shows slow escalations."""
        plain = self.not_escalated.p99
        return plain is not None and self.total.p99 is not None and self.total.p99 > HIDDEN * plain


def latency(columns: LogColumns) -> LogLatency:
    """Return the latency of a log."""
    duration, answered = columns.array("latency"), columns.array("answered") > 0
    escalated = columns.array("escalated") > 0
    return LogLatency(
        total=Times.of(duration[answered]),
        not_escalated=Times.of(duration[answered & ~escalated]),
        escalated=Times.of(duration[answered & escalated]),
        first_token=Times.of(columns.array("first_token")[answered]),
        deciding=Times.of(columns.array("decide")),
    )


# The bill against the cost of the strongest model alone.

MONTH_DAYS = 30.44
"""Mean length of a month, days."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Saving:
    """Savings of routing against the strongest model alone.

    Attributes:
        compared: outcomes whose cost and baseline cost are both known; the rest is in neither sum.
        answered: outcomes that were answered.
        usd: their cost, every call counted.
        baseline_usd: cost of their answers at the strongest model's price.
        baseline_models: the models taken as the strongest.
        share: part of the bill that was saved, 0 to 1; negative where routing cost more.
        days: from the first outcome to the last.
        monthly_usd, monthly_baseline_usd: both sums for a month of such days; None where all came at one moment.
    """

    compared: int
    answered: int
    usd: float
    baseline_usd: float
    baseline_models: tuple[str, ...]
    share: Interval | None
    days: float
    monthly_usd: float | None
    monthly_baseline_usd: float | None

    @property
    def saved_usd(self) -> float:
        """Return the difference of the two sums."""
        return self.baseline_usd - self.usd

    @property
    def is_short(self) -> bool:
        """Return True if the log covers under a day, so that a month is a guess."""
        return self.days < 1.0


def saving(columns: LogColumns) -> Saving:
    """Compare the bill with that of the strongest model.

    The interval is that of a ratio of sums: with ``r = C / B`` the variance of ``r`` is about
    ``n var(c - r b) / B^2`` (Cochran, Sampling Techniques, 1977, 6.4), queries taken as independent.
    """
    cost, baseline = columns.array("cost"), columns.array("baseline")
    known = np.isfinite(cost) & np.isfinite(baseline)
    c, b = cost[known], baseline[known]
    days = float(np.ptp(columns.array("at"))) / DAY_S if len(columns) else 0.0
    total, compared = float(c.sum()), float(b.sum())
    factor = MONTH_DAYS / days if days > 0 else None
    return Saving(
        compared=int(known.sum()),
        answered=int(columns.array("answered").sum()),
        usd=total,
        baseline_usd=compared,
        baseline_models=tuple(name for name, _ in columns.baseline_models.most_common()),
        share=None if compared <= 0 else _share_saved(c, b),
        days=days,
        monthly_usd=None if factor is None else total * factor,
        monthly_baseline_usd=None if factor is None else compared * factor,
    )


def _share_saved(cost: np.ndarray, baseline: np.ndarray) -> Interval:
    n, total = len(cost), float(baseline.sum())
    ratio = float(cost.sum()) / total
    error = float(np.sqrt(n * np.var(cost - ratio * baseline, ddof=1))) / total if n > 1 else float("nan")
    return Interval(1.0 - ratio, 1.0 - ratio - 1.96 * error, 1.0 - ratio + 1.96 * error)


# The whole report of a log.


@dataclass(frozen=True, slots=True)
class Group:
    """Outcomes or calls of one name.

    ``queries`` is None where calls are counted, which are not a query each.
    """

    name: str
    spent: Spent
    share: float
    queries: int | None = None
    escalation: Rate | None = None
    feedback: Interval | None = None
    judged: int = 0


@dataclass(frozen=True, slots=True)
class LogReport:
    """Figures of a log of outcomes.

    Attributes:
        queries: outcomes in all.
        first, last: seconds since the epoch; None without outcomes.
        saving: the bill against the strongest model's.
        models, categories, purposes, keys: cost by model, category, purpose and virtual key, most expensive first.
        efforts: cost by reasoning effort of the models that were asked for one, most expensive first.
        escalation: among queries of cascades.
        checks: share of accepted answers by check.
        latency: quantiles.
        strategies: number of decisions by strategy, most first.
        errors: failed queries by kind.
        fallbacks: queries that went to the fallback.
        unanswered: queries that were charged and got no answer: they failed, or their caller left.
        unanswered_usd: their cost; in no sum of ``saving``.
        unpriced_calls, estimated_calls: calls without a known price, and calls with estimated token counts.
        columns: the underlying columns, for plots.
    """

    queries: int
    first: float | None
    last: float | None
    saving: Saving
    models: tuple[Group, ...]
    efforts: tuple[Group, ...]
    categories: tuple[Group, ...]
    purposes: tuple[Group, ...]
    keys: tuple[Group, ...]
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
        """Return JSON-ready values; undefined figures are None."""
        values = {name: plain(getattr(self, name)) for name in self.__slots__ if name != "columns"}
        values["saving"] = {**asdict(self.saving), "saved_usd": self.saving.saved_usd, "is_short": self.saving.is_short}
        values["latency"] = {**asdict(self.latency), "hides": self.latency.hides}
        return {name: finite(value) for name, value in values.items()}


def report(outcomes: Iterable[LoggedOutcome]) -> LogReport:
    """Report on outcomes, which are read once."""
    collected = columns(outcomes)
    total = sum(spent.usd for spent in collected.by_model.values())
    cascaded, escalated = collected.array("cascaded") > 0, collected.array("escalated") > 0
    at, cost = collected.array("at"), collected.array("cost")
    unanswered = (cost > 0) & (collected.array("answered") == 0)
    return LogReport(
        queries=len(collected),
        first=float(at.min()) if len(collected) else None,
        last=float(at.max()) if len(collected) else None,
        saving=saving(collected),
        models=_sorted(
            Group(name, spent, _share(spent.usd, total), judged=len(collected.judged.get(name, ())),
                  feedback=mean_interval(collected.judged.get(name, ()), low=0, high=1))
            for name, spent in collected.by_model.items()
        ),
        efforts=_sorted(_efforts(collected, total)),
        categories=_sorted(_categories(collected, total, cascaded, escalated)),
        purposes=tuple(
            Group(name, collected.by_purpose[name], _share(collected.by_purpose[name].usd, total))
            for name in PURPOSES
            if name in collected.by_purpose
        ),
        keys=_sorted(
            Group(name, spent, _share(spent.usd, total), queries=count)
            for name, count in collected.keys.items()
            for spent in [collected.by_key.get(name, Spent())]
        ),
        escalation=Rate.of(int((cascaded & escalated).sum()), int(cascaded.sum())),
        checks={
            name: Rate.of(collected.checks[name, True], collected.checks[name, True] + collected.checks[name, False])
            for name in sorted({name for name, _ in collected.checks})
        },
        latency=latency(collected),
        strategies=dict(collected.strategies.most_common()),
        errors=dict(collected.errors.most_common()),
        fallbacks=Rate.of(collected.fallbacks, len(collected)),
        unanswered=int(unanswered.sum()),
        unanswered_usd=float(cost[unanswered].sum()),
        unpriced_calls=sum(spent.unpriced for spent in collected.by_model.values()),
        estimated_calls=sum(spent.estimated for spent in collected.by_model.values()),
        columns=collected,
    )  # fmt: skip


def _efforts(collected: LogColumns, total: float) -> Iterator[Group]:
    models = {model for model, effort in collected.by_effort if effort}
    for (model, effort), spent in collected.by_effort.items():
        if model in models:
            name = tier_label(model, effort) if effort else f"{model} without an effort"
            yield Group(name, spent, _share(spent.usd, total))


def _categories(
    collected: LogColumns,
    total: float,
    cascaded: np.ndarray,
    escalated: np.ndarray,
) -> Iterable[Group]:
    numbers = np.array(collected.category, dtype=np.int64)
    for name, number in collected.categories.items():
        rows = numbers == number
        cascaded_queries = int((rows & cascaded).sum())
        spent = collected.by_category.get(name, Spent())
        yield Group(
            name,
            spent,
            _share(spent.usd, total),
            queries=int(rows.sum()),
            escalation=Rate.of(int((rows & escalated & cascaded).sum()), cascaded_queries)
            if cascaded_queries
            else None,
        )


def _sorted(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(
        sorted(groups, key=lambda group: (-group.spent.usd, -(group.queries or group.spent.calls), group.name))
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


# Caveats of a report, in words.


def warnings(report: LogReport) -> Iterator[str]:
    """Yield warnings about facts that the figures would otherwise hide."""
    quantiles = report.latency
    if quantiles.hides and quantiles.total.p99 is not None and quantiles.not_escalated.p99 is not None:
        yield (
            f"the slowest answers are {quantiles.total.p99 / quantiles.not_escalated.p99:.1f} times as slow as without "
            f"escalation: p99 {quantiles.total.p99:,.0f} ms against {quantiles.not_escalated.p99:,.0f} ms; the median "
            "does not show it"
        )
    saving = report.saving
    if saving.share is not None and saving.share.high < 0:
        yield f"routing costs more than {', '.join(saving.baseline_models)} alone: see semroute advise"
    if report.unpriced_calls:
        yield (
            f"{report.unpriced_calls:,} calls have no known price and count as nothing here: "
            "set models.NAME.price in semroute.yaml"
        )


def notes(report: LogReport) -> Iterator[str]:
    """Yield notes on how the figures were computed."""
    saving = report.saving
    if saving.compared < saving.answered:
        yield (
            f"{saving.answered - saving.compared:,} answers are not compared: their own cost, or that of the "
            "strongest model, is not known"
        )
    if saving.share is not None:
        yield "the strongest model is taken to use the tokens of the answer that was given, at its price of that time"
    if report.estimated_calls:
        yield f"the tokens of {report.estimated_calls:,} calls are estimated: their providers did not count them"


# Figures of a report as text.


def usd(value: float | None) -> str:
    """Format USD: cents from a dollar on, else significant digits.

    A dash if unknown.
    """
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.7f}"


def percent(value: float | None) -> str:
    """Format a share; a dash if undefined."""
    return "-" if value is None or value != value else f"{value:.1%}"


def ms(value: float | None) -> str:
    """Format milliseconds; a dash without a value."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def moment(seconds: float) -> str:
    """Format a time, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
