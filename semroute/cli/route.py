"""``semroute route``: which category and model a query goes to, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option, metadata_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
def route(
    query: str | None,
    file: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    metadata: dict[str, str],
) -> None:
    """Say which category and model QUERY goes to, and why.

    With --file, one line (with --json, one JSON object) for every row, in the order of the file and as soon as the row
    is there. Rows have a "query": text, or a list of chat messages; one without any text is named, and the others go
    on. "-" stands for standard input after --file only.
    """
    from semroute.cli.console import print_json
    from semroute.cli.routers import logging_router

    if (query is None) == (file is None):
        raise click.UsageError("give either a QUERY or --file FILE")
    if file is not None:
        _route_file(file, index, config_path, as_json, metadata)
        return
    assert query is not None
    _refuse_empty(query)
    from semroute.router.explain import nearest_examples
    from semroute.router.text import as_messages
    from semroute.types import Request

    with logging_router(index, config_path) as router:
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
    from semroute.router.text import routed_text

    routed_text(query)


def _route_file(
    file: Path, index: Path | None, config_path: Path | None, as_json: bool, metadata: dict[str, str]
) -> None:
    from semroute.cli.console import print_json, print_text, print_warning
    from semroute.cli.decisions import decision_line

    def skip(error: DataError) -> None:
        # A program that reads on finds an object for every row.
        print_warning(str(error))
        if as_json:
            print_json({"line": error.line, "error": str(error)})

    from semroute.cli.routers import logging_router

    with logging_router(index, config_path) as router:
        width = max(map(len, (*router.live.models, "(fallback)")))
        for decision in _decisions(router, file, metadata, skip):
            if as_json:
                print_json(decision.to_dict())
            else:
                print_text(decision_line(decision, width))


def _decisions(
    router: Router, file: Path, metadata: dict[str, str], skip: Callable[[DataError], None]
) -> Iterator[Decision]:
    from semroute.categories import iter_queries
    from semroute.categories.arriving import ArrivingLines
    from semroute.router.stream import route_stream

    if str(file) != "-":
        return route_stream(router, iter_queries(file), source=file, metadata=metadata, skip=skip)
    lines = ArrivingLines(sys.stdin.buffer)
    queries = iter_queries(file, lines)
    return route_stream(router, queries, source="<stdin>", ready=lines.ready, metadata=metadata, skip=skip)
