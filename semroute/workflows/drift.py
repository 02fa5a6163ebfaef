"""Drift of the traffic from a tuned policy."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from semroute.errors import ArtifactError
from semroute.evaluate.drift import Drift, DriftBaseline, drift
from semroute.learn.policy.write import REPORT
from semroute.storage import read_json
from semroute.text.normalise import normalize
from semroute.types import LoggedOutcome
from semroute.workflows.workspace import Workspace

MOST = 2_000
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
            if len(self.texts) > MOST:
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
    scores, below = None, None
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
    # Ten ratings of one query are one sample.
    feedback = [total / count for total, count in recent.feedback.values()]
    prices = {model: (price.input, price.output) for model, price in workspace.prices().items()}
    return drift(baseline, scores, below, feedback, recent.costs, prices, index=fingerprint)
