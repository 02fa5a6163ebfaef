"""One deadline for the decision and the answer, and threads of its own for deciding."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.errors import DeadlineError
from semroute.router import Router, decide
from semroute.router.decide import score_texts
from semroute.testing import FakeProvider, hang

QUERY = "how long do I boil an egg"


def router(index: Path, provider: FakeProvider, **sections: Any) -> Router:
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 1.0}}
        for model in ("small", "large", "judging")
    ]
    return Router.load(index, config=Config.model_validate({"deployments": places, **sections}))


def slow_scores(monkeypatch: pytest.MonkeyPatch, until: threading.Event, most_s: float) -> None:
    def scores(*arguments: Any, **options: Any) -> Any:
        until.wait(most_s)
        return score_texts(*arguments, **options)

    monkeypatch.setattr(decide, "score_texts", scores)


@pytest.mark.slow
def test_a_decision_that_takes_too_long_ends_with_the_deadline_and_calls_nobody(
    routing_index: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    slow_scores(monkeypatch, go_on, 30.0)
    routes, limits = router(routing_index, provider), Constraints(deadline_s=0.1)

    async def read() -> None:
        async for _ in routes.astream(QUERY, constraints=limits):
            pass

    async def ask() -> None:
        for asked in (routes.acomplete(QUERY, constraints=limits), read(), routes.aroute(QUERY, constraints=limits)):
            with pytest.raises(DeadlineError, match="being decided"):
                await asked

    asyncio.run(ask())
    go_on.set()
    assert provider.requests == []


@pytest.mark.slow
def test_the_answer_has_what_the_decision_has_left_of_the_deadline(
    routing_index: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_scores(monkeypatch, threading.Event(), 3.0)
    provider.script(hang())
    routes = router(routing_index, provider)
    with pytest.raises(DeadlineError) as caught:
        routes.complete(QUERY, constraints=Constraints(deadline_s=4.0))
    (attempt,) = caught.value.attempts
    assert attempt.latency_ms < 3000  # and not 4000; it is 1000 on a machine with time


@pytest.mark.slow
def test_a_judge_that_hangs_leaves_half_of_the_requests_time_for_the_answer(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(hang())
    judge = {"model": "judging", "candidates": ["small", "large"], "timeout_s": 30.0}
    routes = router(routing_index, provider, judge=judge, strategies=["judge"], fallback={"models": ["small"]})
    completion = routes.complete(QUERY, constraints=Constraints(deadline_s=3.0))
    assert (completion.text, completion.model) == (QUERY, "small")


@pytest.mark.slow
def test_a_decision_waits_for_no_thread_of_the_loops_default_executor(
    routing_index: Path, provider: FakeProvider
) -> None:
    routes, go_on = router(routing_index, provider), threading.Event()

    async def work() -> bool:
        loop = asyncio.get_running_loop()
        most = (os.cpu_count() or 1) + 4
        busy = [loop.run_in_executor(None, go_on.wait, 30.0) for _ in range(most + 1)]
        assert (await routes.aroute(QUERY)).category == "cooking"
        # The first call of a dispatcher looks prices up, in threads too.
        assert (await routes.acomplete(QUERY)).model == "small"
        are_waiting = not any(one.done() for one in busy)
        go_on.set()
        await asyncio.gather(*busy)
        return are_waiting

    assert asyncio.run(work())


@pytest.mark.slow
def test_the_threads_of_a_router_end_when_it_is_closed(routing_index: Path, provider: FakeProvider) -> None:
    routes = router(routing_index, provider)

    def deciding_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("semroute-decide")}

    before = deciding_threads()
    asyncio.run(routes.aroute(QUERY))
    own = deciding_threads() - before
    assert own
    routes.close()
    for thread in own:
        thread.join(60)
    assert not any(thread.is_alive() for thread in own)


@pytest.mark.slow
def test_a_request_that_is_cancelled_while_it_is_decided_leaves_no_question_to_a_judge_behind(
    routing_index: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    slow_scores(monkeypatch, go_on, 30.0)
    routes = router(
        routing_index,
        provider,
        judge={"model": "judging", "candidates": ["small", "large"]},
        semantic={"mode": "narrow"},
        fallback={"models": ["small", "large"]},
    )

    async def work() -> None:
        call = asyncio.create_task(routes.aroute("zxqv"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait({call})
        go_on.set()

    asyncio.run(work())
    routes.close()
    assert provider.requests == []
