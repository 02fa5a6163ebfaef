"""Semantic routing: the best category, if its score reaches the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from semroute.types import CategoryScore, Matrix


class Ranking(Sequence[CategoryScore]):
    """Ranking of all categories with score and threshold, best first.

    Entries are made on access, so that unread ones cost nothing. Equal scores stand in alphabetical order, whatever
    order the categories came in.
    """

    __slots__ = ("_names", "_order", "_scores", "_thresholds")

    def __init__(self, names: tuple[str, ...], scores: NDArray[np.float32], thresholds: NDArray[np.float64]) -> None:
        self._names = names
        self._scores = scores
        self._thresholds = thresholds
        self._order = np.argsort(-scores, kind="stable")

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, place: int) -> CategoryScore: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[CategoryScore, ...]: ...

    def __getitem__(self, place: int | slice) -> CategoryScore | tuple[CategoryScore, ...]:
        if isinstance(place, slice):
            return tuple(self._entry(number) for number in self._order[place])
        return self._entry(self._order[place])

    def __iter__(self) -> Iterator[CategoryScore]:
        order = self._order
        names = [self._names[number] for number in order.tolist()]
        return map(CategoryScore, names, self._scores[order].tolist(), self._thresholds[order].tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _entry(self, number: np.int64) -> CategoryScore:
        return CategoryScore(self._names[number], float(self._scores[number]), float(self._thresholds[number]))


@dataclass(frozen=True, slots=True)
class SemanticMatch:
    """Match of one query with the categories.

    ``category`` is None if the best one stays below its threshold; score, threshold and confidence are those of the
    best category either way.
    """

    category: str | None
    score: float
    threshold: float
    confidence: float
    categories: Ranking
    reason: str


@dataclass(frozen=True, slots=True)
class CategoryMatcher:
    """Semantic decisions by scores and thresholds.

    Attributes:
        names: the categories in alphabetical order, as the rows of scores have them.
        thresholds: ``(categories,)`` minimum scores.
    """

    names: tuple[str, ...]
    thresholds: NDArray[np.float64]

    name = "semantic"

    def decide(self, scores: Matrix, confidence: NDArray[np.float64], first: NDArray[np.bool_]) -> list[SemanticMatch]:
        """Return the semantic match of each query.

        Args:
            scores: ``(n, categories)``.
            confidence: ``(n,)`` calibrated probability that the best category is right.
            first: ``(n,)`` True if the scores are those of a first stage; the reason mentions it.
        """
        rows = zip(scores, confidence.tolist(), first.tolist(), strict=True)
        return [self._match(row, sure, by_first) for row, sure, by_first in rows]

    def _match(self, scores: NDArray[np.float32], confidence: float, by_first: bool) -> SemanticMatch:
        ranking = Ranking(self.names, scores, self.thresholds)
        best = ranking[0]
        # A winner below its threshold is not replaced: the next category fits worse, however low its own threshold.
        if best.score >= best.threshold:
            by = "the first stage is sure: " if by_first else ""
            reason = f"{by}closest to {best.category}: {best.score:.3f} reaches its threshold {best.threshold:.3f}"
            category = best.category
        else:
            below = f"{best.score:.3f} is below its threshold {best.threshold:.3f}"
            reason = f"nothing here fits: closest to {best.category}, but {below}"
            category = None
        return SemanticMatch(category, best.score, best.threshold, confidence, ranking, reason)
