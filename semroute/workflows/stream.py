"""Routing of a stream of queries, in order and in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from semroute.dispatch.constraints import Preference
from semroute.dispatch.validation import valid_request
from semroute.errors import DataError, InputError
from semroute.router.query import routable_text
from semroute.router.router import Router
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
    """Yield the decisions of :func:`route_rows` until the first error.

    Raises:
        DataError: a line is malformed or, without ``skip``, holds nothing to route, with file and line; the decisions
            on all lines before it have been yielded.
    """
    for found in route_rows(router, queries, source=source, ready=ready, metadata=metadata):
        if isinstance(found, DataError):
            raise found
        yield found


def route_rows(
    router: Router,
    queries: Iterable[tuple[int, Query] | DataError],
    *,
    source: Path | str,
    ready: Callable[[], bool] = lambda: True,
    metadata: Mapping[str, str] = NOTHING,
    prefer: Preference | None = None,
) -> Iterator[Decision | DataError]:
    """Yield the decision or the error of each row, in order.

    Up to :data:`CHUNK` available queries are embedded together; none waits for later ones.

    Args:
        router: the router that decides.
        queries: line numbers and queries, as :func:`semroute.data.iter_queries` yields them, and errors in place
            of malformed rows.
        source: their file, for messages.
        ready: whether the next query can be had without waiting.
        metadata: metadata of the caller, for rules.
        prefer: as for :meth:`semroute.router.Router.route_many`.

    Raises:
        DataError: as ``queries``; decisions on earlier rows have been yielded.
    """
    rows = iter(queries)
    ended = False
    while not ended:
        found: list[Request | DataError] = []
        failure: DataError | None = None
        while len(found) < CHUNK and (not found or ready()):
            try:
                row = next(rows, None)
            except DataError as error:
                failure = error
                break
            if row is None:
                ended = True
                break
            found.append(row if isinstance(row, DataError) else _request(row, source, metadata))
        requests = [one for one in found if not isinstance(one, DataError)]
        decisions = iter(router.route_many(requests, prefer=prefer))
        for one in found:
            yield one if isinstance(one, DataError) else next(decisions)
        if failure is not None:
            raise failure


def _request(row: tuple[int, Query], source: Path | str, metadata: Mapping[str, str]) -> Request | DataError:
    line, query = row
    try:
        request = valid_request(query)
        routable_text(request.messages)
    except InputError as error:
        return DataError(str(error), path=source, line=line)
    return replace(request, metadata=metadata)
