"""``semroute collect``: answers of every model, within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import NumberRange, config_option, json_option, log_option, names_option, seed_option

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.workflows.collect import Asked, Collector

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
    from semroute import _sync
    from semroute.cli.console import print_json, print_note, print_warning
    from semroute.config import load_config
    from semroute.dispatch import Dispatcher
    from semroute.errors import InputError
    from semroute.outcomes.files import known_cells, only_appender, written_rows
    from semroute.workflows.collect import Collector, ended_by

    config = load_config(config_path)
    asked = _models(models, config)
    with only_appender(out):
        known = known_cells(written_rows(out))
        found = list(_from_file(queries) if queries is not None else _from_log(log_url, config_path))
        chosen = _drawn(found, sample, seed)
        left = _lacking(chosen, asked, {key: frozenset(cells) for key, cells in known.items()})
        if not chosen:
            raise InputError("no queries to ask; keep them in the log (log: {text: full}), or give --queries FILE")
        dispatcher = Dispatcher(config)
        collector = Collector(dispatcher, asked, max_usd, max_tokens, together)
        rows, answers, failures = _sync.run(_collect(collector, left, out))
    for model, (count, why) in failures.items():
        print_warning(f"{model}: {count:,} queries were not answered, such as: {why}")
    told = {
        "path": str(out), "asked": rows, "answers": answers, "known_before": len(chosen) - len(left),
        "spent_usd": collector.spent, "budget_is_spent": collector.is_spent, "models": list(asked),
    }  # fmt: skip
    if as_json:
        print_json(told)
        return
    print_note(f"{answers:,} answers to {rows:,} queries for USD {collector.spent:.4f}, in {out}")
    if collector.is_spent:
        why = ended_by(max_usd, collector.spent, collector.needed, "the longest answers to the next query")
        print_warning(f"{why}: {len(left) - rows:,} queries were not asked (--max-tokens makes answers shorter)")


def _models(models: tuple[str, ...] | None, config: Config) -> tuple[str, ...]:
    from semroute.errors import InputError
    from semroute.text.names import known_names

    placed = tuple(dict.fromkeys(deployment.model for deployment in config.deployments))
    if not placed:
        raise InputError("no model can be called: semroute.yaml names no deployments (semroute init writes one)")
    if models is None:
        return placed
    unknown = [name for name in models if name not in placed]
    if unknown:
        raise InputError(f'no deployment serves "{unknown[0]}"; {known_names(unknown[0], placed, "there are")}')
    return models


def _from_file(path: Path) -> Iterator[Asked]:
    from semroute.cli.console import print_warning
    from semroute.data.queries import iter_query_rows
    from semroute.errors import QueryError
    from semroute.router.query import routed_text
    from semroute.workflows.collect import Asked

    for row in iter_query_rows(path):
        try:
            yield Asked(routed_text(row.query).strip(), row.query, row.task)
        except QueryError as error:
            print_warning(f"{path}:{row.line}: {error}; the row is left out")


def _from_log(log_url: str | None, config_path: Path | None) -> Iterator[Asked]:
    from semroute.cli.console import read_log
    from semroute.workflows.collect import Asked

    opened, _ = read_log(log_url, config_path)
    with opened:
        for outcome in opened.outcomes():
            if outcome.query is not None and outcome.query.strip():
                yield Asked(outcome.query.strip(), outcome.query, outcome.category or "")


def _drawn(found: Sequence[Asked], sample: int, seed: int) -> list[Asked]:
    """Return a sample without repeats, in an order that the seed fixes."""
    from random import Random

    once = list({one.text: one for one in found}.values())
    return Random(seed).sample(once, min(sample, len(once)))


def _lacking(
    chosen: Sequence[Asked], models: Sequence[str], known: Mapping[tuple[str, str], frozenset[str]]
) -> list[Asked]:
    """Return the queries without stored answers, each with the models to ask.

    An answer does not depend on the task, which for a query of the log is its category and may be another by now. New
    answers go to the task under which the file knows most of the others, so that they make one row.
    """
    from dataclasses import replace

    tasks: dict[str, dict[str, frozenset[str]]] = {}
    for (text, task), told in known.items():
        tasks.setdefault(text, {})[task] = told
    wanted, left = frozenset(models), []
    for one in chosen:
        of = {one.task: frozenset[str](), **tasks.get(one.text, {})}
        task = max(of, key=lambda name: (len(of[name] & wanted), len(of[name])))
        lacking = tuple(model for model in models if model not in of[task])
        if lacking:
            left.append(replace(one, task=task, models=lacking))
    return left


async def _collect(
    collector: Collector, queries: Sequence[Asked], out: Path
) -> tuple[int, int, dict[str, tuple[int, str]]]:
    """Write every row as it arrives, and count the results.

    Returns:
        Numbers of queries and of answers, and by model the number of failures with a reason.
    """
    from contextlib import aclosing

    from semroute.cli.console import progress_bars
    from semroute.outcomes.files import append_row

    count = answers = 0
    failures: dict[str, tuple[int, str]] = {}
    try:
        with progress_bars() as progress:
            async with aclosing(collector.collect(queries)) as rows:
                async for row in rows:
                    for model, why in row.failures.items():
                        failures[model] = failures.get(model, (0, why))[0] + 1, why
                    if row.completions:
                        append_row(out, row.row())
                    count += 1
                    answers += len(row.completions)
                    progress("asking", count, len(queries))
    finally:
        await collector.dispatcher.close()
    return count, answers, failures
