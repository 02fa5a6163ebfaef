"""Drift of the traffic from a tuned policy, for ``semroute report``."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semroute.errors import ArtifactError

if TYPE_CHECKING:
    from semroute.cli.tables import DataTable
    from semroute.evaluate.drift import Compared, Drift, DriftBaseline
    from semroute.types import LoggedOutcome

MOST = 2_000
"""Number of the newest queries that are embedded."""


def read_baseline(folder: Path) -> DriftBaseline:
    """Return the baseline of drift stored with a policy.

    Raises:
        ArtifactError: the folder holds no policy.
    """
    from semroute.evaluate.drift import DriftBaseline
    from semroute.learn.policy.write import REPORT
    from semroute.storage import read_json

    path = folder / REPORT
    try:
        told = read_json(path)
    except FileNotFoundError:
        message = "no tuned policy is there; make one with: semroute tune-policy OUTCOMES --out"
        raise ArtifactError(f"{folder}: {message} {folder}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); tune the policy again") from error
    try:
        return DriftBaseline.from_dict(told.get("baseline") if isinstance(told, dict) else None)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


@dataclass(slots=True)
class Recent:
    """Recent queries, feedback and costs for drift, collected from a log.

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

    def seen(self, outcomes: Iterable[LoggedOutcome]) -> Iterator[LoggedOutcome]:
        """Collect outcomes while yielding them unchanged."""
        for outcome in outcomes:
            if self.after is None or outcome.at >= self.after:
                self._take(outcome)
            yield outcome

    def _take(self, outcome: LoggedOutcome) -> None:
        from semroute.text.normalise import normalize

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


def measure(baseline: DriftBaseline, recent: Recent, index: Path | None, config_path: Path | None) -> Drift:
    """Return the drift of recent queries.

    Queries are embedded where the log has their text and the index is the same.
    """
    import numpy as np

    from semroute.cli.encoding import Encoding
    from semroute.cli.policy_inputs import known_prices
    from semroute.evaluate.drift import drift

    encoding, scores, below = Encoding(index, config_path), None, None
    if not encoding.has_index and encoding.index_fingerprint != baseline.index:
        encoding = Encoding(index, config_path, shipped=True)  # a policy of the shipped categories
    own = encoding.index_fingerprint
    if recent.texts and own == baseline.index:
        names, _ = encoding.thresholds
        # The policy may have moved the thresholds: the fit is measured by those of its tuning.
        thresholds = np.array([baseline.thresholds[name] for name in names])
        found = encoding.scores(encoding.encoder.encode(list(recent.texts.values())))
        scores, below = encoding.best_of(found, thresholds)
    # Ten ratings of one query are one sample.
    feedback = [total / count for total, count in recent.feedback.values()]
    prices = {model: (price.input, price.output) for model, price in known_prices(None, config_path).items()}
    return drift(baseline, scores, below, feedback, recent.costs, prices, index=own)


def drift_dict(found: Drift) -> dict[str, Any]:
    """Return drift as JSON-ready values."""
    from semroute.evaluate.metrics import finite

    told = finite(asdict(found))
    assert isinstance(told, dict)
    return told


def drift_table(compared: Compared) -> DataTable:
    """Return a table of the figures at tuning and now."""
    from rich.text import Text

    from semroute.cli.tables import plain_table

    table = plain_table("tuned on", "now", first="drift")
    for row in compared.rows():
        table.add_row(*map(Text, row))  # a model's name is no markup
    return table
