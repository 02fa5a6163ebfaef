"""``semroute evaluate-policy``: policies replayed over outcomes, against the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import (
    NameChoice,
    NumberRange,
    config_option,
    index_option,
    json_option,
    models_option,
    prices_option,
    seed_option,
    vectors_option,
)

if TYPE_CHECKING:
    from semroute.cli.policy_inputs import ComparisonInputs
    from semroute.evaluate.study.results import Study

BASELINES = ("prompt length", "task table", "cluster table", "oracle")
_FILE = click.Path(path_type=Path)


@click.command("evaluate-policy")
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@prices_option
@click.option("--predictions", type=_FILE, metavar="FILE", help="Predicted quality, from semroute predict --json.")
@click.option(
    "--policy",
    "baselines",
    multiple=True,
    type=NameChoice([name.replace(" ", "-") for name in BASELINES]),
    help="Compare with this one only (repeatable; default: all that can be had).",
)
@models_option
@click.option("--strongest", metavar="MODEL", help="What would be called without a router (default: the dearest).")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Parts to cross-validate with.")
@click.option("--leave-tasks-out", is_flag=True, help="Compare on tasks that were never seen, too.")
@click.option(
    "--interval",
    "half_width",
    type=NumberRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="Wanted half width of the interval of quality; says how many outcomes that takes.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Of the bootstrap.")
@seed_option
@vectors_option
@click.option("--html", type=_FILE, metavar="FILE", help="Write the report as one page.")
@click.option("--plot", type=_FILE, metavar="FILE", help="Draw the curves, .svg or .png.")
@index_option
@config_option
@json_option
def evaluate_policy(
    outcomes: tuple[Path, ...],
    prices: Path | None,
    predictions: Path | None,
    baselines: tuple[str, ...],
    models: tuple[str, ...] | None,
    strongest: str | None,
    folds: int,
    leave_tasks_out: bool,
    half_width: float,
    resamples: int,
    seed: int,
    vectors: Path | None,
    html: Path | None,
    plot: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Replay policies over outcomes: quality, cost and the curve between them.

    OUTCOMES are .jsonl, .csv or .parquet files that tell how good each model's answer to each query was. Without
    --prices the prices of semroute.yaml are taken; a cost that the outcomes tell is kept. Whatever is fitted is judged
    on queries that it was not fitted on. Predictions from a file are taken for such; where "seen" in its lines, as
    semroute predict writes it, says otherwise, a warning tells of how many queries.
    """
    from semroute.cli.console import print_json
    from semroute.cli.policy_inputs import ComparisonSource, check_targets, gather
    from semroute.cli.progress import progress_bars
    from semroute.evaluate.study.results import ComparisonPlan

    check_targets(html, plot)
    plan = ComparisonPlan(folds, seed=seed, resamples=resamples, strongest=strongest, half_width=half_width)
    wanted = frozenset(name.replace("-", " ") for name in baselines) or None
    with progress_bars() as progress:
        source = ComparisonSource(outcomes, prices, predictions, models, wanted, vectors, index, config_path)
        inputs = gather(source, progress)
        study = inputs.study(plan, progress)
        unseen = inputs.study(plan, progress, leave_tasks_out=True) if leave_tasks_out else None
    _write(study, unseen, inputs, html, plot)
    if as_json:
        from semroute.cli.policy_json import comparison_dict

        print_json(comparison_dict(study, unseen, inputs))
    else:
        _print(study, unseen, inputs)


def _write(study: Study, unseen: Study | None, inputs: ComparisonInputs, html: Path | None, plot: Path | None) -> None:
    from semroute.cli.console import print_note

    if plot is not None:
        from semroute.evaluate.plots.policy import plot_study

        plot_study(study, plot, title=inputs.title)
        print_note(f"wrote {plot}")
    if html is not None:
        from semroute.evaluate.pages.policy import write_page

        write_page(study, unseen, html, title=inputs.title, notes=inputs.notes, warnings=inputs.warnings)
        print_note(f"wrote {html}")


def _print(study: Study, unseen: Study | None, inputs: ComparisonInputs) -> None:
    from semroute.cli.console import print_warning, stdout
    from semroute.cli.policy_tables import comparison

    console = stdout()
    for finding in inputs.findings:
        print_warning(finding)
    for part in comparison(study, unseen, inputs.notes, inputs.warnings):
        console.print(part)
        console.print()
