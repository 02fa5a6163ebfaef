"""Figures of a policy comparison, with paired bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.baselines import BaselinePredictor
from semroute.evaluate.controls import Controls
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
from semroute.evaluate.duplicates import Duplicates
from semroute.evaluate.metrics import (
    RESAMPLES,
    Interval,
    Resampling,
    Totals,
    finite,
    interval,
    outcomes_needed,
    outcomes_to_detect,
)
from semroute.evaluate.offpolicy import Method, OffPolicyEstimate
from semroute.evaluate.replay import POINTS, Curve, Fold
from semroute.outcomes.table import numbered
from semroute.text.names import known_names
from semroute.types import Matrix
from semroute.types.protocols import Doubles


@dataclass(frozen=True, slots=True)
class Reference:
    """Single-model results that policies are compared with.

    Attributes:
        quality: ``(1 + resamples, m)`` mean quality of each model, on all rows and on every resample.
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
        """Create the reference from these means; arguments as the attributes."""
        low, high = cost.min(axis=1), cost.max(axis=1)
        return cls(quality, cost, best, _aiqs(cost, quality, low, high))

    def aiqs(self, cost: Doubles, quality: Doubles) -> Doubles:
        """Return ``(1 + resamples,)`` AIQ of ``(1 + resamples, k)`` points.

        The range is from the cost of the cheapest to that of the most expensive model.
        """
        return _aiqs(cost, quality, self.cost.min(axis=1), self.cost.max(axis=1))


@dataclass(frozen=True, slots=True)
class CurveFigures:
    """Summary figures of a policy's quality-cost curve.

    Attributes:
        aiq: average improvement in quality, from the cost of the cheapest to that of the most expensive model.
        aiq_gain: ``aiq`` minus the zero router's.
        perf_gain: best point's quality relative to the best single model's, minus 1.
        full_gain: the same for the end of the curve at which only quality counts: no point is chosen with the outcomes.
        cost_save: share of the best single model's cost saved by the cheapest point of at least its quality.
        pareto_distance: mean distance of its points from the frontier of all policies but the oracle.
        arena: best arena score of its points.
        matching: number of the cheapest point of at least the best single model's quality, else of the best point.
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
    """Return the summary figures of a curve.

    Args:
        curve: the policy's curve.
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
    """Return the number of the cheapest point that reaches ``quality``.

    If none does, of the best point; of equally good ones the cheapest.
    """
    points, costs = curve.quality[0], curve.cost[0]
    enough: NDArray[np.bool_] = points >= quality
    if not enough.any():
        enough = points == points.max()
    return int(np.where(enough, costs, np.inf).argmin())


# Sample size of a comparison with the best single model.

MIN_QUERIES = 30
"""Independent queries below which the spread of a difference cannot be estimated."""

_NO_SPREAD = 1e-9
"""Standard deviations below it are rounding."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Sample size for a given precision of a quality difference.

    Attributes:
        half_width: of the 95% interval of the mean difference in quality.
        for_interval: outcomes for that interval; None where it cannot be computed: with fewer than :data:`MIN_QUERIES`
            independent queries, or where the difference never varies.
        to_detect: outcomes that detect a true difference of ``half_width`` with power 0.8; None as for
            ``for_interval``.
        deviation: standard deviation of the per-query difference; with duplicates, of independent queries (the square
            root of the design effect times that of the rows).
        queries: independent queries that the estimate is from.
    """

    half_width: float
    for_interval: int | None
    to_detect: int | None
    deviation: float
    queries: int

    @property
    def unknown(self) -> str | None:
        """Return why the sample size is unknown; None where it is known."""
        if self.for_interval is not None:
            return None
        return "too few rows to tell" if self.queries < MIN_QUERIES else "-; the difference is the same on every query"


