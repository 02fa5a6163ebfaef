"""Evaluate semantic routing: category overlap, accuracy, threshold sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import (
    auroc,
    confusion,
    expected_calibration_error,
    perfect_calibration_error,
    precision_recall_f1,
    wilson_interval,
)
from semroute.types import Matrix

MAX_CELLS = 4_000_000
"""Similarities held in memory at once, some 16 MB: all pairs of 100,000 examples would be 40 GB."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Example that lies nearer to another category than to its own.

    Attributes:
        row: the example.
        rival: row of the nearest example of the other category.
        own: cosine to the nearest other example of its own category.
        other: cosine to ``rival``.
    """

    row: int
    rival: int
    own: float
    other: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Examples of one category that are nearest to another.

    Attributes:
        category: number of the category that the examples belong to.
        other: number of the category that they are nearest to.
        share: of the examples of ``category``.
        count: number of such examples.
        worst: those that lie deepest in ``other``, worst first.
    """

    category: int
    other: int
    share: float
    count: int
    worst: tuple[Stray, ...]


def overlaps(vectors: Matrix, labels: NDArray[np.int64], *, worst: int = 3) -> list[Overlap]:
    """List pairs of categories by share of examples nearest to the other one.

    An example is compared with every other one: with its own category's nearest, itself left out, and with the nearest
    of any other category. The only example of a category has nothing to be compared with and is not counted.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        worst: examples named for each pair.

    Returns:
        Pairs with at least one such example, largest share first; equal shares by number of category.
    """
    strays = _strays(vectors, labels)
    sizes = np.bincount(labels) if len(labels) else np.zeros(0, np.int64)
    pairs: dict[tuple[int, int], list[Stray]] = {}
    for stray in strays:
        pairs.setdefault((int(labels[stray.row]), int(labels[stray.rival])), []).append(stray)
    pairs_found = []
    for (category, other), members in pairs.items():
        deepest = sorted(members, key=lambda stray: (stray.own - stray.other, stray.row))[:worst]
        share = len(members) / float(sizes[category])
        pairs_found.append(Overlap(category, other, share, len(members), tuple(deepest)))
    return sorted(pairs_found, key=lambda pair: (-pair.share, pair.category, pair.other))


