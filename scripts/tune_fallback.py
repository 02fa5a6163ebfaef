"""Sweep the fallback threshold on a labelled file.

Prints a table and a recommendation, and plots the curve:

python scripts/tune_fallback.py labelled.jsonl --plot curve.png
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from harness.report import progress_bars, run_command
from rich.console import Console
from rich.table import Table

from semroute.workflows.measure import FallbackSweep, sweep_fallback
from semroute.workflows.workspace import Workspace

TABLE_STEP = 5
"""Step of the thresholds in the table, in hundredths; ``--json`` has all."""


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help='Draw the curve (extra "plot").')
@click.option(
    "--oos-recall",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Share of out-of-scope queries that the recommended threshold rejects.",
)
@click.option("--write", is_flag=True, help="Set the recommended threshold for all categories of the index.")
@click.option("--index", type=click.Path(path_type=Path), help="Index (default: SEMROUTE_INDEX, or .semroute/index).")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Configuration (default: semroute.yaml in this folder)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tune_fallback(
    labelled: Path,
    plot: Path | None,
    oos_recall: float,
    write: bool,
    index: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Try every fallback threshold on LABELLED, one for all categories.

    LABELLED is a .jsonl, .csv or .parquet file with "query" and "category"; null stands for out of scope. "semroute
    tune" chooses a threshold for each category instead.
    """
    with progress_bars() as progress:
        workspace = Workspace(index, config)
        found = sweep_fallback(labelled, workspace, oos_recall, plot=plot, write=write, progress=progress)
    if as_json:
        click.echo(json.dumps(found.to_dict(), allow_nan=False))
        return
    _print_table(found)
    click.echo(f"recommended: {found.recommended.threshold:.2f}")
    if plot is not None:
        click.echo(f"drew {plot}", err=True)
    if found.written is not None:
        click.echo(f"set it for all categories of {found.written}", err=True)


def _print_table(found: FallbackSweep) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("threshold")
    for name in ("coverage", "accuracy on accepted", "out of scope caught", "accuracy"):
        table.add_column(name, justify="right")
    for point in found.points:
        is_best = point == found.recommended
        if round(point.threshold * 100) % TABLE_STEP == 0 or is_best:
            shares = (point.coverage, point.accuracy_accepted, point.oos_caught, point.accuracy)
            cells = ("-" if share is None else f"{share:.1%}" for share in shares)
            table.add_row(f"{point.threshold:.2f}", *cells, style="bold green" if is_best else None)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    run_command(tune_fallback)