def needed(difference: NDArray[np.float64], half_width: float, group: NDArray[np.int64] | None = None) -> Needed:
    """Estimate the sample size (:mod:`semroute.evaluate.metrics`).

    Args:
        difference: ``(n,)`` per-query differences in quality.
        half_width: of the interval.
        group: ``(n,)`` duplicate group of each query, which raises the number; None without duplicates.
    """
    totals = Totals.of(difference, group)
    # The variance of a mean over g groups of n rows is that of the group totals over g, n / g times as much per row.
    spread = totals.residual * math.sqrt(len(difference) / max(1, len(totals.value)))
    deviation = float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0
    if deviation < _NO_SPREAD or len(spread) < MIN_QUERIES:
        return Needed(half_width, None, None, deviation, len(spread))
    sizes = outcomes_needed(spread, half_width), outcomes_to_detect(spread, half_width)
    return Needed(half_width, *sizes, deviation, len(spread))


# RouteLLM's figures for two models: how well predictions find the queries that need the stronger one.

RECOVERED = (0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True)
class PairFigures:
    """RouteLLM figures of two models, ordered by their predicted quality gap.

    Attributes:
        apgr: average performance gap recovered.
        apgr_gain: ``apgr`` minus that of prompt length alone, paired; None for prompt length itself.
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

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without the curve."""
        return {
            "apgr": self.apgr.to_dict(),
            "apgr_over_length": None if self.apgr_gain is None else self.apgr_gain.to_dict(),
            "cpt": {f"{level:g}": at.to_dict() for level, at in self.cpt.items()},
            "deferral_area": self.area.to_dict(),
        }


def gap(predicted: Matrix, weak: int, strong: int) -> Doubles:
    """Return ``(n,)`` predicted gaps, strong minus weak, of ``(n, m)``."""
    return predicted[:, strong].astype(np.float64) - predicted[:, weak]


def pair_figures(
    score: Doubles, weak: Matrix, strong: Matrix, resampling: Resampling, length: Doubles | None
) -> PairFigures:
    """Return RouteLLM's figures for a score that orders queries.

    Args:
        score: ``(n,)`` predicted need of the stronger model.
        weak: ``(n,)`` quality of the weaker one.
        strong: ``(n,)`` quality of the stronger one.
        resampling: of the ``n`` rows.
        length: ``(n,)`` query lengths as a baseline, the longest to the stronger model; None for no baseline.
    """
    share, quality = strong_share_curves(resampling, score, weak, strong)
    gap_recovered = apgr(share, quality)
    gain = None
    if length is not None:
        gain = interval(gap_recovered - apgr(*strong_share_curves(resampling, length, weak, strong)))
    return PairFigures(
        apgr=interval(gap_recovered),
        apgr_gain=gain,
        cpt={level: interval(cpt(share, quality, level)) for level in RECOVERED},
        area=interval(deferral_area(share, quality)),
        share=share[0],
        quality=quality[0],
    )


# Quality of the predictions themselves, whatever is decided with them.


@dataclass(frozen=True, slots=True)
class PredictionFigures:
    """Discrimination and calibration of the predictions for one model.

    Attributes:
        auroc: probability that an answer of quality 0.5 or more was predicted better than one below; NaN where there is
            only one class.
        ece: calibration error over 15 bins.
    """

    auroc: Interval
    ece: Interval

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"auroc": self.auroc.to_dict(), "ece": self.ece.to_dict()}


def prediction_figures(
    predicted: Matrix, quality: Matrix, models: Sequence[str], resampling: Resampling
) -> dict[str, PredictionFigures]:
    """Return the figures of every model from ``(n, m)`` predictions, quality."""
    figures = {}
    for column, model in enumerate(models):
        clipped, truth = np.clip(predicted[:, column], 0, 1), quality[:, column]
        figures[model] = PredictionFigures(
            auroc=interval(aurocs(resampling, clipped, truth >= 0.5)),
            ece=interval(calibration_errors(resampling, clipped, truth)),
        )
    return figures


