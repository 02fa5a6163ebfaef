"""The rows that policies are replayed on, with all that a policy may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.curve import replay
from semroute.index import BothScores
from semroute.types import Matrix

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PolicyData:
    """``n`` rows and ``m`` models.

    Attributes:
        quality, cost: ``(n, m)`` float32, what came of asking each model.
        predicted: ``(n, m)`` float32 predicted quality, by what was not fitted on the row.
        expected: ``(n, m)`` float64 USD that a call was expected to cost, as the router reckons it.
        scores: ``(n, c)`` float32 of the categories, by each stage of the index.
        acceptance: by model, ``(n,)`` probability that its answer is acceptable, told by a classifier of answers that
            was not fitted on the row; models without answers are missing.
        group: ``(n,)`` of each row: those of one group say the same, and count as one where it matters how many
            independent rows there are.
    """

    quality: Matrix
    cost: Matrix
    predicted: Matrix
    expected: Numbers
    scores: BothScores
    acceptance: Mapping[int, Numbers]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.quality)

    @property
    def different(self) -> int:
        """How many rows there are of which no two say the same."""
        return len(np.unique(self.group))

    @property
    def most_alike(self) -> float:
        """Share of the rows that the largest group has."""
        return float(np.bincount(self.group).max(initial=0)) / max(1, len(self))


@dataclass(frozen=True, slots=True)
class PolicyOutcomes:
    """What a policy gives on the rows of a part.

    Attributes:
        quality: ``(n,)`` of the answers that are given.
        cost: ``(n,)`` USD, rejected answers included.
    """

    quality: Numbers
    cost: Numbers

    @classmethod
    def of(cls, part: PolicyData, choice: NDArray[np.int64]) -> PolicyOutcomes:
        """What choosing one model for each row gives."""
        return cls(replay(part.quality, choice), replay(part.cost, choice))

    @property
    def point(self) -> tuple[float, float]:
        """Mean quality, and mean USD a query."""
        return float(self.quality.mean()), float(self.cost.mean())
