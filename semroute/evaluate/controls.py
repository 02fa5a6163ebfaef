"""Controls of a policy: its gain over others of the same cost.

A policy may look good because its models are, because it spends more, or because its point on the curve was chosen on
the rows that it is measured on. The first two are answered by controls at the same cost; the third by choosing the
point on other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves import hull, quality_at
from semroute.evaluate.metrics import Interval, Resampling, finite, interval, ratio
from semroute.evaluate.replay import Curve, Fold, replay
from semroute.types import Matrix
from semroute.types.protocols import Doubles

SHUFFLED, RANDOM, SINGLE = "shuffled choices", "random mix", "best single model"

SPLITS = 200
"""Random halves on which the choice of a point is tried."""
FLOOR = 0.95
"""Fraction of the best single model's quality that is also counted as kept; that of ``bench_floor.py``."""

Choices = Callable[[int, NDArray[np.int64] | None], NDArray[np.int64]]
"""Chosen models at a point of the curve, of some rows; None for all."""


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """Figures of a policy or of one of its controls.

    Attributes:
        name: for display.
        quality: mean.
        cost: mean USD a query.
        margin: the policy's quality minus this one's, paired; None for the policy itself.
    """

    name: str
    quality: Interval
    cost: Interval
    margin: Interval | None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without the name; undefined figures are None."""
        return {
            "quality": self.quality.to_dict(),
            "cost_usd": self.cost.to_dict(),
            "margin": None if self.margin is None else self.margin.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class HalfSplits:
    """Results of points chosen on one random half, measured on the other.

    The point is the cheapest that reaches the quality of the best single model, which is chosen on the same half.

    Attributes:
        splits: number of random halves; 0 with fewer than two independent queries.
        kept: halves on which the policy was at least as good as that model.
        kept_floor: halves on which it had at least ``floor`` of its quality.
        floor: a fraction.
        of_single: quality as a fraction of that model's, mean over the halves; NaN where that is 0.
        saved: share of that model's cost, mean over the halves; NaN where it costs nothing.
    """

    splits: int
    kept: int
    kept_floor: int
    floor: float
    of_single: float
    saved: float

    def sentence(self) -> str:
        """Return the result as one sentence."""
        if not self.splits:
            return "Too few different queries to choose a point on one half and to measure it on the other."
        if math.isnan(self.of_single):
            return "No single model has any quality here, so that no share of it can be kept."
        at = f"at {self.of_single:.1%} of the best single model's quality"
        if math.isnan(self.saved):
            saves = f"Reaches {self.of_single:.1%} of the best single model's quality"
        else:
            saves = (
                f"Saves {abs(self.saved):.0%} {at}"
                if round(self.saved, 2) >= 0
                else f"Costs {-self.saved:.0%} more {at}"
            )
        return (
            f"{saves}; {self.kept_floor} of {self.splits} splits kept {self.floor:.0%} of that quality, {self.kept} "
            "all of it."
        )


@dataclass(frozen=True, slots=True)
class Controls:
    """A policy with its controls.

    Attributes:
        policy: name of the policy.
        rows: the policy first, then its controls.
        halves: result of choosing its point on one half of the rows.
    """

    policy: str
    rows: tuple[ControlFigures, ...]
    halves: HalfSplits

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; undefined figures are None."""
        return {
            "policy": self.policy,
            "sentence": self.halves.sentence(),
            "splits": finite(asdict(self.halves)),
            "rows": {row.name: row.to_dict() for row in self.rows},
        }


@dataclass(frozen=True, slots=True)
class ControlData:
    """Inputs of controls, ``n`` rows and ``m`` models.

    Attributes:
        quality: ``(n, m)`` of every model's answer.
        cost: ``(n, m)`` USD.
        folds: splits; a row's point on the curve is chosen on the training rows of its fold.
        best: ``(n,)`` the best single model of each row's training rows.
        resampling: of the rows.
    """

    quality: Matrix
    cost: Matrix
    folds: Sequence[Fold]
    best: NDArray[np.int64]
    resampling: Resampling


