"""``semroute route``: which category and model a query goes to, and why."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option, metadata_option, no_log_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from semroute.errors import DataError
    from semroute.router import Router
    from semroute.types import Decision, Query
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
    from semroute.cli.routers import logging_router

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    if file is not None:
        _route_file(file, index, config_path, as_json, metadata, summary=summary, is_logged=not no_log)
        return
    assert query is not None
    _refuse_empty(query)
    from semroute.router.explain import nearest_examples
    from semroute.router.text import as_messages
    from semroute.types import Request

    with logging_router(index, config_path, is_wanted=not no_log) as router:
        decision = router.route(Request(as_messages(query), metadata=metadata))
        nearest = nearest_examples(router.live, decision.query, NEAREST)
    if as_json:
        examples = [{"category": e.category, "query": e.query, "similarity": e.similarity} for e in nearest]
        print_json({**decision.to_dict(), "nearest": examples})
    else:
        from semroute.cli.console import stdout
        from semroute.cli.decisions import decision_panel

        stdout().print(decision_panel(decision, nearest))


def _refuse_empty(query: str) -> None:
    """Say so before an index is opened, or even built."""
    from semroute.router.text import routable_text

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
    from semroute.cli.routers import logging_router
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
    from semroute.cli.decisions import decision_rows, print_decision
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
    from semroute.categories import iter_queries_or_errors
    from semroute.categories.arriving import ArrivingLines
    from semroute.errors import DataError
    from semroute.router.stream import route_rows

    def noted(rows: Iterable[tuple[int, Query] | DataError]) -> Iterator[tuple[int, Query] | DataError]:
        for row in rows:
            asked.append(None if isinstance(row, DataError) else row[1])
            yield row

    if str(file) != "-":
        return route_rows(router, noted(iter_queries_or_errors(file)), source=file, metadata=metadata)
    lines = ArrivingLines(sys.stdin.buffer)
    rows = noted(iter_queries_or_errors(file, lines))
    return route_rows(router, rows, source="<stdin>", ready=lines.ready, metadata=metadata)
