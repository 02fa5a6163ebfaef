"""Controls of a tuned policy, and how often its goal holds elsewhere.

Rows that have chosen a policy flatter it. Here a policy is chosen on some rows and measured on the others: fold by fold
for the comparison with controls at the same cost, and on two hundred random halves for the share of them in which the
goal is kept. Predictions are out of fold throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.baselines import EvaluationData, cluster_table, out_of_fold, prompt_length
from semroute.evaluate.comparison_results import CLUSTERS, LENGTH, ORACLE, best_single
from semroute.evaluate.controls import SPLITS, Actions, ControlData, ControlFigures, controls_at_cost
from semroute.evaluate.metrics import Resampling, finite, ratio
from semroute.evaluate.replay import Curve, Fold, k_folds, tradeoff_curve, values
from semroute.evaluate.risk import Promise
from semroute.learn.policy.families import POINTS, PolicyData, PolicyOutcomes
from semroute.learn.policy.search import Goal, Point, PolicySearch, Tuned, is_alone
from semroute.types import Matrix
from semroute.types.protocols import Indices, Progress, silent

NAME = "tuned policy"
FOLDS = 5
"""Folds of the controls; a policy is chosen on all but one."""
FEWEST = 40
"""Fewest different queries to choose a policy on some of them and to measure it on the others."""
MOST_MODELS = 23
"""Most models whose calls are distinguished, one bit each of a float32; with more nothing is shuffled."""


@dataclass(frozen=True, slots=True)
class HoldoutResults:
    """Policies chosen on one random half of the rows, tested on the other.

    Attributes:
        splits: number of random halves.
        kept: halves on which the goal was kept; None where the goal has no promise.
        of_strongest: quality as a fraction of the strongest model's, mean over the halves; NaN where that is 0.
        saved: share of that model's cost, mean over the halves; NaN where it costs nothing.
    """

    splits: int
    kept: int | None
    of_strongest: float
    saved: float

    def sentence(self, goal: Goal) -> str:
        """Return the result as one sentence."""
        at = f"at {self.of_strongest:.1%} of the strongest model's quality"
        if math.isnan(self.of_strongest):
            text = "The strongest model has no quality here, so that no share of it can be kept"
        elif math.isnan(self.saved):
            text = f"Reaches {self.of_strongest:.1%} of the strongest model's quality"
        elif round(self.saved, 2) >= 0:
            text = f"Saves {abs(self.saved):.0%} {at}"
        else:
            text = f"Costs {-self.saved:.0%} more {at}"
        kept = f"{text}; {self.kept} of {self.splits} splits kept the"
        if goal.min_quality is not None:
            return f"{kept} floor of {goal.min_quality:.1%}."
        if goal.max_cost is not None:
            return f"{kept} budget of USD {goal.max_cost:.4g} a query."
        return f"{text}, over {self.splits} splits."


@dataclass(frozen=True, slots=True)
class TunedControls:
    """A tuned policy with its controls, and its promise on other rows.

    Attributes:
        goal: of the tuning.
        rows: figures of the policies chosen on other folds, then those of their controls.
        halves: results on random halves.
    """

    goal: Goal
    rows: tuple[ControlFigures, ...]
    halves: HoldoutResults

    def sentence(self) -> str:
        """Return the result on random halves as one sentence."""
        return self.halves.sentence(self.goal)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; undefined figures are None."""
        return {
            "sentence": self.sentence(),
            "splits": finite(asdict(self.halves)),
            "rows": {row.name: row.to_dict() for row in self.rows},
        }