# Model roles: the cheapest, the strongest, the best single one, and the pair.


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns of the models with a role in a comparison.

    Attributes:
        cheapest: lowest mean cost; of equally cheap ones the better.
        strongest: the named one, else that of the highest mean cost; of equally expensive ones the better.
        pair: of two models the worse and the better by mean quality; None with another number of models.
    """

    cheapest: int
    strongest: int
    pair: tuple[int, int] | None


def roles(models: Sequence[str], quality: Matrix, cost: Matrix, strongest: str | None = None) -> Roles:
    """Assign the model roles.

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
    by_price = np.lexsort((-means, -prices))
    weak, strong = np.argsort(means, kind="stable")[[0, -1]].tolist()
    return Roles(
        cheapest=int(by_cost[0]),
        strongest=int(by_price[0]) if strongest is None else models.index(strongest),
        pair=(weak, strong) if len(models) == 2 else None,
    )


def best_single(quality: Matrix, cost: Matrix, folds: Sequence[Fold]) -> NDArray[np.int64]:
    """Return ``(n,)`` the best model on the training rows of each row's fold.

    The cheaper of equally good models. The rows that it is evaluated on have no part in the choice, so the policy
    could have been used in practice.
    """
    choice = np.zeros(len(quality), np.int64)
    for fold in folds:
        means = quality[fold.train].mean(axis=0, dtype=np.float64)
        prices = cost[fold.train].mean(axis=0, dtype=np.float64)
        choice[fold.test] = np.lexsort((prices, -means))[0]
    return choice


