"""Policy families: parameters, replay, and sections of ``semroute.yaml``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay import choose, replay, values
from semroute.index import BothScores
from semroute.outcomes.table import group_means
from semroute.types import Matrix

# Evaluation data: the rows that policies are replayed on, with all inputs of a policy.

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Agreement of two models' final answers.

    Attributes:
        asked: ``(n,)`` True where the first one's answer can be compared, so that the second one is asked.
        agreed: ``(n,)`` True where both give the same final answer.
    """

    asked: NDArray[np.bool_]
    agreed: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> PairAgreement:
        """Return some rows."""
        return PairAgreement(self.asked[rows], self.agreed[rows])


@dataclass(frozen=True, slots=True)
class PolicyData:
    """Evaluation data of policies, ``n`` rows and ``m`` models.

    Attributes:
        quality, cost: ``(n, m)`` float32 results of asking each model.
        predicted: ``(n, m)`` float32 out-of-fold predicted quality.
        expected: ``(n, m)`` float64 USD that the router expects of a call.
        scores: ``(n, c)`` float32 of the categories, by each stage of the index.
        acceptance: by model, ``(n,)`` probability that its answer is acceptable, by a classifier of answers that was
            not fitted on the row; models without answers are missing.
        group: ``(n,)`` duplicate group of each row: duplicates count as one where the number of independent rows
            matters.
        agreement: by first and second model, the agreement of their answers; pairs that were not compared are missing.
    """

    quality: Matrix
    cost: Matrix
    predicted: Matrix
    expected: Numbers
    scores: BothScores
    acceptance: Mapping[int, Numbers]
    group: NDArray[np.int64]
    agreement: Mapping[tuple[int, int], PairAgreement] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.quality)

    def take(self, rows: NDArray[np.int64]) -> PolicyData:
        """Return some rows."""
        return PolicyData(
            self.quality[rows],
            self.cost[rows],
            self.predicted[rows],
            self.expected[rows],
            self.scores[rows],
            {model: probability[rows] for model, probability in self.acceptance.items()},
            self.group[rows],
            {pair: agreement.take(rows) for pair, agreement in self.agreement.items()},
        )

    @property
    def different(self) -> int:
        """Return the number of distinct rows."""
        return len(np.unique(self.group))

    @property
    def most_alike(self) -> float:
        """Return the share of the rows in the largest duplicate group."""
        return float(np.bincount(self.group).max(initial=0)) / max(1, len(self))


@dataclass(frozen=True, slots=True)
class PolicyOutcomes:
    """Outcomes of a policy on evaluation data.

    Attributes:
        quality: ``(n,)`` of the returned answers.
        cost: ``(n,)`` USD, rejected answers included.
    """

    quality: Numbers
    cost: Numbers

    @classmethod
    def of(cls, part: PolicyData, choice: NDArray[np.int64]) -> PolicyOutcomes:
        """Return the outcomes of one chosen model for each row."""
        return cls(replay(part.quality, choice), replay(part.cost, choice))

    def take(self, rows: NDArray[np.int64]) -> PolicyOutcomes:
        """Return the outcomes of some rows."""
        return PolicyOutcomes(self.quality[rows], self.cost[rows])

    @property
    def point(self) -> tuple[float, float]:
        """Return mean quality, and mean USD a query."""
        return float(self.quality.mean()), float(self.cost.mean())


