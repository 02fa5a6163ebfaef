"""Routing a stream of queries: in order, in chunks of what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from semroute.errors import DataError, QueryError
from semroute.router.router import Router
from semroute.router.text import routed_text
from semroute.types import Decision, Query

CHUNK = 64


def route_stream(
    router: Router,
    queries: Iterable[tuple[int, Query]],
    *,
    source: Path | str,
    ready: Callable[[], bool] = lambda: True,
) -> Iterator[Decision]:
    """Decide query after query, in their order.

    Up to :data:`CHUNK` queries are embedded together, but none waits for one that is not there yet.

    Args:
        router: decides.
        queries: line numbers and queries, as :func:`semroute.categories.iter_queries` yields them.
        source: where they come from, for messages.
        ready: whether the next query can be had without waiting.

    Raises:
        DataError: a line is malformed or holds nothing to route, with file and line; the decisions on all lines before
            it have been yielded.
    """
    rows = iter(queries)
    while True:
        texts: list[str] = []
        failure: DataError | None = None
        ended = False
        while len(texts) < CHUNK and (not texts or ready()):
            try:
                row = next(rows, None)
                if row is None:
                    ended = True
                    break
                texts.append(_text(row, source))
            except DataError as error:
                failure = error
                break
        yield from router.route_many(texts)
        if failure is not None:
            raise failure
        if ended:
            return


def _text(row: tuple[int, Query], source: Path | str) -> str:
    line, query = row
    try:
        return routed_text(query)
    except QueryError as error:
        raise DataError(str(error), path=source, line=line) from error
