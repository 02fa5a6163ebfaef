"""Routing of queries and streams, neighbours, and matching rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from semroute.data.queries import ArrivingLines, iter_queries_or_errors
from semroute.dispatch.validation import valid_request
from semroute.errors import DataError, InputError, QueryError
from semroute.router.load import NearestExample, nearest_examples
from semroute.router.query import as_messages, routable_text
from semroute.types import Decision, Query, Request

if TYPE_CHECKING:
    from semroute.dispatch.constraints import Preference
    from semroute.router import Router
    from semroute.strategies.rules import RuleTrace

NEAREST = 5
"""Nearest examples returned with a decision."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RoutedQuery:
    """Decision on a query, with the nearest examples."""

    decision: Decision
    nearest: Sequence[NearestExample]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        examples = [{"category": e.category, "query": e.query, "similarity": e.similarity} for e in self.nearest]
        return {**self.decision.to_dict(), "nearest": examples}


def explain_routing(
    router: Router, query: Query, metadata: Mapping[str, str] = NOTHING, prefer: Preference | None = None
) -> RoutedQuery:
    """Route a query, and return its nearest examples as well.

    Raises:
        QueryError: the query is empty.
    """
    decision = router.route(Request(as_messages(query), metadata=metadata), prefer=prefer)
    return RoutedQuery(decision, nearest_examples(router.live, decision.query, NEAREST))


def route_file(
    router: Router,
    file: Path,
    metadata: Mapping[str, str] = NOTHING,
    prefer: Preference | None = None,
    *,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[Query | None, Decision | DataError]]:
    """Yield query and decision of each row, in order; of a bad row the error.

    Args:
        router: the router that decides.
        file: ``.jsonl``, ``.csv`` or ``.txt``.
        metadata: metadata of the caller, for rules.
        prefer: as for :meth:`Router.route`.
        stdin: JSONL to read instead of the file, as it arrives.

    Raises:
        DataError: the rest of the file cannot be read.
    """

    # Rows are decided in chunks: a query waits here for its decision.
    waiting: deque[Query | None] = deque()

    def noted(rows: Iterable[tuple[int, Query] | DataError]) -> Iterator[tuple[int, Query] | DataError]:
        for row in rows:
            waiting.append(None if isinstance(row, DataError) else row[1])
            yield row

    if stdin is None:
        found = route_rows(router, noted(iter_queries_or_errors(file)), source=file, metadata=metadata, prefer=prefer)
    else:
        lines = ArrivingLines(stdin)
        rows = noted(iter_queries_or_errors(file, lines))
        found = route_rows(router, rows, source="<stdin>", ready=lines.ready, metadata=metadata, prefer=prefer)
    for decision in found:
        yield waiting.popleft(), decision


# Rules that match a query.


@dataclass(frozen=True, slots=True)
class RuleTest:
    """Rules that a query matches, and why earlier ones do not.

    Attributes:
        query: the routed text.
        traces: of each rule that was tried, in order.
    """

    query: str
    traces: list[RuleTrace]

    @property
    def outcome(self) -> str:
        """Return the combined outcome of the rules, in one sentence."""
        if not self.traces:
            return "there are no rules"
        last = self.traces[-1]
        narrowing = [trace.rule for trace in self.traces if trace.kind == "narrowed"]
        if last.kind == "decided":
            within = f", within what {_quoted(narrowing)} left" if narrowing else ""
            where = f"category {last.category}: " if last.category else ""
            return f"{_quoted([last.rule])} decides on {where}{', '.join(last.models)}{within}"
        if narrowing:
            return f"{_quoted(narrowing)} narrowed; the next strategy decides"
        return "no rule applies; the next strategy decides"

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"query": self.query, "rules": [asdict(trace) for trace in self.traces], "outcome": self.outcome}


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def trace_rules(
    router: Router, queries: Iterable[tuple[int, Query]], metadata: Mapping[str, str] = NOTHING, *, file: Path | None
) -> Iterator[tuple[int, RuleTest | DataError]]:
    """Yield line and matching rules of each query; of a bad row the error.

    Args:
        router: the router with the rules.
        queries: line numbers and queries.
        metadata: metadata of the caller, for rules.
        file: their file, for messages; None for a single query.

    Raises:
        QueryError: a single query cannot be routed.
    """
    from semroute.router.decide import rules_of

    strategy = rules_of(router.live, router.config)
    for line, query in queries:
        try:
            text = routable_text(query)
        except QueryError as error:
            if file is None:
                raise
            yield line, DataError(str(error), path=file, line=line)
            continue
        yield line, RuleTest(text, strategy.trace(text, Request(as_messages(query), metadata=metadata)))


# Streams of queries, routed in order and in chunks.

CHUNK = 64


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
