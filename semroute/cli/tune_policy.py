"""``semroute tune-policy``: the cheapest policy that keeps a floor of quality, with stated confidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import (
    HEADS,
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
    from semroute.cli.tune_policy_inputs import Tuning

_FILE = click.Path(path_type=Path)
_MOST_QUALITY = 2.0
"""Of the strongest model's; above it a percentage was meant."""


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
    "--ahead", type=click.IntRange(1), metavar="N", help="Queries to keep it over (default: as many as given)."
)
@click.option("--strongest", metavar="MODEL", help="What quality is measured against (default: the best).")
@models_option
@heads_option
@click.option(
    "--held-out", type=NumberRange(0.1, 0.9), default=0.5, show_default=True, help="Share that tests the promise."
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
    held_out: float,
    seed: int,
    vectors: Path | None,
    plot: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Search for the policy to run: single models, a model for each category, the classifier, cascades.

    OUTCOMES tell how good every model's answer to each query was. On one part of them policies are made and put in
    order; on the rest the goal is tested, from the best policy to the cheapest, until it fails. What is written is the
    cheapest that passed: with the confidence asked for it keeps the floor, or the budget, over the queries to come.
    Cascades are tried where outcomes tell the answers.
    """
    from semroute.cli.console import print_json, print_note, stdout
    from semroute.cli.encoding import Encoding
    from semroute.cli.policy_inputs import check_targets
    from semroute.cli.progress import progress_bars
    from semroute.cli.tune_policy_inputs import TuneSource, tuning
    from semroute.cli.tune_policy_tables import tuning_dict, tuning_tables
    from semroute.learn.policy.tuning import Goal
    from semroute.learn.policy.writing import check_policy_folder, earlier

    if sum(goal is not None for goal in (min_quality, max_cost, value)) != 1:
        raise click.UsageError("give one of --min-quality, --max-cost and --value")
    if min_quality is not None and min_quality > _MOST_QUALITY:
        raise click.UsageError(f"--min-quality is a fraction: write {min_quality / 100:g} for {min_quality:g}%")
    check_targets(None, plot)
    check_policy_folder(out)
    goal = Goal(min_quality, max_cost, value)
    source = TuneSource(
        outcomes, prices, models, strongest, heads or HEADS, held_out, confidence, ahead, seed, vectors, out
    )
    with progress_bars() as progress:
        found = tuning(source, goal, index, config_path, progress)
    _write(found, out, plot)
    if as_json:
        print_json({"policy": str(out), **tuning_dict(found)})
        return
    for part in tuning_tables(found):
        stdout().print(part)
        stdout().print()
    if not Encoding(index, config_path).has_index:
        print_note('no policy by category was tried, for there is no index; make one with "semroute build-index"')
    for path in earlier(out, found.generation):
        print_note(f"{path}, of an earlier policy, stays; delete it once no semroute.yaml names it")
    print_note(f"wrote {out}; put what {out}/policy.yaml says into semroute.yaml (its paths start at this folder)")


def _write(found: Tuning, out: Path, plot: Path | None) -> None:
    """Write policy and picture.

    Raises:
        InputError: the goal cannot be reached, or a file cannot be written.
    """
    from semroute.cli.tune_policy_tables import headline, tuning_dict
    from semroute.evaluate.plots.tuned import plot_tuned
    from semroute.learn.policy.writing import write_policy

    if plot is not None:
        plot_tuned(
            found.curves(), found.marks(), plot, title=found.title, floor=found.floor, budget=found.goal.max_cost
        )
    chosen = found.tuned.chosen
    if chosen is None:
        raise found.not_reachable()
    write_policy(chosen, found.prepared, out, found.generation, head=headline(found), report=tuning_dict(found))
