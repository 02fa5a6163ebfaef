"""Reports from the log: cost, saving and drift, and advice on cascades."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semroute.config import Config
from semroute.config.check import cascades
from semroute.errors import ArtifactError, InputError
from semroute.evaluate.advice import Advice, advise, overrides
from semroute.evaluate.drift import Drift, DriftBaseline, drift, named
from semroute.evaluate.log_report import LogReport, report
from semroute.learn.policy.write import REPORT
from semroute.storage import read_json
from semroute.text.normalise import normalize
from semroute.types import LoggedOutcome, Usage, tier_label
from semroute.workflows.workspace import Workspace

if TYPE_CHECKING:
    from semroute.evaluate.drift import Compared


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """Report of the logged queries, and their drift from a policy.

    Attributes:
        place: address of the log, without a password.
        report: cost, saving, escalation and latency.
        drift: comparison with a policy's tuning; None without a policy.
        category: the only category; None for all.
    """

    place: str
    report: LogReport
    drift: Compared | None
    category: str | None

    def write_page(self, path: Path) -> None:
        """Write the report as one HTML page.

        Raises:
            InputError: the file cannot be written.
        """
        from semroute.render.pages import write_report_page

        write_report_page(self.report, path, title=self.category or "all queries", drift=self.drift)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        drift = {} if self.drift is None else {"drift": self.drift.found.to_dict()}
        return {**self.report.to_dict(), **drift}


def report_traffic(
    workspace: Workspace,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    category: str | None = None,
    policy: Path | None = None,
    log_url: str | None = None,
) -> TrafficReport:
    """Report on the logged queries of a period.

    Args:
        workspace: configuration, and the index for drift.
        since: beginning; None takes all.
        until: end; None takes all.
        category: the only category; None takes all. It excludes ``policy``.
        policy: folder of a tuned policy to compare the queries with; by default with those since its tuning.
        log_url: address of the log; None takes the configured one.

    Raises:
        InputError: ``policy`` and ``category`` are both given.
        StateError: there is no log, or it cannot be opened.
        ArtifactError: the folder holds no policy.
    """
    if policy is not None and category is not None:
        raise InputError("a policy is compared with all queries; leave out the category")
    if policy is None:
        with workspace.open_log(log_url) as opened:
            made = report(opened.outcomes(since, until, category=category))
            return TrafficReport(opened.place, made, None, category)
    from semroute.evaluate.drift import Compared

    baseline = read_baseline(policy)
    with workspace.open_log(log_url) as opened:
        recent = RecentTraffic(baseline.at if since is None else None)
        place, made = opened.place, report(recent.observe(opened.outcomes(since, until)))
    return TrafficReport(place, made, Compared(baseline, measure_drift(baseline, recent, workspace)), None)


# Advice on cascades.


@dataclass(frozen=True, slots=True)
class CascadeAdvice:
    """Advice on the cascade of every category that has one.

    Attributes:
        categories: advice, most queries first.
        efforts: as of :func:`~semroute.evaluate.advice.overrides`.
    """

    categories: tuple[Advice, ...]
    efforts: Mapping[str, tuple[str, str]]

    @property
    def overrides(self) -> Mapping[str, Mapping[str, object]]:
        """Return a section ``categories`` of ``semroute.yaml`` by the advice."""
        return overrides(self.categories, self.efforts)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"categories": [one.to_dict() for one in self.categories], "overrides": self.overrides}


def advise_on_cascades(
    workspace: Workspace,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    log_url: str | None = None,
) -> CascadeAdvice:
    """Advise for each category whether its cascade pays.

    Tiers are those of the configuration now; cost and latency are those of the log.

    Raises:
        StateError: there is no log, or it cannot be opened.
    """
    from semroute.catalog import cheapest_cost

    config = workspace.config
    tiers = [tier for cascade in cascades(config).values() for tier in cascade.tiers]
    efforts = {tier_label(tier.use, tier.effort): (tier.use, tier.effort) for tier in tiers if tier.effort is not None}

    def price_of(tier: str, usage: Usage) -> float | None:
        cost = cheapest_cost(config, efforts[tier][0] if tier in efforts else tier, usage)
        return None if cost is None else cost.usd

    with workspace.open_log(log_url) as opened:
        found = advise(opened.outcomes(since, until), lambda name: _tiers(config, name), price_of)
    return CascadeAdvice(found, efforts)


def _tiers(config: Config, category: str | None) -> tuple[str, ...]:
    own = None if category is None else config.categories.get(category)
    cascade = config.cascade if own is None or own.cascade is None else own.cascade
    return tuple(tier_label(tier.use, tier.effort) for tier in cascade.tiers)


# Drift of the traffic from a tuned policy.

MOST_EMBEDDED = 2_000
"""Number of the newest queries that are embedded."""


def read_baseline(folder: Path) -> DriftBaseline:
    """Return the baseline of drift stored with a policy.

    Raises:
        ArtifactError: the folder holds no policy.
    """
    path = folder / REPORT
    try:
        report = read_json(path)
    except FileNotFoundError:
        message = "no tuned policy is there; make one with: semroute tune-policy OUTCOMES --out"
        raise ArtifactError(f"{folder}: {message} {folder}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); tune the policy again") from error
    try:
        return DriftBaseline.from_dict(report.get("baseline") if isinstance(report, dict) else None)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


@dataclass(slots=True)
class RecentTraffic:
    """Recent queries, feedback and costs, collected from a log.

    Attributes:
        after: when the policy was tuned; earlier outcomes are ignored. None takes all.
        texts: newest different queries, by normalised text, of those with a logged text.
        feedback: judgements of answers, by query: their sum and how many they are.
        costs: USD of queries.
    """

    after: datetime | None = None
    texts: dict[str, str] = field(default_factory=dict)
    feedback: dict[str, tuple[float, int]] = field(default_factory=dict)
    costs: array[float] = field(default_factory=lambda: array("d"))

    def observe(self, outcomes: Iterable[LoggedOutcome]) -> Iterator[LoggedOutcome]:
        """Collect outcomes while yielding them unchanged."""
        for outcome in outcomes:
            if self.after is None or outcome.at >= self.after:
                self._add(outcome)
            yield outcome

    def _add(self, outcome: LoggedOutcome) -> None:
        key = outcome.id if outcome.query is None else normalize(outcome.query)
        if outcome.query is not None and key:
            self.texts.pop(key, None)
            self.texts[key] = outcome.query
            if len(self.texts) > MOST_EMBEDDED:
                del self.texts[next(iter(self.texts))]
        if outcome.feedback is not None:
            total, count = self.feedback.get(key, (0.0, 0))
            self.feedback[key] = total + outcome.feedback, count + 1
        if outcome.cost_usd is not None:
            self.costs.append(outcome.cost_usd)


def measure_drift(baseline: DriftBaseline, recent: RecentTraffic, workspace: Workspace) -> Drift:
    """Return the drift of recent queries from a baseline.

    Queries are embedded where the log has their text and the index is the same.
    """
    scores, below, categories = None, None, list[str]()
    indexed = workspace
    if not workspace.has_index and workspace.index_fingerprint != baseline.index:
        indexed = workspace.with_shipped()  # a policy of the shipped categories
    fingerprint = indexed.index_fingerprint
    if recent.texts and fingerprint == baseline.index:
        names, _ = indexed.thresholds
        # The policy may have moved the thresholds: the fit is measured by those of its tuning.
        thresholds = np.array([baseline.thresholds[name] for name in names])
        found = indexed.scores(indexed.encoder.encode(list(recent.texts.values())))
        scores, below = indexed.best_of(found, thresholds)
        categories = named(found, below, names)
    # Ten ratings of one query are one sample.
    feedback = [total / count for total, count in recent.feedback.values()]
    prices = {model: (price.input, price.output) for model, price in workspace.prices().items()}
    return drift(baseline, scores, below, feedback, recent.costs, prices, index=fingerprint, categories=categories)
