from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semroute.errors import DataError
from semroute.router import Router
from semroute.types import Query
from semroute.workflows.routing import CHUNK, route_stream


@pytest.fixture(scope="module")
def router(routing_index: Path) -> Router:
    return Router.load(routing_index)


@pytest.mark.slow
def test_decisions_come_in_the_order_of_the_queries_across_chunks(router: Router) -> None:
    queries = [(line, f"boil {line} eggs") for line in range(1, 2 * CHUNK + 4)]
    assert [d.query for d in route_stream(router, queries, source="q")] == [query for _, query in queries]


def test_nothing_is_decided_of_nothing(router: Router) -> None:
    assert list(route_stream(router, [], source="q")) == []


def test_a_query_does_not_wait_for_one_that_is_not_there(router: Router) -> None:
    taken: list[int] = []

    def queries() -> Iterator[tuple[int, Query]]:
        for line in range(1, 6):
            taken.append(line)
            yield line, f"egg {line}"

    decisions = route_stream(router, queries(), source="q", ready=lambda: len(taken) % 2 == 1)
    assert next(decisions).query == "egg 1"
    assert taken == [1, 2]
    assert [next(decisions).query, next(decisions).query] == ["egg 2", "egg 3"]
    assert taken == [1, 2, 3, 4]


def test_messages_are_routed_by_their_last_user_turn(router: Router) -> None:
    messages = [{"role": "user", "content": "how long do I boil an egg"}, {"role": "assistant", "content": "5 minutes"}]
    (decision,) = route_stream(router, [(1, messages)], source="q")
    assert (decision.category, decision.query) == ("cooking", "how long do I boil an egg")


@pytest.mark.parametrize(
    "bad",
    [" ", [{"role": "assistant", "content": "hello"}], [{"role": "user", "content": [{"type": "text", "text": 3}]}]],
)
def test_what_cannot_be_routed_is_named_after_the_decisions_before_it(router: Router, bad: Query) -> None:
    decisions = route_stream(router, [(4, "boil an egg"), (7, bad), (8, "never")], source="q.jsonl")
    assert next(decisions).query == "boil an egg"
    with pytest.raises(DataError, match=r"^q\.jsonl:7: "):
        next(decisions)


def test_a_malformed_line_is_raised_after_the_decisions_before_it(router: Router) -> None:
    def queries() -> Iterator[tuple[int, Query]]:
        yield 1, "boil an egg"
        raise DataError("malformed", path="q.jsonl", line=2)

    decisions = route_stream(router, queries(), source="q.jsonl")
    assert next(decisions).category == "cooking"
    with pytest.raises(DataError, match=r"q\.jsonl:2"):
        next(decisions)
