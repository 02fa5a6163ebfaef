"""The whole of tuning: families out of what was prepared, the point that keeps the goal, and what each part adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.risk.promise import Promise
from semroute.learn.policy.families import (
    ByCategory,
    ByClassifier,
    ByClassifierAndCascade,
    CascadeFamily,
    Family,
    SingleModels,
)
from semroute.learn.policy.families.ways import tiers_of
from semroute.learn.policy.part import PolicyData
from semroute.learn.policy.preparing import PolicySplit
from semroute.learn.policy.search import Floor, Point, PromiseTest, best_below, cheapest_above, points, worth_most


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted; exactly one of the three.

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
    """What came of it.

    Attributes:
        chosen: the policy; None where the goal cannot be reached.
        points: everything that was tried.
        by_family: what would be chosen with one family alone (and single models), by its name; None where it cannot.
        strongest: number of the model that the floor is a fraction of.
    """

    chosen: Point | None
    points: tuple[Point, ...]
    by_family: Mapping[str, Point | None]
    strongest: int


def families(
    models: Sequence[str],
    prepared: PolicySplit,
    categories: Sequence[str],
    thresholds: NDArray[np.float64],
    bar: float,
    folder: str,
) -> list[Family]:
    """Everything that can be tried, the simplest first.

    Args:
        models: names.
        prepared: both parts.
        categories: names of those that are scored; may be none.
        thresholds: of the categories.
        bar: of the index's first stage.
        folder: of the policy, where the classifiers will lie.
    """
    pairs = list(tiers_of(prepared.tuning))
    found: list[Family] = [SingleModels(models)]
    if len(categories):
        found.append(ByCategory(models, categories, thresholds, bar))
    found.append(ByClassifier(models, f"{folder}/classifier"))
    found += [CascadeFamily(models, *pair, folder) for pair in pairs]
    if len(categories) and pairs:
        found.append(ByCategory(models, categories, thresholds, bar, folder, with_tiers=True))
    found += [ByClassifierAndCascade(models, *pair, folder) for pair in pairs]
    return found


def tune(tried: Sequence[Family], prepared: PolicySplit, goal: Goal, strongest: int, promise: Promise) -> Tuned:
    """Choose the policy.

    The tuning rows choose a family: the one that would win if they tested the promise. Only its sequence of
    points (with single models) then counts on the held-out rows, so that one test does not have to answer for several;
    mixed in one sequence, the first family to fail would stop the others.

    Args:
        tried: the families, single models among them.
        prepared: both parts.
        goal: what is wanted.
        strongest: number of the model that quality is measured against.
        promise: how sure one must be of a floor or a budget.
    """
    found = points(tried, prepared.tuning)
    alone = [point for point in found if isinstance(point.family, SingleModels)]
    most = max(_dearest(prepared.tuning), _dearest(prepared.held))
    by_tuning = PromiseTest(prepared.tuning, lambda point: point.tuned, most=most)
    by_others = PromiseTest(prepared.held, lambda point: point.play(prepared.held), prepared.tuning, most)
    ahead: dict[str, Point | None] = {}
    by_family: dict[str, Point | None] = {}
    for family in tried:
        own = [point for point in found if point.family is family]
        some = own if isinstance(family, SingleModels) else alone + own
        ahead[family.name] = _chosen(some, by_tuning, goal, strongest, promise)
        by_family[family.name] = _chosen(some, by_others, goal, strongest, promise)
    reachable = [name for name, point in ahead.items() if point is not None]
    # Where nothing seems to be within reach, the best that there is may still show that it is.
    best = max(reachable or list(ahead), key=lambda name: _rank(ahead[name], goal))
    return Tuned(by_family[best], tuple(found), by_family, strongest)


def _dearest(part: PolicyData) -> float:
    """USD of the dearest query, where its two dearest models are both called, as tiers of a cascade."""
    return float(np.sort(part.cost, axis=1)[:, -2:].sum(axis=1, dtype=np.float64).max())


def _rank(point: Point | None, goal: Goal) -> tuple[float, float]:
    """The higher, the better for the goal."""
    if point is None:
        return -math.inf, -math.inf
    if goal.min_quality is not None:
        return -point.cost, point.quality
    worth = point.quality if goal.value is None else goal.value * point.quality - point.cost
    return worth, -point.cost


def _chosen(found: Sequence[Point], test: PromiseTest, goal: Goal, strongest: int, promise: Promise) -> Point | None:
    if goal.min_quality is not None:
        return cheapest_above(found, test, Floor(goal.min_quality, strongest), promise)
    if goal.max_cost is not None:
        return best_below(found, test, goal.max_cost, promise)
    assert goal.value is not None
    return worth_most(found, goal.value)


def strongest_model(part: PolicyData) -> int:
    """The model of the best mean quality; of equals the cheaper."""
    quality, cost = (cells.mean(axis=0, dtype=np.float64) for cells in (part.quality, part.cost))
    return int(np.lexsort((cost, -quality))[0])
