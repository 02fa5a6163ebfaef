"""``semroute tune``: thresholds for a stated target, from labelled queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.mistakes import errors_option
from semroute.cli.options import (
    NumberRange,
    config_option,
    index_option,
    json_option,
    label_names_option,
    label_option,
    text_option,
)

if TYPE_CHECKING:
    from semroute.cli.tables import DataTable
    from semroute.config import Config
    from semroute.learn.tuning import TuneReport


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
    from semroute.categories.importing import ImportOptions, read_queries
    from semroute.cli.console import print_json, print_warning
    from semroute.cli.mistakes import SHOWN, mistake_dicts, print_errors, write_errors
    from semroute.cli.routers import own_artifact
    from semroute.config import load_config
    from semroute.learn.thresholds import RejectionTarget
    from semroute.learn.tuning import label_numbers, tune_artifact
    from semroute.router.live import open_encoder, open_first_stage, open_scorer

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
        _print(report, config, is_written=not dry_run)
        print_errors(listed, len(report.mistakes))
    if errors is not None:
        write_errors(errors, listed)


def report_dict(report: TuneReport) -> dict[str, object]:
    """A tuning as JSON-ready values; ``after`` is cross-fitted."""
    from semroute.cli.evaluate import evaluation_dict

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


def _print(report: TuneReport, config: Config, *, is_written: bool) -> None:
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
