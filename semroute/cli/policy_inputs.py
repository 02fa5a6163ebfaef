"""Inputs of ``semroute evaluate-policy`` and ``semroute tune-policy``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semroute.cli.encoding import Encoding
from semroute.errors import InputError
from semroute.types.protocols import Progress

if TYPE_CHECKING:
    from semroute.config import Price
    from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
    from semroute.evaluate.drift import DriftBaseline
    from semroute.evaluate.offpolicy import Selected
    from semroute.evaluate.risk import Promise
    from semroute.learn.policy.prepare import PolicyInputs, PolicySplit
    from semroute.learn.policy.search import Figures, Goal, Summary, Tuned
    from semroute.outcomes.costs import Costs
    from semroute.outcomes.files import Predictions
    from semroute.types import Matrix


MOST_ENCODED = 20_000
"""Queries that are encoded only for the baselines, about three minutes; more need their vectors in a file."""


@dataclass(frozen=True, slots=True)
class ComparisonInputs:
    """Inputs of a comparison of policies.

    Attributes:
        title: of plots and pages.
        costs: usable outcomes with their costs.
        selected: how they were selected.
        policies: policies to compare.
        vectors: ``(n, d)``; None where there are none.
        notes: caveats for a reader of the figures.
        findings: notable findings in the files.
        predictions: those of the file, if there is one.
        warnings: problems that change the meaning of the figures.
    """

    title: str
    costs: Costs
    selected: Selected
    policies: Policies
    vectors: Matrix | None
    notes: tuple[str, ...]
    findings: tuple[str, ...]
    predictions: Predictions | None = None
    warnings: tuple[str, ...] = ()

    def study(self, plan: ComparisonPlan, progress: Progress, *, leave_tasks_out: bool = False) -> Study:
        """Run the comparison, split by queries or by whole tasks."""
        from semroute.evaluate.comparison import run_study

        plan = replace(plan, leave_tasks_out=leave_tasks_out)
        method = self.selected.method
        return run_study(self.costs, self.policies, plan, vectors=self.vectors, method=method, progress=progress)


@dataclass(frozen=True, slots=True)
class ComparisonSource:
    """Files and options of a comparison.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        predictions: file of predicted quality, if there is one.
        models: names; None takes all.
        baselines: names of baselines; None takes all that are available.
        store: file of cached vectors.
        index: folder of the index artifact whose encoder is used.
        config_path: the configuration.
    """

    outcomes: Sequence[Path]
    prices: Path | None
    predictions: Path | None
    models: tuple[str, ...] | None
    baselines: frozenset[str] | None
    store: Path | None
    index: Path | None
    config_path: Path | None

    @property
    def wants_vectors(self) -> bool:
        """True if any policy to compare needs vectors."""
        return self.baselines is None or "cluster table" in self.baselines


def gather(source: ComparisonSource, progress: Progress) -> ComparisonInputs:
    """Read the files and prepare them for a comparison.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or no row is complete.
    """
    from semroute.evaluate.comparison_results import Policies
    from semroute.evaluate.offpolicy import select
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import read_outcomes, read_predictions

    known = known_prices(source.prices, source.config_path)
    encoding = Encoding(source.index, source.config_path)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=encoding.count)
    if source.models is not None:
        table = table.with_models(source.models)
    selected = select(table)
    costs = with_costs(selected.table, known, encoding.count)
    progress("reading", 1, 1)
    given = None
    if source.predictions is not None:
        given = read_predictions(source.predictions, costs.table.queries, costs.table.models)
    vectors = _vectors(costs.table.queries, source, encoding, progress)
    return ComparisonInputs(
        title=", ".join(path.name for path in source.outcomes),
        costs=costs,
        selected=selected,
        policies=Policies(
            predictions={} if given is None else {"predictions": given.quality}, baselines=source.baselines
        ),
        vectors=vectors,
        notes=tuple(_notes(selected, costs, encoding, source, given, vectors is None)),
        findings=tuple(map(str, table.findings)),
        predictions=given,
        warnings=(*selected.warnings, *_warnings(given, source)),
    )


def known_prices(path: Path | None, config_path: Path | None) -> dict[str, Price]:
    """Return the prices of the file, or else those of the configuration.

    Raises:
        InputError: either cannot be used.
    """
    from semroute.config import load_config
    from semroute.outcomes.costs import configured_prices, read_prices

    return read_prices(path) if path is not None else configured_prices(load_config(config_path))


def _vectors(queries: Sequence[str], source: ComparisonSource, encoding: Encoding, progress: Progress) -> Matrix | None:
    if not source.wants_vectors or (source.store is None and len(queries) > MOST_ENCODED):
        return None
    return encoding.vectors(queries, source.store, progress)


def _warnings(given: Predictions | None, source: ComparisonSource) -> Iterator[str]:
    if given is not None and source.predictions is not None and given.trained_on:
        yield (
            f"what made {source.predictions.name} was trained on {given.trained_on:,} of these {len(given.seen):,} "
            "queries: the figures of the predictions tell nothing of new queries; leave those rows out, or train on "
            "others"
        )


def _notes(
    selected: Selected,
    costs: Costs,
    encoding: Encoding,
    source: ComparisonSource,
    given: Predictions | None,
    lacks_vectors: bool,
) -> list[str]:
    found = [_rows_note(selected)]
    estimated = costs.words(encoding.tokenizer)
    if estimated is not None:
        found.append(estimated)
    if source.predictions is not None and given is not None:
        found.append(_predictions_note(source.predictions.name, given))
    if lacks_vectors and source.wants_vectors:
        found.append(
            f"no cluster table, and near-duplicates told by text alone: more than {MOST_ENCODED:,} queries are encoded "
            "only for --vectors FILE.npz, which keeps them"
        )
    return found


def _predictions_note(name: str, given: Predictions) -> str:
    if given.not_told:
        of = "" if given.not_told == len(given.seen) else f"{given.not_told:,} of "
        return (
            f"{of}the predictions of {name} do not tell whether what made them was trained on the query, and are taken "
            "as they are: they tell something of new queries only where it was not"
        )
    return (
        f"what made {name} was trained on {given.trained_on:,} of these {len(given.seen):,} queries, as the file "
        "tells (by text; queries that say the same in other words are not told)"
    )


def _rows_note(selected: Selected) -> str:
    left = selected.left_out
    if selected.method == "doubly robust":
        out = f", and {left:,} rows that know no model or no probability left out" if left else ""
        return (
            "rows do not know every model: quality and cost are doubly robust estimates (DR) from the probabilities "
            f"that the outcomes tell{out}; there is no oracle, and single queries mean nothing"
        )
    if left:
        whole = left + len(selected.table)
        return f"complete rows only: {left:,} of {whole:,} queries lack the quality of a model and were left out"
    return "complete rows: the quality of every model is known for every query"


def check_targets(html: Path | None, plot: Path | None) -> None:
    """Reject unwritable output files before the work is done."""
    from semroute.errors import InputError
    from semroute.render.plots import check_format

    if plot is not None:
        check_format(plot)
    for path in (html, plot):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")


# Inputs and result of ``semroute tune-policy``.

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TuneSource:
    """Files and options of ``semroute tune-policy``, named as its options."""

    outcomes: Sequence[Path]
    prices: Path | None
    models: tuple[str, ...] | None
    strongest: str | None
    heads: Sequence[str]
    held_out: float
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

    @property
    def floor(self) -> float | None:
        """Return the required quality on the test rows."""
        if self.goal.min_quality is None:
            return None
        return self.goal.min_quality * self.summary.strongest.quality.value

    def curves(self) -> dict[str, list[Spot]]:
        """Return the tried points by family, measured on the test rows.

        Floor and choice are measured there. On the training rows the strongest model has another quality, so that a
        choice that keeps its floor would seem to miss it.
        """
        found: dict[str, list[Spot]] = {}
        for point in self.tuned.points:
            quality, cost = point.play(self.prepared.held).point
            found.setdefault(point.family.name, []).append((cost, quality))
        return found

    def marks(self) -> dict[str, Spot]:
        """Return the marked points, measured on the test rows.

        They are the choice, the strongest model, and the point of most quality per dollar.
        """
        of = self.summary
        chosen = {} if of.chosen is None else {"chosen": of.chosen}
        always = f"always {self.models[self.tuned.strongest]}"
        marks = {**chosen, always: of.strongest, "most quality per dollar": of.densest_figures}
        return {name: (figures.cost.value, figures.quality.value) for name, figures in marks.items()}

    def not_reachable(self) -> InputError:
        """Return the error that explains why no policy was chosen."""
        confidence = f"{self.promise.confidence:.0%} confidence"
        if self.goal.max_cost is not None:
            least = min(point.cost for point in self.tuned.points)
            said = f"the cheapest costs USD {least:.3g} a query, and USD {self.goal.max_cost:.3g} cannot be kept"
            return InputError(f"not reachable: {said} with {confidence}")
        best = max(point.quality for point in self.tuned.points)
        strongest = float(self.prepared.tuning.quality[:, self.tuned.strongest].mean())
        return InputError(
            f"not reachable: the best policy has {best / strongest:.1%} of the quality of "
            f"{self.models[self.tuned.strongest]} on the tuning rows, and {self.goal.min_quality:.1%} cannot be shown "
            f"with {confidence} on {len(self.prepared.held):,} others"
        )


def tuning(source: TuneSource, goal: Goal, index: Path | None, config_path: Path | None, progress: Progress) -> Tuning:
    """Read the files, train, search and test.

    Raises:
        InputError: a file cannot be used, or there is too little data.
    """
    import semroute
    from semroute.evaluate.risk import Promise
    from semroute.learn.policy.prepare import prepare, split
    from semroute.learn.policy.search import families, strongest_model, summarise, tune
    from semroute.learn.policy.write import generation
    from semroute.learn.query_quality import estimators

    encoding = Encoding(index, config_path)
    material, left_out = _material(source, encoding, config_path, progress)
    table = material.costs.table
    rows = split(material.group, source.held_out, source.seed)
    heads = {name: made for name, made in estimators(source.seed).items() if name in source.heads}
    prepared = prepare(material, *rows, heads=heads, seed=source.seed, progress=progress)
    strongest = _strongest(source.strongest, table.models)
    strongest = strongest_model(prepared.tuning) if strongest is None else strongest
    promise = Promise(source.confidence, source.ahead or len(table))
    made_of = (semroute.__version__, encoding.encoder.fingerprint, *source.heads, source.held_out, source.seed)
    own = generation(table, made_of)
    tried = families(table.models, prepared, *encoding.thresholds, encoding.bar, f"{source.out}/{own}")
    tuned = tune(tried, prepared, goal, strongest, promise)
    summary = summarise(tuned, prepared.tuning, prepared.held, promise, seed=source.seed)
    title = ", ".join(path.name for path in source.outcomes)
    costs = material.costs.words(encoding.tokenizer)
    baseline = None if summary.chosen is None else _baseline(material, encoding, summary.chosen)
    return Tuning(title, table.models, goal, promise, prepared, tuned, summary, left_out, baseline, own, costs)


def _baseline(material: PolicyInputs, encoding: Encoding, chosen: Figures) -> DriftBaseline:
    from semroute.evaluate.drift import DriftBaseline
    from semroute.text.normalise import normalize

    table = material.costs.table
    prices = {model: (price.input, price.output) for model, price in material.prices.items() if model in table.models}
    _, different = np.unique([normalize(query) for query in table.queries], return_index=True)
    names, thresholds = encoding.thresholds
    scores, below = encoding.best_of(material.scores.second[different], thresholds)
    return DriftBaseline.of(
        scores, below, chosen.quality, chosen.cost, prices,
        thresholds=dict(zip(names, thresholds.tolist(), strict=True)),
        index=encoding.index_fingerprint, at=datetime.now(UTC),
    )  # fmt: skip


def _material(
    source: TuneSource, encoding: Encoding, config_path: Path | None, progress: Progress
) -> tuple[PolicyInputs, int]:
    from semroute.evaluate.replay import duplicates
    from semroute.learn.policy.prepare import PolicyInputs
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import check_judged, judging_remedy, read_outcomes
    from semroute.predictors.query_features import QueryInputs

    prices = known_prices(source.prices, config_path)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=encoding.count, keep_responses=True)
    if source.models is not None:
        table = table.with_models(source.models)
    check_judged(table)
    complete = table.is_complete
    costs = with_costs(table.take(complete), prices, encoding.count)
    progress("reading", 1, 1)
    queries = costs.table.queries
    if not queries:
        raise InputError(
            f"none of the {len(table):,} queries has the quality of all {len(table.models)} models; "
            f"{judging_remedy(table)}ask the missing models too, or name fewer with --models"
        )
    vectors = encoding.vectors(queries, source.store, progress)
    inputs = QueryInputs.of(queries, vectors, encoding.categories)
    scores = encoding.both_scores(queries, vectors)
    group = duplicates(queries, vectors).group
    material = PolicyInputs(costs, group, inputs, scores, prices, encoding.encoder.fingerprint, encoding.categories)
    return material, int((~complete).sum())


def _strongest(name: str | None, models: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in models:
        from semroute.text.names import known_names

        raise InputError(f'no model "{name}" among the outcomes; {known_names(name, models, "they hold")}')
    return models.index(name)
