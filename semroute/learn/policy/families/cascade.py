"""One cascade for everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semroute.learn.policy.families.family import Config
from semroute.learn.policy.families.ways import AnswerPlan
from semroute.learn.policy.part import PolicyData, PolicyOutcomes

THRESHOLDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


@dataclass(frozen=True)
class CascadeFamily:
    """Two tiers, and the classifier of answers between them; the parameter is its threshold.

    Attributes:
        models: names.
        first, second: numbers of the tiers' models.
        folder: of the policy.
    """

    models: Sequence[str]
    first: int
    second: int
    folder: str
    asks_classifier: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """A grid of thresholds; what the check says of a row's answer was not fitted on it."""
        for threshold in THRESHOLDS:
            yield threshold, self.play(threshold, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Answers below the threshold are paid for, and asked for again."""
        return self._way(parameter).play(part)

    def config(self, parameter: float) -> Config:
        """All goes to the fallback, which is the cascade; its models bound the tiers."""
        section = self._way(parameter).cascade(self.models, self.folder)
        both = {"models": [self.models[self.first], self.models[self.second]]}
        return {"strategies": ["rules"], "rules": [], "fallback": both, "cascade": section}

    def checks(self, parameter: float) -> frozenset[int]:
        """The first tier's."""
        return frozenset({self.first})

    def _way(self, threshold: float) -> AnswerPlan:
        return AnswerPlan(self.first, self.second, threshold)
