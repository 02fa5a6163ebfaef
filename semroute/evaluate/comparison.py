"""Compare routing policies with the baselines by cross-validated replay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.baselines import (
    BaselinePredictor,
    EvaluationData,
    cluster_table,
    lengths,
    out_of_fold,
    prompt_length,
    task_table,
)
from semroute.evaluate.comparison_results import (
    CLUSTERS,
    LENGTH,
    ORACLE,
    TASKS,
    ComparisonPlan,
    CurveFigures,
    PairFigures,
    Policies,
    PolicyResult,
    Reference,
    Study,
    best_single,
    chosen_shares,
    curve_figures,
    gap,
    needed,
    pair_figures,
    prediction_figures,
    roles,
    subject_of,
    task_figures,
)
from semroute.evaluate.controls import Choices, ControlData, Controls, control_figures, matched_choices
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import Resampling, interval
from semroute.evaluate.offpolicy import Method, OffPolicyEstimate, complete, doubly_robust, ips, probabilities, snips
from semroute.evaluate.replay import (
    Curve,
    Fold,
    choose,
    expected_costs,
    k_folds,
    replay,
    task_folds,
    tradeoff_curve,
    values,
)
from semroute.outcomes.costs import Costs
from semroute.outcomes.table import OutcomeTable, numbered
from semroute.types import Matrix
from semroute.types.protocols import Indices, Progress, silent


def run_study(
    costs: Costs,
    policies: Policies,
    plan: ComparisonPlan,
    *,
    vectors: Matrix | None = None,
    method: Method = "complete rows",
    progress: Progress = silent,
) -> Study:
    """Compare policies over outcomes.

    Args:
        costs: usable outcomes, from :func:`~semroute.evaluate.offpolicy.select`.
        policies: policies to compare.
        plan: settings of the comparison.
        vectors: ``(n, d)`` unit rows; without them there is no cluster table and near-duplicates are found by text.
        method: as of :func:`~semroute.evaluate.offpolicy.select`.
        progress: called with the step, the number done and the total.

    Raises:
        InputError: too few queries or tasks for the folds, or no model of the name ``plan.strongest``.
    """
    return _StudyRun(costs, policies, plan, vectors, method, progress).run()


class _StudyRun:
    """State of one comparison while it runs."""

    def __init__(
        self,
        costs: Costs,
        policies: Policies,
        plan: ComparisonPlan,
        vectors: Matrix | None,
        method: Method,
        progress: Progress,
    ) -> None:
        self.costs, self.policies, self.plan, self.method, self.progress = costs, policies, plan, method, progress
        table = costs.table
        self.duplicates = duplicates(table.queries, vectors)
        self.folds = _folds(table, self.duplicates.group, plan)
        self.quality, self.cost = complete(costs, method, self.folds)
        self.known = EvaluationData(table.queries, table.tasks, vectors, self.quality, plan.seed)
        self.expected = expected_costs(costs, self.folds)
        # The unit that is new is drawn: a task where whole tasks are left out, else a query.
        group = numbered(table.tasks)[1] if plan.leave_tasks_out else self.duplicates.group
        self.resampling = Resampling.draw(len(table), seed=plan.seed, resamples=plan.resamples, group=group)
        self.roles = roles(table.models, self.quality, self.cost, plan.strongest)
        self.best = best_single(self.quality, self.cost, self.folds)

    def run(self) -> Study:
        means = self.resampling.means(np.hstack([self.quality, self.cost]))
        m = self.quality.shape[1]
        best_single = self.resampling.means(
            np.column_stack([replay(self.quality, self.best), replay(self.cost, self.best)])
        )
        reference = Reference.of(means[:, :m], means[:, m:], best_single)
        models = self.costs.table.models
        ends = [self.roles.cheapest, self.roles.strongest]
        results, controls = self._results(reference)
        return Study(
            plan=self.plan,
            n=len(self.quality),
            models=models,
            method=self.method,
            roles=self.roles,
            quality={model: interval(reference.quality[:, column]) for column, model in enumerate(models)},
            cost={model: interval(reference.cost[:, column]) for column, model in enumerate(models)},
            best_quality=interval(best_single[:, 0]),
            best_cost=interval(best_single[:, 1]),
            best_shares=chosen_shares(models, self.best),
            zero_aiq=interval(reference.zero),
            mixing_aiq=interval(reference.aiqs(reference.cost[:, ends], reference.quality[:, ends])),
            policies=results,
            duplicates=self.duplicates,
            dropped=sum(len(self.quality) - len(fold.train) - len(fold.test) for fold in self.folds),
            controls=controls,
        )

    def _results(self, reference: Reference) -> tuple[tuple[PolicyResult, ...], Controls]:
        predicted = self._predictions()
        curves = {}
        for done, (name, prediction) in enumerate(predicted.items()):
            self.progress("replaying", done, len(predicted))
            expected = self.cost if name == ORACLE else self.expected
            grid = values(prediction, expected, self.plan.points, seed=self.plan.seed)
            curves[name] = tradeoff_curve(self.quality, self.cost, prediction, expected, grid, self.resampling)
        within_reach = [curve for name, curve in curves.items() if name != ORACLE]
        frontier = (
            np.hstack([reference.cost, *(curve.cost for curve in within_reach)]),
            np.hstack([reference.quality, *(curve.quality for curve in within_reach)]),
        )
        results = []
        for name, prediction in predicted.items():
            figures = curve_figures(curves[name], reference, frontier)
            results.append(self._result(name, prediction, curves[name], figures))
        self.progress("replaying", len(predicted), len(predicted))
        return tuple(results), self._controls(subject_of(results), predicted, curves)

    def _controls(self, subject: PolicyResult, predicted: dict[str, Matrix], curves: dict[str, Curve]) -> Controls:
        choices = self._choices(subject.name, predicted[subject.name], subject.curve)
        others = {name: curve for name, curve in curves.items() if name != subject.name}
        points = len(subject.curve.parameters)
        return control_figures(subject.name, choices, points, others, self._control_data(), seed=self.plan.seed)

    def _control_data(self) -> ControlData:
        return ControlData(self.quality, self.cost, self.folds, self.best, self.resampling)

    def _choices(self, name: str, prediction: Matrix, curve: Curve) -> Choices:
        expected, parameters = self.cost if name == ORACLE else self.expected, curve.parameters.tolist()

        def choices(point: int, rows: Indices | None) -> NDArray[np.int64]:
            if rows is None:
                return choose(prediction, expected, parameters[point])
            return choose(prediction[rows], expected[rows], parameters[point])

        return choices

    def _result(self, name: str, prediction: Matrix, curve: Curve, figures: CurveFigures) -> PolicyResult:
        # A point that the same rows had chosen would be flattered by them.
        choice = matched_choices(self._choices(name, prediction, curve), len(curve.parameters), self._control_data())
        outcomes = [replay(cells, choice) for cells in (self.quality, self.cost)]
        single = [replay(cells, self.best) for cells in (self.quality, self.cost)]
        table = self.costs.table
        is_oracle = name == ORACLE
        return PolicyResult(
            name=name,
            is_subject=name in self.policies.contenders or name in self.policies.predictions,
            curve=curve,
            figures=figures,
            pair=self._pair(name, prediction),
            predictions={}
            if is_oracle
            else prediction_figures(prediction, self.quality, table.models, self.resampling),
            tasks=task_figures(table.tasks, outcomes, single, self.duplicates.group),
            needed=needed(outcomes[0] - single[0], self.plan.half_width, self.duplicates.group),
            estimates={} if self.method == "complete rows" else self._estimates(prediction, choice),
        )

    def _pair(self, name: str, prediction: Matrix) -> PairFigures | None:
        if self.roles.pair is None:
            return None
        weak, strong = (self.quality[:, column] for column in self.roles.pair)
        length = lengths(self.known.queries)
        if name == LENGTH:
            return pair_figures(length, weak, strong, self.resampling, None)
        return pair_figures(gap(prediction, *self.roles.pair), weak, strong, self.resampling, length)

    def _estimates(self, prediction: Matrix, choice: NDArray[np.int64]) -> dict[str, OffPolicyEstimate]:
        logged = self.costs.table.quality, probabilities(self.costs.table), choice
        group = self.duplicates.group
        return {
            "IPS": ips(*logged, group),
            "SNIPS": snips(*logged, group),
            "DR": doubly_robust(*logged, prediction, group),
        }

    def _predictions(self) -> dict[str, Matrix]:
        """Return every policy's predictions, the subjects' first."""
        predictions = dict(self.policies.predictions)
        predictors = dict(self.policies.contenders) | self._baselines()
        for done, (name, predictor) in enumerate(predictors.items()):
            self.progress("fitting", done, len(predictors))
            predictions[name] = out_of_fold(predictor, self.known, self.folds)
        self.progress("fitting", len(predictors), len(predictors))
        # With imputed cells the best of a row is mostly the one with the largest error.
        if self.method == "complete rows" and self._is_wanted(ORACLE):
            predictions[ORACLE] = self.quality
        return predictions

    def _baselines(self) -> dict[str, BaselinePredictor]:
        predictors: dict[str, BaselinePredictor] = {LENGTH: prompt_length}
        if len(set(self.known.tasks)) > 1 and not self.plan.leave_tasks_out:
            predictors[TASKS] = task_table
        if self.known.vectors is not None:
            predictors[CLUSTERS] = cluster_table
        return {name: predictor for name, predictor in predictors.items() if self._is_wanted(name)}

    def _is_wanted(self, name: str) -> bool:
        return self.policies.baselines is None or name in self.policies.baselines


def _folds(table: OutcomeTable, group: Indices, plan: ComparisonPlan) -> list[Fold]:
    if plan.leave_tasks_out:
        return task_folds(table.tasks, group, plan.folds, seed=plan.seed)
    return k_folds(group, plan.folds, seed=plan.seed)


def mixing(study: Study) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cost and quality of the cheapest and of the strongest model.

    These are the two ends of mixing both at random.
    """
    ends = [study.models[study.roles.cheapest], study.models[study.roles.strongest]]
    return np.array([study.cost[end].value for end in ends]), np.array([study.quality[end].value for end in ends])
