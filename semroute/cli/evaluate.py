"""``semroute evaluate`` and ``tune``: an index on labelled queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.console import (
    NumberRange,
    config_option,
    index_option,
    json_option,
    label_names_option,
    label_option,
    text_option,
)
from semroute.cli.layout import Column
from semroute.cli.tables import DataTable, figures, number, percent, plain_table

if TYPE_CHECKING:
    from semroute.data.importing.records import ImportOptions
    from semroute.evaluate.breakdown import GroupFigures
    from semroute.evaluate.routing import Evaluation
    from semroute.learn.tune import TuneReport
    from semroute.workflows.measure import Measurement
    from semroute.workflows.tune import TuneResult


# Misrouted queries in a file, in JSON and on the terminal.

SHOWN = 10
"""Misrouted queries shown on a terminal; --errors and --json have all."""


def _writable(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Reject an unwritable file before minutes are spent."""
    if value is not None and (value.is_dir() or not value.absolute().parent.is_dir()):
        raise click.BadParameter(
            f"{value} cannot be written: name a file in a folder that is there", context, parameter
        )
    return value


errors_option = click.option(
    "--errors",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_writable,
    help="Write the queries that were wrong to this file, as JSONL.",
)
"""``errors: Path | None``."""


def write_errors(path: Path, wrong: Sequence[Mapping[str, Any]]) -> None:
    """Write misrouted queries to a file, and print its name."""
    from semroute.cli.console import print_note
    from semroute.workflows.tune import write_wrong_queries

    write_wrong_queries(path, wrong)
    print_note(f"{len(wrong):,} wrong queries are in {path}")


def import_options(text: str | None, label: str | None, names: Path | None) -> ImportOptions | None:
    """Return the options for the columns of a labelled file; None guesses all."""
    from semroute.data.importing.records import ImportOptions

    return None if text is None and label is None and names is None else ImportOptions(text, label, names)


def print_errors(errors: Sequence[Mapping[str, Any]], count: int) -> None:
    """Print the first misrouted queries with their nearest examples.

    Args:
        errors: the first of them, :data:`SHOWN` at most are printed.
        count: number of all misrouted queries.
    """
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.data.examples import shortened

    if not count:
        return
    console = stdout()
    console.print()
    console.print(Text("wrong queries", style="bold"))
    for error in errors[:SHOWN]:
        true, decided = (error[key] or "out of scope" for key in ("true", "decided"))
        sign = "\u2265" if error["score"] >= error["threshold"] else "<"
        verdict = f"{error['score']:.3f} {sign} {error['threshold']:.3f}"
        print_words(console, Text.assemble((true, "cyan"), " \u2192 ", (decided, "red"), (f"  {verdict}", "dim")))
        nearest = error["nearest"]
        print_words(console, Text(f"  {shortened(error['query'], 70)}"))
        near = f"  nearest {nearest['similarity']:.3f}  {nearest['category']}: {shortened(nearest['query'], 50)}"
        print_words(console, Text(near, style="dim"), indent=4)
    if count > SHOWN:
        console.print(Text(f"\u2026 and {count - SHOWN:,} more; --errors FILE and --json have all", style="dim"))


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path))
@index_option
@config_option
@json_option
@errors_option
@text_option
@label_option
@label_names_option
def evaluate(
    labelled: Path,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    errors: Path | None,
    text: str | None,
    label: str | None,
    names: Path | None,
) -> None:
    """Measure an index on labelled queries.

    LABELLED is a file with "query" and "category", or any that "semroute import" reads; null, none or oos stand for
    out of scope. Use queries that are not among the examples. Queries that went wrong are listed. The time is that of
    single queries, without the cache of vectors.
    """
    from semroute.cli.console import print_json, shown_work
    from semroute.workflows.measure import evaluate_index
    from semroute.workflows.workspace import Workspace

    options = import_options(text, label, names)
    with shown_work() as (progress, warn):
        found = evaluate_index(labelled, Workspace(index, config_path), options=options, progress=progress, warn=warn)
    wrong = found.wrong.to_dicts(None if as_json or errors is not None else SHOWN)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_measurement(found.measurement)
        print_errors(wrong, len(found.wrong))
    if errors is not None:
        write_errors(errors, wrong)


