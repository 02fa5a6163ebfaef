"""The rule of a first stage: a cheap encoder answers what it is sure of, and the index's own takes the rest.

Whichever stage answers, a query has one row of scores, and everything after works on rows alone: the same thresholds,
the same decision, the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.index.scoring import best_and_margin
from semroute.types import CategoryScorer, Encoder, Matrix
from semroute.types.vectors import Doubles


@dataclass(frozen=True, slots=True)
class FirstStage:
    """A cheap encoder with a scorer of its own.

    Attributes:
        encoder: text to vectors of its own space.
        scorer: scores of all categories from those vectors.
        bar: the sureness from which on it answers; see :func:`sureness`.
    """

    encoder: Encoder
    scorer: CategoryScorer
    bar: float


def margin_score(scores: Matrix) -> Doubles:
    """``(n,)`` what a bar is compared with: the best score of each row plus its lead over the next best."""
    best, margin = best_and_margin(scores)
    return best + margin


def answers(scores: Matrix, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
    """Whether the first stage answers each query: it is sure, and its best category reaches its threshold.

    What it would reject always goes on, so that only the index's own encoder ever rejects a query.

    Args:
        scores: ``(n, categories)`` of the first stage.
        thresholds: ``(categories,)`` minimum scores, or ``(n, categories)`` where each query has its own.
        bar: for all queries, or ``(n,)``.
    """
    top = scores.argmax(axis=1)
    needed = thresholds[top] if thresholds.ndim == 1 else thresholds[np.arange(len(top)), top]
    best, margin = best_and_margin(scores)
    reached: NDArray[np.bool_] = (best + margin >= bar) & (best >= needed)
    return reached


@dataclass(frozen=True, slots=True)
class BothScores:
    """What both stages say of the same queries, for choosing bars and thresholds; serving asks the second only if it
    must.

    Attributes:
        first: ``(n, categories)`` scores of the first stage; None where the index has none.
        second: ``(n, categories)`` scores of the index's own encoder.
    """

    first: Matrix | None
    second: Matrix

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> BothScores:
        """Some of the queries."""
        return BothScores(None if self.first is None else self.first[rows], self.second[rows])

    def answered(self, thresholds: Doubles, bar: float | Doubles) -> NDArray[np.bool_]:
        """``(n,)`` whether the first stage answers; see :func:`answers`."""
        if self.first is None:
            return np.zeros(len(self.second), dtype=np.bool_)
        return answers(self.first, thresholds, bar)

    def scores(self, thresholds: Doubles, bar: float | Doubles) -> Matrix:
        """``(n, categories)`` the row of the stage that answers, as in serving."""
        if self.first is None:
            return self.second
        return np.where(self.answered(thresholds, bar)[:, None], self.first, self.second)

    def strongest(self, bar: float) -> Matrix:
        """``(n, categories)`` the row that holds out longest as thresholds rise, for fitting those.

        A query that the first stage is sure of is rejected once both best scores are below their thresholds: the higher
        one of the two decides (both stages nearly always have the same category then).
        """
        if self.first is None:
            return self.second
        stronger = (margin_score(self.first) >= bar) & (self.first.max(axis=1) > self.second.max(axis=1))
        return np.where(stronger[:, None], self.first, self.second)
