"""The classifier of queries, before any model is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from semroute.evaluate.replay.choices import choose, values
from semroute.learn.policy.families.family import POINTS, Config
from semroute.learn.policy.part import PolicyData, PolicyOutcomes


@dataclass(frozen=True)
class ByClassifier:
    """The classifier of queries; the parameter is the value of quality in USD."""

    models: Sequence[str]
    folder: str
    name: str = "classifier"
    asks_classifier: bool = True

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """Values at which equally many queries change their model; no row's prediction was fitted on it."""
        for value in values(tuning.predicted, tuning.expected, POINTS).tolist():
            yield value, self.play(value, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Each query goes to the model that is worth most."""
        return PolicyOutcomes.of(part, choose(part.predicted, part.expected, parameter))

    def config(self, parameter: float) -> Config:
        """The classifier decides on everything."""
        section = {"folder": self.folder, "value": value_in_yaml(parameter), "candidates": list(self.models)}
        return {
            "strategies": ["classifier"],
            "classifier": section,
            "fallback": {"models": [self.models[-1]]},
            "cascade": False,
        }

    def checks(self, parameter: float) -> frozenset[int]:
        """None."""
        return frozenset()


def value_in_yaml(value: float) -> float:
    """Where quality alone counts, a value that no price outweighs stands for infinity, which YAML has not."""
    return value if math.isfinite(value) else 1e6