# Answer plans for queries of one kind: one model, or a cascade of two tiers with a check.


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """One model, or a cascade of two.

    Attributes:
        first: number of the model of the first tier.
        second: number of the model of the second tier, called where the first one's answer is rejected; None for one
            model.
        threshold: minimum probability, by the classifier of answers, that the first one's answer is acceptable.
    """

    first: int
    second: int | None = None
    threshold: float = 0.0

    def play(self, part: PolicyData) -> PolicyOutcomes:
        """Replay the plan on every row.

        Rejected answers are paid for, and escalated.
        """
        if self.second is None:
            return PolicyOutcomes.of(part, np.full(len(part), self.first))
        rejected = part.acceptance[self.first] < self.threshold
        quality = np.where(rejected, part.quality[:, self.second], part.quality[:, self.first])
        cost = part.cost[:, self.first] + np.where(rejected, part.cost[:, self.second], 0.0)
        return PolicyOutcomes(quality.astype(np.float64), cost.astype(np.float64))

    def cascade(self, models: Sequence[str], folder: str) -> dict[str, Any] | Literal[False]:
        """Return the cascade section of ``semroute.yaml``.

        For one model it is false, which removes an earlier cascade.

        Args:
            models: names.
            folder: of the policy, which holds the classifiers of answers.
        """
        if self.second is None:
            return False
        quality = {"classifier": f"{folder}/checks-{self.first}", "threshold": self.threshold}
        # The check is on the first model: the second's answer is returned unchecked, as it was when the policy was
        # tested.
        tiers = [models[self.first], {"use": models[self.second], "accept": {"format": False}}]
        return {"tiers": tiers, "accept": {"format": False, "quality": quality}}

    def words(self, models: Sequence[str]) -> str:
        """Describe the plan for display."""
        if self.second is None:
            return models[self.first]
        return f"{models[self.first]} before {models[self.second]}, accepting from {self.threshold:.2f}"


def tiers_of(part: PolicyData) -> Iterator[tuple[int, int]]:
    """Yield pairs of models for a cascade.

    The first has a check, and the second costs more.
    """
    cost = part.cost.mean(axis=0, dtype=np.float64)
    for first, second in product(sorted(part.acceptance), range(len(cost))):
        if cost[first] < cost[second]:
            yield first, second


# Protocol of a policy family.

POINTS = 41
"""Number of values of quality along a curve."""

Config = Mapping[str, Any]


class Family(Protocol):
    """A family of policies with one parameter or several."""

    @property
    def asks_classifier(self) -> bool:
        """True if the configuration uses the classifier of queries."""
        ...

    @property
    def name(self) -> str:
        """Return the name for display."""
        ...

    def tried(self, tuning: PolicyData) -> Iterator[tuple[Any, PolicyOutcomes]]:
        """Yield every parameter with its outcomes on the tuning rows, out of fold."""
        ...

    def play(self, parameter: Any, part: PolicyData) -> PolicyOutcomes:
        """Return the outcomes of a parameter on some rows."""
        ...

    def config(self, parameter: Any) -> Config:
        """Return sections of ``semroute.yaml``.

        The cascade is always among them, so that an earlier one does not stay active.
        """
        ...

    def checks(self, parameter: Any) -> frozenset[int]:
        """Return the models whose answers the configuration checks by classifiers."""
        ...

    def words(self, parameter: Any) -> str:
        """Describe a parameter for display."""
        ...


# One cascade for all queries.

CASCADE_THRESHOLDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


@dataclass(frozen=True)
class _TwoTiers:
    """Two tiers with a classifier of answers between.

    Attributes:
        models: names.
        first, second: numbers of the tiers' models.
        folder: of the policy.
    """

    models: Sequence[str]
    first: int
    second: int
    folder: str


@dataclass(frozen=True)
class CascadeFamily(_TwoTiers):
    """Two tiers; the parameter is the threshold of the check between them."""

    asks_classifier: bool = False

    @property
    def name(self) -> str:
        """Return the name for display."""
        return f"cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """Yield a grid of thresholds; the check of an answer is out of fold."""
        for threshold in CASCADE_THRESHOLDS:
            yield threshold, self.play(threshold, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Replay; answers below the threshold are paid for, and escalated."""
        return self._way(parameter).play(part)

    def config(self, parameter: float) -> Config:
        """Send all to the fallback, which is the cascade.

        Its models limit the tiers.
        """
        section = self._way(parameter).cascade(self.models, self.folder)
        tiers = {"models": [self.models[self.first], self.models[self.second]]}
        return {"strategies": ["rules"], "rules": [], "fallback": tiers, "cascade": section}

    def checks(self, parameter: float) -> frozenset[int]:
        """Return the first tier's model."""
        return frozenset({self.first})

    def words(self, parameter: float) -> str:
        """Describe the threshold."""
        return f"{self.name}, accepting from {parameter:.2f}"

    def _way(self, threshold: float) -> AnswerPlan:
        return AnswerPlan(self.first, self.second, threshold)


