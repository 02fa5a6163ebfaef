"""``semroute evaluate``: an index against labelled queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
    from semroute.config import Config
    from semroute.data.examples import LabelledQuery
    from semroute.evaluate.routing import Evaluation, Mistake
    from semroute.index import Artifact
    from semroute.learn.tune import TuneReport
    from semroute.types import Encoder
    from semroute.workflows.measure import Measurement


# List wrongly decided queries in a file, in JSON and on the terminal.

SHOWN = 10
"""On a terminal; --errors and --json have all."""


def _writable(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse an unwritable file before minutes are spent."""
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


def mistake_dicts(
    mistakes: Sequence[Mistake], rows: Sequence[LabelledQuery], artifact: Artifact, encoder: Encoder
) -> list[dict[str, Any]]:
    """Convert wrong queries to JSON-ready values with nearest examples.

    None stands for out of scope.

    Raises:
        ArtifactError: the stored examples cannot be read.
    """
    from semroute.router.load import nearest_to_each

    found = nearest_to_each(artifact, encoder, [rows[mistake.row].query for mistake in mistakes])
    return [
        {
            "line": rows[mistake.row].line,
            "query": rows[mistake.row].query,
            "true": mistake.true,
            "decided": mistake.decided,
            "score": mistake.score,
            "threshold": mistake.threshold,
            "nearest": asdict(nearest[0]),
        }
        for mistake, nearest in zip(mistakes, found, strict=True)
    ]


