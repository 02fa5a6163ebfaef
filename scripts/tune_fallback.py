"""Sweep the fallback threshold on a labelled file.

Prints a table and a recommendation, and plots the curve:

python scripts/tune_fallback.py labelled.jsonl --plot curve.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import config_option, index_option, json_option
from semroute.cli.main import main

if TYPE_CHECKING:
    from semroute.evaluate.routing import SweepPoint

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
@index_option
@config_option
@json_option
def tune_fallback(
    labelled: Path,
    plot: Path | None,
    oos_recall: float,
    write: bool,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Try every fallback threshold on the queries of LABELLED, one for all categories.

    LABELLED is a .jsonl, .csv or .parquet file with "query" and "category"; null stands for out of scope. "semroute
    tune" chooses a threshold for each category instead.
    """
    from semroute.cli.console import print_json, progress_bars
    from semroute.data.queries import read_labelled
    from semroute.evaluate.routing import recommend, sweep, threshold_grid
    from semroute.learn.artifact import with_thresholds
    from semroute.workflows.measure import score_rows
    from semroute.workflows.workspace import Workspace

    rows = read_labelled(labelled)
    workspace = Workspace(index, config_path)
    with progress_bars() as progress:
        router = workspace.router(progress=progress)
        if write:
            workspace.own_index()  # rejects the shared index before the work
        scored = score_rows(router.live, rows, path=labelled, progress=progress)
    points = sweep(scored, threshold_grid(scored))
    best = recommend(points, oos_recall)
    if plot is not None:
        from semroute.render.plots import plot_sweep

        plot_sweep(points, best, plot, title=f"Fallback threshold on {len(rows):,} queries of {labelled.name}")
    if write:
        source = "in-scope" if best.oos_caught is None else "out-of-scope"
        with_thresholds(router.live.artifact, dict.fromkeys(router.live.semantic.names, best.threshold), source)
    if as_json:
        print_json({"points": [asdict(point) for point in points], "recommended": asdict(best), "written": write})
    else:
        _print(points, best, plot, router.live.artifact.folder if write else None)


def _print(points: Sequence[SweepPoint], best: SweepPoint, plot: Path | None, written: Path | None) -> None:
    from semroute.cli.console import print_note, print_text, stdout
    from semroute.cli.tables import percent, plain_table

    table = plain_table("coverage", "accuracy on accepted", "out of scope caught", "accuracy", first="threshold")
    for point in points:
        if round(point.threshold * 100) % TABLE_STEP == 0 or point is best:
            shares = (point.coverage, point.accuracy_accepted, point.oos_caught, point.accuracy)
            style = "bold green" if point is best else None
            table.add_row(f"{point.threshold:.2f}", *map(percent, shares), style=style)
    stdout().print(table)
    print_text(f"recommended: {best.threshold:.2f}")
    if plot is not None:
        print_note(f"drew {plot}")
    if written is not None:
        print_note(f"set it for all categories of {written}")


if __name__ == "__main__":
    sys.exit(main(command=tune_fallback, program="tune_fallback.py"))