# The classifier of queries, which decides before any model is called.


@dataclass(frozen=True)
class ByClassifier:
    """The classifier of queries; the parameter is the value of quality in USD."""

    models: Sequence[str]
    folder: str
    name: str = "classifier"
    asks_classifier: bool = True

    def tried(self, tuning: PolicyData) -> Iterator[tuple[float, PolicyOutcomes]]:
        """Yield values at which equally many choices change.

        Predictions are out of fold.
        """
        for value in values(tuning.predicted, tuning.expected, POINTS).tolist():
            yield value, self.play(value, tuning)

    def play(self, parameter: float, part: PolicyData) -> PolicyOutcomes:
        """Replay; each query goes to the model of the highest value."""
        return PolicyOutcomes.of(part, choose(part.predicted, part.expected, parameter))

    def config(self, parameter: float) -> Config:
        """Let the classifier decide on all queries."""
        section = {"folder": self.folder, "value": value_in_yaml(parameter), "candidates": list(self.models)}
        return {
            "strategies": ["classifier"],
            "classifier": section,
            "fallback": {"models": [self.models[-1]]},
            "cascade": False,
        }

    def checks(self, parameter: float) -> frozenset[int]:
        """Return no model."""
        return frozenset()

    def words(self, parameter: float) -> str:
        """Describe the value."""
        return f"the classifier, with quality worth {worth_in_words(parameter)}"


def value_in_yaml(value: float) -> float:
    """Return a finite value for YAML, which has no infinity.

    Where quality alone counts, it is a value that no price outweighs.
    """
    return value if math.isfinite(value) else 1e6


def worth_in_words(value: float) -> str:
    """Describe a value of quality for display."""
    return f"USD {value:.4g} for +1.0" if math.isfinite(value) else "everything"


# The classifier of queries before a cascade: queries that it predicts to be hard skip the first tier.
#
# Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs", ICML 2025: routing before and checking after
# the first answer carry different information, and each saves calls that the other would make.

BLEND_POINTS = 17


@dataclass(frozen=True)
class ByClassifierAndCascade(_TwoTiers):
    """Classifier and two tiers; the parameters are value (USD) and threshold."""

    asks_classifier: bool = True

    @property
    def name(self) -> str:
        """Return the name for display."""
        return f"classifier and cascade {self.models[self.first]}, {self.models[self.second]}"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[tuple[float, float], PolicyOutcomes]]:
        """Yield every value with every threshold.

        Predictions and checks are out of fold.
        """
        pair = [self.first, self.second]
        for value in values(tuning.predicted[:, pair], tuning.expected[:, pair], BLEND_POINTS).tolist():
            for threshold in CASCADE_THRESHOLDS[1::2]:
                yield (value, threshold), self.play((value, threshold), tuning)

    def play(self, parameter: tuple[float, float], part: PolicyData) -> PolicyOutcomes:
        """Replay on some rows.

        A second tier that is worth its price is called at once, else on escalation.
        """
        value, threshold = parameter
        pair = [self.first, self.second]
        skips = choose(part.predicted[:, pair], part.expected[:, pair], value) == 1
        tiers, direct = AnswerPlan(self.first, self.second, threshold).play(part), AnswerPlan(self.second).play(part)
        return PolicyOutcomes(np.where(skips, direct.quality, tiers.quality), np.where(skips, direct.cost, tiers.cost))

    def config(self, parameter: tuple[float, float]) -> Config:
        """Start the cascade at the tier that the classifier selects."""
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
        """Return the first tier's model."""
        return frozenset({self.first})

    def words(self, parameter: tuple[float, float]) -> str:
        """Describe value and threshold."""
        value, threshold = parameter
        return f"{self.name}: quality worth {worth_in_words(value)}, accepting from {threshold:.2f}"


