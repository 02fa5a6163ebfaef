"""One model for everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semroute.learn.policy.families.family import Config
from semroute.learn.policy.part import PolicyData, PolicyOutcomes


@dataclass(frozen=True)
class SingleModels:
    """One model for everything; the parameter is its number."""

    models: Sequence[str]
    name: str = "one model"
    asks_classifier: bool = False

    def tried(self, tuning: PolicyData) -> Iterator[tuple[int, PolicyOutcomes]]:
        """Every model."""
        for number in range(len(self.models)):
            yield number, self.play(number, tuning)

    def play(self, parameter: int, part: PolicyData) -> PolicyOutcomes:
        """Every query goes to that model."""
        return PolicyOutcomes.of(part, np.full(len(part), parameter))

    def config(self, parameter: int) -> Config:
        """No rule decides, so all goes to the fallback."""
        only = {"models": [self.models[parameter]]}
        return {"strategies": ["rules"], "rules": [], "fallback": only, "cascade": False}

    def checks(self, parameter: int) -> frozenset[int]:
        """None."""
        return frozenset()