def write_errors(path: Path, errors: Sequence[Mapping[str, Any]]) -> None:
    """Write wrong queries atomically, one a line.

    Raises:
        InputError: it cannot be written.
    """
    from semroute.cli.console import print_note
    from semroute.errors import InputError
    from semroute.storage import atomic_write, json_line

    try:
        with atomic_write(path) as part:
            part.write_text("".join(json_line(error) + "\n" for error in errors), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    print_note(f"{len(errors):,} wrong queries are in {path}")


def print_errors(errors: Sequence[Mapping[str, Any]], count: int) -> None:
    """Print the first wrong queries with their nearest examples.

    Args:
        errors: the first of them, :data:`SHOWN` at most are printed.
        count: how many there are.
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
    from semroute.cli.console import print_json, print_warning, progress_bars
    from semroute.cli.encoding import open_router
    from semroute.data.importing.records import ImportOptions
    from semroute.data.importing.writing import read_queries
    from semroute.workflows.measure import measure

    asked = None if text is None and label is None and names is None else ImportOptions(text, label, names)
    rows = read_queries(labelled, asked, lambda finding: print_warning(str(finding)))
    router = open_router(index, config_path)
    with progress_bars() as progress:
        measured = measure(router, rows, path=labelled, progress=progress)
    wrong = measured.mistakes if as_json or errors is not None else measured.mistakes[:SHOWN]
    listed = mistake_dicts(wrong, rows, router.live.artifact, router.live.encoder)
    if as_json:
        print_json({**as_dict(measured), "errors": listed})
    else:
        _print_measurement(measured)
        print_errors(listed, len(measured.mistakes))
    if errors is not None:
        write_errors(errors, listed)


def as_dict(measured: Measurement) -> dict[str, object]:
    """A measurement as JSON-ready values."""
    latency = measured.latency
    return {
        **evaluation_dict(measured.evaluation),
        "answered_first": measured.answered_first,
        "latency_ms": {"p50": latency.p50, "p99": latency.p99, "n": latency.n},
    }


def evaluation_dict(evaluation: Evaluation) -> dict[str, object]:
    """An evaluation as JSON-ready values; ``confusion`` has a last row and column for out of scope."""
    return {
        "n": evaluation.n,
        "accuracy": evaluation.accuracy,
        "accuracy_interval": list(evaluation.accuracy_interval),
        "accuracy_in_scope": evaluation.accuracy_in_scope,
        "oos_auroc": evaluation.oos_auroc,
        "oos_recall": evaluation.oos_recall,
        "false_rejection": evaluation.false_rejection,
        "ece": evaluation.ece,
        "per_category": {name: dict(figures) for name, figures in evaluation.per_category.items()},
        "confusion": [list(row) for row in evaluation.confusion],
    }


def _print_measurement(measured: Measurement) -> None:
    from semroute.cli.console import stdout

    console = stdout()
    console.print(category_figures(measured.evaluation))
    console.print()
    console.print(confusion_table(measured.evaluation))
    console.print()
    console.print(headline(measured))


# The tables of ``semroute evaluate``.

MOST_COLUMNS = 15
"""Categories up to which a confusion matrix fits a terminal; beyond, its worst cells are listed."""
WORST = 15
REJECTED = "out of scope"


def category_figures(evaluation: Evaluation) -> DataTable:
    """Precision, recall and F1 of each category, thresholds applied."""
    table = plain_table("precision", "recall", "F1", "queries")
    for name, row in evaluation.per_category.items():
        shares = (percent(row[key]) if row["n"] else "-" for key in ("precision", "recall", "f1"))
        table.add_row(Text(name, style="cyan"), *shares, f"{row['n']:,}")
    return table


def confusion_table(evaluation: Evaluation) -> RenderableType:
    """The confusion matrix, or where it is too wide for a terminal the most frequent mistakes."""
    if len(evaluation.per_category) > MOST_COLUMNS:
        return _worst(evaluation)
    names = [*evaluation.per_category, REJECTED]
    numbers = (Column(str(place)) for place in range(1, len(names)))
    table = DataTable(Column("true / decided", "name"), *numbers, Column("-"), narrow=_worst(evaluation))
    for row, (name, counts) in enumerate(zip(names, evaluation.confusion, strict=True)):
        mark = f"{row + 1:>2} " if name is not REJECTED else " - "
        table.add_row(Text(mark + name), *(_cell(count, row == column) for column, count in enumerate(counts)))
    return table


def headline(measured: Measurement) -> DataTable:
    """The figures for all queries together."""
    evaluation, latency = measured.evaluation, measured.latency
    low, high = evaluation.accuracy_interval
    answered = measured.answered_first
    first = {} if answered is None else {"first_stage": f"answers {percent(answered)} of all queries"}
    return figures(
        queries=f"{evaluation.n:,}",
        accuracy=f"{percent(evaluation.accuracy)}  (95% interval {percent(low)} to {percent(high)}; with thresholds)",
        accuracy_in_scope=f"{percent(evaluation.accuracy_in_scope)}  (best category, before any threshold)",
        out_of_scope=f"AUROC {number(evaluation.oos_auroc)}, {percent(evaluation.oos_recall)} rejected",
        false_rejection=percent(evaluation.false_rejection),
        calibration_error=f"{number(evaluation.ece)}  (ECE, 15 bins)",
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
    from semroute.cli.console import print_json, print_warning
    from semroute.cli.encoding import own_artifact
    from semroute.config import load_config
    from semroute.data.importing.records import ImportOptions
    from semroute.data.importing.writing import read_queries
    from semroute.learn.thresholds import RejectionTarget
    from semroute.learn.tune import label_numbers, tune_artifact
    from semroute.router.load import open_encoder, open_first_stage, open_scorer

    asked = None if text is None and label is None and names is None else ImportOptions(text, label, names)
    rows = read_queries(labelled, asked, lambda finding: print_warning(str(finding)))
    config = load_config(config_path)
    artifact = own_artifact(index, config)
    label_numbers(rows, tuple(artifact.manifest.categories), labelled)
    target = RejectionTarget(oos_recall=oos_recall, false_rejection=false_rejection)
    encoder, scorer, first = open_encoder(artifact, config.encoder), open_scorer(artifact), open_first_stage(artifact)
    report = tune_artifact(artifact, encoder, scorer, rows, target, first=first, write=not dry_run)
    wrong = report.mistakes if as_json or errors is not None else report.mistakes[:SHOWN]
    listed = mistake_dicts(wrong, rows, artifact, encoder)
    if as_json:
        print_json({"path": str(artifact.folder), "written": not dry_run, **report_dict(report), "errors": listed})
    else:
        _print_tuning(report, config, is_written=not dry_run)
        print_errors(listed, len(report.mistakes))
    if errors is not None:
        write_errors(errors, listed)


def report_dict(report: TuneReport) -> dict[str, object]:
    """A tuning as JSON-ready values; ``after`` is cross-fitted."""

    return {
        "before": evaluation_dict(report.before),
        "after": evaluation_dict(report.after),
        "thresholds": {name: {"old": old, "new": new} for name, (old, new) in report.thresholds.items()},
        "pinned": list(report.pinned),
        "calibrated": report.calibrated,
    }


CROSS_FITTED = "* cross-fitted: each query judged by thresholds chosen without it (5 folds)"


def figures_table(report: TuneReport) -> DataTable:
    """What tuning does to the figures; :data:`CROSS_FITTED` explains it."""
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
    """Each category's threshold, old and new."""
    from rich.text import Text

    from semroute.cli.tables import number, plain_table

    table = plain_table("old", "new", "change")
    table.add_column("note", style="dim")
    for name, (old, new) in report.thresholds.items():
        note = "named in the category file, left alone" if name in report.pinned else ""
        table.add_row(Text(name, style="cyan"), number(old), number(new), f"{new - old:+.3f}", note)
    return table


def _print_tuning(report: TuneReport, config: Config, *, is_written: bool) -> None:
    from rich.text import Text

    from semroute.cli.console import print_warning, print_words, stdout

    console = stdout()
    console.print(thresholds_table(report))
    console.print()
    console.print(figures_table(report))
    console.print(Text(CROSS_FITTED, style="dim"))
    console.print()
    done = ("wrote the thresholds to", "green") if is_written else ("dry run: nothing was written to", "yellow")
    calibration = " and a new calibration of the confidence" if report.calibrated and is_written else ""
    print_words(console, Text.assemble(done, f" {report.artifact.folder}{calibration}"))
    overridden = [name for name, category in config.categories.items() if category.threshold is not None]
    if overridden:
        print_warning(f"semroute.yaml sets the threshold of {', '.join(overridden)}, which goes over what is tuned")