def control_figures(
    name: str, choices: Choices, points: int, others: Mapping[str, Curve], data: ControlData, *, seed: int = 0
) -> Controls:
    """Return a policy's figures with those of its controls.

    The policy's point is the cheapest that reaches the best single model's quality on the training rows of each fold.
    Shuffled choices are its shares of the models, given to queries at random: the mean over all permutations. The
    random mix and the other policies are hulls of their points at the policy's cost, corners chosen in hindsight, which
    is to their advantage.

    Args:
        name: of the policy.
        choices: its choices by number of the point; predictions are out of fold.
        points: number of points.
        others: curves of other policies by name.
        data: outcomes and splits.
        seed: of the random halves.
    """
    sums, chosen = _by_point(choices, points, data)
    played = np.column_stack([replay(cells, chosen) for cells in (data.quality, data.cost)])
    actions = Actions(np.eye(data.quality.shape[1])[chosen], data.quality, data.cost)
    figures = controls_at_cost(name, played, actions, others, data)
    halves = half_splits(*sums, *_model_sums(data), data.resampling.batch_counts, seed=seed)
    return Controls(name, figures, halves)


@dataclass(frozen=True, slots=True)
class Actions:
    """Actions of a policy: a model, or several called one after another.

    Attributes:
        taken: ``(n, a)`` 1 where the policy took the action on the row, else 0.
        quality: ``(n, a)`` of the answer that each action returns.
        cost: ``(n, a)`` USD of all of its calls.
    """

    taken: Matrix | Doubles
    quality: Matrix | Doubles
    cost: Matrix | Doubles


def controls_at_cost(
    name: str, played: Doubles, actions: Actions | None, others: Mapping[str, Curve], data: ControlData
) -> tuple[ControlFigures, ...]:
    """Return a policy's figures, then those of its controls at the same cost.

    Args:
        name: of the policy.
        played: ``(n, 2)`` quality and USD of the policy on each row, as it was chosen without the row.
        actions: the policy's, which are given to queries at random for a control; None leaves that control out.
        others: curves of other policies by name.
        data: outcomes; the folds are not used.
    """
    resampling, models = data.resampling, data.quality.shape[1]
    single = np.column_stack([replay(cells, data.best) for cells in (data.quality, data.cost)])
    means = resampling.means(np.hstack([played, single, data.quality, data.cost]))
    quality, cost, single_quality, single_cost = means[:, :4].T
    model_quality, model_cost = means[:, 4 : 4 + models], means[:, 4 + models : 4 + 2 * models]
    rows = {} if actions is None else {SHUFFLED: _shuffled(actions, resampling)}
    rows |= {
        RANDOM: _at_cost(model_cost, model_quality, cost),
        SINGLE: (single_quality, single_cost),
    }
    rows |= {other: _at_cost(curve.cost, curve.quality, cost) for other, curve in others.items()}
    figures = [ControlFigures(name, interval(quality), interval(cost), None)]
    figures += [
        ControlFigures(control, interval(of_quality), interval(of_cost), interval(quality - of_quality))
        for control, (of_quality, of_cost) in rows.items()
    ]
    return tuple(figures)


def _shuffled(actions: Actions, resampling: Resampling) -> tuple[Doubles, Doubles]:
    """Return mean quality and cost over all permutations of the actions."""
    shares, quality, cost = (resampling.means(cells) for cells in (actions.taken, actions.quality, actions.cost))
    return (shares * quality).sum(axis=1), (shares * cost).sum(axis=1)


def matched_choices(choices: Choices, points: int, data: ControlData) -> NDArray[np.int64]:
    """Return the ``(n,)`` choices at the cheapest point that is good enough.

    It is as good as the best single model, and found on other folds.
    """
    return _by_point(choices, points, data)[1]


