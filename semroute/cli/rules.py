"""``semroute rules``: which rule of ``semroute.yaml`` a query meets, and why those before it do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.lazy import SuggestingGroup
from semroute.cli.options import config_option, index_option, json_option, metadata_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from semroute.strategies.rules import RuleTrace
    from semroute.types import Query


@click.group(cls=SuggestingGroup)
def rules() -> None:
    """Work with the rules of semroute.yaml."""


@rules.command()
@click.argument("query", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Test every row of a .jsonl, .csv or .txt file.",
)
@index_option
@config_option
@json_option
@metadata_option
def test(
    query: str | None,
    file: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
) -> None:
    """Show which rule QUERY meets, and why those before it do not.

    With --file, one line (with --json, one JSON object) for every row, in the order of the file. Rows have a "query":
    text, or a list of chat messages.
    """
    from semroute.cli.console import print_json, print_warning, stdout
    from semroute.cli.layout import Column
    from semroute.cli.routers import open_router
    from semroute.cli.tables import RowPrinter
    from semroute.errors import DataError
    from semroute.router.deciding import rules_of
    from semroute.router.text import as_messages
    from semroute.types import Request

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    router = open_router(index, config_path)
    strategy = rules_of(router.live, router.config)
    rows = RowPrinter(
        Column("rules met", "words"),
        Column("query", "excerpt"),
        likely=([f"{rule.name} (decided)" for rule in router.config.rules],),
    )
    for line, asked in _queries(query, file):
        try:
            text = _text(asked, file, line)
        except DataError as error:  # of a row: the others are looked at all the same
            print_warning(str(error))
            if as_json:
                print_json({"line": line, "error": str(error)})
            continue
        traces = strategy.trace(text, Request(as_messages(asked), metadata=metadata))
        if as_json:
            print_json({"query": text, "rules": [asdict(trace) for trace in traces], "outcome": outcome(traces)})
        elif file is None:
            stdout().print(_table(traces))
        else:
            rows.print(_fired(traces), rows.excerpt(text))


def outcome(traces: list[RuleTrace]) -> str:
    """What the rules together do with a query: one sentence for a person."""
    if not traces:
        return "there are no rules"
    last = traces[-1]
    narrowing = [trace.rule for trace in traces if trace.kind == "narrowed"]
    if last.kind == "decided":
        within = f", within what {_quoted(narrowing)} left" if narrowing else ""
        where = f"category {last.category}: " if last.category else ""
        return f"{_quoted([last.rule])} decides on {where}{', '.join(last.models)}{within}"
    if narrowing:
        return f"{_quoted(narrowing)} narrowed; the next strategy decides"
    return "no rule applies; the next strategy decides"


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _queries(query: str | None, file: Path | None) -> Iterator[tuple[int, Query]]:
    from semroute.categories import iter_queries

    if file is not None:
        yield from iter_queries(file)
    elif query is not None:
        yield 1, query


def _text(asked: Query, file: Path | None, line: int) -> str:
    from semroute.errors import DataError, QueryError
    from semroute.router.text import routable_text

    try:
        return routable_text(asked)
    except QueryError as error:
        if file is None:
            raise
        raise DataError(str(error), path=file, line=line) from error


def _fired(traces: list[RuleTrace]) -> str:
    fired = [trace for trace in traces if trace.kind != "passed"]
    return ", ".join(f"{trace.rule} ({trace.kind})" for trace in fired) or "-"


def _table(traces: list[RuleTrace]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable

    table = DataTable(Column("rule", "name"), Column("outcome", "label"), Column("why", "words"))
    for trace in traces:
        style = {"decided": "green", "narrowed": "cyan"}.get(trace.kind, "dim")
        why = Text(trace.why, style="" if trace.models else "dim")
        if trace.kind == "narrowed":
            why = Text.assemble(why, (f"  leaves {', '.join(trace.models)}", "cyan"))
        table.add_row(Text(trace.rule), Text(trace.kind, style=style), why)
    result = Text(outcome(traces), style="bold")
    return Group(table, Text(), result) if traces else result
