"""``semroute route`` and ``semroute rules``: a decision, and its reasons."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from semroute.cli.console import (
    config_option,
    index_option,
    json_option,
    metadata_option,
    no_log_option,
    prefer_option,
)
from semroute.cli.layout import Column
from semroute.cli.main import SuggestingGroup
from semroute.cli.tables import DataTable, RowPrinter, number
from semroute.data.examples import shortened
from semroute.types import tier_label, total_cost

if TYPE_CHECKING:
    from semroute.dispatch.constraints import Preference
    from semroute.errors import DataError
    from semroute.router import Router
    from semroute.router.load import NearestExample
    from semroute.strategies.rules import RuleTrace
    from semroute.types import Decision, Query, StrategyResult
    from semroute.workflows.estimate import EstimateTally
    from semroute.workflows.pool import PricedPool
    from semroute.workflows.routing import RuleTest


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
@prefer_option
@click.option("--summary/--no-summary", default=True, help="After --file, say on standard error what it would cost.")
@no_log_option
def route(
    query: str | None,
    file: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
    prefer: Preference | None,
    summary: bool,
    no_log: bool,
) -> None:
    """Say which category and model QUERY goes to, and why.

    With --file, one line (with --json, one JSON object) for every row, in the order of the file and as soon as the row
    is there. Rows have a "query": text, or a list of chat messages. "-" stands for standard input after --file only. A
    row that cannot be routed gets a line that says why, and the exit code at the end is 2. At the end, standard error
    has the share by model and what the rows would cost; "semroute estimate" says more.
    """
    from semroute.cli.console import print_json, stdout

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    if file is not None:
        _route_file(file, index, config_path, as_json, metadata, prefer, summary=summary, is_logged=not no_log)
        return
    assert query is not None
    _refuse_empty(query)
    from semroute.workflows.routing import explain_routing

    with _logging_router(index, config_path, is_logged=not no_log) as router:
        routed = explain_routing(router, query, metadata, prefer)
    if as_json:
        print_json(routed.to_dict())
    else:
        stdout().print(decision_panel(routed.decision, routed.nearest))


@contextmanager
def _logging_router(index: Path | None, config_path: Path | None, *, is_logged: bool) -> Iterator[Router]:
    from semroute.cli.console import shown_work
    from semroute.workflows.workspace import Workspace

    with ExitStack() as bars:
        progress, warn = bars.enter_context(shown_work())
        opened = Workspace(index, config_path).logging_router(warn, is_logged=is_logged, progress=progress)
        with opened as router:
            bars.close()
            yield router


def _refuse_empty(query: str) -> None:
    """Reject an empty query before an index is opened, or even built."""
    from semroute.router.query import routable_text

    routable_text(query)


def _route_file(
    file: Path,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
    prefer: Preference | None,
    *,
    summary: bool,
    is_logged: bool,
) -> None:
    from semroute.cli.console import print_error
    from semroute.errors import DataError

    failed: list[DataError] = []
    with _logging_router(index, config_path, is_logged=is_logged) as router:
        bill = _BillPrinter(router, file) if summary else None
        try:
            rows = _print_rows(router, file, metadata, prefer, as_json, failed, bill)
        except DataError as error:  # the rest of the file cannot be read
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
    prefer: Preference | None,
    as_json: bool,
    failed: list[DataError],
    bill: _BillPrinter | None,
) -> int:
    """Print a line for each row, and return their number."""
    from semroute.cli.console import print_json
    from semroute.errors import DataError
    from semroute.workflows.routing import route_file

    printed, rows = decision_rows(router.live.models, router.config.models), 0
    stdin = sys.stdin.buffer if str(file) == "-" else None
    for query, found in route_file(router, file, metadata, prefer, stdin=stdin):
        rows += 1
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


class _BillPrinter:
    """Running share by model, and cost, of the routed rows.

    Args:
        router: the router that decides.
        file: source of the rows.
    """

    def __init__(self, router: Router, file: Path) -> None:
        self._router = router
        self._shown = "standard input" if str(file) == "-" else file.name
        self._source = str(file)
        self._held: tuple[PricedPool, EstimateTally] | None = None

    @property
    def rows(self) -> int:
        """Return the number of rows that were added."""
        return 0 if self._held is None else self._held[1].rows

    def add(self, query: Query, decision: Decision) -> None:
        """Add a routed row."""
        from semroute.dispatch.validation import valid_request
        from semroute.workflows.requests import RequestRow

        # Loaded after the first line is printed: the price list takes a third of a second.
        if self._held is None:
            from semroute.workflows.bill import router_pool
            from semroute.workflows.estimate import EstimateTally

            pool = router_pool(self._router, self._router.config, {})
            self._held = pool, EstimateTally(self._router.config, pool)
        self._held[1].add(RequestRow(valid_request(query)), decision)

    def print(self) -> None:
        """Print the bill on standard error, separate from the decisions."""
        from semroute.cli.console import stderr
        from semroute.cli.estimate import print_bill
        from semroute.workflows.assumptions import gaps, summarized
        from semroute.workflows.bill import configured_escalation

        if self._held is None:
            return
        pool, tally = self._held
        made = tally.estimate(escalation=configured_escalation(tally, self._router.config))
        console = stderr()
        console.print()
        print_bill(console, made, self._shown, summarized(made, self._source), gaps(made, pool))


def _error_dict(error: DataError) -> dict[str, object]:
    return {"line": error.line, "error": str(error)}


# A decision on the terminal: a panel for one, a line for each of many.

WIDEST = 110
"""Maximum columns of the panel: longer lines are hard to read."""


def decision_panel(decision: Decision, nearest: Sequence[NearestExample]) -> RenderableType:
    """Return a panel with all of a decision."""
    colour = "yellow" if decision.is_fallback else "green"
    title = Text(decision.category or _uncategorised(decision), style=f"bold {colour}")
    body: list[RenderableType] = [_facts(decision, colour)]
    if nearest and decision.categories:  # else the examples had no influence
        best = decision.categories[0].category
        body += [Text(), Text("nearest examples", style="bold"), _examples(nearest, best)]
    return Panel(Group(*body), title=title, title_align="left", border_style=colour, width=None, expand=False)


def decision_rows(categories: Iterable[str], models: Iterable[str]) -> RowPrinter:
    """Return a printer of decisions, one per row.

    A row has category, model, score, confidence and the start of the query.

    Args:
        categories: names that may occur.
        models: names that may occur.
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
        efforts = decision.efforts or (None,) * len(decision.cascade)
        tiers = (tier_label(" or ".join(tier), effort) for tier, effort in zip(decision.cascade, efforts, strict=True))
        table.add_row("cascade", Text.assemble(", then ".join(tiers), ("  where an answer is not accepted", "dim")))
    if decision.categories:
        _add_scores(table, decision, colour)
    # With semantic routing as the only strategy, the lines above are enough.
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