def _strays(vectors: Matrix, labels: NDArray[np.int64]) -> Sequence[Stray]:
    count = len(vectors)
    block = max(1, MAX_CELLS // max(1, count))
    strays = []
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        similarities = vectors[rows] @ vectors.T
        same = labels[rows][:, None] == labels[None, :]
        other_similarities = np.where(same, -np.inf, similarities)
        same[np.arange(len(rows)), rows] = False  # nothing is its own neighbour
        nearest_own = np.where(same, similarities, -np.inf).max(axis=1)
        rivals = other_similarities.argmax(axis=1)
        nearest_other = other_similarities[np.arange(len(rows)), rivals]
        for position in np.flatnonzero((nearest_other > nearest_own) & np.isfinite(nearest_own)):
            strays.append(
                Stray(
                    int(rows[position]),
                    int(rivals[position]),
                    float(nearest_own[position]),
                    float(nearest_other[position]),
                )
            )
    return strays


# Evaluation of semantic routing against labels, as ``semroute evaluate`` prints it.

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
        """Return ``(n,)`` True where a query belongs to a category."""
        return np.not_equal(self.labels, OUT_OF_SCOPE)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of :func:`evaluate`.

    Shares are between 0 and 1, None without rows.

    Attributes:
        n: queries.
        accuracy: share decided correctly, thresholds applied; an out-of-scope query is correct when it is rejected.
        accuracy_in_scope: share of in-scope queries whose best category is right, before any threshold.
        oos_auroc: AUROC of the best score, in-scope against out-of-scope queries.
        oos_recall: share of out-of-scope queries rejected.
        false_rejection: share of in-scope queries rejected.
        ece: calibration error of the confidence over in-scope queries.
        perfect_ece: what perfect calibration would show on as many.
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
    perfect_ece: float | None
    per_category: Mapping[str, Mapping[str, float | int]]
    confusion: tuple[tuple[int, ...], ...]
    accuracy_interval: tuple[float, float]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "accuracy_in_scope": self.accuracy_in_scope,
            "oos_auroc": self.oos_auroc,
            "oos_recall": self.oos_recall,
            "false_rejection": self.false_rejection,
            "ece": self.ece,
            "perfect_ece": self.perfect_ece,
            "per_category": {name: dict(figures) for name, figures in self.per_category.items()},
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True, slots=True)
class Mistake:
    """Query that was decided wrongly.

    Attributes:
        row: its 0-based number among the queries.
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
    minimums = np.broadcast_to(thresholds, scored.scores.shape)
    names = {OUT_OF_SCOPE: None, **dict(enumerate(scored.categories))}
    return tuple(
        Mistake(
            row,
            names[int(scored.labels[row])],
            names[int(decided[row])],
            float(scored.scores[row, top[row]]),
            float(minimums[row, top[row]]),
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
        perfect_ece=perfect_calibration_error(scored.confidence[inside]) if inside.any() else None,
        per_category=_per_category(scored.categories, matrix),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
    )


def decide(scores: NDArray[np.float32], thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each row's best category, and if its score reaches the threshold.

    A rejected winner is not replaced by another category with a lower threshold: that one fits even less.
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


# Sweep of the fallback threshold: coverage against out-of-scope queries caught.


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One threshold for all categories, with its results.

    Attributes:
        threshold: the minimum score.
        coverage: share of in-scope queries accepted.
        accuracy_accepted: share of accepted queries, in scope or not, that go to the right category; 1 for none.
        oos_caught: share of out-of-scope queries rejected; None without any.
        accuracy: share of all queries decided rightly.
    """

    threshold: float
    coverage: float
    accuracy_accepted: float
    oos_caught: float | None
    accuracy: float


def sweep(scored: ScoredQueries, thresholds: NDArray[np.float64]) -> list[SweepPoint]:
    """Evaluate each of ``thresholds`` for all categories at once."""
    best = scored.scores.max(axis=1).astype(np.float64)
    right = scored.scores.argmax(axis=1) == scored.labels
    outside = scored.labels == OUT_OF_SCOPE
    points = []
    for threshold in thresholds:
        accepted = best >= threshold
        points.append(
            SweepPoint(
                threshold=float(threshold),
                coverage=float(accepted[~outside].mean()) if not outside.all() else 0.0,
                accuracy_accepted=float(right[accepted].mean()) if accepted.any() else 1.0,
                oos_caught=float((~accepted)[outside].mean()) if outside.any() else None,
                accuracy=float(np.where(accepted, right, outside).mean()),
            )
        )
    return points


def threshold_grid(scored: ScoredQueries, step: float = 0.01) -> NDArray[np.float64]:
    """Return the thresholds to sweep.

    These are multiples of ``step`` from where every query is accepted to where none is.
    """
    best = scored.scores.max(axis=1).astype(np.float64)
    first, last = int(np.floor(best.min() / step)), int(np.floor(best.max() / step)) + 1
    return np.arange(first, last + 1, dtype=np.float64) * np.float64(step)


def recommend(points: list[SweepPoint], oos_target: float) -> SweepPoint:
    """Return the lowest threshold that rejects enough out-of-scope queries.

    Enough is a share of ``oos_target``. Where no threshold of the sweep reaches the target, the one
    that catches most; without any such queries, the most accurate one.
    """
    if points[0].oos_caught is None:
        return max(points, key=lambda point: (point.accuracy, -point.threshold))
    enough = [point for point in points if (point.oos_caught or 0.0) >= oos_target]
    if enough:
        return min(enough, key=lambda point: point.threshold)
    return max(points, key=lambda point: (point.oos_caught or 0.0, -point.threshold))