def _print_measurement(measured: Measurement) -> None:
    from semroute.cli.console import stdout

    console = stdout()
    console.print(category_figures(measured.evaluation))
    console.print()
    console.print(confusion_table(measured.evaluation))
    console.print()
    console.print(group_table(measured.groups))
    console.print()
    console.print(headline(measured))


# The tables of ``semroute evaluate``.

MOST_COLUMNS = 15
"""Categories up to which a confusion matrix fits a terminal; with more, its worst cells are listed."""
WORST = 15
REJECTED = "out of scope"


def category_figures(evaluation: Evaluation) -> DataTable:
    """Return precision, recall and F1 by category, thresholds applied."""
    table = plain_table("precision", "recall", "F1", "queries")
    for name, row in evaluation.per_category.items():
        shares = (percent(row[key]) if row["n"] else "-" for key in ("precision", "recall", "f1"))
        table.add_row(Text(name, style="cyan"), *shares, f"{row['n']:,}")
    return table


def confusion_table(evaluation: Evaluation) -> RenderableType:
    """Return the confusion matrix, or its worst cells if it is too wide."""
    if len(evaluation.per_category) > MOST_COLUMNS:
        return _worst(evaluation)
    names = [*evaluation.per_category, REJECTED]
    numbers = (Column(str(place)) for place in range(1, len(names)))
    table = DataTable(Column("true / decided", "name"), *numbers, Column("-"), narrow=_worst(evaluation))
    for row, (name, counts) in enumerate(zip(names, evaluation.confusion, strict=True)):
        mark = f"{row + 1:>2} " if name is not REJECTED else " - "
        table.add_row(Text(mark + name), *(_cell(count, row == column) for column, count in enumerate(counts)))
    return table


def group_table(groups: Sequence[GroupFigures]) -> DataTable:
    """Return the figures by language and by kind of query.

    Rows of few queries are dim; rows that are surely below the rest are red.
    """
    table = plain_table("queries", "accuracy", "95% interval", "rejected", first="group")
    table.add_column("note", style="dim")
    for row in groups:
        low, high = row.accuracy_interval
        notes = [*(["weak"] if row.is_weak else []), *(["few queries"] if row.is_small else [])]
        style = "red" if row.is_weak else "dim" if row.is_small else "cyan"
        interval = f"{low:.1%} - {high:.1%}"
        name = Text(f"{row.aspect}: {row.group}", style=style)
        table.add_row(name, f"{row.n:,}", percent(row.accuracy), interval, percent(row.rejected), ", ".join(notes))
    if any(row.is_weak for row in groups):
        table.caption = "weak: the whole interval lies below that of the other queries"
    return table


def headline(measured: Measurement) -> DataTable:
    """Return the figures for all queries together."""
    evaluation, latency = measured.evaluation, measured.latency
    low, high = evaluation.accuracy_interval
    answered = measured.answered_first
    points = (f"{percent(point.oos_recall)} at {percent(point.false_rejection)}" for point in measured.rejection)
    traded = {"rejected_at_false_rejection": ", ".join(points)} if measured.rejection else {}
    first = {} if answered is None else {"first_stage": f"answers {percent(answered)} of all queries"}
    return figures(
        queries=f"{evaluation.n:,}",
        accuracy=f"{percent(evaluation.accuracy)}  (95% interval {percent(low)} to {percent(high)}; with thresholds)",
        accuracy_in_scope=f"{percent(evaluation.accuracy_in_scope)}  (best category, before any threshold)",
        out_of_scope=f"AUROC {number(evaluation.oos_auroc)}, {percent(evaluation.oos_recall)} rejected",
        false_rejection=percent(evaluation.false_rejection),
        **traded,
        calibration_error=f"{number(evaluation.ece)}  (ECE, 15 bins; {number(evaluation.perfect_ece)} if perfect)",
        time_per_query=f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms  (over {latency.n:,} queries)",
        **first,
    )


def _cell(count: int, is_right: bool) -> Text:
    if count == 0:
        return Text("·", style="dim")
    return Text(str(count), style="green" if is_right else "red")