# ``semroute rules``: which rule of ``semroute.yaml`` matches a query, and why earlier ones do not.


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
    from semroute.cli.console import print_json, print_warning, progress_bars, stdout
    from semroute.data.queries import iter_queries
    from semroute.errors import DataError
    from semroute.workflows.routing import trace_rules
    from semroute.workflows.workspace import Workspace

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    with progress_bars() as progress:
        router = Workspace(index, config_path).router(progress=progress)
    rows = RowPrinter(
        Column("rules met", "words"),
        Column("query", "excerpt"),
        likely=([f"{rule.name} (decided)" for rule in router.config.rules],),
    )
    queries: Iterable[tuple[int, Query]] = [(1, query or "")] if file is None else iter_queries(file)
    for line, found in trace_rules(router, queries, metadata, file=file):
        if isinstance(found, DataError):  # of a row: later rows are still routed
            print_warning(str(found))
            if as_json:
                print_json({"line": line, "error": str(found)})
        elif as_json:
            print_json(found.to_dict())
        elif file is None:
            stdout().print(_table(found))
        else:
            rows.print(_fired(found.traces), rows.excerpt(found.query))


def _fired(traces: list[RuleTrace]) -> str:
    fired = [trace for trace in traces if trace.kind != "passed"]
    return ", ".join(f"{trace.rule} ({trace.kind})" for trace in fired) or "-"


def _table(test: RuleTest) -> RenderableType:
    table = DataTable(Column("rule", "name"), Column("outcome", "label"), Column("why", "words"))
    for trace in test.traces:
        style = {"decided": "green", "narrowed": "cyan"}.get(trace.kind, "dim")
        why = Text(trace.why, style="" if trace.models else "dim")
        if trace.kind == "narrowed":
            why = Text.assemble(why, (f"  leaves {', '.join(trace.models)}", "cyan"))
        table.add_row(Text(trace.rule), Text(trace.kind, style=style), why)
    result = Text(test.outcome, style="bold")
    return Group(table, Text(), result) if test.traces else result
