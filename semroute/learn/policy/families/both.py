"""The classifier of queries before a cascade: what it holds to be hard skips the first tier.

Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs", ICML 2025: to choose before and to check after
tell different things, and each saves calls that the other would make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semroute.evaluate.replay.choices import choose, values
from semroute.learn.policy.families.cascade import THRESHOLDS
from semroute.learn.policy.families.classifier import value_in_yaml
from semroute.learn.policy.families.family import Config
from semroute.learn.policy.families.ways import AnswerPlan
from semroute.learn.policy.part import PolicyData, PolicyOutcomes

POINTS = 17


@dataclass(frozen=True)
class ByClassifierAndCascade:
    """Two tiers; the parameter is the value of quality in USD, and the threshold of the check.

    Attributes:
        models: names.
        first, second: numbers of the tiers' models.
        folder: of the policy.
    """

    models: Sequence[str]
    first: int
    second: int
    folder: str
    asks_classifier: bool = True

    @property
    def name(self) -> str:
        """For people."""
        return f"classifier and cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[tuple[float, float], PolicyOutcomes]]:
        """Every value with every threshold; neither prediction nor check was fitted on the row."""
        pair = [self.first, self.second]
        for value in values(tuning.predicted[:, pair], tuning.expected[:, pair], POINTS).tolist():
            for threshold in THRESHOLDS[1::2]:
                yield (value, threshold), self.play((value, threshold), tuning)

    def play(self, parameter: tuple[float, float], part: PolicyData) -> PolicyOutcomes:
        """Where the second tier is worth its price it is asked at once; else after the first, if that must be."""
        value, threshold = parameter
        pair = [self.first, self.second]
        skips = choose(part.predicted[:, pair], part.expected[:, pair], value) == 1
        tiers, alone = AnswerPlan(self.first, self.second, threshold).play(part), AnswerPlan(self.second).play(part)
        return PolicyOutcomes(np.where(skips, alone.quality, tiers.quality), np.where(skips, alone.cost, tiers.cost))

    def config(self, parameter: tuple[float, float]) -> Config:
        """The cascade starts at the tier that the classifier has decided on."""
        value, threshold = parameter
        cascade = AnswerPlan(self.first, self.second, threshold).cascade(self.models, self.folder)
        assert cascade is not False
        names = [self.models[self.first], self.models[self.second]]
        return {
            "strategies": ["classifier"],
            "classifier": {"folder": f"{self.folder}/classifier", "value": value_in_yaml(value), "candidates": names},
            "fallback": {"models": [self.models[self.second]]},
            "cascade": {**cascade, "start": "decided"},
        }

    def checks(self, parameter: tuple[float, float]) -> frozenset[int]:
        """The first tier's."""
        return frozenset({self.first})
