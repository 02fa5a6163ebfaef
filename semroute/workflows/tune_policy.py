"""Search for the cheapest routing policy that keeps a goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import semroute
from semroute.errors import InputError
from semroute.evaluate.baselines import EvaluationData
from semroute.evaluate.drift import DriftBaseline, named
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import finite
from semroute.evaluate.risk import Promise
from semroute.learn.policy.controls import TunedControls, tuned_controls
from semroute.learn.policy.prepare import PolicyInputs, PolicySplit, prepare, shuffled, split
from semroute.learn.policy.search import (
    Figures,
    Goal,
    Point,
    PolicySearch,
    Summary,
    Tuned,
    families,
    points,
    strongest_model,
    summarise,
    tested,
)
from semroute.learn.policy.write import earlier, generation, write_policy
from semroute.learn.query_quality import estimators
from semroute.outcomes.costs import with_costs
from semroute.outcomes.files import check_judged, judging_remedy, read_outcomes
from semroute.predictors.query_features import QueryInputs
from semroute.render.plots import plot_tuned
from semroute.text.names import known_names
from semroute.text.normalise import normalize
from semroute.types.protocols import Indices, Progress, silent
from semroute.workflows.workspace import Workspace

PlotPoint = tuple[float, float]
"""Cost in USD a query, and quality."""

_BOUND = (
    "fixed sequence testing (Learn then Test) {on}, each test by Student's bound {over} with some more of the worst "
    "rows assumed; queries that say the same count as one"
)
SAME_MIX = "it holds for queries of the same mix as these: watch for drift"
_BUDGET = "approximate: no query is taken to cost more than the most expensive of these outcomes"


@dataclass(frozen=True, slots=True)
class TuneSource:
    """Files and options of a search for a policy.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        models: names; None takes all.
        strongest: model that quality is measured against; None takes the best.
        heads: names of classifier heads to try; empty tries all.
        held_out: share of the rows kept for the test alone; None tests on all rows, by out-of-fold predictions.
        confidence: that the goal is kept.
        ahead: number of queries to keep it over; None promises the long run.
        seed: seed of everything drawn.
        store: file of cached vectors.
        out: folder to write the policy to.
    """

    outcomes: Sequence[Path]
    prices: Path | None
    models: tuple[str, ...] | None
    strongest: str | None
    heads: Sequence[str]
    held_out: float | None
    confidence: float
    ahead: int | None
    seed: int
    store: Path | None
    out: Path


@dataclass(frozen=True, slots=True)
class Tuning:
    """Result of tuning a policy.

    Attributes:
        title: of the plot.
        models: names.
        goal: floor of quality, budget or value.
        promise: confidence and number of queries to come.
        prepared: both splits, and the classifiers.
        tuned: the chosen policy.
        summary: its figures.
        left_out: queries without the quality of a model.
        baseline: baseline of drift; None without a choice.
        generation: name of its classifiers' folder.
        costs: basis of costs that were estimated.
        controls: policies that were chosen on other rows, with their controls; None with too few queries.
    """

    title: str
    models: tuple[str, ...]
    goal: Goal
    promise: Promise
    prepared: PolicySplit
    tuned: Tuned
    summary: Summary
    left_out: int
    baseline: DriftBaseline | None
    generation: str
    costs: str | None
    controls: TunedControls | None

    @property
    def floor(self) -> float | None:
        """Return the required quality on the test rows."""
        if self.goal.min_quality is None:
            return None
        return self.goal.min_quality * self.summary.strongest.quality.value

    @property
    def strongest(self) -> str:
        """Return the model that quality is measured against."""
        return self.models[self.tuned.strongest]

    def curves(self) -> dict[str, list[PlotPoint]]:
        """Return the tried points by family, measured on the test rows.

        Floor and choice are measured there. On the training rows the strongest model has another quality, so that a
        choice that keeps its floor would seem to miss it.
        """
        found: dict[str, list[PlotPoint]] = {}
        for point in self.tuned.points:
            quality, cost = tested(point, self.prepared).point
            found.setdefault(point.family.name, []).append((cost, quality))
        return found

    def marks(self) -> dict[str, PlotPoint]:
        """Return the marked points, measured on the test rows.

        They are the choice, the strongest model, and the point of most quality per dollar.
        """
        of = self.summary
        chosen = {} if of.chosen is None else {"chosen": of.chosen}
        marks = {**chosen, f"always {self.strongest}": of.strongest, "most quality per dollar": of.densest_figures}
        return {name: (figures.cost.value, figures.quality.value) for name, figures in marks.items()}

    def plot(self, path: Path) -> None:
        """Draw the choice on the curve.

        Raises:
            InputError: the file cannot be written.
        """
        plot_tuned(self.curves(), self.marks(), path, title=self.title, floor=self.floor, budget=self.goal.max_cost)

    def write(self, out: Path) -> None:
        """Write the chosen policy.

        Raises:
            InputError: the goal cannot be reached, or a file cannot be written.
        """
        chosen = self.tuned.chosen
        if chosen is None:
            raise self.not_reachable()
        head = f"{self.goal_in_words()}\n{point_in_words(chosen)}"
        write_policy(chosen, self.prepared, out, self.generation, head=head, report=self.to_dict())

    def earlier(self, out: Path) -> Sequence[Path]:
        """Return folders of earlier policies, which stay."""
        return list(earlier(out, self.generation))

    def not_reachable(self) -> InputError:
        """Return the error that explains why no policy was chosen."""
        confidence = f"{self.promise.confidence:.0%} confidence"
        if self.goal.max_cost is not None:
            least = min(point.cost for point in self.tuned.points)
            reason = f"the cheapest costs USD {least:.3g} a query, and USD {self.goal.max_cost:.3g} cannot be kept"
            return InputError(f"not reachable: {reason} with {confidence}")
        best = max(point.quality for point in self.tuned.points)
        strongest = float(self.prepared.tuning.quality[:, self.tuned.strongest].mean())
        return InputError(
            f"not reachable: the best policy has {best / strongest:.1%} of the quality of {self.strongest} on the "
            f"tuning rows, and {self.goal.min_quality:.1%} cannot be shown with {confidence} on "
            f"{len(self.prepared.held):,} {'rows' if self.prepared.is_cross_fitted else 'others'}"
        )

    def bound(self) -> str | None:
        """Return the basis of the promise, a sentence; None without a promise."""
        if self.goal.value is not None:
            return None
        crossed = self.prepared.is_cross_fitted
        on = "on all rows, by predictions of classifiers not fitted on them" if crossed else "on the held-out rows"
        over = "of the long run" if self.promise.ahead is None else "for the queries ahead"
        bound = _BOUND.format(on=on, over=over)
        return f"{bound}; {_BUDGET}" if self.goal.max_cost is not None else bound

    def goal_in_words(self) -> str:
        """Return the goal and its confidence as text."""
        goal, promise = self.goal, self.promise
        over = "in the long run" if promise.ahead is None else f"over the next {promise.ahead:,} queries"
        sure = f"with {promise.confidence:.0%} confidence {over}"
        if goal.min_quality is not None:
            return f"at least {goal.min_quality:.1%} of the quality of {self.strongest}, {sure}"
        if goal.max_cost is not None:
            return f"at most USD {goal.max_cost:.4g} a query, {sure}"
        return f"quality is worth USD {goal.value:.4g} for +1.0"

    def to_dict(self) -> dict[str, Any]:
        """Return the tuning as JSON-ready values."""
        summary, chosen, part = self.summary, self.tuned.chosen, self.prepared.tuning
        return {
            "goal": asdict(self.goal),
            "confidence": self.promise.confidence,
            "ahead": self.promise.ahead,
            "bound": self.bound(),
            "costs": self.costs,
            "models": list(self.models),
            "strongest": self.strongest,
            "chosen": None if chosen is None else point_in_words(chosen),
            "config": None if chosen is None else finite(dict(chosen.family.config(chosen.parameter))),
            "figures": None if summary.chosen is None else finite(asdict(summary.chosen)),
            "promised": summary.promised,
            "controls": None if self.controls is None else self.controls.to_dict(),
            "always_strongest": finite(asdict(summary.strongest)),
            "most_quality_per_dollar": {
                "policy": point_in_words(summary.densest), **_figures_dict(summary.densest_figures)
            },
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
            "parts": {name: None if of is None else _figures_dict(of) for name, of in summary.parts.items()},
            "tuned_on": {
                "queries": summary.tuning_rows,
                "tested_on": summary.held_rows,
                "cross_fitted": self.prepared.is_cross_fitted,
                "different": self.prepared.held.different,
                "largest_share_alike": self.prepared.held.most_alike,
                "left_out": self.left_out,
                "mean_quality": _means(self.models, part.quality),
                "mean_cost_usd": _means(self.models, part.cost),
            },
        }  # fmt: skip


def _means(models: Sequence[str], columns: Any) -> dict[str, float]:
    return dict(zip(models, columns.mean(axis=0, dtype="float64").tolist(), strict=True))


def _figures_dict(of: Figures) -> dict[str, Any]:
    found = finite(asdict(of))
    assert isinstance(found, dict)
    return found


def point_in_words(point: Point) -> str:
    """Return a policy as text."""
    return point.family.words(point.parameter)


# The search.


def tune_policy(source: TuneSource, goal: Goal, workspace: Workspace, progress: Progress = silent) -> Tuning:
    """Read the files, train, search and test; write nothing.

    Raises:
        InputError: a file cannot be used, or there is too little data.
    """
    inputs, left_out = _policy_inputs(source, workspace, progress)
    table = inputs.costs.table
    rows = _rows(inputs.group, source.held_out, source.seed)
    every = estimators(source.seed)
    wanted = source.heads or tuple(every)
    heads = {name: head for name, head in every.items() if name in wanted}
    prepared = prepare(inputs, *rows, heads=heads, seed=source.seed, progress=progress)
    named_model = _strongest(source.strongest, table.models)
    strongest = strongest_model(prepared.tuning) if named_model is None else named_model
    promise = Promise(source.confidence, source.ahead)
    made_of = (semroute.__version__, workspace.encoder.fingerprint, *wanted, source.held_out, source.seed)
    name = generation(table, made_of)
    accept_threshold = workspace.accept_threshold
    tried = families(table.models, prepared, *workspace.thresholds, accept_threshold, f"{source.out}/{name}")
    found = PolicySearch(points(tried, prepared.tuning), prepared, goal)
    tuned = found.choose(strongest, promise)
    data = _evaluation_data(inputs, rows[0] if rows[1] is None else rows[1], source.seed)
    controls = tuned_controls(found, data, named_model, promise, seed=source.seed, progress=progress)
    summary = summarise(tuned, prepared, seed=source.seed)
    title = ", ".join(path.name for path in source.outcomes)
    costs = inputs.costs.words(workspace.tokenizer)
    baseline = None if summary.chosen is None else _drift_baseline(inputs, workspace, summary.chosen)
    return Tuning(
        title, table.models, goal, promise, prepared, tuned, summary, left_out, baseline, name, costs, controls
    )


def _evaluation_data(inputs: PolicyInputs, rows: Indices, seed: int) -> EvaluationData:
    """Return the queries of some rows for the baselines."""
    table = inputs.costs.table.take(rows)
    return EvaluationData(table.queries, table.tasks, inputs.inputs.vectors[rows], table.quality, seed)


def _rows(group: Indices, held_out: float | None, seed: int) -> tuple[Indices, Indices | None]:
    """Return the rows to tune on, and those that test alone, if any."""
    return (shuffled(group, seed), None) if held_out is None else split(group, held_out, seed)


def _drift_baseline(inputs: PolicyInputs, workspace: Workspace, chosen: Figures) -> DriftBaseline:
    table = inputs.costs.table
    prices = {model: (price.input, price.output) for model, price in inputs.prices.items() if model in table.models}
    _, different = np.unique([normalize(query) for query in table.queries], return_index=True)
    names, thresholds = workspace.thresholds
    scores, below = workspace.best_of(inputs.scores.second[different], thresholds)
    return DriftBaseline.of(
        scores, below, chosen.quality, chosen.cost, prices,
        thresholds=dict(zip(names, thresholds.tolist(), strict=True)),
        index=workspace.index_fingerprint, at=datetime.now(UTC),
        categories=named(inputs.scores.second[different], below, names),
    )  # fmt: skip


def _policy_inputs(source: TuneSource, workspace: Workspace, progress: Progress) -> tuple[PolicyInputs, int]:
    """Return the inputs, and the number of queries without a model's quality."""
    prices = workspace.prices(source.prices)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=workspace.count, keep_responses=True)
    if source.models is not None:
        table = table.with_models(source.models)
    check_judged(table)
    complete = table.is_complete
    costs = with_costs(table.take(complete), prices, workspace.count)
    progress("reading", 1, 1)
    queries = costs.table.queries
    if not queries:
        raise InputError(
            f"none of the {len(table):,} queries has the quality of all {len(table.models)} models; "
            f"{judging_remedy(table)}ask the missing models too, or name fewer with --models"
        )
    vectors = workspace.vectors(queries, source.store, progress)
    features = QueryInputs.of(queries, vectors, workspace.categories, costs.table.signals)
    scores = workspace.both_scores(queries, vectors)
    group = duplicates(queries, vectors).group
    fingerprint, categories = workspace.encoder.fingerprint, workspace.categories
    return PolicyInputs(costs, group, features, scores, prices, fingerprint, categories), int((~complete).sum())


def _strongest(name: str | None, models: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in models:
        raise InputError(f'no model "{name}" among the outcomes; {known_names(name, models, "they hold")}')
    return models.index(name)
