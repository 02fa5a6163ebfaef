"""``semroute collect``: answers of every model, within a budget."""

from __future__ import annotations

from pathlib import Path

import click

from semroute.cli.console import NumberRange, config_option, json_option, log_option, names_option, seed_option

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--out", type=_FILE, metavar="FILE.jsonl", required=True, help="Outcomes; a file that is there goes on.")
@click.option("--queries", type=_FILE, metavar="FILE", help="Ask these (.jsonl, .csv, .txt), not those of the log.")
@click.option("--max-usd", type=NumberRange(0, min_open=True), metavar="USD", required=True, help="The budget.")
@names_option("--models", "Whom to ask (default: every model that has a deployment).")
@click.option("--sample", type=click.IntRange(1), default=500, show_default=True, help="Queries to draw.")
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True, help="Longest answer.")
@click.option("--together", type=click.IntRange(1), default=4, show_default=True, help="Queries asked at a time.")
@seed_option
@log_option
@config_option
@json_option
def collect(
    out: Path,
    queries: Path | None,
    max_usd: float,
    models: tuple[str, ...] | None,
    sample: int,
    max_tokens: int,
    together: int,
    seed: int,
    log_url: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ask every model the same queries, and keep what they answer.

    A log knows of each query only the models that were tried, and comparing models by it is biased. The answers are
    written as outcomes whose quality nobody has judged yet: "semroute label" does that. A query is asked only where
    the longest answers to it would still be paid by what is left of the budget. What is in the file already is not
    asked again, so that a run that was stopped can go on: of a query that lacks the answers of some models, these
    alone are asked.
    """
    from semroute.cli.console import print_json, print_note, print_warning, shown_work
    from semroute.workflows.collect import CollectPlan, collect_answers
    from semroute.workflows.workspace import Workspace

    plan = CollectPlan(max_usd, queries, models, sample, max_tokens, together, seed)
    workspace = Workspace(None, config_path)
    with shown_work() as (progress, warn):
        made = collect_answers(out, plan, workspace, log_url=log_url, progress=progress, warn=warn)
    for model, (count, why) in made.failures.items():
        print_warning(f"{model}: {count:,} queries were not answered, such as: {why}")
    if as_json:
        print_json(made.to_dict())
        return
    print_note(f"{made.answers:,} answers to {made.asked:,} queries for USD {made.spent_usd:.4f}, in {out}")
    if made.ended_by is not None:
        waiting = f"{made.waiting:,} queries were not asked (--max-tokens makes answers shorter)"
        print_warning(f"{made.ended_by}: {waiting}")
