"""``semroute tune``: thresholds for a stated target, from labelled queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import NumberRange, config_option, index_option, json_option

if TYPE_CHECKING:
    from rich.table import Table

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
def tune(
    labelled: Path,
    oos_recall: float,
    false_rejection: float,
    dry_run: bool,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Choose thresholds on labelled queries and write them into the index.

    LABELLED is a .jsonl, .csv or .parquet file with "query" and "category"; null stands for out of scope. Use queries
    that are not among the examples. Thresholds that a category file names stay as they are.
    """
    from semroute.categories import read_labelled
    from semroute.cli.console import print_json
    from semroute.cli.routers import own_artifact
    from semroute.config import load_config
    from semroute.learn.thresholds import Target
    from semroute.learn.tuning import label_numbers, tune_artifact
    from semroute.router.live import open_encoder, open_first_stage, open_scorer

    rows = read_labelled(labelled)
    config = load_config(config_path)
    artifact = own_artifact(index, config)
    label_numbers(rows, tuple(artifact.manifest.categories), labelled)
    target = Target(oos_recall=oos_recall, false_rejection=false_rejection)
    encoder, scorer, first = open_encoder(artifact, config.encoder), open_scorer(artifact), open_first_stage(artifact)
    report = tune_artifact(artifact, encoder, scorer, rows, target, first=first, write=not dry_run)
    if as_json:
        print_json({"path": str(artifact.folder), "written": not dry_run, **report_dict(report)})
    else:
        _print(report, config, is_written=not dry_run)


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


def figures_table(report: TuneReport) -> Table:
    """What tuning does to the figures; :data:`CROSS_FITTED` explains it."""
    from semroute.cli.tables import number, percent, plain_table

    table = plain_table("before", "after*", first="")
    for name, figure in (
        ("accuracy", "accuracy"),
        ("out of scope rejected", "oos_recall"),
        ("false rejection", "false_rejection"),
    ):
        table.add_row(name, percent(getattr(report.before, figure)), percent(getattr(report.after, figure)))
    table.add_row("calibration error (ECE)", number(report.before.ece), number(report.after.ece))
    return table


def thresholds_table(report: TuneReport) -> Table:
    """Each category's threshold, old and new."""
    from rich.text import Text

    from semroute.cli.tables import number, plain_table

    table = plain_table("old", "new", "change")
    table.add_column("", style="dim")
    for name, (old, new) in report.thresholds.items():
        note = "named in the category file, left alone" if name in report.pinned else ""
        table.add_row(Text(name, style="cyan"), number(old), number(new), f"{new - old:+.3f}", note)
    return table


def _print(report: TuneReport, config: Config, *, is_written: bool) -> None:
    from rich.text import Text

    from semroute.cli.console import print_warning, stdout

    console = stdout()
    console.print(thresholds_table(report))
    console.print()
    console.print(figures_table(report))
    console.print(Text(CROSS_FITTED, style="dim"))
    console.print()
    done = ("wrote the thresholds to", "green") if is_written else ("dry run: nothing was written to", "yellow")
    calibration = " and a new calibration of the confidence" if report.calibrated and is_written else ""
    console.print(Text.assemble(done, f" {report.artifact.folder}{calibration}"), soft_wrap=True)
    overridden = [name for name, category in config.categories.items() if category.threshold is not None]
    if overridden:
        print_warning(f"semroute.yaml sets the threshold of {', '.join(overridden)}, which goes over what is tuned")
