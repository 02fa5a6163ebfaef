"""``semroute route``: which category and model a query goes to, and why."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from semroute.cli.console import config_option, index_option, json_option, metadata_option, no_log_option
from semroute.cli.layout import Column
from semroute.cli.main import SuggestingGroup
from semroute.cli.tables import DataTable, RowPrinter, number
from semroute.data.examples import shortened
from semroute.types import total_cost

if TYPE_CHECKING:
    from semroute.errors import DataError
    from semroute.router import Router
    from semroute.router.load import NearestExample
    from semroute.strategies.rules import RuleTrace
    from semroute.types import Decision, Query, StrategyResult
    from semroute.workflows.estimate import EstimateTally
    from semroute.workflows.pool import PricedPool


NEAREST = 5
"""Examples shown with a decision."""


@click.command()
@click.argument("query", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Route every row of a .jsonl, .csv or .txt file; "-" reads JSONL from standard input.',
)
@index_option
@config_option
@json_option
@metadata_option
@click.option("--summary/--no-summary", default=True, help="After --file, say on standard error what it would cost.")
@no_log_option
def route(
    query: str | None,
    file: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
    summary: bool,
    no_log: bool,
) -> None:
    """Say which category and model QUERY goes to, and why.

    With --file, one line (with --json, one JSON object) for every row, in the order of the file and as soon as the row
    is there. Rows have a "query": text, or a list of chat messages. "-" stands for standard input after --file only. A
    row that cannot be routed gets a line that says why, and the exit code at the end is 2. At the end, standard error
    has the share by model and what the rows would cost; "semroute estimate" says more.
    """
    from semroute.cli.console import print_json
    from semroute.cli.encoding import logging_router

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    if file is not None:
        _route_file(file, index, config_path, as_json, metadata, summary=summary, is_logged=not no_log)
        return
    assert query is not None
    _refuse_empty(query)
    from semroute.router.load import nearest_examples
    from semroute.router.query import as_messages
    from semroute.types import Request

    with logging_router(index, config_path, is_wanted=not no_log) as router:
        decision = router.route(Request(as_messages(query), metadata=metadata))
        nearest = nearest_examples(router.live, decision.query, NEAREST)
    if as_json:
        examples = [{"category": e.category, "query": e.query, "similarity": e.similarity} for e in nearest]
        print_json({**decision.to_dict(), "nearest": examples})
    else:
        from semroute.cli.console import stdout

        stdout().print(decision_panel(decision, nearest))


def _refuse_empty(query: str) -> None:
    """Say so before an index is opened, or even built."""
    from semroute.router.query import routable_text

    routable_text(query)


def _route_file(
    file: Path,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
    *,
    summary: bool,
    is_logged: bool,
) -> None:
    from semroute.cli.console import print_error
    from semroute.cli.encoding import logging_router
    from semroute.errors import DataError

    failed: list[DataError] = []
    with logging_router(index, config_path, is_wanted=is_logged) as router:
        bill = _Bill(router, file) if summary else None
        try:
            rows = _print_rows(router, file, metadata, as_json, failed, bill)
        except DataError as error:  # what follows in the file cannot be read
            rows, failed = 0, [error]
    if bill is None or not bill.rows:
        if failed:
            raise _failure(failed, rows)
        return
    if failed:
        print_error(str(_failure(failed, rows)))
    bill.print()
    if failed:
        click.get_current_context().exit(failed[0].exit_code)


def _print_rows(
    router: Router,
    file: Path,
    metadata: dict[str, str],
    as_json: bool,
    failed: list[DataError],
    bill: _Bill | None,
) -> int:
    """Print a line for each row, and return their number."""
    from semroute.cli.console import print_json
    from semroute.errors import DataError

    printed, rows = decision_rows(router.live.models, router.config.models), 0
    asked: deque[Query | None] = deque()
    for found in _decisions(router, file, metadata, asked):
        rows += 1
        query = asked.popleft()
        if isinstance(found, DataError):
            failed.append(found)
            if as_json:
                print_json(_error_dict(found))
            else:
                printed.print_words("(error)", str(found))
            continue
        if as_json:
            print_json(found.to_dict())
        else:
            print_decision(printed, found)
        if bill is not None and query is not None:
            bill.add(query, found)
    return rows


def _failure(failed: list[DataError], rows: int) -> DataError:
    from semroute.errors import DataError

    if len(failed) == 1:
        return failed[0]
    return DataError(f"{failed[0]} ({len(failed):,} of {rows:,} rows cannot be routed)")


class _Bill:
    """The share by model and the cost of the rows, added up as they pass.

    Args:
        router: decides.
        file: where the rows are from.
    """

    def __init__(self, router: Router, file: Path) -> None:
        self._router = router
        self._shown = "standard input" if str(file) == "-" else file.name
        self._source = str(file)
        self._held: tuple[PricedPool, EstimateTally] | None = None

    @property
    def rows(self) -> int:
        """Number of rows that were added."""
        return 0 if self._held is None else self._held[1].rows

    def add(self, query: Query, decision: Decision) -> None:
        """Add a row that was routed."""
        from semroute.dispatch.validation import valid_request
        from semroute.workflows.requests import RequestRow

        # Not before the first line is out: the price list takes a third of a second.
        if self._held is None:
            from semroute.cli.estimate import pool_of
            from semroute.workflows.estimate import EstimateTally

            pool = pool_of(self._router, self._router.config, {})
            self._held = pool, EstimateTally(self._router.config, pool)
        self._held[1].add(RequestRow(valid_request(query)), decision)

    def print(self) -> None:
        """Print the bill on standard error, apart from the decisions."""
        from semroute.cli.console import stderr
        from semroute.cli.estimate import escalation_of, print_bill
        from semroute.workflows.assumptions import summarized

        if self._held is None:
            return
        pool, tally = self._held
        made = tally.estimate(escalation=escalation_of(tally, self._router.config))
        console = stderr()
        console.print()
        print_bill(console, made, pool, self._shown, summarized(made, self._source))


def _error_dict(error: DataError) -> dict[str, object]:
    return {"line": error.line, "error": str(error)}


def _decisions(
    router: Router, file: Path, metadata: dict[str, str], asked: deque[Query | None]
) -> Iterator[Decision | DataError]:
    """Yield what becomes of each row; ``asked`` takes the queries of the rows that were read, None for an error."""
    from semroute.data.queries import ArrivingLines, iter_queries_or_errors
    from semroute.errors import DataError
    from semroute.workflows.stream import route_rows

    def noted(rows: Iterable[tuple[int, Query] | DataError]) -> Iterator[tuple[int, Query] | DataError]:
        for row in rows:
            asked.append(None if isinstance(row, DataError) else row[1])
            yield row

    if str(file) != "-":
        return route_rows(router, noted(iter_queries_or_errors(file)), source=file, metadata=metadata)
    lines = ArrivingLines(sys.stdin.buffer)
    rows = noted(iter_queries_or_errors(file, lines))
    return route_rows(router, rows, source="<stdin>", ready=lines.ready, metadata=metadata)


# A decision on the terminal: a panel for one, a line for each of many.

WIDEST = 110
"""Columns that the panel takes at most: longer lines are hard to read."""


def decision_panel(decision: Decision, nearest: Sequence[NearestExample]) -> RenderableType:
    """Everything of a decision that a person wants to see."""
    colour = "yellow" if decision.is_fallback else "green"
    title = Text(decision.category or _uncategorised(decision), style=f"bold {colour}")
    body: list[RenderableType] = [_facts(decision, colour)]
    if nearest and decision.categories:  # else the examples had no part in it
        best = decision.categories[0].category
        body += [Text(), Text("nearest examples", style="bold"), _examples(nearest, best)]
    return Panel(Group(*body), title=title, title_align="left", border_style=colour, width=None, expand=False)


def decision_rows(categories: Iterable[str], models: Iterable[str]) -> RowPrinter:
    """Return what prints a decision a row: category, model, score, confidence and the start of the query.

    Args:
        categories: names that may come.
        models: names that may come.
    """
    columns = (
        Column("category", "name"),
        Column("model", "name"),
        Column("score"),
        Column("confidence"),
        Column("query", "excerpt"),
    )
    return RowPrinter(*columns, likely=([*categories, "(fallback)"], models, ["0.000"], ["100%"]))


def print_decision(rows: RowPrinter, decision: Decision) -> None:
    """Print a decision as a row."""
    category = decision.category or ("(fallback)" if decision.is_fallback else f"({decision.strategy})")
    confidence = "-" if decision.confidence is None else f"{decision.confidence:.0%}"
    rows.print(category, decision.model, number(decision.score), confidence, rows.excerpt(decision.query))


def _uncategorised(decision: Decision) -> str:
    return "no category: fallback" if decision.is_fallback else f"no category: decided by {decision.strategy}"


def _facts(decision: Decision, colour: str) -> DataTable:
    columns = Column("", "label", "dim"), Column("", "words", most=WIDEST - 20)
    table = DataTable(*columns, has_header=False)
    table.add_row("query", Text(shortened(decision.query, 240)))
    table.add_row("model", Text.assemble((decision.model, "bold"), *_then(decision.candidates[1:])))
    if decision.cascade:
        tiers = (" or ".join(tier) for tier in decision.cascade)
        table.add_row("cascade", Text.assemble(", then ".join(tiers), ("  where an answer is not accepted", "dim")))
    if decision.categories:
        _add_scores(table, decision, colour)
    # Where semantic routing alone was asked, the lines above say it all.
    for opinion in decision.opinions if [said.strategy for said in decision.opinions] != ["semantic"] else ():
        table.add_row(opinion.strategy, _said(opinion))
    steps = ", ".join(f"{step} {spent:.2f}" for step, spent in decision.steps_ms.items())
    table.add_row("time", Text.assemble(f"{decision.elapsed_ms:.2f} ms", (f"  ({steps})", "dim")))
    return table


def _said(opinion: StrategyResult) -> Text:
    style = {"decided": "green", "narrowed": "cyan"}.get(opinion.kind, "")
    cost = total_cost(opinion.attempts)
    paid = [] if cost is None else [(f"  {'about ' if cost.estimated else ''}{cost.usd:.6f} USD", "dim")]
    left = f" to {', '.join(opinion.candidates)}" if opinion.kind == "narrowed" else ""
    return Text.assemble((opinion.kind + left, style), (f"  {opinion.reason}", "dim"), *paid)


def _add_scores(table: DataTable, decision: Decision, colour: str) -> None:
    best = decision.categories[0]
    sign = "<" if best.score < best.threshold else "≥"
    bar = (f"{best.threshold:.3f}", (" threshold", "dim"))
    table.add_row("best", Text.assemble((best.category, colour), f"  {best.score:.3f} {sign} ", *bar))
    if len(decision.categories) > 1:
        second = decision.categories[1]
        lead = best.score - second.score
        table.add_row(
            "runner-up", Text.assemble(second.category, f"  {second.score:.3f}", (f"  {lead:.3f} behind", "dim"))
        )
    if decision.confidence is not None:
        table.add_row("confidence", Text.assemble(f"{decision.confidence:.1%}", ("  if it is in scope", "dim")))


def _then(models: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"  then {', '.join(models)}", "dim")] if models else []


def _examples(nearest: Sequence[NearestExample], best: str) -> DataTable:
    columns = Column("similarity"), Column("category", "name"), Column("example", "words", most=WIDEST - 30)
    table = DataTable(*columns)
    for example in nearest:
        style = "green" if example.category == best else "yellow"
        table.add_row(f"{example.similarity:.3f}", Text(example.category, style=style), shortened(example.query, 120))
    return table


# ``semroute rules``: which rule of ``semroute.yaml`` a query meets, and why those before it do not.


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
    from semroute.cli.encoding import open_router
    from semroute.cli.layout import Column
    from semroute.cli.tables import RowPrinter
    from semroute.errors import DataError
    from semroute.router.decide import rules_of
    from semroute.router.query import as_messages
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
    from semroute.data.queries import iter_queries

    if file is not None:
        yield from iter_queries(file)
    elif query is not None:
        yield 1, query


def _text(asked: Query, file: Path | None, line: int) -> str:
    from semroute.errors import DataError, QueryError
    from semroute.router.query import routable_text

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
