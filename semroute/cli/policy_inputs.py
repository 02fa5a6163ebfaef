"""What ``semroute evaluate-policy`` reads, made ready for a comparison, with what there is to say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.cli.encoding import Encoding
from semroute.types.progress import Progress

if TYPE_CHECKING:
    from semroute.config import Price
    from semroute.evaluate.study.completing import Selected
    from semroute.evaluate.study.results import ComparisonPlan, Policies, Study
    from semroute.outcomes.costs import Costs
    from semroute.outcomes.predictions import Predictions
    from semroute.types import Matrix


MOST_ENCODED = 20_000
"""Queries that are encoded for the baselines alone, some three minutes; more must come with their vectors."""


@dataclass(frozen=True, slots=True)
class ComparisonInputs:
    """What is compared, and on what.

    Attributes:
        title: of plots and pages.
        costs: the outcomes that can be used.
        selected: how they were picked.
        policies: what is compared.
        vectors: ``(n, d)``; None where there are none.
        notes: what a reader of the figures must know.
        findings: what is remarkable in the files.
        predictions: those of the file, if there is one.
        warnings: what makes the figures mean something else than they seem to.
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
        """The comparison, cut by queries or by whole tasks."""
        from semroute.evaluate.study.study import run_study

        plan = replace(plan, leave_tasks_out=leave_tasks_out)
        method = self.selected.method
        return run_study(self.costs, self.policies, plan, vectors=self.vectors, method=method, progress=progress)


@dataclass(frozen=True, slots=True)
class ComparisonSource:
    """What the command was told.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        predictions: file of predicted quality, if there is one.
        models: names; None takes all.
        baselines: names of those to compare with; None takes all that can be had.
        store: where vectors are kept.
        index: folder of the index artifact whose encoder is taken.
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
        """Whether anything is compared that looks at vectors."""
        return self.baselines is None or "cluster table" in self.baselines


def gather(source: ComparisonSource, progress: Progress) -> ComparisonInputs:
    """Read the files and make them ready.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or no row is complete.
    """
    from semroute.evaluate.study.completing import select
    from semroute.evaluate.study.results import Policies
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import read_outcomes
    from semroute.outcomes.predictions import read_predictions

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
    """The prices of the file; without one those of the configuration.

    Raises:
        InputError: either cannot be used.
    """
    from semroute.config import load_config
    from semroute.outcomes.prices import configured_prices, read_prices

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
    """Refuse what could not be written before the work is done."""
    from semroute.errors import InputError
    from semroute.evaluate.plots.drawing import check_format

    if plot is not None:
        check_format(plot)
    for path in (html, plot):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
