"""``semroute tune-policy`` and ``semroute evaluate-policy``.

The first searches for the cheapest policy that keeps a floor of quality at a stated confidence; the second replays
policies over outcomes, against the baselines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import (
    NameChoice,
    NumberRange,
    config_option,
    heads_option,
    index_option,
    json_option,
    models_option,
    prices_option,
    seed_option,
    vectors_option,
)

if TYPE_CHECKING:
    from semroute.workflows.compare_policies import Comparison


_FILE = click.Path(path_type=Path)
_MOST_QUALITY = 2.0
"""Maximum floor, relative to the strongest model; a larger value was meant as a percentage."""


@click.command("tune-policy")
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--min-quality", type=NumberRange(0, min_open=True), help="Of the strongest model's, such as 0.95.")
@click.option("--max-cost", type=NumberRange(0, min_open=True), metavar="USD", help="Mean cost of a query.")
@click.option("--value", type=NumberRange(0), metavar="USD", help="What +1.0 of quality is worth.")
@click.option("--out", type=_FILE, metavar="DIR", required=True, help="Folder to write the policy to.")
@prices_option
@click.option(
    "--confidence", type=NumberRange(0.5, 0.9999), default=0.95, show_default=True, help="That the goal is kept."
)
@click.option(
    "--ahead", type=click.IntRange(1), metavar="N", help="Keep it over the next N queries, not only in the long run."
)
@click.option("--strongest", metavar="MODEL", help="What quality is measured against (default: the best).")
@models_option
@heads_option
@click.option(
    "--held-out", type=NumberRange(0.1, 0.9), metavar="SHARE", help="Keep a share of the rows for the test alone."
)
@seed_option
@vectors_option
@click.option("--plot", type=_FILE, metavar="FILE", help="Draw the choice on the curve, .svg or .png.")
@index_option
@config_option
@json_option
def tune_policy(
    outcomes: tuple[Path, ...],
    min_quality: float | None,
    max_cost: float | None,
    value: float | None,
    out: Path,
    prices: Path | None,
    confidence: float,
    ahead: int | None,
    strongest: str | None,
    models: tuple[str, ...] | None,
    heads: tuple[str, ...],
    held_out: float | None,
    seed: int,
    vectors: Path | None,
    plot: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Search for the policy to run: models by category, classifier, cascades.

    OUTCOMES say how good every model's answer to each query was. The goal is tested from the best policy to the
    cheapest, until it fails, on predictions of classifiers that were not fitted on the row; the cheapest that passed is
    written, with classifiers fitted on all rows. With the confidence asked for it keeps the floor, or the budget, for
    queries of the same mix. Cascades are tried where outcomes hold the answers.
    """
    from semroute.cli.console import print_json, print_note, progress_bars, stdout
    from semroute.cli.policy_tables import tuning_tables
    from semroute.learn.policy.search import Goal
    from semroute.learn.policy.write import check_policy_folder
    from semroute.workflows.compare_policies import check_targets
    from semroute.workflows.tune_policy import TuneSource
    from semroute.workflows.tune_policy import tune_policy as search
    from semroute.workflows.workspace import Workspace

    if sum(goal is not None for goal in (min_quality, max_cost, value)) != 1:
        raise click.UsageError("give one of --min-quality, --max-cost and --value")
    if min_quality is not None and min_quality > _MOST_QUALITY:
        raise click.UsageError(f"--min-quality is a fraction: write {min_quality / 100:g} for {min_quality:g}%")
    check_targets(None, plot)
    check_policy_folder(out)
    goal, workspace = Goal(min_quality, max_cost, value), Workspace(index, config_path)
    source = TuneSource(outcomes, prices, models, strongest, heads, held_out, confidence, ahead, seed, vectors, out)
    with progress_bars() as progress:
        found = search(source, goal, workspace, progress)
    if plot is not None:
        found.plot(plot)
    found.write(out)
    if as_json:
        print_json({"policy": str(out), **found.to_dict()})
        return
    for part in tuning_tables(found):
        stdout().print(part)
        stdout().print()
    if not workspace.has_index:
        print_note('no policy by category was tried, for there is no index; make one with "semroute build-index"')
    for path in found.earlier(out):
        print_note(f"{path}, of an earlier policy, stays; delete it once no semroute.yaml names it")
    print_note(f"wrote {out}; put what {out}/policy.yaml says into semroute.yaml (its paths start at this folder)")


# ``semroute evaluate-policy``: policies replayed over outcomes, against the baselines.

BASELINES = ("prompt length", "task table", "cluster table", "oracle")


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
@click.option(
    "--strongest", metavar="MODEL", help="What would be called without a router (default: the most expensive)."
)
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

    OUTCOMES are .jsonl, .csv or .parquet files with the quality of each model's answer to each query. Without
    --prices the prices of semroute.yaml are taken; a cost in the outcomes is kept. Whatever is fitted is judged
    on queries that it was not fitted on. Predictions from a file are taken for such; where "seen" in its lines, as
    semroute predict writes it, says otherwise, a warning gives the number of queries.
    """
    from semroute.cli.console import print_json, print_note, progress_bars
    from semroute.evaluate.comparison_results import ComparisonPlan
    from semroute.workflows.compare_policies import ComparisonSource, check_targets, compare_policies
    from semroute.workflows.workspace import Workspace

    check_targets(html, plot)
    plan = ComparisonPlan(folds, seed=seed, resamples=resamples, strongest=strongest, half_width=half_width)
    wanted = frozenset(name.replace("-", " ") for name in baselines) or None
    source = ComparisonSource(outcomes, prices, predictions, models, wanted, vectors)
    with progress_bars() as progress:
        workspace = Workspace(index, config_path)
        made = compare_policies(source, workspace, plan, leave_tasks_out=leave_tasks_out, progress=progress)
    if plot is not None:
        made.plot(plot)
        print_note(f"wrote {plot}")
    if html is not None:
        made.write_page(html)
        print_note(f"wrote {html}")
    if as_json:
        print_json(made.to_dict())
    else:
        _print(made)


def _print(made: Comparison) -> None:
    from semroute.cli.console import print_warning, stdout
    from semroute.cli.policy_tables import comparison

    console = stdout()
    for finding in made.inputs.findings:
        print_warning(finding)
    for part in comparison(made.study, made.unseen, made.inputs.notes, made.inputs.warnings):
        console.print(part)
        console.print()
