"""Ways to answer a query once it is known what kind it is: one model, or two tiers with a check between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from semroute.learn.policy.part import PolicyData, PolicyOutcomes


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """One model, or a cascade of two.

    Attributes:
        first: number of the model that is asked.
        second: number of the model that is asked where the first one's answer is not accepted; None for one model.
        threshold: least probability that the first one's answer is acceptable, as the classifier of answers tells it.
    """

    first: int
    second: int | None = None
    threshold: float = 0.0

    def play(self, part: PolicyData) -> PolicyOutcomes:
        """What it gives on every row. Answers that are not accepted are paid for, and asked for again."""
        if self.second is None:
            return PolicyOutcomes.of(part, np.full(len(part), self.first))
        rejected = part.acceptance[self.first] < self.threshold
        quality = np.where(rejected, part.quality[:, self.second], part.quality[:, self.first])
        cost = part.cost[:, self.first] + np.where(rejected, part.cost[:, self.second], 0.0)
        return PolicyOutcomes(quality.astype(np.float64), cost.astype(np.float64))

    def cascade(self, models: Sequence[str], folder: str) -> dict[str, Any] | Literal[False]:
        """The section of ``semroute.yaml``; for one model false, so that none that stood there before stays.

        Args:
            models: names.
            folder: of the policy, where the classifiers of answers lie.
        """
        if self.second is None:
            return False
        quality = {"classifier": f"{folder}/checks-{self.first}", "threshold": self.threshold}
        # The check is the first model's: what the second says is given as it is, as it was when the policy was tested.
        tiers = [models[self.first], {"use": models[self.second], "accept": {"format": False}}]
        return {"tiers": tiers, "accept": {"format": False, "quality": quality}}

    def words(self, models: Sequence[str]) -> str:
        """For people."""
        if self.second is None:
            return models[self.first]
        return f"{models[self.first]} before {models[self.second]}, accepting from {self.threshold:.2f}"


def tiers_of(part: PolicyData) -> Iterator[tuple[int, int]]:
    """Pairs of models that a cascade can be made of: the first has a check, and the second costs more."""
    cost = part.cost.mean(axis=0, dtype=np.float64)
    for first, second in product(sorted(part.acceptance), range(len(cost))):
        if cost[first] < cost[second]:
            yield first, second
