"""Routing a stream of queries: in order, in chunks of what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from semroute.errors import DataError, QueryError
from semroute.router.router import Router
from semroute.router.text import as_messages, routed_text
from semroute.types import Decision, Query, Request

CHUNK = 64
NOTHING: Mapping[str, str] = MappingProxyType({})


def route_stream(
    router: Router,
    queries: Iterable[tuple[int, Query]],
    *,
    source: Path | str,
    ready: Callable[[], bool] = lambda: True,
    metadata: Mapping[str, str] = NOTHING,
    skip: Callable[[DataError], object] | None = None,
) -> Iterator[Decision]:
    """Decide query after query, in their order.

    Up to :data:`CHUNK` queries are embedded together, but none waits for one that is not there yet.

    Args:
        router: decides.
        queries: line numbers and queries, as :func:`semroute.categories.iter_queries` yields them.
        source: where they come from, for messages.
        ready: whether the next query can be had without waiting.
        metadata: what is known of the caller, for rules.
        skip: takes the error of a row that holds nothing to route, after the decisions on all rows before it; None
            ends with it.

    Raises:
        DataError: a line is malformed or, without ``skip``, holds nothing to route, with file and line; the decisions
            on all lines before it have been yielded.
    """
    rows = iter(queries)
    while True:
        requests: list[Request | DataError] = []
        failure: DataError | None = None
        ended = False
        while len(requests) < CHUNK and (not requests or ready()):
            try:
                row = next(rows, None)
                if row is None:
                    ended = True
                    break
            except DataError as error:
                failure = error
                break
            request = _request(row, source, metadata)
            if isinstance(request, DataError) and skip is None:
                failure = request
                break
            requests.append(request)
        decided = iter(router.route_many([request for request in requests if isinstance(request, Request)]))
        for request in requests:
            if isinstance(request, Request):
                yield next(decided)
            elif skip is not None:
                skip(request)
        if failure is not None:
            raise failure
        if ended:
            return


def _request(row: tuple[int, Query], source: Path | str, metadata: Mapping[str, str]) -> Request | DataError:
    line, query = row
    try:
        routed_text(query)
    except QueryError as error:
        return DataError(str(error), path=source, line=line)
    return Request(as_messages(query), metadata=metadata)
