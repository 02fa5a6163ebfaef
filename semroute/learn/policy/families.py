"""Families of policies: each draws a curve, and says how ``semroute.yaml`` writes its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay import choose, replay, values
from semroute.index import BothScores
from semroute.outcomes.table import group_means
from semroute.types import Matrix

# The rows that policies are replayed on, with all that a policy may look at.

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


# Ways to answer a query once it is known what kind it is: one model, or two tiers with a check between them.


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


# What a family of policies is.

POINTS = 41
"""Values of quality that are tried along a curve."""

Config = Mapping[str, Any]


class Family(Protocol):
    """A kind of policy with one parameter or several."""

    @property
    def asks_classifier(self) -> bool:
        """Whether the configuration names the classifier of queries."""
        ...

    @property
    def name(self) -> str:
        """For people."""
        ...

    def tried(self, tuning: PolicyData) -> Iterator[tuple[Any, PolicyOutcomes]]:
        """Every parameter with what it gives on the tuning rows, each row as if it had not been tuned on."""
        ...

    def play(self, parameter: Any, part: PolicyData) -> PolicyOutcomes:
        """What a parameter gives on some rows."""
        ...

    def config(self, parameter: Any) -> Config:
        """Sections of ``semroute.yaml``; the cascade always among them, lest one from before be climbed still."""
        ...

    def checks(self, parameter: Any) -> frozenset[int]:
        """Numbers of the models whose answers are checked, by classifiers that the configuration names."""
        ...


# One cascade for everything.

CASCADE_THRESHOLDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


@dataclass(frozen=True)
class CascadeFamily:
    """Two tiers, and the classifier of answers between them; the parameter is its threshold.

    Attributes:
        models: names.
        first, second: numbers of the tiers' models.
        folder: of the policy.
    """

    models: Sequence[str]
    first: int
    second: int
    folder: str
    asks_classifier: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """A grid of thresholds; what the check says of a row's answer was not fitted on it."""
        for threshold in CASCADE_THRESHOLDS:
            yield threshold, self.play(threshold, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Answers below the threshold are paid for, and asked for again."""
        return self._way(parameter).play(part)

    def config(self, parameter: float) -> Config:
        """All goes to the fallback, which is the cascade; its models bound the tiers."""
        section = self._way(parameter).cascade(self.models, self.folder)
        both = {"models": [self.models[self.first], self.models[self.second]]}
        return {"strategies": ["rules"], "rules": [], "fallback": both, "cascade": section}

    def checks(self, parameter: float) -> frozenset[int]:
        """The first tier's."""
        return frozenset({self.first})

    def _way(self, threshold: float) -> AnswerPlan:
        return AnswerPlan(self.first, self.second, threshold)


# The classifier of queries, before any model is asked.


@dataclass(frozen=True)
class ByClassifier:
    """The classifier of queries; the parameter is the value of quality in USD."""

    models: Sequence[str]
    folder: str
    name: str = "classifier"
    asks_classifier: bool = True

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """Values at which equally many queries change their model; no row's prediction was fitted on it."""
        for value in values(tuning.predicted, tuning.expected, POINTS).tolist():
            yield value, self.play(value, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Each query goes to the model that is worth most."""
        return PolicyOutcomes.of(part, choose(part.predicted, part.expected, parameter))

    def config(self, parameter: float) -> Config:
        """The classifier decides on everything."""
        section = {"folder": self.folder, "value": value_in_yaml(parameter), "candidates": list(self.models)}
        return {
            "strategies": ["classifier"],
            "classifier": section,
            "fallback": {"models": [self.models[-1]]},
            "cascade": False,
        }

    def checks(self, parameter: float) -> frozenset[int]:
        """None."""
        return frozenset()


def value_in_yaml(value: float) -> float:
    """Where quality alone counts, a value that no price outweighs stands for infinity, which YAML has not."""
    return value if math.isfinite(value) else 1e6


# The classifier of queries before a cascade: what it holds to be hard skips the first tier.
#
# Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs", ICML 2025: to choose before and to check
# after
# tell different things, and each saves calls that the other would make.

BLEND_POINTS = 17


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
        for value in values(tuning.predicted[:, pair], tuning.expected[:, pair], BLEND_POINTS).tolist():
            for threshold in CASCADE_THRESHOLDS[1::2]:
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


# A way to answer for each category, and one for what fits none.

OFFSETS = (0.0, -0.1, 0.1)
"""Added to the thresholds of all categories."""
CATEGORY_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
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
            ways += [AnswerPlan(*pair, threshold) for pair in tiers_of(tuning) for threshold in CATEGORY_THRESHOLDS]
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


# One model for everything.


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


__all__ = [
    "ByCategory",
    "ByClassifier",
    "ByClassifierAndCascade",
    "CascadeFamily",
    "CategoryTable",
    "Family",
    "SingleModels",
]
