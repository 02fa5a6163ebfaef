"""Routing a stream of queries: in order, in chunks of what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from semroute.dispatch.validation import valid_request
from semroute.errors import DataError, InputError
from semroute.router.router import Router
from semroute.router.text import routed_text
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
) -> Iterator[Decision]:
    """Decide query after query, in their order.

    Up to :data:`CHUNK` queries are embedded together, but none waits for one that is not there yet.

    Args:
        router: decides.
        queries: line numbers and queries, as :func:`semroute.categories.iter_queries` yields them.
        source: where they come from, for messages.
        ready: whether the next query can be had without waiting.
        metadata: what is known of the caller, for rules.

    Raises:
        DataError: a line is malformed or holds nothing to route, with file and line; the decisions on all lines before
            it have been yielded.
    """
    rows = iter(queries)
    while True:
        requests: list[Request] = []
        failure: DataError | None = None
        ended = False
        while len(requests) < CHUNK and (not requests or ready()):
            try:
                row = next(rows, None)
                if row is None:
                    ended = True
                    break
                requests.append(_request(row, source, metadata))
            except DataError as error:
                failure = error
                break
        yield from router.route_many(requests)
        if failure is not None:
            raise failure
        if ended:
            return


def _request(row: tuple[int, Query], source: Path | str, metadata: Mapping[str, str]) -> Request:
    line, query = row
    try:
        request = valid_request(query)
        routed_text(request.messages)
    except InputError as error:
        raise DataError(str(error), path=source, line=line) from error
    return replace(request, metadata=metadata)
