"""Queries that wait at the same time are decided as one batch; one alone waits for nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.encoders.cache import CACHE_OWNER
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import InputError, QueryError
from semroute.eventloop import WorkerPool
from semroute.router import Router
from semroute.router.batching import LONG, MOST_CHARACTERS, MOST_QUERIES, DecisionBatcher
from semroute.router.complete import pinned_decision
from semroute.testing import FakeProvider
from semroute.types import Decision, Request

QUERY = "how long do I boil an egg"
POISON = "a query that cannot be decided"
WAIT_S = 30.0


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as running:
        yield running


def router(index: Path, provider: FakeProvider, **sections: Any) -> Router:
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 1.0}}
        for model in ("small", "large")
    ]
    return Router.load(index, config=Config.model_validate({"deployments": places, **sections}))


def decided(text: str) -> Decision:
    return pinned_decision(text, Constraints(model="small"), Config())


class Deciding:
    """Decision of a batch that begins when it is told to, and is noted."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go_on, self.has_begun = threading.Event(), threading.Event()

    def __call__(self, texts: Sequence[str], requests: Sequence[Request]) -> list[Decision]:
        self.batches.append(list(texts))
        self.has_begun.set()
        assert self.go_on.wait(WAIT_S)
        if POISON in texts:
            raise QueryError(f"not this one of {len(texts)}")
        return [decided(text) for text in texts]


def tasks(batcher: DecisionBatcher, texts: Sequence[str]) -> list[asyncio.Task[Decision]]:
    requests = [Request(({"role": "user", "content": text},)) for text in texts]
    return [asyncio.ensure_future(batcher.decide(text, request)) for text, request in zip(texts, requests, strict=True)]


async def begun(deciding: Deciding) -> None:
    assert await asyncio.to_thread(deciding.has_begun.wait, WAIT_S)


def run(test: Callable[[DecisionBatcher, Deciding], Any]) -> Deciding:
    deciding, workers = Deciding(), WorkerPool("test")
    batcher = DecisionBatcher(deciding, workers)
    try:
        asyncio.run(asyncio.wait_for(test(batcher, deciding), WAIT_S))
    finally:
        deciding.go_on.set()
        batcher.close()
        workers.close()
    return deciding


def test_queries_that_come_during_a_batch_are_the_next_one() -> None:
    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        (first,) = tasks(batcher, ["first"])
        await begun(deciding)  # it has not waited for others
        others = tasks(batcher, ["second", "third", "fourth"])
        await asyncio.sleep(0)
        deciding.go_on.set()
        found = await asyncio.gather(first, *others)
        assert [decision.query for decision in found] == ["first", "second", "third", "fourth"]

    assert run(test).batches == [["first"], ["second", "third", "fourth"]]


def test_queries_of_different_owners_are_in_different_batches() -> None:
    seen = list[tuple[str, list[str]]]()

    async def ask(batcher: DecisionBatcher, owner: str, text: str) -> Decision:
        CACHE_OWNER.set(owner)
        return await batcher.decide(text, Request(({"role": "user", "content": text},)))

    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        batcher._decide = lambda texts, requests: (
            seen.append((CACHE_OWNER.get(), [*texts])) or deciding(texts, requests)
        )
        asked = [("ann", "first"), ("ann", "second"), ("bob", "third"), ("ann", "fourth"), ("bob", "fifth")]
        running = [asyncio.ensure_future(ask(batcher, *one)) for one in asked[:1]]
        await begun(deciding)
        running += [asyncio.ensure_future(ask(batcher, *one)) for one in asked[1:]]
        await asyncio.sleep(0)
        deciding.go_on.set()
        found = await asyncio.gather(*running)
        assert [decision.query for decision in found] == [text for _, text in asked]

    run(test)
    assert seen == [("ann", ["first"]), ("ann", ["second", "fourth"]), ("bob", ["third", "fifth"])]


def test_an_error_of_one_query_is_that_of_no_other() -> None:
    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        (first,) = tasks(batcher, ["first"])
        await begun(deciding)
        others = tasks(batcher, ["second", POISON, "third"])
        await asyncio.sleep(0)
        deciding.go_on.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert [one.query for one in found if isinstance(one, Decision)] == ["first", "second", "third"]
        assert str(found[2]) == "not this one of 1"

    batches = run(test).batches
    assert batches[:2] == [["first"], ["second", POISON, "third"]]
    assert sorted(batches[2:]) == [[POISON], ["second"], ["third"]]


def test_a_query_that_is_cancelled_before_its_batch_is_not_decided() -> None:
    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        (first,) = tasks(batcher, ["first"])
        await begun(deciding)
        left, stays = tasks(batcher, ["left", "stays"])
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait({left})
        deciding.go_on.set()
        assert [one.query for one in await asyncio.gather(first, stays)] == ["first", "stays"]
        assert left.cancelled()

    assert run(test).batches == [["first"], ["stays"]]


