"""The figures of one policy against the models themselves, each with its paired bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.baselines import BaselinePredictor
from semroute.evaluate.curves import (
    aiq,
    apgr,
    arena_score,
    aurocs,
    calibration_errors,
    cost_save,
    cpt,
    deferral_area,
    pareto_distance,
    perf_gain,
    strong_share_curves,
)
from semroute.evaluate.metrics import (
    RESAMPLES,
    Interval,
    Resampling,
    Totals,
    interval,
    outcomes_needed,
    outcomes_to_detect,
)
from semroute.evaluate.offpolicy import Method, OffPolicyEstimate
from semroute.evaluate.replay import POINTS, Curve, Duplicates, Fold
from semroute.outcomes.table import numbered
from semroute.text.names import known_names
from semroute.types import Matrix
from semroute.types.protocols import Doubles


@dataclass(frozen=True, slots=True)
class Reference:
    """The single models on all rows and on every resample; what policies are held against.

    Attributes:
        quality: ``(1 + resamples, m)`` mean quality of each model.
        cost: ``(1 + resamples, m)`` mean USD a query.
        best: ``(1 + resamples, 2)`` quality and cost of the best single model, chosen on the training rows of folds.
        zero: ``(1 + resamples,)`` AIQ of the zero router: the hull of the single models.
    """

    quality: Doubles
    cost: Doubles
    best: Doubles
    zero: Doubles

    @classmethod
    def of(cls, quality: Doubles, cost: Doubles, best: Doubles) -> Reference:
        """The reference of these means; arguments as the attributes."""
        low, high = cost.min(axis=1), cost.max(axis=1)
        return cls(quality, cost, best, _aiqs(cost, quality, low, high))

    def aiqs(self, cost: Doubles, quality: Doubles) -> Doubles:
        """``(1 + resamples,)`` AIQ of ``(1 + resamples, k)`` points, between the cheapest and the dearest cost."""
        return _aiqs(cost, quality, self.cost.min(axis=1), self.cost.max(axis=1))


@dataclass(frozen=True, slots=True)
class CurveFigures:
    """What a policy's curve is worth.

    Attributes:
        aiq: average improvement in quality, from the cheapest model's cost to the dearest's.
        aiq_gain: ``aiq`` less the zero router's.
        perf_gain: best point's quality relative to the best single model's, less 1.
        full_gain: the same for the end of the curve at which only quality counts: no point is chosen with the outcomes.
        cost_save: share of the best single model's cost that is saved by the cheapest point that is as good.
        pareto_distance: mean distance of its points from the frontier of all policies but the oracle.
        arena: best arena score of its points.
        matching: number of the cheapest point that is as good as the best single model, else of the best point.
    """

    aiq: Interval
    aiq_gain: Interval
    perf_gain: Interval
    full_gain: Interval
    cost_save: Interval
    pareto_distance: Interval
    arena: Interval
    matching: int


def curve_figures(curve: Curve, reference: Reference, frontier: tuple[Doubles, Doubles]) -> CurveFigures:
    """The figures of a curve.

    Args:
        curve: the policy's.
        reference: the single models on the same resamples.
        frontier: ``(1 + resamples, p)`` cost and quality of the points that make the frontier.
    """
    best_quality, best_cost = reference.best.T
    areas = reference.aiqs(curve.cost, curve.quality)
    rows = zip(curve.cost, curve.quality, *frontier, strict=True)
    distances = np.array([pareto_distance(*row) for row in rows])
    return CurveFigures(
        aiq=interval(areas),
        aiq_gain=interval(areas - reference.zero),
        perf_gain=interval(perf_gain(curve.quality, best_quality)),
        full_gain=interval(perf_gain(curve.quality[:, -1:], best_quality)),
        cost_save=interval(cost_save(curve.cost, curve.quality, best_cost, best_quality)),
        pareto_distance=interval(distances),
        arena=interval(arena_score(curve.quality, curve.cost).max(axis=1)),
        matching=matching(curve, float(best_quality[0])),
    )


def _aiqs(cost: Doubles, quality: Doubles, low: Doubles, high: Doubles) -> Doubles:
    return np.array([aiq(*row[:2], float(row[2]), float(row[3])) for row in zip(cost, quality, low, high, strict=True)])


def matching(curve: Curve, quality: float) -> int:
    """Number of the cheapest point that reaches ``quality``, else of the best (of equally good ones the cheapest)."""
    points, costs = curve.quality[0], curve.cost[0]
    enough: NDArray[np.bool_] = points >= quality
    if not enough.any():
        enough = points == points.max()
    return int(np.where(enough, costs, np.inf).argmin())


# How many outcomes a comparison with the best single model takes.

LEAST = 30
"""Independent queries below which the spread of a difference is itself not known."""

_NO_SPREAD = 1e-9
"""Below it a deviation is rounding."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Outcomes needed.

    Attributes:
        half_width: of the 95% interval of the mean difference in quality.
        for_interval: outcomes for that interval; None where they cannot be told: of fewer than :data:`LEAST`
            independent queries, or where the difference never varies.
        to_detect: outcomes with which a true difference of ``half_width`` is found four times out of five; None alike.
        deviation: standard deviation of the difference, query by query; of independent queries where some say the
            same (the square root of the design effect times that of the rows).
        queries: independent ones that this is told from.
    """

    half_width: float
    for_interval: int | None
    to_detect: int | None
    deviation: float
    queries: int

    @property
    def unknown(self) -> str | None:
        """Why the numbers cannot be told; None where they are."""
        if self.for_interval is not None:
            return None
        return "too few rows to tell" if self.queries < LEAST else "-; the difference is the same on every query"


def needed(difference: NDArray[np.float64], half_width: float, group: NDArray[np.int64] | None = None) -> Needed:
    """From the ``(n,)`` differences in quality, query by query (:mod:`semroute.evaluate.metrics`).

    Args:
        difference: in quality.
        half_width: of the interval.
        group: ``(n,)`` of each query: as many more are needed as say the same; None where none do.
    """
    totals = Totals.of(difference, group)
    # Of a mean over g groups of n rows the variance is that of the totals over g: of n rows, n / g times as much each.
    spread = totals.residual * math.sqrt(len(difference) / max(1, len(totals.value)))
    deviation = float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0
    if deviation < _NO_SPREAD or len(spread) < LEAST:
        return Needed(half_width, None, None, deviation, len(spread))
    found = outcomes_needed(spread, half_width), outcomes_to_detect(spread, half_width)
    return Needed(half_width, *found, deviation, len(spread))


# The figures of RouteLLM for two models: how well predictions tell the queries that call for the stronger one.

RECOVERED = (0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Two models ordered by the predicted gap between them.

    Attributes:
        apgr: average performance gap recovered.
        apgr_gain: ``apgr`` less that of prompt length alone, paired; None for prompt length itself.
        cpt: by share of the gap recovered, the smallest share of calls of the stronger model.
        area: area under the curve of quality over the share of calls of the stronger model.
        share: ``(k,)`` of that curve.
        quality: ``(k,)`` of that curve.
    """

    apgr: Interval
    apgr_gain: Interval | None
    cpt: dict[float, Interval]
    area: Interval
    share: Doubles
    quality: Doubles