def _by_point(choices: Choices, points: int, data: ControlData) -> tuple[tuple[Doubles, Doubles], NDArray[np.int64]]:
    """Return sums by batch and point, and ``(n,)`` cross-fitted choices.

    The points of the choices are chosen on other folds.
    """
    batches = data.resampling.weights.shape[1]
    quality, cost = np.empty((batches, points)), np.empty((batches, points))
    by_fold = np.empty((2, len(data.folds), points))
    for point in range(points):
        choice = choices(point, None)
        played = np.column_stack([replay(cells, choice) for cells in (data.quality, data.cost)])
        quality[:, point], cost[:, point] = data.resampling.batch_sums(played).T
        for number, fold in enumerate(data.folds):
            by_fold[:, number, point] = played[fold.train].mean(axis=0)
    chosen = np.zeros(len(data.quality), np.int64)
    for number, fold in enumerate(data.folds):
        single = float(data.quality[fold.train].mean(axis=0, dtype=np.float64).max())
        point = int(_matching(by_fold[0, [number]], by_fold[1, [number]], np.array([single]))[0])
        chosen[fold.test] = choices(point, fold.test)
    return (quality, cost), chosen


_ROUNDING = 1e-12
"""Difference of means that were summed in another order."""


def _model_sums(data: ControlData) -> tuple[Doubles, Doubles]:
    return data.resampling.batch_sums(data.quality), data.resampling.batch_sums(data.cost)


def _matching(quality: Doubles, cost: Doubles, single: Doubles) -> NDArray[np.int64]:
    """Return the cheapest point of each row that reaches ``single``.

    Where none does, it is the best, of equals the cheapest.
    """
    enough = quality >= single[:, None] - _ROUNDING
    enough = np.where(
        enough.any(axis=1, keepdims=True), enough, quality >= quality.max(axis=1, keepdims=True) - _ROUNDING
    )
    return np.asarray(np.where(enough, cost, np.inf).argmin(axis=1), np.int64)


def _at_cost(costs: Doubles, qualities: Doubles, budget: Doubles) -> tuple[Doubles, Doubles]:
    """Return quality and cost of the points' hulls at each budget.

    NaN below their cheapest point.
    """
    found, spent = np.empty(len(budget)), np.empty(len(budget))
    for row, (cost, quality, at) in enumerate(zip(costs, qualities, budget, strict=True)):
        corners = hull(cost, quality)
        # A mean that was summed in another order may miss the cheapest point by rounding.
        at = max(at, corners[0][0]) if math.isclose(at, corners[0][0], rel_tol=1e-9) else at
        found[row] = quality_at(*corners, at)
        spent[row] = min(at, corners[0][-1])
    return found, spent


def half_splits(
    quality: Doubles,
    cost: Doubles,
    model_quality: Doubles,
    model_cost: Doubles,
    counts: Doubles,
    *,
    splits: int = SPLITS,
    floor: float = FLOOR,
    seed: int = 0,
) -> HalfSplits:
    """Choose a point on random halves, and measure it on the others.

    Args:
        quality: ``(b, k)`` sums of the points by batch; the batches are independent.
        cost: ``(b, k)`` USD, likewise.
        model_quality: ``(b, m)`` sums of the single models.
        model_cost: ``(b, m)`` USD, likewise.
        counts: ``(b,)`` rows of each batch.
        splits: number of random halves.
        floor: fraction of the best single model's quality.
        seed: of the halves.
    """
    if len(counts) < 2:
        return HalfSplits(0, 0, 0, floor, math.nan, math.nan)
    random = np.random.default_rng(seed)
    order = random.permuted(np.tile(np.arange(len(counts)), (splits, 1)), axis=1)
    halves = (order < len(counts) // 2).astype(np.float64)

    def means(half: Doubles) -> list[Doubles]:
        rows = half @ counts[:, None]
        return [half @ sums / rows for sums in (quality, cost, model_quality, model_cost)]

    own, unseen = means(halves), means(1.0 - halves)
    # Of equally good models the cheaper.
    single = np.where(own[2] == own[2].max(axis=1, keepdims=True), own[3], np.inf).argmin(axis=1)
    row = np.arange(splits)
    point = _matching(own[0], own[1], own[2][row, single])
    reached, wanted = unseen[0][row, point], unseen[2][row, single]
    spent, single_spent = unseen[1][row, point].mean(), unseen[3][row, single].mean()
    return HalfSplits(
        splits,
        kept=int((reached >= wanted - 1e-12).sum()),
        kept_floor=int((reached >= floor * wanted - 1e-12).sum()),
        floor=floor,
        of_single=float(ratio(reached.mean(), wanted.mean())),
        saved=float(1.0 - ratio(spent, single_spent)),
    )
