"""Families of policies: each draws a curve, and says how ``semroute.yaml`` writes its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.choices import choose, values
from semroute.learn.policy.part import Part, Played
from semroute.outcomes.groups import group_means
from semroute.types import Matrix

POINTS = 41
OFFSETS = (0.0, -0.1, 0.1)
"""Added to the thresholds of all categories."""
THRESHOLDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())
"""Of a cascade's check."""
PARTS = 5
"""Of the tuning rows, for tables that are fitted to them."""
PRIOR = 10.0
"""Rows of the overall mean that a category's mean is mixed with."""

Config = Mapping[str, Any]


class Family(Protocol):
    """A kind of policy with one parameter or several."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def tried(self, tuning: Part) -> Iterator[tuple[Any, Played]]:
        """Every parameter with what it gives on the tuning rows, each row as if it had not been tuned on."""
        ...

    def play(self, parameter: Any, part: Part) -> Played:
        """What a parameter gives on some rows."""
        ...

    def config(self, parameter: Any) -> Config:
        """Sections of ``semroute.yaml``."""
        ...


@dataclass(frozen=True)
class SingleModels:
    """One model for everything; the parameter is its number."""

    models: Sequence[str]
    name: str = "one model"

    def tried(self, tuning: Part) -> Iterator[tuple[int, Played]]:
        """Every model."""
        for number in range(len(self.models)):
            yield number, self.play(number, tuning)

    def play(self, parameter: int, part: Part) -> Played:
        """Every query goes to that model."""
        return Played.of(part, np.full(len(part), parameter))

    def config(self, parameter: int) -> Config:
        """No strategy decides, so all goes to the fallback."""
        return {"strategies": ["rules"], "fallback": {"models": [self.models[parameter]]}}


@dataclass(frozen=True)
class ByClassifier:
    """The classifier of queries; the parameter is the value of quality in USD."""

    models: Sequence[str]
    folder: str
    name: str = "classifier"

    def tried(self, tuning: Part) -> Iterator[tuple[float, Played]]:
        """Values at which equally many queries change their model; no row's prediction was fitted on it."""
        for value in values(tuning.predicted, tuning.expected, POINTS).tolist():
            yield value, self.play(value, tuning)

    def play(self, parameter: float, part: Part) -> Played:
        """Each query goes to the model that is worth most."""
        return Played.of(part, choose(part.predicted, part.expected, parameter))

    def config(self, parameter: float) -> Config:
        """Where quality alone counts, a value that no price outweighs stands for infinity, which YAML has not."""
        value = parameter if math.isfinite(parameter) else 1e6
        section = {"folder": self.folder, "value": value, "candidates": list(self.models)}
        return {"strategies": ["classifier"], "classifier": section, "fallback": {"models": [self.models[-1]]}}


@dataclass(frozen=True)
class CategoryTable:
    """A parameter of :class:`ByCategory`.

    Attributes:
        value: USD per +1.0 of quality.
        offset: added to the thresholds.
        choice: ``(c + 1,)`` number of each category's model, the fallback's last.
    """

    value: float
    offset: float
    choice: tuple[int, ...]


@dataclass(frozen=True)
class ByCategory:
    """A model for each category and for what fits none.

    Attributes:
        models: names.
        categories: names, as the columns of scores.
        thresholds: ``(c,)`` as built.
    """

    models: Sequence[str]
    categories: Sequence[str]
    thresholds: NDArray[np.float64]
    name: str = "categories"

    def tried(self, tuning: Part) -> Iterator[tuple[CategoryTable, Played]]:
        """For every offset the tables along the curve of values, each once.

        A row is played with the table that the rows of other parts give at the same value: the table of all has been
        fitted to the row, and looks better on it than it is.
        """
        part = np.arange(len(tuning)) % PARTS
        for offset in OFFSETS:
            group = self._category(tuning, offset)
            quality, cost = self._means(tuning, group, np.ones(len(tuning), np.bool_))
            others = [self._means(tuning, group, part != number) for number in range(PARTS)]
            seen: set[tuple[int, ...]] = set()
            for value in values(quality, cost, POINTS).tolist():
                choice = tuple(choose(quality, cost, value).tolist())
                if choice not in seen:
                    seen.add(choice)
                    tables = np.array([choose(*means, value) for means in others])
                    yield CategoryTable(value, offset, choice), Played.of(tuning, tables[part, group])

    def play(self, parameter: CategoryTable, part: Part) -> Played:
        """Each query goes to its category's model."""
        return Played.of(part, np.array(parameter.choice)[self._category(part, parameter.offset)])

    def config(self, parameter: CategoryTable) -> Config:
        """Models and, where they are moved, thresholds of the categories."""
        sections: dict[str, Any] = {}
        for number, name in enumerate(self.categories):
            sections[name] = {"models": [self.models[parameter.choice[number]]]}
            if parameter.offset:
                moved = float(np.clip(self.thresholds[number] + parameter.offset, -1.0, 1.0))
                sections[name]["threshold"] = round(moved, 6)
        fallback = {"models": [self.models[parameter.choice[-1]]]}
        return {"strategies": ["semantic"], "categories": sections, "fallback": fallback}

    def _category(self, part: Part, offset: float) -> NDArray[np.int64]:
        """``(n,)`` number of the category; the number of categories where none fits."""
        best = part.scores.argmax(axis=1)
        score = part.scores[np.arange(len(part)), best]
        fits = score >= np.clip(self.thresholds[best] + offset, -1.0, 1.0)
        return np.where(fits, best, len(self.categories))

    def _means(self, tuning: Part, group: NDArray[np.int64], rows: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
        """``(c + 1, m)`` mean quality and cost of each category over some rows, mixed with those of all of them."""
        count = len(self.categories) + 1
        sizes = np.bincount(group[rows], minlength=count)[:, None]
        mixed = []
        for cells in (tuning.quality[rows], tuning.cost[rows]):
            means = group_means(cells, group[rows], count)
            overall = cells.mean(axis=0, dtype=np.float64)
            mixed.append(((means * sizes + PRIOR * overall) / (sizes + PRIOR)).astype(np.float32))
        return mixed[0], mixed[1]


@dataclass(frozen=True)
class Cascade:
    """Two tiers, and the classifier of answers between them; the parameter is its threshold.

    Attributes:
        models: names.
        first, second: numbers of the tiers' models.
        folder: of the classifier of answers.
    """

    models: Sequence[str]
    first: int
    second: int
    folder: str

    @property
    def name(self) -> str:
        """For people."""
        return f"cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: Part) -> Iterator[tuple[float, Played]]:
        """A grid of thresholds; what the check says of a row's answer was not fitted on it."""
        for threshold in THRESHOLDS:
            yield threshold, self.play(threshold, tuning)

    def play(self, parameter: float, part: Part) -> Played:
        """Answers below the threshold are paid for, and asked for again."""
        rejected = part.acceptance[self.first] < parameter
        quality = np.where(rejected, part.quality[:, self.second], part.quality[:, self.first])
        cost = part.cost[:, self.first] + np.where(rejected, part.cost[:, self.second], 0.0)
        return Played(quality.astype(np.float64), cost.astype(np.float64))

    def config(self, parameter: float) -> Config:
        """All goes to the fallback, which is the cascade."""
        first, second = self.models[self.first], self.models[self.second]
        accept = {"format": False, "quality": {"classifier": self.folder, "threshold": parameter}}
        return {
            "strategies": ["rules"],
            "fallback": {"models": [first]},
            "cascade": {"tiers": [first, second], "accept": accept},
        }