def gap(predicted: Matrix, weak: int, strong: int) -> Doubles:
    """``(n,)`` by how much the stronger model's answer is predicted to be better, from ``(n, m)`` predictions."""
    return predicted[:, strong].astype(np.float64) - predicted[:, weak]


def pair_figures(
    score: Doubles, weak: Matrix, strong: Matrix, resampling: Resampling, length: Doubles | None
) -> PairFigures:
    """The figures of an order of queries for two models.

    Args:
        score: ``(n,)`` how much a query calls for the stronger model.
        weak: ``(n,)`` quality of the weaker one.
        strong: ``(n,)`` quality of the stronger one.
        resampling: of the ``n`` rows.
        length: ``(n,)`` lengths of the queries to hold it against, the longest to the stronger model; None for none.
    """
    share, quality = strong_share_curves(resampling, score, weak, strong)
    recovered = apgr(share, quality)
    gain = None
    if length is not None:
        gain = interval(recovered - apgr(*strong_share_curves(resampling, length, weak, strong)))
    return PairFigures(
        apgr=interval(recovered),
        apgr_gain=gain,
        cpt={level: interval(cpt(share, quality, level)) for level in RECOVERED},
        area=interval(deferral_area(share, quality)),
        share=share[0],
        quality=quality[0],
    )


# How good predicted qualities are in themselves, whatever is decided with them.


