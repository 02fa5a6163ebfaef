"""Find the cheapest policy that keeps a promise.

A sequence of policies is ordered by their cost on the tuning rows, and tested from the best on. The rows that test are
held out, or all rows with predictions of classifiers that were not fitted on them: the second uses all evidence, and is
nearly as exact, since a policy has few parameters of its own and the classifier that serves is fitted on more rows than
those that were tested (cross-fitting; Bates, Hastie and Tibshirani, "Cross-validation: what does it estimate and how
well does it do it?", JASA 2024, https://arxiv.org/abs/2104.00673). ``scripts/bench_floor.py`` counts how often the
promise is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import Interval, Resampling, interval
from semroute.evaluate.risk import Promise, last_kept
from semroute.learn.policy.agreement import ByAgreement, ByClassifierAndAgreement, plans_of
from semroute.learn.policy.families import (
    ByCategory,
    ByClassifier,
    ByClassifierAndCascade,
    CascadeFamily,
    Family,
    PolicyData,
    PolicyOutcomes,
    SingleModels,
    tiers_of,
)
from semroute.learn.policy.prepare import PolicySplit
from semroute.types.protocols import Indices


@dataclass(frozen=True, slots=True)
class Point:
    """A policy on the quality-cost curve.

    Attributes:
        family: its family.
        parameter: its parameter within the family.
        quality, cost: means on the tuning rows; USD a query.
        tuned: its out-of-fold outcomes on them.
    """

    family: Family
    parameter: Any
    quality: float
    cost: float
    tuned: PolicyOutcomes = field(repr=False, compare=False)

    def play(self, part: PolicyData) -> PolicyOutcomes:
        """Return the outcomes of the policy on some rows."""
        return self.family.play(self.parameter, part)


@dataclass(frozen=True, slots=True)
class Floor:
    """Minimum quality, a ``fraction`` of that of model number ``strongest``."""

    fraction: float
    strongest: int

    def shortfall(self, outcomes: PolicyOutcomes, part: PolicyData) -> NDArray[np.float64]:
        """Return the ``(n,)`` shortfall of each answer; negative above the floor."""
        return self.fraction * part.quality[:, self.strongest].astype(np.float64) - outcomes.quality


def points(families: Sequence[Family], tuning: PolicyData) -> list[Point]:
    """Replay every policy of the families on the tuning rows."""
    return [
        Point(family, parameter, *outcomes.point, outcomes)
        for family in families
        for parameter, outcomes in family.tried(tuning)
    ]


def frontier(candidates: Sequence[Point]) -> list[Point]:
    """Return the Pareto frontier, the best (most expensive) point first.

    Of equal points the first is kept: families are ordered by simplicity.
    """
    points_kept: list[Point] = []
    for point in sorted(candidates, key=lambda point: (point.cost, -point.quality)):
        if not points_kept or point.quality > points_kept[-1].quality:
            points_kept.append(point)
    return points_kept[::-1]


Excess: TypeAlias = Callable[[PolicyOutcomes, PolicyData], NDArray[np.float64]]
"""``(n,)`` by how much each row exceeds the promise."""


@dataclass(frozen=True, slots=True)
class PromiseTest:
    """Held-out rows that a promise is tested on.

    Attributes:
        part: the rows.
        play: returns the outcomes of a point on them.
        tuning_part: the tuning rows with their outcomes. A promise that is broken on both parts together is not kept,
            whatever the test, since a frequent query lies wholly in one part and the other has no information on it.
        max_usd: maximum USD assumed of a query, for budgets: a call may cost anything, and the test needs a bound.
    """

    part: PolicyData
    play: Callable[[Point], PolicyOutcomes]
    tuning_part: PolicyData | None = None
    max_usd: float = math.inf

    def is_kept(self, point: Point, excess: Excess, high: float, promise: Promise) -> bool:
        """Return True if mean(excess) ≤ 0 is shown, and holds on all rows."""
        excess_held = excess(self.play(point), self.part)
        if not promise.is_kept(excess_held, high, self.part.group):
            return False
        if self.tuning_part is None:
            return True
        excess_tuning = excess(point.tuned, self.tuning_part)
        return float(excess_held.sum() + excess_tuning.sum()) <= 0


def cheapest_above(candidates: Sequence[Point], test: PromiseTest, floor: Floor, promise: Promise) -> Point | None:
    """Return the cheapest point of the frontier that keeps the floor.

    From the best point on, one after the other is tested until the first that fails. Points that are at least as good
    as the strongest model come before it; where none passes and the floor is at most the strongest model, that model
    alone is the answer, for it keeps its own floor by definition.

    Returns:
        None where the floor cannot be shown to be reachable.
    """

    def tests() -> Iterator[tuple[Point, bool]]:
        for point in frontier(candidates):
            if is_alone(point, floor.strongest):
                yield point, floor.fraction <= 1.0
                continue
            yield point, test.is_kept(point, floor.shortfall, max(floor.fraction, 0.0), promise)

    chosen = last_kept(tests())
    if chosen is not None or floor.fraction > 1.0:
        return chosen
    return next((point for point in candidates if is_alone(point, floor.strongest)), None)


def is_alone(point: Point, model: int) -> bool:
    """Return True if the policy is one model and nothing else."""
    return point.family.name == "one model" and point.parameter == model


def best_below(candidates: Sequence[Point], test: PromiseTest, budget: float, promise: Promise) -> Point | None:
    """Return the best point with a mean cost shown to be within ``budget``.

    The budget is in USD. Points are tested from the cheapest on, as in :func:`cheapest_above`.
    """
    ascending = frontier(candidates)[::-1]

    def over(outcomes: PolicyOutcomes, part: PolicyData) -> NDArray[np.float64]:
        return outcomes.cost - budget

    def tests() -> Iterator[tuple[Point, bool]]:
        for point in ascending:
            yield point, test.is_kept(point, over, max(test.max_usd - budget, 0.0), promise)

    return last_kept(tests())


def highest_utility(candidates: Sequence[Point], value: float) -> Point:
    """Return the point of the highest ``value * quality - cost`` in tuning."""
    return max(candidates, key=lambda point: (value * point.quality - point.cost, -point.cost))


# Tuning: families from the prepared rows, the point that reaches the goal, and the contribution of each family.


@dataclass(frozen=True, slots=True)
class Goal:
    """Goal of tuning; exactly one of the three is set.

    Attributes:
        min_quality: as a fraction of the strongest model's.
        max_cost: mean USD a query.
        value: USD per +1.0 of quality.
    """

    min_quality: float | None = None
    max_cost: float | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """Result of tuning.

    Attributes:
        chosen: the policy; None where the goal cannot be reached.
        points: all policies tried.
        by_family: by name, the choice with one family alone (and single models); None where it cannot reach the goal.
        strongest: number of the model that the floor is a fraction of.
        promise: that each finalist was tested for; the confidence is higher than asked for where there are several.
        finalists: names of the families that the choice was made among.
    """

    chosen: Point | None
    points: tuple[Point, ...]
    by_family: Mapping[str, Point | None]
    strongest: int
    promise: Promise
    finalists: tuple[str, ...]


def families(
    models: Sequence[str],
    prepared: PolicySplit,
    categories: Sequence[str],
    thresholds: NDArray[np.float64],
    bar: float,
    folder: str,
) -> list[Family]:
    """Return all families to try, the simplest first.

    Args:
        models: names.
        prepared: both parts.
        categories: names of those that are scored; may be none.
        thresholds: of the categories.
        bar: of the index's first stage.
        folder: of the policy, for the classifiers.
    """
    pairs = list(tiers_of(prepared.tuning))
    found_families: list[Family] = [SingleModels(models)]
    if len(categories):
        found_families.append(ByCategory(models, categories, thresholds, bar))
    found_families.append(ByClassifier(models, f"{folder}/classifier"))
    found_families += [CascadeFamily(models, *pair, folder) for pair in pairs]
    if len(categories) and pairs:
        found_families.append(ByCategory(models, categories, thresholds, bar, folder, with_tiers=True))
    found_families += [ByClassifierAndCascade(models, *pair, folder) for pair in pairs]
    # Only the strongest model follows a disagreement: with all more expensive ones there would be many more policies to
    # win by chance.
    plans = plans_of(prepared.tuning, strongest_model(prepared.tuning))
    if plans:
        found_families += [ByAgreement(models, plans), ByClassifierAndAgreement(models, plans, folder)]
    return found_families


FINAL_PARTS = 5
"""Parts of the tuning rows, each left out once to see which family wins without it."""


def tune(
    families_tried: Sequence[Family], prepared: PolicySplit, goal: Goal, strongest: int, promise: Promise
) -> Tuned:
    """Choose the policy that reaches a goal, by :class:`PolicySearch`.

    Args:
        families_tried: the families, single models among them.
        prepared: rows and classifiers.
        goal: the goal.
        strongest: number of the model that quality is compared with.
        promise: confidence of a floor or a budget.
    """
    return PolicySearch(points(families_tried, prepared.tuning), prepared, goal).choose(strongest, promise)


class PolicySearch:
    """Search among replayed policies, on all rows or on some of them.

    The finalists are the families that win on the tuning rows without one part or another of them. Each finalist's
    sequence of points (with single models) is tested with an equal share of the permitted error, so that the
    cheapest that passes may be chosen (Bonferroni). Where all rows test, the finalists are chosen on the rows that
    test them: that this is harmless is measured (``scripts/bench_floor.py``), not proven; held-out rows make it
    exact. In one mixed sequence the first family to fail would stop the others, and one winner on all rows would
    often have won by chance.

    Args:
        candidates: points of all families, the simplest family first.
        prepared: rows and classifiers.
        goal: the goal.
    """

    def __init__(self, candidates: Sequence[Point], prepared: PolicySplit, goal: Goal) -> None:
        self.points, self.prepared, self.goal = tuple(candidates), prepared, goal
        self._max_usd = max(_highest_cost(prepared.tuning), _highest_cost(prepared.held))
        self._tested: dict[tuple[str, Any], PolicyOutcomes] = {}
        self._columns = np.array([[point.tuned.quality, point.tuned.cost] for point in self.points])

    def outcomes(self, point: Point) -> PolicyOutcomes:
        """Return the outcomes of a point on all rows that test."""
        if self.prepared.is_cross_fitted:
            return point.tuned
        key = point.family.name, point.parameter
        if key not in self._tested:
            self._tested[key] = tested(point, self.prepared)
        return self._tested[key]

    def choose(self, strongest: int | None, promise: Promise, rows: Indices | None = None) -> Tuned:
        """Choose the policy that reaches the goal.

        Args:
            strongest: number of the model that quality is compared with; None takes the best on the rows.
            promise: confidence of a floor or a budget.
            rows: those of the rows that test which may be used; None uses all. Where the tuning rows test, the others
                have no part in the choice at all.
        """
        crossed, every = self.prepared.is_cross_fitted, np.arange(len(self.prepared.held))
        held_rows = every if rows is None else rows
        held = self.prepared.held if rows is None else self.prepared.held.take(rows)
        tuning = held if crossed else self.prepared.tuning
        tuning_rows = held_rows if crossed else np.arange(len(tuning))
        strongest = strongest_model(tuning) if strongest is None else strongest
        sequences = self._sequences(self._on(rows) if crossed and rows is not None else self.points)
        finalists = self._finalists(tuning, tuning_rows, strongest, promise)
        shared = replace(promise, confidence=1.0 - (1.0 - promise.confidence) / len(finalists))
        other_part = None if crossed else tuning
        test = PromiseTest(held, lambda point: self.outcomes(point).take(held_rows), other_part, self._max_usd)
        by_family = {
            name: _chosen(sequence, test, self.goal, strongest, shared if name in finalists else promise)
            for name, sequence in sequences.items()
        }
        chosen = by_family[max(finalists, key=lambda name: _rank(by_family[name], self.goal))]
        return Tuned(chosen, self.points, by_family, strongest, shared, finalists)

    def _sequences(self, candidates: Sequence[Point]) -> dict[str, list[Point]]:
        """Return the points by family; single models are part of each."""
        single = [point for point in candidates if isinstance(point.family, SingleModels)]
        sequences: dict[str, list[Point]] = {}
        for point in candidates:
            is_single = isinstance(point.family, SingleModels)
            sequences.setdefault(point.family.name, [] if is_single else list(single)).append(point)
        return sequences

    def _on(self, rows: Indices) -> list[Point]:
        """Return the points with their means over some of the tuning rows."""
        weight = np.bincount(rows, minlength=self._columns.shape[2]) / max(1, len(rows))
        means = self._columns @ weight
        return [replace(point, quality=quality, cost=cost)
                for point, (quality, cost) in zip(self.points, means.tolist(), strict=True)]  # fmt: skip

    def _finalists(self, tuning: PolicyData, tuning_rows: Indices, strongest: int, promise: Promise) -> tuple[str, ...]:
        """Return the families that win without one part of the tuning rows.

        The most frequent winner comes first.

        Single models are part of every sequence, and a finalist only where no other is.
        """
        wins: Counter[str] = Counter()
        for part in range(FINAL_PARTS):
            kept = np.flatnonzero(tuning.group % FINAL_PARTS != part)
            if not len(kept):
                continue
            rows = tuning_rows[kept]
            test = PromiseTest(tuning.take(kept), partial(_tuned_on, rows), max_usd=self._max_usd)
            found = {
                name: _chosen(sequence, test, self.goal, strongest, promise)
                for name, sequence in self._sequences(self._on(rows)).items()
            }
            # Where nothing seems to reach the goal, the best policy may still do so.
            reachable = [name for name, point in found.items() if point is not None] or list(found)
            wins[max(reachable, key=lambda name: _rank(found[name], self.goal))] += 1
        ordered = [name for name, _ in wins.most_common()]
        combined = [name for name in ordered if name != SingleModels.name]
        return tuple(combined or ordered)


def _tuned_on(rows: Indices, point: Point) -> PolicyOutcomes:
    return point.tuned.take(rows)


def tested(point: Point, prepared: PolicySplit) -> PolicyOutcomes:
    """Return a policy's outcomes on test rows, predicted out of fold."""
    return point.tuned if prepared.is_cross_fitted else point.play(prepared.held)


