"""A comparison of policies as values: how it is made, what is compared, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from semroute.evaluate.curves.bootstrap import RESAMPLES, Interval
from semroute.evaluate.offpolicy import OffPolicyEstimate
from semroute.evaluate.replay.choices import POINTS
from semroute.evaluate.replay.contenders import BaselinePredictor
from semroute.evaluate.replay.curve import Curve
from semroute.evaluate.replay.duplicates import Duplicates
from semroute.evaluate.study.completing import Method
from semroute.evaluate.study.figures import CurveFigures
from semroute.evaluate.study.needed import Needed
from semroute.evaluate.study.pairs import PairFigures
from semroute.evaluate.study.predictions import PredictionFigures
from semroute.evaluate.study.roles import Roles
from semroute.evaluate.study.tasks import TaskFigures
from semroute.types import Matrix

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
        half_width: of the interval that :class:`~semroute.evaluate.study.needed.Needed` is told for.
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