@dataclass(frozen=True, slots=True)
class PredictionFigures:
    """Predictions for one model.

    Attributes:
        auroc: probability that an answer of quality 0.5 or more was predicted better than one below; NaN where there is
            one kind only.
        ece: calibration error over 15 bins.
    """

    auroc: Interval
    ece: Interval


def prediction_figures(
    predicted: Matrix, quality: Matrix, models: Sequence[str], resampling: Resampling
) -> dict[str, PredictionFigures]:
    """The figures of every model, from ``(n, m)`` predictions and qualities."""
    found = {}
    for column, model in enumerate(models):
        guess, truth = np.clip(predicted[:, column], 0, 1), quality[:, column]
        found[model] = PredictionFigures(
            auroc=interval(aurocs(resampling, guess, truth >= 0.5)),
            ece=interval(calibration_errors(resampling, guess, truth)),
        )
    return found


# Which of the models a comparison calls the cheapest, the strongest, the best single one, and a pair.


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns of models.

    Attributes:
        cheapest: lowest mean cost; of equally cheap ones the better.
        strongest: the one that is named, else that of the highest mean cost; of equally dear ones the better.
        pair: of two models the worse and the better by mean quality; None with another number of models.
    """

    cheapest: int
    strongest: int
    pair: tuple[int, int] | None


def roles(models: Sequence[str], quality: Matrix, cost: Matrix, strongest: str | None = None) -> Roles:
    """The roles that the models have.

    Args:
        models: ``m`` names.
        quality: ``(n, m)``.
        cost: ``(n, m)`` USD.
        strongest: name of the model that would be called without a router.

    Raises:
        InputError: there is no model of that name.
    """
    if strongest is not None and strongest not in models:
        raise InputError(f'no model "{strongest}" among the outcomes; {known_names(strongest, models, "they hold")}')
    means, prices = quality.mean(axis=0, dtype=np.float64), cost.mean(axis=0, dtype=np.float64)
    by_cost = np.lexsort((-means, prices))
    by_dearness = np.lexsort((-means, -prices))
    weak, strong = np.argsort(means, kind="stable")[[0, -1]].tolist()
    return Roles(
        cheapest=int(by_cost[0]),
        strongest=int(by_dearness[0]) if strongest is None else models.index(strongest),
        pair=(weak, strong) if len(models) == 2 else None,
    )


def best_single(quality: Matrix, cost: Matrix, folds: Sequence[Fold]) -> NDArray[np.int64]:
    """``(n,)`` the model that was best on the training rows of each row's fold; of equally good ones the cheaper.

    Chosen without the rows that it is judged on, so that it is a policy one could have had.
    """
    choice = np.zeros(len(quality), np.int64)
    for fold in folds:
        means = quality[fold.train].mean(axis=0, dtype=np.float64)
        prices = cost[fold.train].mean(axis=0, dtype=np.float64)
        choice[fold.test] = np.lexsort((prices, -means))[0]
    return choice


def chosen_shares(models: Sequence[str], choice: NDArray[np.int64]) -> dict[str, float]:
    """By model, the share of the ``(n,)`` choices that fall on it, most first; only those that any falls on."""
    counts = np.bincount(choice, minlength=len(models))
    return {
        models[column]: counts[column] / len(choice) for column in np.argsort(-counts, kind="stable") if counts[column]
    }


# A policy's figures by task.


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """A task.

    Attributes:
        task: its name; the empty string for queries without one.
        n: queries.
        quality: the policy's mean quality.
        cost: its mean USD a query.
        best_quality: the best single model's mean quality.
        best_cost: its mean USD a query.
        error: standard error of the difference in quality, query by query, with those that say the same counted as
            one; NaN for one query.
    """

    task: str
    n: int
    quality: float
    cost: float
    best_quality: float
    best_cost: float
    error: float


def task_figures(
    tasks: Sequence[str],
    policy: Sequence[NDArray[np.float64]],
    single: Sequence[NDArray[np.float64]],
    group: NDArray[np.int64] | None = None,
) -> tuple[TaskFigures, ...]:
    """The figures of every task, most queries first.

    Args:
        tasks: ``n`` names.
        policy: ``(n,)`` quality and ``(n,)`` USD of the policy.
        single: the same of the best single model.
        group: ``(n,)`` of each query; None where every query is its own.
    """
    names, task = numbered(tasks)
    counts = np.bincount(task, minlength=len(names))
    means = [np.bincount(task, weights=cells, minlength=len(names)) / counts for cells in (*policy, *single)]
    difference = policy[0] - single[0]
    by_task = np.split(np.argsort(task, kind="stable"), np.cumsum(counts)[:-1])
    errors = [Totals.of(difference[own], None if group is None else group[own]).error for own in by_task]
    rows = zip(names, counts.tolist(), *(mean.tolist() for mean in means), errors, strict=True)
    found = [TaskFigures(*row) for row in rows]
    return tuple(sorted(found, key=lambda figures: (-figures.n, figures.task)))


# A comparison of policies as values: how it is made, what is compared, and what came out.

LENGTH, TASKS, CLUSTERS, ORACLE = "prompt length", "task table", "cluster table", "oracle"


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """How policies are compared.

    Attributes:
        folds: parts that the queries are cut into; each is judged by what was fitted on the others.
        leave_tasks_out: cut by whole tasks, which tells what happens to tasks that were never seen.
        seed: of folds, resamples and clusters.
        resamples: of the bootstrap.
        strongest: the model that would be called without a router; None takes the dearest.
        half_width: of the interval that :class:`~semroute.evaluate.comparison_results.Needed` is told for.
        points: values on a curve.
    """

    folds: int = 5
    leave_tasks_out: bool = False
    seed: int = 0
    resamples: int = RESAMPLES
    strongest: str | None = None
    half_width: float = 0.01
    points: int = POINTS


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """A policy that draws a curve.

    Attributes:
        name: for people.
        is_subject: whether it is what the comparison is about, and not a baseline.
        curve: its points.
        figures: what the curve is worth.
        pair: with two models, the figures of RouteLLM.
        predictions: by model, how good its predictions are; empty for the oracle.
        tasks: by task, at the matching point.
        needed: outcomes for an interval of the wanted width, at the matching point against the best single model.
        estimates: of the quality at the matching point by "IPS", "SNIPS" and "DR"; empty where rows are complete.
    """

    name: str
    is_subject: bool
    curve: Curve
    figures: CurveFigures
    pair: PairFigures | None
    predictions: Mapping[str, PredictionFigures]
    tasks: tuple[TaskFigures, ...]
    needed: Needed
    estimates: Mapping[str, OffPolicyEstimate]


@dataclass(frozen=True, slots=True)
class Study:
    """A comparison.

    Attributes:
        plan: how it was made.
        n: queries.
        models: in the order of the table.
        method: how incomplete rows were dealt with.
        roles: which models are the cheapest, the strongest and the two of a pair.
        quality, cost: by model, mean and interval; USD a query.
        best_quality, best_cost: of the best single model, chosen on the training rows of each fold.
        best_shares: by model, the share of the queries for which it was chosen as that; only those that were.
        zero_aiq: AIQ of the zero router.
        mixing_aiq: AIQ of the cheapest and the strongest model mixed at random.
        policies: curves, the subject first, then baselines.
        duplicates: queries that say the same; none of them is in both parts of a split.
        dropped: training rows left out because they say the same as a test row of another task, over all folds.
    """

    plan: ComparisonPlan
    n: int
    models: tuple[str, ...]
    method: Method
    roles: Roles
    quality: Mapping[str, Interval]
    cost: Mapping[str, Interval]
    best_quality: Interval
    best_cost: Interval
    best_shares: Mapping[str, float]
    zero_aiq: Interval
    mixing_aiq: Interval
    policies: tuple[PolicyResult, ...]
    duplicates: Duplicates
    dropped: int

    @property
    def subject(self) -> PolicyResult:
        """What the comparison is about; where nothing was given, the baseline of the highest AIQ but the oracle."""
        given = [policy for policy in self.policies if policy.is_subject]
        if given:
            return given[0]
        within_reach = [policy for policy in self.policies if policy.name != ORACLE] or list(self.policies)
        return max(within_reach, key=lambda policy: policy.figures.aiq.value)


@dataclass(frozen=True, slots=True)
class Policies:
    """What is compared beside the baselines.

    Attributes:
        contenders: fitted anew on the training rows of every fold.
        predictions: ``(n, m)`` each, made elsewhere by what must not have seen these outcomes.
        baselines: names of the baselines to compare with; None takes all that can be had.
    """

    contenders: Mapping[str, BaselinePredictor] = field(default_factory=dict)
    predictions: Mapping[str, Matrix] = field(default_factory=dict)
    baselines: frozenset[str] | None = None
