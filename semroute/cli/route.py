"""``semroute route``: which category and model a query goes to, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option, metadata_option, no_log_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from semroute.errors import DataError
    from semroute.router import Router
    from semroute.types import Decision

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
@no_log_option
def route(
    query: str | None,
    file: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
    no_log: bool,
) -> None:
    """Say which category and model QUERY goes to, and why.

    With --file, one line (with --json, one JSON object) for every row, in the order of the file and as soon as the row
    is there. Rows have a "query": text, or a list of chat messages. "-" stands for standard input after --file only. A
    row that cannot be routed gets a line that says why, and the exit code at the end is 2.
    """
    from semroute.cli.console import print_json
    from semroute.cli.routers import logging_router

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    if file is not None:
        _route_file(file, index, config_path, as_json, metadata, is_logged=not no_log)
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
    is_logged: bool,
) -> None:
    from semroute.cli.console import print_json
    from semroute.cli.decisions import decision_rows, print_decision
    from semroute.cli.routers import logging_router
    from semroute.errors import DataError

    failed: list[DataError] = []
    rows = 0
    with logging_router(index, config_path, is_wanted=is_logged) as router:
        printed = decision_rows(router.live.models, router.config.models)
        for found in _decisions(router, file, metadata):
            rows += 1
            if isinstance(found, DataError):
                failed.append(found)
            if as_json:
                print_json(_error_dict(found) if isinstance(found, DataError) else found.to_dict())
            elif isinstance(found, DataError):
                printed.print_words("(error)", str(found))
            else:
                print_decision(printed, found)
    if len(failed) > 1:
        raise DataError(f"{failed[0]} ({len(failed):,} of {rows:,} rows cannot be routed)")
    if failed:
        raise failed[0]


def _error_dict(error: DataError) -> dict[str, object]:
    return {"line": error.line, "error": str(error)}


def _decisions(router: Router, file: Path, metadata: dict[str, str]) -> Iterator[Decision | DataError]:
    from semroute.categories import iter_queries_or_errors
    from semroute.categories.arriving import ArrivingLines
    from semroute.router.stream import route_rows

    if str(file) != "-":
        return route_rows(router, iter_queries_or_errors(file), source=file, metadata=metadata)
    lines = ArrivingLines(sys.stdin.buffer)
    rows = iter_queries_or_errors(file, lines)
    return route_rows(router, rows, source="<stdin>", ready=lines.ready, metadata=metadata)