def tuned_controls(
    search: PolicySearch,
    data: EvaluationData,
    strongest: int | None,
    promise: Promise,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> TunedControls | None:
    """Return the controls of a search on the rows that test.

    Args:
        search: policies, as they were replayed.
        data: queries and vectors of the rows that test.
        strongest: number of the model that quality is compared with; None takes the best of each part.
        promise: of the goal.
        seed: of the folds and halves.
        progress: called with the step, the number done and the total.

    Returns:
        None with fewer than :data:`FEWEST` different queries.
    """
    part = search.prepared.held
    if part.different < FEWEST:
        return None
    halves = _halves(search, strongest, promise, seed, progress)
    return TunedControls(search.goal, _rows(search, data, strongest, promise, seed), halves)


def _halves(
    search: PolicySearch, strongest: int | None, promise: Promise, seed: int, progress: Progress
) -> HoldoutResults:
    part, goal = search.prepared.held, search.goal
    kept, ratios, costs = 0, list[tuple[float, float]](), list[tuple[float, float]]()
    for number, (own, other) in enumerate(_random_halves(part.group, seed)):
        progress("splits", number, SPLITS)
        # The rows of one set: where one half is too good, the other is too bad. So that half is promised, no more.
        found = search.choose(strongest, replace(promise, ahead=len(other)), own)
        quality, cost = _outcomes(search, found).take(other).point
        single = part.quality[other, found.strongest].mean(dtype=np.float64)
        ratios.append((quality, float(single)))
        costs.append((cost, float(part.cost[other, found.strongest].mean(dtype=np.float64))))
        if goal.min_quality is not None:
            kept += bool(quality >= goal.min_quality * single - 1e-12)
        elif goal.max_cost is not None:
            kept += bool(cost <= goal.max_cost)
    progress("splits", SPLITS, SPLITS)
    quality, single = np.mean(ratios, axis=0)
    cost, of_single = np.mean(costs, axis=0)
    promised = None if goal.value is not None else kept
    return HoldoutResults(SPLITS, promised, float(ratio(quality, single)), float(1.0 - ratio(cost, of_single)))


def _random_halves(group: NDArray[np.int64], seed: int) -> Iterator[tuple[Indices, Indices]]:
    random = np.random.default_rng(seed)
    _, number = np.unique(group, return_inverse=True)
    groups = int(number.max()) + 1
    for _ in range(SPLITS):
        is_own = (random.permutation(groups) < groups // 2)[number]
        yield np.flatnonzero(is_own), np.flatnonzero(~is_own)


def _outcomes(search: PolicySearch, found: Tuned) -> PolicyOutcomes:
    return search.outcomes(_chosen(search, found))


def _chosen(search: PolicySearch, found: Tuned) -> Point:
    """Return the choice, or the default where the goal cannot be reached.

    The default is the strongest model, or the cheapest for a budget.
    """
    if found.chosen is not None:
        return found.chosen
    if search.goal.max_cost is not None:
        return min(search.points, key=lambda point: point.cost)
    return next(point for point in search.points if is_alone(point, found.strongest))


def _rows(
    search: PolicySearch, data: EvaluationData, strongest: int | None, promise: Promise, seed: int
) -> tuple[ControlFigures, ...]:
    part = search.prepared.held
    folds = k_folds(np.unique(part.group, return_inverse=True)[1], FOLDS, seed=seed)
    played, path = np.empty((len(part), 2)), np.zeros((len(part), 2), np.int64)
    for fold in folds:
        point = _chosen(search, search.choose(strongest, promise, fold.train))
        outcomes = search.outcomes(point).take(fold.test)
        played[fold.test] = np.column_stack([outcomes.quality, outcomes.cost])
        if part.quality.shape[1] <= MOST_MODELS:
            path[fold.test] = _paths(point, part.take(fold.test))
    resampling = Resampling.draw(len(part), seed=seed, group=part.group)
    best = best_single(part.quality, part.cost, folds)
    of_all = ControlData(part.quality, part.cost, folds, best, resampling)
    others = _baselines(part, data, folds, resampling, seed)
    actions = _actions(path, part) if part.quality.shape[1] <= MOST_MODELS else None
    return controls_at_cost(NAME, played, actions, others, of_all)


def _paths(point: Point, part: PolicyData) -> NDArray[np.int64]:
    """Return the ``(n, 2)`` models that a policy calls and answers with.

    The first column has one bit for each model called, the second the number of the one whose answer is returned.

    A replay in which each model costs its bit and is as good as its number.
    """
    number = np.arange(part.quality.shape[1])
    bits = np.tile(2.0**number, (len(part), 1)).astype(np.float32)
    names = np.tile(number.astype(np.float32), (len(part), 1))
    found = point.play(replace(part, cost=bits, quality=names))
    return np.column_stack([found.cost, found.quality]).round().astype(np.int64)


def _actions(path: NDArray[np.int64], part: PolicyData) -> Actions:
    """Return the distinct paths with their quality and cost on every row."""
    kinds, action = np.unique(path, axis=0, return_inverse=True)
    called = (kinds[:, :1] >> np.arange(part.cost.shape[1])) & 1
    quality, cost = part.quality.astype(np.float64), part.cost.astype(np.float64)
    return Actions(np.eye(len(kinds))[action.reshape(-1)], quality[:, kinds[:, 1]], cost @ called.T.astype(np.float64))


def _baselines(
    part: PolicyData, data: EvaluationData, folds: list[Fold], resampling: Resampling, seed: int
) -> Mapping[str, Curve]:
    usd = part.expected.astype(np.float32)
    predictions: dict[str, tuple[Matrix, Matrix]] = {LENGTH: (out_of_fold(prompt_length, data, folds), usd)}
    if data.vectors is not None:
        predictions[CLUSTERS] = out_of_fold(cluster_table, data, folds), usd
    predictions[ORACLE] = part.quality, part.cost
    curves = {}
    for name, (predicted, expected) in predictions.items():
        grid = values(predicted, expected, POINTS, seed=seed)
        curves[name] = tradeoff_curve(part.quality, part.cost, predicted, expected, grid, resampling)
    return curves
