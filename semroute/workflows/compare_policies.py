"""Comparison of routing policies, replayed over outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semroute.errors import InputError
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.evaluate.offpolicy import Selected, select
from semroute.outcomes.costs import Costs, with_costs
from semroute.outcomes.files import Predictions, read_outcomes, read_predictions
from semroute.render.pages import write_policy_page
from semroute.render.plots import check_format, plot_study
from semroute.types import Matrix
from semroute.types.protocols import Progress, silent
from semroute.workflows.workspace import Workspace

MOST_ENCODED = 20_000
"""Queries that are encoded only for the baselines, about three minutes; more need their vectors in a file."""

BASELINES = ("prompt length", "task table", "cluster table", "oracle")
"""Names of the baselines that policies are compared with."""


@dataclass(frozen=True, slots=True)
class ComparisonSource:
    """Files and options of a comparison.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        predictions: file of predicted quality; None compares the baselines alone.
        models: names; None takes all.
        baselines: names, of :data:`BASELINES`; None takes all that are available.
        store: file of cached vectors.
    """

    outcomes: Sequence[Path]
    prices: Path | None = None
    predictions: Path | None = None
    models: tuple[str, ...] | None = None
    baselines: frozenset[str] | None = None
    store: Path | None = None

    @property
    def wants_vectors(self) -> bool:
        """True if any policy to compare needs vectors."""
        return self.baselines is None or "cluster table" in self.baselines


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
        plan = replace(plan, leave_tasks_out=leave_tasks_out)
        method = self.selected.method
        return run_study(self.costs, self.policies, plan, vectors=self.vectors, method=method, progress=progress)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of a comparison of policies.

    Attributes:
        study: figures on queries that nothing was fitted on.
        unseen: figures on tasks that nothing was fitted on; None if not requested.
        inputs: outcomes, notes and warnings.
    """

    study: Study
    unseen: Study | None
    inputs: ComparisonInputs

    def plot(self, path: Path) -> None:
        """Draw the curves.

        Raises:
            InputError: the file cannot be written.
        """
        plot_study(self.study, path, title=self.inputs.title)

    def write_page(self, path: Path) -> None:
        """Write the report as one HTML page.

        Raises:
            InputError: the file cannot be written.
        """
        of = self.inputs
        write_policy_page(self.study, self.unseen, path, title=of.title, notes=of.notes, warnings=of.warnings)

    def to_dict(self) -> dict[str, object]:
        """Return the whole comparison as JSON-ready values; undefined is None."""
        of = self.inputs
        return {
            "outcomes": of.title,
            "notes": list(of.notes),
            "warnings": [*of.warnings, *of.findings],
            "left_out": of.selected.left_out,
            "costs": {name: getattr(of.costs, name) for name in ("told", "reckoned", "counted", "averaged", "assumed")},
            "predictions": None
            if of.predictions is None
            else {
                "queries": len(of.predictions.seen),
                "trained_on": of.predictions.trained_on,
                "not_told": of.predictions.not_told,
            },
            **self.study.to_dict(),
            "unseen_tasks": None if self.unseen is None else self.unseen.to_dict(),
        }