def _worst(evaluation: Evaluation) -> RenderableType:
    names = [*evaluation.per_category, REJECTED]
    mistakes = [
        (count, names[row], names[column])
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    table = DataTable(Column("queries"), Column("of", "name"), Column("go to", "name"))
    for count, true, decided in mistakes[:WORST]:
        table.add_row(f"{count:,}", Text(true, style="cyan"), Text(decided, style="red"))
    rest = len(mistakes) - WORST
    note = Text(f"… and {rest:,} other kinds of mistake; --json has the whole matrix" if rest > 0 else "", style="dim")
    return Group(Text("most frequent mistakes", style="bold"), table, note)


# ``semroute tune``: thresholds for a stated target, from labelled queries.


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path))
@click.option(
    "--oos-recall",
    type=NumberRange(0, 1),
    default=0.9,
    show_default=True,
    help="Share of out-of-scope queries to reject, where LABELLED has some.",
)
@click.option(
    "--false-rejection",
    type=NumberRange(0, 1),
    default=0.03,
    show_default=True,
    help="Share of in-scope queries to reject, where LABELLED has no out-of-scope ones.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
@index_option
@config_option
@json_option
@errors_option
@text_option
@label_option
@label_names_option
def tune(
    labelled: Path,
    oos_recall: float,
    false_rejection: float,
    dry_run: bool,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    errors: Path | None,
    text: str | None,
    label: str | None,
    names: Path | None,
) -> None:
    """Choose thresholds on labelled queries and write them into the index.

    LABELLED is a file with "query" and "category", or any that "semroute import" reads; null, none or oos stand for
    out of scope. Use queries that are not among the examples. Thresholds that a category file names stay as they are.
    Queries that go wrong under thresholds chosen without them are listed.
    """
    from semroute.cli.console import print_json, shown_work
    from semroute.workflows.tune import tune_thresholds
    from semroute.workflows.workspace import Workspace

    options = import_options(text, label, names)
    with shown_work() as (_, warn):
        found = tune_thresholds(
            labelled, Workspace(index, config_path), oos_recall=oos_recall, false_rejection=false_rejection,
            options=options, write=not dry_run, warn=warn,
        )  # fmt: skip
    wrong = found.wrong.to_dicts(None if as_json or errors is not None else SHOWN)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_tuning(found)
        print_errors(wrong, len(found.wrong))
    if errors is not None:
        write_errors(errors, wrong)


CROSS_FITTED = "* cross-fitted: each query judged by thresholds chosen without it (5 folds)"


def figures_table(report: TuneReport) -> DataTable:
    """Return the figures before and after tuning; see :data:`CROSS_FITTED`."""
    from semroute.cli.tables import number, percent, plain_table

    table = plain_table("before", "after*", first="figure")
    for name, figure in (
        ("accuracy", "accuracy"),
        ("out of scope rejected", "oos_recall"),
        ("false rejection", "false_rejection"),
    ):
        table.add_row(name, percent(getattr(report.before, figure)), percent(getattr(report.after, figure)))
    table.add_row("calibration error (ECE)", number(report.before.ece), number(report.after.ece))
    return table


def thresholds_table(report: TuneReport) -> DataTable:
    """Return each category's threshold, old and new."""
    from rich.text import Text

    from semroute.cli.tables import number, plain_table

    table = plain_table("old", "new", "change")
    table.add_column("note", style="dim")
    for name, (old, new) in report.thresholds.items():
        note = "named in the category file, left alone" if name in report.pinned else ""
        table.add_row(Text(name, style="cyan"), number(old), number(new), f"{new - old:+.3f}", note)
    return table


def _print_tuning(found: TuneResult) -> None:
    from rich.text import Text

    from semroute.cli.console import print_warning, print_words, stdout

    console, report = stdout(), found.report
    console.print(thresholds_table(report))
    console.print()
    console.print(figures_table(report))
    console.print(Text(CROSS_FITTED, style="dim"))
    console.print()
    done = ("wrote the thresholds to", "green") if found.is_written else ("dry run: nothing was written to", "yellow")
    calibration = " and a new calibration of the confidence" if report.calibrated and found.is_written else ""
    print_words(console, Text.assemble(done, f" {report.artifact.folder}{calibration}"))
    if found.overridden:
        print_warning(
            f"semroute.yaml sets the threshold of {', '.join(found.overridden)}, which goes over what is tuned"
        )