def _highest_cost(part: PolicyData) -> float:
    """Return USD of the most expensive query.

    Its two most expensive models are both counted, as tiers of a cascade, and three where two may have to agree.
    """
    calls = 3 if part.agreement else 2
    return float(np.sort(part.cost, axis=1)[:, -calls:].sum(axis=1, dtype=np.float64).max())


def _rank(point: Point | None, goal: Goal) -> tuple[float, float]:
    """Return a sort key, higher for better points by the goal."""
    if point is None:
        return -math.inf, -math.inf
    if goal.min_quality is not None:
        return -point.cost, point.quality
    utility = point.quality if goal.value is None else goal.value * point.quality - point.cost
    return utility, -point.cost


def _chosen(
    candidates: Sequence[Point], test: PromiseTest, goal: Goal, strongest: int, promise: Promise
) -> Point | None:
    if goal.min_quality is not None:
        return cheapest_above(candidates, test, Floor(goal.min_quality, strongest), promise)
    if goal.max_cost is not None:
        return best_below(candidates, test, goal.max_cost, promise)
    assert goal.value is not None
    return highest_utility(candidates, goal.value)


def strongest_model(part: PolicyData) -> int:
    """Return the model of the best mean quality; of equals the cheaper."""
    quality, cost = (cells.mean(axis=0, dtype=np.float64) for cells in (part.quality, part.cost))
    return int(np.lexsort((cost, -quality))[0])