# An answer plan for each category, and one for queries that fit none.

OFFSETS = (0.0, -0.1, 0.1)
"""Added to the thresholds of all categories."""
CATEGORY_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""Thresholds of a category's cascade; few, as each category has few rows to choose by."""
PARTS = 5
"""Folds of the tuning rows, for tables that are fitted to them."""
PRIOR = 10.0
"""Weight, in rows, of the overall mean in a category's mean."""


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """A parameter of :class:`ByCategory`.

    Attributes:
        value: USD per +1.0 of quality.
        offset: added to the thresholds.
        choice: ``c + 1`` answer plans, one for each category, and last that of the fallback.
    """

    value: float
    offset: float
    choice: tuple[AnswerPlan, ...]


@dataclass(frozen=True)
class ByCategory:
    """An answer plan for each category and for queries that fit none.

    Attributes:
        models: names.
        categories: names, as the columns of scores.
        thresholds: ``(c,)`` as built.
        bar: of the index's first stage; unused where the index has none.
        folder: of the policy.
        with_tiers: True if cascades are among the answer plans.
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
        """Return the name for display."""
        return "categories with cascades" if self.with_tiers else "categories"

    def tried(self, tuning: PolicyData) -> Iterator[tuple[CategoryTable, PolicyOutcomes]]:
        """Yield the distinct tables along the curve of values, for every offset.

        A row is replayed out of fold, with the table of the other folds at the same value: the table of all rows was
        fitted to the row, and would be optimistic on it.
        """
        part = tuning.group % PARTS
        plans = self._plans(tuning)
        cells = _cells(plans, tuning)
        for offset in OFFSETS:
            group = self._category(tuning, offset)
            quality, cost = self._means(cells, group, np.ones(len(tuning), np.bool_))
            means_without_fold = [self._means(cells, group, part != number) for number in range(PARTS)]
            yielded: set[tuple[int, ...]] = set()
            for value in values(quality, cost, POINTS).tolist():
                choice = tuple(choose(quality, cost, value).tolist())
                if choice not in yielded:
                    yielded.add(choice)
                    tables = np.array([choose(*means, value) for means in means_without_fold])
                    outcomes = [replay(cells_of, tables[part, group]) for cells_of in cells]
                    yield CategoryTable(value, offset, tuple(plans[plan] for plan in choice)), PolicyOutcomes(*outcomes)

    def play(self, parameter: CategoryTable, part: PolicyData) -> PolicyOutcomes:
        """Replay; each query is answered by its category's plan."""
        plans = list(dict.fromkeys(parameter.choice))
        plan_of_row = np.array([plans.index(plan) for plan in parameter.choice])[self._category(part, parameter.offset)]
        quality, cost = (replay(cells, plan_of_row) for cells in _cells(plans, part))
        return PolicyOutcomes(quality, cost)

    def config(self, parameter: CategoryTable) -> Config:
        """Return models, cascades and changed thresholds of the categories."""
        *of_category, fallback = parameter.choice
        sections: dict[str, Any] = {}
        thresholds = self._shifted(parameter.offset)
        for number, (name, plan) in enumerate(zip(self.categories, of_category, strict=True)):
            sections[name] = {"models": [self.models[plan.first]], "cascade": plan.cascade(self.models, self.folder)}
            if parameter.offset:
                sections[name]["threshold"] = float(thresholds[number])
        return {
            "strategies": ["semantic"],
            "categories": sections,
            # Unlike a category's own cascade, the general one is limited to the fallback's models.
            "fallback": {
                "models": [self.models[number] for number in (fallback.first, fallback.second) if number is not None]
            },
            "cascade": fallback.cascade(self.models, self.folder),
        }

    def checks(self, parameter: CategoryTable) -> frozenset[int]:
        """Return the first tiers' models."""
        return frozenset(plan.first for plan in parameter.choice if plan.second is not None)

    def words(self, parameter: CategoryTable) -> str:
        """Describe the answer plans."""
        plans = "; ".join(dict.fromkeys(plan.words(self.models) for plan in parameter.choice))
        moved = f", thresholds moved by {parameter.offset:+.2g}" if parameter.offset else ""
        return f"a model or cascade for each category ({plans}){moved}"

    def _plans(self, tuning: PolicyData) -> list[AnswerPlan]:
        plans = [AnswerPlan(number) for number in range(len(self.models))]
        if self.with_tiers:
            plans += [AnswerPlan(*pair, threshold) for pair in tiers_of(tuning) for threshold in CATEGORY_THRESHOLDS]
        return plans

    def _category(self, part: PolicyData, offset: float) -> NDArray[np.int64]:
        """Return the ``(n,)`` category number.

        The number of categories where none fits.
        """
        thresholds = self._shifted(offset)
        scores = part.scores.scores(thresholds, self.bar)
        best = scores.argmax(axis=1)
        fits = scores[np.arange(len(part)), best] >= thresholds[best]
        return np.where(fits, best, len(self.categories))

    def _shifted(self, offset: float) -> NDArray[np.float64]:
        """Return ``(c,)`` shifted thresholds, as they can be written."""
        return self.thresholds if offset == 0 else np.clip(self.thresholds + offset, -1.0, 1.0).round(6)

    def _means(
        self, cells: tuple[Matrix, Matrix], group: NDArray[np.int64], rows: NDArray[np.bool_]
    ) -> tuple[Matrix, Matrix]:
        """Return ``(c + 1, w)`` mean quality and cost of each plan by category.

        The means are over some rows, shrunk towards the means over all.
        """
        count = len(self.categories) + 1
        sizes = np.bincount(group[rows], minlength=count)[:, None]
        mixed = []
        for table in cells:
            means = group_means(table[rows], group[rows], count)
            overall = table[rows].mean(axis=0, dtype=np.float64)
            mixed.append(((means * sizes + PRIOR * overall) / (sizes + PRIOR)).astype(np.float32))
        return mixed[0], mixed[1]


