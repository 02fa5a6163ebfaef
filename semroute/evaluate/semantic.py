"""Semantic routing against labels: what ``semroute evaluate`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import (
    auroc,
    confusion,
    expected_calibration_error,
    precision_recall_f1,
    wilson_interval,
)

OUT_OF_SCOPE = -1
"""Label of a query that belongs to no category."""


@dataclass(frozen=True, slots=True)
class ScoredQueries:
    """Labelled queries with their scores.

    Attributes:
        categories: names, in the order of the columns of ``scores``.
        scores: ``(n, categories)`` float32.
        confidence: ``(n,)`` probability that the best category is right, given that the query is in scope.
        labels: ``(n,)`` category numbers; :data:`OUT_OF_SCOPE` for none.
    """

    categories: tuple[str, ...]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def in_scope(self) -> NDArray[np.bool_]:
        """``(n,)`` whether a query belongs to a category."""
        return np.not_equal(self.labels, OUT_OF_SCOPE)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of :func:`evaluate`; shares are between 0 and 1, None where there are no rows to tell.

    Attributes:
        n: queries.
        accuracy: share decided rightly, thresholds applied; an out-of-scope query is right when it is rejected.
        accuracy_in_scope: share of in-scope queries whose best category is right, before any threshold.
        oos_auroc: how well the best score tells in-scope from out-of-scope queries.
        oos_recall: share of out-of-scope queries rejected.
        false_rejection: share of in-scope queries rejected.
        ece: calibration error of the confidence over in-scope queries.
        per_category: precision, recall, F1 (thresholds applied) and number of queries.
        confusion: counts by true and by decided category; the last row and column are out of scope.
        accuracy_interval: 95% interval of ``accuracy``.
    """

    n: int
    accuracy: float
    accuracy_in_scope: float | None
    oos_auroc: float | None
    oos_recall: float | None
    false_rejection: float | None
    ece: float | None
    per_category: Mapping[str, Mapping[str, float | int]]
    confusion: tuple[tuple[int, ...], ...]
    accuracy_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A query that was decided wrongly.

    Attributes:
        row: its 0-based place among the queries.
        true: its category; None where it is out of scope.
        decided: the category that it got; None where it was rejected.
        score: of the best category.
        threshold: of the best category.
    """

    row: int
    true: str | None
    decided: str | None
    score: float
    threshold: float


def mistakes(scored: ScoredQueries, thresholds: NDArray[np.float64]) -> tuple[Mistake, ...]:
    """List the queries that are decided wrongly, in their order.

    Args:
        scored: labelled queries with scores.
        thresholds: as in :func:`evaluate`.
    """
    top, accepted = decide(scored.scores, thresholds)
    decided = np.where(accepted, top, OUT_OF_SCOPE)
    bars = np.broadcast_to(thresholds, scored.scores.shape)
    names = {OUT_OF_SCOPE: None, **dict(enumerate(scored.categories))}
    return tuple(
        Mistake(
            row,
            names[int(scored.labels[row])],
            names[int(decided[row])],
            float(scored.scores[row, top[row]]),
            float(bars[row, top[row]]),
        )
        for row in np.flatnonzero(decided != scored.labels).tolist()
    )


def evaluate(scored: ScoredQueries, thresholds: NDArray[np.float64]) -> Evaluation:
    """Compare decisions with labels.

    Args:
        scored: labelled queries with scores.
        thresholds: ``(categories,)`` minimum scores, or ``(n, categories)`` where each query has its own.
    """
    classes = len(scored.categories)
    inside = scored.in_scope
    top, accepted = decide(scored.scores, thresholds)
    decided = np.where(accepted, top, classes)
    truth = np.where(inside, scored.labels, classes)
    right, right_top = decided == truth, (top == scored.labels)[inside]
    matrix = confusion(truth, decided, classes + 1)
    best = scored.scores.max(axis=1)
    return Evaluation(
        n=len(truth),
        accuracy=float(right.mean()) if len(right) else 0.0,
        accuracy_in_scope=_mean(right_top),
        oos_auroc=auroc(best[inside], best[~inside]),
        oos_recall=_mean(~accepted[~inside]),
        false_rejection=_mean(~accepted[inside]),
        ece=expected_calibration_error(scored.confidence[inside], right_top) if inside.any() else None,
        per_category=_per_category(scored.categories, matrix),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
    )


def decide(scores: NDArray[np.float32], thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Best category of each row, and whether its score reaches its own threshold.

    A rejected winner is not replaced by another category with a lower threshold: that one fits worse still.
    """
    top = scores.argmax(axis=1)
    rows = np.arange(len(top))
    return top, scores[rows, top].astype(np.float64) >= np.broadcast_to(thresholds, scores.shape)[rows, top]


def _per_category(names: Sequence[str], matrix: NDArray[np.int64]) -> dict[str, dict[str, float | int]]:
    figures = precision_recall_f1(matrix)
    return {
        name: {
            "precision": float(figures[number, 0]),
            "recall": float(figures[number, 1]),
            "f1": float(figures[number, 2]),
            "n": int(matrix[number].sum()),
        }
        for number, name in enumerate(names)
    }


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
