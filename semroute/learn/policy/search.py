"""The cheapest policy that keeps a promise: the order is set by the tuning rows, the promise tested on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.risk.promise import Promise, last_kept
from semroute.learn.policy.families import Family
from semroute.learn.policy.part import PolicyData, PolicyOutcomes


@dataclass(frozen=True, slots=True)
class Point:
    """A policy on the curve.

    Attributes:
        family: what kind it is.
        parameter: which of them.
        quality, cost: means on the tuning rows; USD a query.
        tuned: what it gives on them, each row as if it had not been tuned on.
    """

    family: Family
    parameter: Any
    quality: float
    cost: float
    tuned: PolicyOutcomes = field(repr=False, compare=False)

    def play(self, part: PolicyData) -> PolicyOutcomes:
        """What it gives on some rows."""
        return self.family.play(self.parameter, part)


@dataclass(frozen=True, slots=True)
class Floor:
    """Quality that must be kept: ``fraction`` of the quality of the model ``strongest``, by number."""

    fraction: float
    strongest: int

    def shortfall(self, played: PolicyOutcomes, part: PolicyData) -> NDArray[np.float64]:
        """``(n,)`` by how much each answer is below the floor; below 0 where it is above."""
        return self.fraction * part.quality[:, self.strongest].astype(np.float64) - played.quality


def points(families: Sequence[Family], tuning: PolicyData) -> list[Point]:
    """Every policy of the families, played on the tuning rows."""
    return [
        Point(family, parameter, *played.point, played)
        for family in families
        for parameter, played in family.tried(tuning)
    ]


def frontier(found: Sequence[Point]) -> list[Point]:
    """Those that none of the others outdoes in both, the best (and dearest) first.

    Of equal points the first is kept: families stand in the order of their simplicity.
    """
    kept: list[Point] = []
    for point in sorted(found, key=lambda point: (point.cost, -point.quality)):
        if not kept or point.quality > kept[-1].quality:
            kept.append(point)
    return kept[::-1]


Excess: TypeAlias = Callable[[PolicyOutcomes, PolicyData], NDArray[np.float64]]
"""``(n,)`` by how much each row is beyond what is promised."""


@dataclass(frozen=True, slots=True)
class PromiseTest:
    """Rows that a promise is tested on.

    Attributes:
        part: the rows.
        play: what a point gives on them.
        beside: the rows that points were made on, with what they gave there: what is broken on both together is no
            promise, whatever the test says. A query that comes often lies wholly in one part, and the other knows
            nothing of it.
        most: USD that no query is taken to exceed, for budgets: a call may cost anything, and betting needs a bound.
    """

    part: PolicyData
    play: Callable[[Point], PolicyOutcomes]
    beside: PolicyData | None = None
    most: float = math.inf

    def is_kept(self, point: Point, excess: Excess, low: float, high: float, promise: Promise) -> bool:
        """Whether the mean of what ``excess`` tells of each row is shown to be at most 0, and is so on all rows."""
        own = excess(self.play(point), self.part)
        if not promise.is_kept(own, low, high, self.part.group):
            return False
        if self.beside is None:
            return True
        there = excess(point.tuned, self.beside)
        return float(own.sum() + there.sum()) <= 0


def cheapest_above(found: Sequence[Point], test: PromiseTest, floor: Floor, promise: Promise) -> Point | None:
    """The cheapest point of the frontier that keeps the floor.

    From the best point on, one after the other is tested until the first that fails. Points that are better than the
    strongest model, or as good, come before it; where none passes and the floor is at most the strongest model, that
    model alone is the answer, for it keeps its own floor by definition.

    Returns:
        None where the floor cannot be shown to be reachable.
    """

    def tests() -> Iterator[tuple[Point, bool]]:
        for point in frontier(found):
            if is_alone(point, floor.strongest):
                yield point, floor.fraction <= 1.0
                continue
            yield point, test.is_kept(point, floor.shortfall, -1.0, max(floor.fraction, 0.0), promise)

    chosen = last_kept(tests())
    if chosen is not None or floor.fraction > 1.0:
        return chosen
    return next((point for point in found if is_alone(point, floor.strongest)), None)


def is_alone(point: Point, model: int) -> bool:
    """Whether it is one model and nothing else."""
    return point.family.name == "one model" and point.parameter == model


def best_below(found: Sequence[Point], test: PromiseTest, budget: float, promise: Promise) -> Point | None:
    """The best point whose mean cost is shown to be at most ``budget`` USD; from the cheapest on, as above."""
    rising = frontier(found)[::-1]

    def over(played: PolicyOutcomes, part: PolicyData) -> NDArray[np.float64]:
        return played.cost - budget

    def tests() -> Iterator[tuple[Point, bool]]:
        for point in rising:
            yield point, test.is_kept(point, over, -budget, max(test.most - budget, 0.0), promise)

    return last_kept(tests())


def worth_most(found: Sequence[Point], value: float) -> Point:
    """The point with the highest ``value * quality - cost`` on the tuning rows."""
    return max(found, key=lambda point: (value * point.quality - point.cost, -point.cost))