def _cells(plans: Sequence[AnswerPlan], part: PolicyData) -> tuple[Matrix, Matrix]:
    """Return ``(n, w)`` quality and cost of each plan on each row."""
    outcomes = [plan.play(part) for plan in plans]
    quality = np.column_stack([outcome.quality for outcome in outcomes]).astype(np.float32)
    return quality, np.column_stack([outcome.cost for outcome in outcomes]).astype(np.float32)


# One model for all queries.


@dataclass(frozen=True)
class SingleModels:
    """One model for all queries; the parameter is its number."""

    models: Sequence[str]
    name: str = "one model"
    asks_classifier: bool = False

    def tried(self, tuning: PolicyData) -> Iterator[tuple[int, PolicyOutcomes]]:
        """Yield every model."""
        for number in range(len(self.models)):
            yield number, self.play(number, tuning)

    def play(self, parameter: int, part: PolicyData) -> PolicyOutcomes:
        """Replay; every query goes to that model."""
        return PolicyOutcomes.of(part, np.full(len(part), parameter))

    def config(self, parameter: int) -> Config:
        """Configure no rule, so that all goes to the fallback."""
        single = {"models": [self.models[parameter]]}
        return {"strategies": ["rules"], "rules": [], "fallback": single, "cascade": False}

    def checks(self, parameter: int) -> frozenset[int]:
        """Return no model."""
        return frozenset()

    def words(self, parameter: int) -> str:
        """Describe the model."""
        return f"always {self.models[parameter]}"