def chosen_shares(models: Sequence[str], choice: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of the ``(n,)`` choices by model, largest first.

    Only models chosen at least once.
    """
    counts = np.bincount(choice, minlength=len(models))
    return {
        models[column]: counts[column] / len(choice) for column in np.argsort(-counts, kind="stable") if counts[column]
    }


# Figures of a policy by task.


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Quality and cost of one task, for the policy and the best single model.

    Attributes:
        task: its name; the empty string for queries without one.
        n: queries.
        quality: the policy's mean quality.
        cost: its mean USD a query.
        best_quality: the best single model's mean quality.
        best_cost: its mean USD a query.
        error: standard error of the per-query difference in quality, with duplicates counted as one; NaN for one query.
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
    """Return the figures of every task, most queries first.

    Args:
        tasks: ``n`` names.
        policy: ``(n,)`` quality and ``(n,)`` USD of the policy.
        single: the same of the best single model.
        group: ``(n,)`` duplicate group of each query; None where every query is its own.
    """
    names, task = numbered(tasks)
    counts = np.bincount(task, minlength=len(names))
    means = [np.bincount(task, weights=cells, minlength=len(names)) / counts for cells in (*policy, *single)]
    difference = policy[0] - single[0]
    by_task = np.split(np.argsort(task, kind="stable"), np.cumsum(counts)[:-1])
    errors = [
        Totals.of(difference[rows_of_task], None if group is None else group[rows_of_task]).error
        for rows_of_task in by_task
    ]
    rows = zip(names, counts.tolist(), *(mean.tolist() for mean in means), errors, strict=True)
    results = [TaskFigures(*row) for row in rows]
    return tuple(sorted(results, key=lambda figures: (-figures.n, figures.task)))


# Settings, inputs and results of a comparison.

LENGTH, TASKS, CLUSTERS, ORACLE = "prompt length", "task table", "cluster table", "oracle"


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """Settings of a policy comparison.

    Attributes:
        folds: number of folds; each is evaluated with fits on the others.
        leave_tasks_out: cut by whole tasks, which measures generalisation to unseen tasks.
        seed: of folds, resamples and clusters.
        resamples: of the bootstrap.
        strongest: the model that would be called without a router; None takes the most expensive one.
        half_width: of the interval of :class:`~semroute.evaluate.comparison_results.Needed`.
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
    """Results of one policy.

    Attributes:
        name: for display.
        is_subject: True for a policy under comparison, False for a baseline.
        curve: its points.
        figures: summary of the curve.
        pair: with two models, the figures of RouteLLM.
        predictions: by model, the accuracy of its predictions; empty for the oracle.
        tasks: by task, at the matching point, which is chosen on other folds here and below.
        needed: sample size for an interval of the wanted width, at the matching point against the best single model.
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

    def to_dict(self, models: Sequence[str]) -> dict[str, object]:
        """Return JSON-ready values, with every point of the curve.

        ``models`` are the names in the order of the table.
        """
        names = ("aiq", "aiq_gain", "perf_gain", "full_gain", "cost_save", "pareto_distance", "arena")
        return {
            **{name: getattr(self.figures, name).to_dict() for name in names},
            "pair": None if self.pair is None else self.pair.to_dict(),
            "predictions": {model: of.to_dict() for model, of in self.predictions.items()},
            "tasks": [finite(asdict(task)) for task in self.tasks],
            "needed": asdict(self.needed),
            "estimates": {name: finite(asdict(of)) for name, of in self.estimates.items()},
            "matching": self.figures.matching,
            "curve": list(self._points(models)),
        }

    def _points(self, models: Sequence[str]) -> Iterator[dict[str, object]]:
        curve = self.curve
        for value, quality, cost, shares in zip(
            curve.parameters, curve.quality[0], curve.cost[0], curve.shares, strict=True
        ):
            yield {
                # JSON has no infinity: null is the end at which only quality counts.
                "value_usd": finite(float(value)),
                "quality": float(quality),
                "cost_usd": float(cost),
                "shares": dict(zip(models, map(float, shares), strict=True)),
            }


def subject_of(policies: Sequence[PolicyResult]) -> PolicyResult:
    """Return the policy under comparison.

    Without one, the baseline of the highest AIQ but the oracle.
    """
    subjects = [policy for policy in policies if policy.is_subject]
    if subjects:
        return subjects[0]
    within_reach = [policy for policy in policies if policy.name != ORACLE] or list(policies)
    return max(within_reach, key=lambda policy: policy.figures.aiq.value)


@dataclass(frozen=True, slots=True)
class Study:
    """Results of a policy comparison.

    Attributes:
        plan: its settings.
        n: queries.
        models: in the order of the table.
        method: treatment of incomplete rows.
        roles: the cheapest model, the strongest and the two of a pair.
        quality, cost: by model, mean and interval; USD a query.
        best_quality, best_cost: of the best single model, chosen on the training rows of each fold.
        best_shares: by model, the share of the queries for which it was chosen as that; only models chosen at least
            once.
        zero_aiq: AIQ of the zero router.
        mixing_aiq: AIQ of the cheapest and the strongest model mixed at random.
        policies: curves, the subject first, then baselines.
        duplicates: duplicate queries; no group of them is in both parts of a split.
        dropped: training rows left out as duplicates of a test row of another task, over all folds.
        controls: the subject with random, shuffled and other choices of the same cost.
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
    controls: Controls

    @property
    def subject(self) -> PolicyResult:
        """Return the policy under comparison; see :func:`subject_of`."""
        return subject_of(self.policies)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; undefined figures are None."""
        return {
            "n": self.n,
            "method": self.method,
            "plan": {name: value for name, value in asdict(self.plan).items() if name != "leave_tasks_out"},
            "duplicates": {"same_text": self.duplicates.same_text, "near": self.duplicates.near},
            "dropped": self.dropped,
            "cheapest": self.models[self.roles.cheapest],
            "strongest": self.models[self.roles.strongest],
            "models": {
                model: {"quality": self.quality[model].to_dict(), "cost_usd": self.cost[model].to_dict()}
                for model in self.models
            },
            "best_single": {
                "quality": self.best_quality.to_dict(),
                "cost_usd": self.best_cost.to_dict(),
                "models": dict(self.best_shares),
            },
            "zero_router": {"aiq": self.zero_aiq.to_dict()},
            "random_mixing": {"aiq": self.mixing_aiq.to_dict()},
            "controls": self.controls.to_dict(),
            "policies": {policy.name: policy.to_dict(self.models) for policy in self.policies},
        }


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies to compare with the baselines.

    Attributes:
        contenders: fitted anew on the training rows of every fold.
        predictions: ``(n, m)`` each, made elsewhere by a model that must not have seen these outcomes.
        baselines: names of the baselines to compare with; None takes all available ones.
    """

    contenders: Mapping[str, BaselinePredictor] = field(default_factory=dict)
    predictions: Mapping[str, Matrix] = field(default_factory=dict)
    baselines: frozenset[str] | None = None