def compare_policies(
    source: ComparisonSource,
    workspace: Workspace,
    plan: ComparisonPlan,
    *,
    leave_tasks_out: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Replay policies over outcomes, against the baselines.

    Args:
        source: files and options.
        workspace: index, configuration and encoder.
        plan: folds, resamples and seed.
        leave_tasks_out: whether to compare on tasks that were never seen, too.
        progress: called with a step's name, the number done and the total.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or no row is complete.
    """
    inputs = read_comparison_inputs(source, workspace, progress)
    study = inputs.study(plan, progress)
    unseen = inputs.study(plan, progress, leave_tasks_out=True) if leave_tasks_out else None
    return Comparison(study, unseen, inputs)


def read_comparison_inputs(
    source: ComparisonSource, workspace: Workspace, progress: Progress = silent
) -> ComparisonInputs:
    """Read the files and prepare them for a comparison.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or no row is complete.
    """
    prices = workspace.prices(source.prices)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=workspace.count)
    if source.models is not None:
        table = table.with_models(source.models)
    selected = select(table)
    costs = with_costs(selected.table, prices, workspace.count)
    progress("reading", 1, 1)
    predictions = None
    if source.predictions is not None:
        predictions = read_predictions(source.predictions, costs.table.queries, costs.table.models, costs.table.signals)
    vectors = _vectors(costs.table.queries, source, workspace, progress)
    notes = _notes(selected, costs, workspace, source, predictions, lacks_vectors=vectors is None)
    return ComparisonInputs(
        title=", ".join(path.name for path in source.outcomes),
        costs=costs,
        selected=selected,
        policies=Policies(
            predictions={} if predictions is None else {"predictions": predictions.quality},
            baselines=source.baselines,
        ),
        vectors=vectors,
        notes=tuple(notes),
        findings=tuple(map(str, table.findings)),
        predictions=predictions,
        warnings=(*selected.warnings, *_warnings(predictions, source)),
    )


def _vectors(
    queries: Sequence[str], source: ComparisonSource, workspace: Workspace, progress: Progress
) -> Matrix | None:
    if not source.wants_vectors or (source.store is None and len(queries) > MOST_ENCODED):
        return None
    return workspace.vectors(queries, source.store, progress)


def _warnings(predictions: Predictions | None, source: ComparisonSource) -> Iterator[str]:
    if predictions is not None and source.predictions is not None and predictions.trained_on:
        yield (
            f"what made {source.predictions.name} was trained on {predictions.trained_on:,} of these "
            f"{len(predictions.seen):,} queries: the predictions' figures do not hold for new queries; leave those "
            "rows out, or train on others"
        )


def _notes(
    selected: Selected,
    costs: Costs,
    workspace: Workspace,
    source: ComparisonSource,
    predictions: Predictions | None,
    *,
    lacks_vectors: bool,
) -> Iterator[str]:
    yield _rows_note(selected)
    estimated = costs.words(workspace.tokenizer)
    if estimated is not None:
        yield estimated
    if source.predictions is not None and predictions is not None:
        yield _predictions_note(source.predictions.name, predictions)
    if lacks_vectors and source.wants_vectors:
        yield (
            f"no cluster table, and near-duplicates are found by text alone: more than {MOST_ENCODED:,} queries are "
            "encoded only for --vectors FILE.npz, which keeps them"
        )


def _predictions_note(name: str, predictions: Predictions) -> str:
    if predictions.not_told:
        of = "" if predictions.not_told == len(predictions.seen) else f"{predictions.not_told:,} of "
        return (
            f"{of}the predictions of {name} do not say whether what made them was trained on the query, and are taken "
            "as they are: they hold for new queries only where it was not"
        )
    return (
        f"what made {name} was trained on {predictions.trained_on:,} of these {len(predictions.seen):,} queries, as "
        "the file says (by text; queries that say the same in other words are not found)"
    )


def _rows_note(selected: Selected) -> str:
    left = selected.left_out
    if selected.method == "doubly robust":
        out = f", and {left:,} rows that know no model or no probability left out" if left else ""
        return (
            "rows do not know every model: quality and cost are doubly robust estimates (DR) from the probabilities "
            f"of the outcomes{out}; there is no oracle, and single queries mean nothing"
        )
    if left:
        whole = left + len(selected.table)
        return f"complete rows only: {left:,} of {whole:,} queries lack the quality of a model and were left out"
    return "complete rows: the quality of every model is known for every query"


def check_targets(html: Path | None, plot: Path | None) -> None:
    """Reject unwritable output files before the work is done.

    Raises:
        InputError: the format is unknown, or there is no such folder.
    """
    if plot is not None:
        check_format(plot)
    for path in (html, plot):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
