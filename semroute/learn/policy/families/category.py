"""A way to answer for each category, and one for what fits none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.choices import choose, values
from semroute.evaluate.replay.curve import replay
from semroute.learn.policy.families.family import POINTS, Config
from semroute.learn.policy.families.ways import AnswerPlan, tiers_of
from semroute.learn.policy.part import PolicyData, PolicyOutcomes
from semroute.outcomes.groups import group_means
from semroute.types import Matrix

OFFSETS = (0.0, -0.1, 0.1)
"""Added to the thresholds of all categories."""
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""Of a category's cascade. Few, as each category has few rows to choose by."""
PARTS = 5
"""Of the tuning rows, for tables that are fitted to them."""
PRIOR = 10.0
"""Rows of the overall mean that a category's mean is mixed with."""


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """A parameter of :class:`ByCategory`.

    Attributes:
        value: USD per +1.0 of quality.
        offset: added to the thresholds.
        choice: ``c + 1`` ways, one for each category, and last that of the fallback.
    """

    value: float
    offset: float
    choice: tuple[AnswerPlan, ...]


@dataclass(frozen=True)
class ByCategory:
    """A way for each category and for what fits none.

    Attributes:
        models: names.
        categories: names, as the columns of scores.
        thresholds: ``(c,)`` as built.
        bar: of the index's first stage; it says nothing where the index has none.
        folder: of the policy.
        with_tiers: whether cascades are ways too.
    """

    models: Sequence[str]
    categories: Sequence[str]
    thresholds: NDArray[np.float64]
    bar: float
    folder: str = ""
    with_tiers: bool = False
    asks_classifier: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return "categories with cascades" if self.with_tiers else "categories"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[CategoryTable, PolicyOutcomes]]:
        """For every offset the tables along the curve of values, each once.

        A row is played with the table that the rows of other parts give at the same value: the table of all has been
        fitted to the row, and looks better on it than it is.
        """
        part = tuning.group % PARTS
        ways = self._ways(tuning)
        cells = _cells(ways, tuning)
        for offset in OFFSETS:
            group = self._category(tuning, offset)
            quality, cost = self._means(cells, group, np.ones(len(tuning), np.bool_))
            others = [self._means(cells, group, part != number) for number in range(PARTS)]
            seen: set[tuple[int, ...]] = set()
            for value in values(quality, cost, POINTS).tolist():
                choice = tuple(choose(quality, cost, value).tolist())
                if choice not in seen:
                    seen.add(choice)
                    tables = np.array([choose(*means, value) for means in others])
                    played = [replay(of, tables[part, group]) for of in cells]
                    yield CategoryTable(value, offset, tuple(ways[place] for place in choice)), PolicyOutcomes(*played)

    def play(self, parameter: CategoryTable, part: PolicyData) -> PolicyOutcomes:
        """Each query is answered in its category's way."""
        ways = list(dict.fromkeys(parameter.choice))
        place = np.array([ways.index(way) for way in parameter.choice])[self._category(part, parameter.offset)]
        quality, cost = (replay(of, place) for of in _cells(ways, part))
        return PolicyOutcomes(quality, cost)

    def config(self, parameter: CategoryTable) -> Config:
        """Models, cascades and, where they are moved, thresholds of the categories."""
        *own, last = parameter.choice
        sections: dict[str, Any] = {}
        moved = self._moved(parameter.offset)
        for number, (name, way) in enumerate(zip(self.categories, own, strict=True)):
            sections[name] = {"models": [self.models[way.first]], "cascade": way.cascade(self.models, self.folder)}
            if parameter.offset:
                sections[name]["threshold"] = float(moved[number])
        return {
            "strategies": ["semantic"],
            "categories": sections,
            # Unlike a category's own cascade, the general one is bounded by the fallback's models.
            "fallback": {"models": [self.models[number] for number in (last.first, last.second) if number is not None]},
            "cascade": last.cascade(self.models, self.folder),
        }

    def checks(self, parameter: CategoryTable) -> frozenset[int]:
        """The first tiers'."""
        return frozenset(way.first for way in parameter.choice if way.second is not None)

    def _ways(self, tuning: PolicyData) -> list[AnswerPlan]:
        ways = [AnswerPlan(number) for number in range(len(self.models))]
        if self.with_tiers:
            ways += [AnswerPlan(*pair, threshold) for pair in tiers_of(tuning) for threshold in THRESHOLDS]
        return ways

    def _category(self, part: PolicyData, offset: float) -> NDArray[np.int64]:
        """``(n,)`` number of the category; the number of categories where none fits."""
        thresholds = self._moved(offset)
        scores = part.scores.scores(thresholds, self.bar)
        best = scores.argmax(axis=1)
        fits = scores[np.arange(len(part)), best] >= thresholds[best]
        return np.where(fits, best, len(self.categories))

    def _moved(self, offset: float) -> NDArray[np.float64]:
        """``(c,)`` thresholds, as they can be written."""
        return self.thresholds if offset == 0 else np.clip(self.thresholds + offset, -1.0, 1.0).round(6)

    def _means(
        self, cells: tuple[Matrix, Matrix], group: NDArray[np.int64], rows: NDArray[np.bool_]
    ) -> tuple[Matrix, Matrix]:
        """``(c + 1, w)`` mean quality and cost of each way in each category over some rows, mixed with those of all."""
        count = len(self.categories) + 1
        sizes = np.bincount(group[rows], minlength=count)[:, None]
        mixed = []
        for whole in cells:
            means = group_means(whole[rows], group[rows], count)
            overall = whole[rows].mean(axis=0, dtype=np.float64)
            mixed.append(((means * sizes + PRIOR * overall) / (sizes + PRIOR)).astype(np.float32))
        return mixed[0], mixed[1]


def _cells(ways: Sequence[AnswerPlan], part: PolicyData) -> tuple[Matrix, Matrix]:
    """``(n, w)`` quality and cost of each way on each row."""
    played = [way.play(part) for way in ways]
    quality = np.column_stack([one.quality for one in played]).astype(np.float32)
    return quality, np.column_stack([one.cost for one in played]).astype(np.float32)