def test_a_query_that_is_cancelled_during_its_batch_keeps_no_other_from_its_decision() -> None:
    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        (first,) = tasks(batcher, ["first"])
        await begun(deciding)
        first.cancel()
        await asyncio.wait({first})
        (second,) = tasks(batcher, ["second"])
        await asyncio.sleep(0)
        deciding.go_on.set()
        assert (await second).query == "second"

    assert run(test).batches == [["first"], ["second"]]


def test_a_batch_is_bounded_by_its_queries_and_by_their_characters() -> None:
    short, long = ["x" * 10] * (MOST_QUERIES + 1), ["y" * 10 * LONG] * (MOST_CHARACTERS // LONG + 1)

    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        waiting = tasks(batcher, ["first"])
        await begun(deciding)
        waiting += tasks(batcher, [*short, *long])
        await asyncio.sleep(0)
        deciding.go_on.set()
        await asyncio.gather(*waiting)

    sizes = [len(batch) for batch in run(test).batches]
    assert sizes == [1, MOST_QUERIES, 1 + MOST_CHARACTERS // LONG, 1]


def test_after_the_end_a_query_starts_a_new_thread() -> None:
    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        deciding.go_on.set()
        await asyncio.gather(*tasks(batcher, ["first"]))
        batcher.close()
        assert (await tasks(batcher, ["second"])[0]).query == "second"

    assert run(test).batches == [["first"], ["second"]]


def test_several_event_loops_share_a_batcher() -> None:
    found = list[str]()

    async def test(batcher: DecisionBatcher, deciding: Deciding) -> None:
        async def elsewhere() -> None:
            found.append((await tasks(batcher, ["elsewhere"])[0]).query)

        deciding.go_on.set()
        here = tasks(batcher, ["here"])
        await asyncio.to_thread(asyncio.run, elsewhere())
        found.append((await here[0]).query)

    run(test)
    assert found == ["elsewhere", "here"]


def test_a_query_alone_is_decided_in_its_own_context() -> None:
    variable, seen = ContextVar[str]("variable"), list[str]()

    def decide(texts: Sequence[str], requests: Sequence[Request]) -> list[Decision]:
        seen.append(variable.get())
        return [decided(text) for text in texts]

    async def test() -> None:
        variable.set("mine")
        await tasks(batcher, ["first"])[0]

    workers = WorkerPool("test")
    batcher = DecisionBatcher(decide, workers)
    asyncio.run(test())
    batcher.close()
    workers.close()
    assert seen == ["mine"]


@pytest.mark.slow
def test_concurrent_requests_take_fewer_runs_of_the_encoder(
    routing_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, go_on, has_begun = list[int](), threading.Event(), threading.Event()
    encode = OnnxEncoder.encode

    def counted(encoder: OnnxEncoder, texts: Sequence[str]) -> Any:
        runs.append(len(texts))
        has_begun.set()
        assert go_on.wait(WAIT_S)
        return encode(encoder, texts)

    async def ask(routes: Router) -> list[Decision]:
        first = asyncio.ensure_future(routes.aroute("how do I boil an egg"))
        assert await asyncio.to_thread(has_begun.wait, WAIT_S)
        others = [asyncio.ensure_future(routes.aroute(f"how do I boil {number} eggs")) for number in range(2, 10)]
        await asyncio.sleep(0)
        go_on.set()
        return list(await asyncio.gather(first, *others))

    with Router.load(routing_index, config=Config()) as routes:
        monkeypatch.setattr(OnnxEncoder, "encode", counted)
        decisions = asyncio.run(ask(routes))
        assert runs == [1, 8]
        alone = [routes.route(decision.query) for decision in decisions]
    assert [(one.category, one.query) for one in decisions] == [(one.category, one.query) for one in alone]


@pytest.mark.slow
def test_a_pinned_model_is_called_without_a_decision(
    routing_index: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(encoder: OnnxEncoder, texts: Sequence[str]) -> Any:
        raise AssertionError("a pinned model needs no vector")

    with router(routing_index, provider) as routes:
        monkeypatch.setattr(OnnxEncoder, "encode", encode)
        for limits in (Constraints(model="large"), Constraints(deployment="large-1")):
            completion = routes.complete(QUERY, constraints=limits)
            assert completion.decision is not None
            decision = completion.decision
            assert (completion.model, decision.model, decision.strategy) == ("large", "large", "pinned")
            assert (decision.category, decision.is_fallback, decision.query) == (None, False, QUERY)


@pytest.mark.slow
def test_a_pinned_model_is_decided_where_a_category_prefers_strengths(
    routing_index: Path, provider: FakeProvider
) -> None:
    with router(routing_index, provider, categories={"cooking": {"wants": ["reasoning"]}}) as routes:
        completion = routes.complete(QUERY, model="large")
    assert completion.decision is not None
    assert (completion.model, completion.decision.category) == ("large", "cooking")


@pytest.mark.slow
def test_a_router_that_was_closed_decides_nothing_more(routing_index: Path) -> None:
    async def ask() -> None:
        routes = Router.load(routing_index, config=Config())
        await routes.aroute(QUERY)
        await routes.aclose()
        with pytest.raises(InputError, match="closed"):
            await routes.aroute(QUERY)

    asyncio.run(ask())