# Figures of a tuned policy on the rows that test, with those of the strongest model and of its families.

_HALVINGS = 17
_MAX_PROMISED = 64.0
"""Maximum promised fraction, reached where the strongest model of the tuning rows is almost never right on the
others."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a policy on the rows that test.

    Attributes:
        quality: mean, with its 95% bootstrap interval.
        cost: mean USD a query.
        of_strongest: quality as a fraction of the strongest model's, paired.
        saved: share of the strongest model's cost, paired.
    """

    quality: Interval
    cost: Interval
    of_strongest: Interval
    saved: Interval


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a tuning.

    Attributes:
        tuning_rows, held_rows: number of rows.
        strongest: the strongest model alone.
        chosen: None where the goal cannot be reached.
        promised: lower bound of the quality of the next rows, as a fraction of the strongest model's mean, at the
            wanted confidence; None without a choice.
        densest: the point of the frontier with most quality per dollar, by the tuning rows.
        densest_figures: its figures.
        parts: by family, the figures of the choice with that family and single models alone.
    """

    tuning_rows: int
    held_rows: int
    strongest: Figures
    chosen: Figures | None
    promised: float | None
    densest: Point
    densest_figures: Figures
    parts: Mapping[str, Figures | None]


def summarise(tuned: Tuned, prepared: PolicySplit, *, seed: int = 0) -> Summary:
    """Summarise a tuning on the rows that test."""
    held = prepared.held
    resampling = Resampling.draw(len(held), seed=seed, group=held.group)
    single = PolicyOutcomes.of(held, np.full(len(held), tuned.strongest))

    def figures(point: Point | None) -> Figures | None:
        return None if point is None else _figures(tested(point, prepared), single, resampling)

    densest = max(frontier(tuned.points), key=lambda point: point.quality / max(point.cost, 1e-12))
    return Summary(
        tuning_rows=len(prepared.tuning),
        held_rows=len(held),
        strongest=_figures(single, single, resampling),
        chosen=figures(tuned.chosen),
        promised=None if tuned.chosen is None else _promised(tuned.chosen, tuned, prepared),
        densest=densest,
        densest_figures=_figures(tested(densest, prepared), single, resampling),
        parts={name: figures(point) for name, point in tuned.by_family.items()},
    )


def _promised(point: Point, tuned: Tuned, prepared: PolicySplit) -> float:
    """Return the highest floor that passes the test, to 0.001 per cent.

    The test is that by which floors are chosen.
    """
    if is_alone(point, tuned.strongest):
        return 1.0
    outcomes = tested(point, prepared)
    test = PromiseTest(prepared.held, lambda _: outcomes, None if prepared.is_cross_fitted else prepared.tuning)

    def is_kept(fraction: float) -> bool:
        return test.is_kept(point, Floor(fraction, tuned.strongest).shortfall, fraction, tuned.promise)

    low, high = 0.0, 1.0
    while is_kept(high) and high < _MAX_PROMISED:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return low


def _figures(outcomes: PolicyOutcomes, single: PolicyOutcomes, resampling: Resampling) -> Figures:
    columns = np.column_stack([outcomes.quality, outcomes.cost, single.quality, single.cost])
    quality, cost, single_quality, single_cost = resampling.means(columns).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return Figures(
            interval(quality), interval(cost), interval(quality / single_quality), interval(1.0 - cost / single_cost)
        )
