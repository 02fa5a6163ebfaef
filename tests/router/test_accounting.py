"""What is charged is in the log, to the cent, whatever becomes of the query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.errors import DispatchError
from semroute.evaluate.log_report import report
from semroute.outcomes.log import open_log
from semroute.router import Router
from semroute.router.complete import CANCELLED, UNDECIDED
from semroute.testing import (
    FakeProvider,
    RecordedRequest,
    Reply,
    answer,
    error_event,
    fail,
    hang,
    no_usage,
    reset_after,
)
from semroute.types import Attempt, Completion, Outcome, total_cost

SOUP = "recipe for carrot soup"
PRICES = {"small": (1.0, 4.0), "medium": (3.0, 9.0), "large": (10.0, 40.0)}
"""USD per million tokens, in and out."""
LONG = " ".join(f"word{number}" for number in range(60))


class Kept:
    """Keeps outcomes in a list."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def attempts(self) -> list[Attempt]:
        return [one for outcome in self.outcomes for one in (*outcome.decision.attempts, *outcome.attempts)]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def config(provider: FakeProvider, **sections: Any) -> Config:
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "upstream_model": model,
         "price": {"input": price[0], "output": price[1]}, "limits": {"tpm": 1_000_000}}
        for model, price in PRICES.items()
    ]  # fmt: skip
    models = {model: {"capabilities": ["logprobs", "json_schema"]} for model in PRICES}
    kinds = {"cooking": {"models": list(PRICES)}}
    basis = {"deployments": places, "models": models, "categories": kinds, "retries": {"same_place": 0}}
    return Config.model_validate({**basis, **sections})


def model_of(request: RecordedRequest) -> str:
    named = request.body.get("model") if isinstance(request.body, dict) else None
    return str(named) if named else request.path.rpartition("/")[2].partition(":")[0]


def billed(request: RecordedRequest) -> float:
    """USD that the provider asks for a request."""
    prices = PRICES[model_of(request)]
    return sum(tokens * price for tokens, price in zip(request.charged, prices, strict=True)) / 1e6


async def left_after(router: Router, asked: Callable[[], bool], *, streaming: bool = False, log: bool = True) -> None:
    """Ask, and leave as soon as ``asked``."""

    async def read() -> None:
        async with aclosing(router.astream(SOUP, log=log)) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(read() if streaming else router.acomplete(SOUP, log=log))  # type: ignore[arg-type]
    while not asked() and not task.done():
        await asyncio.sleep(0.005)
    assert asked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


CASCADE = {"tiers": ["small", "medium", "large"], "accept": {"consistency": 0.9}}


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_query_that_is_left_has_its_rejected_tiers_samples_and_the_call_under_way(
    routing_index: Path, provider: FakeProvider, kept: Kept, streaming: bool
) -> None:
    router = Router.load(routing_index, config=config(provider, cascade=CASCADE), log=kept)
    told = answer("yes", input_tokens=100, output_tokens=20), answer("no", input_tokens=110, output_tokens=30)
    provider.script(*told, hang())
    asyncio.run(left_after(router, lambda: len(provider.requests) == 3, streaming=streaming))
    (one,) = kept.outcomes
    assert (one.error_kind, one.completion) == (CANCELLED, None)
    assert [attempt.model for attempt in one.attempts] == ["small", "small", "medium"]
    first, sample, abandoned = one.attempts
    assert [attempt.cost.usd for attempt in (first, sample) if attempt.cost] == [
        pytest.approx(billed(request)) for request in provider.requests[:2]
    ]
    assert abandoned.error_kind == "Abandoned"
    assert abandoned.cost is not None
    assert abandoned.cost.estimated
    assert abandoned.cost.usd > 0


@pytest.mark.slow
def test_a_stream_that_is_left_is_charged_for_what_was_said(
    routing_index: Path, provider: FakeProvider, kept: Kept
) -> None:
    router = Router.load(routing_index, config=config(provider), log=kept)
    provider.script(answer(LONG))
    provider.set_speed(token_s=0.02)

    async def leave() -> None:
        async with aclosing(router.astream(SOUP)) as events:
            async for _ in events:
                break

    asyncio.run(leave())
    (attempt,) = kept.outcomes[0].attempts
    assert attempt.cost is not None
    assert attempt.cost.estimated


@pytest.mark.slow
def test_a_query_that_is_left_while_a_judge_is_asked_has_the_judges_call(
    routing_index: Path, provider: FakeProvider, kept: Kept
) -> None:
    judge = {"model": "large", "candidates": ["small", "medium"]}
    router = Router.load(routing_index, config=config(provider, strategies=["judge"], judge=judge), log=kept)
    provider.script(hang())
    asyncio.run(left_after(router, lambda: len(provider.requests) == 1))
    (one,) = kept.outcomes
    assert (one.error_kind, one.decision.strategy, one.attempts) == (CANCELLED, UNDECIDED, ())
    (attempt,) = one.decision.attempts
    assert (attempt.model, attempt.error_kind) == ("large", "Abandoned")
    assert attempt.cost is not None


@pytest.mark.slow
def test_a_query_that_is_not_to_be_logged_leaves_nothing_while_a_judge_is_asked(
    routing_index: Path, provider: FakeProvider, kept: Kept
) -> None:
    judge = {"model": "large", "candidates": ["small", "medium"]}
    router = Router.load(routing_index, config=config(provider, strategies=["judge"], judge=judge), log=kept)
    provider.script(hang())
    asyncio.run(left_after(router, lambda: len(provider.requests) == 1, log=False))
    assert kept.outcomes == []


@pytest.mark.slow
def test_tokens_of_a_call_that_was_left_go_back(routing_index: Path, provider: FakeProvider, kept: Kept) -> None:
    router = Router.load(routing_index, config=config(provider), log=kept)
    room: list[float] = []

    async def ask() -> None:
        places = [router.dispatcher._planner._deployed["small-1"].endpoints[0]]
        provider.script(hang())
        await left_after(router, lambda: bool(provider.requests))
        room.append((await router.dispatcher.gates.statuses(places))[0].headroom)

    asyncio.run(ask())
    # The reservation is the longest answer, thousands of tokens; the question has a handful.
    assert room[0] > 0.9999


@pytest.mark.slow
def test_a_stream_whose_provider_does_not_count_takes_what_was_said_from_the_limit(
    routing_index: Path, provider: FakeProvider
) -> None:
    router = Router.load(routing_index, config=config(provider))
    room: list[float] = []

    async def ask() -> None:
        provider.script(no_usage(answer(LONG)))
        await router.acomplete(SOUP)
        places = [router.dispatcher._planner._deployed["small-1"].endpoints[0]]
        room.append((await router.dispatcher.gates.statuses(places))[0].headroom)

    asyncio.run(ask())
    assert 0.999 < room[0] < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "responses"])
def test_cents_in_the_log_are_cents_at_the_provider(
    routing_index: Path, provider: FakeProvider, kept: Kept, wire: str, tmp_path: Path
) -> None:
    url = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }[wire]
    base = config(provider, cascade=CASCADE, log={"url": f"sqlite:///{tmp_path}/log.db"})
    places = [place.model_copy(update={"format": wire, "base_url": url}) for place in base.deployments]
    settings = base.model_copy(update={"deployments": tuple(places)})
    log = open_log(settings.log, {})

    class Both:
        def record(self, outcome: Outcome) -> None:
            kept.record(outcome)
            log.record(outcome)

    router = Router.load(routing_index, config=settings, log=Both())

    def counted(number: int, text: str = LONG) -> Reply:
        return answer(text, input_tokens=100 + number, output_tokens=20 + number)

    async def whole() -> None:
        await router.acomplete(SOUP)

    async def streamed() -> None:
        async for _ in router.astream(SOUP):
            pass

    async def left() -> None:
        before = len(provider.requests)
        await left_after(router, lambda: len(provider.requests) >= before + 3)

    plays: list[tuple[Callable[[], Awaitable[None]], list[Reply]]] = [
        (whole, [counted(1), counted(2)]),  # two that agree
        (whole, [counted(3, "yes"), counted(4, "no"), counted(5), counted(6)]),  # the sample differs: escalated
        (streamed, [counted(7, "yes"), counted(8, "no"), counted(9, "yes"), counted(10, "no"), counted(11)]),
        (whole, [fail(500), counted(12), counted(13)]),
        (left, [counted(14, "yes"), counted(15, "no"), hang()]),
        (streamed, [counted(16, "yes"), counted(17, "no"), fail(503), reset_after(5)]),
        (streamed, [fail(429), fail(500), error_event(3)]),
    ]

    async def play() -> None:
        for act, replies in plays:
            provider.script(*replies)
            with suppress(DispatchError):
                await act()
            provider.wait_idle()

    asyncio.run(play())
    log.close()
    exact = [one for one in kept.attempts if one.cost is not None and not one.cost.estimated and one.cost.usd > 0]
    estimated = [one for one in kept.attempts if one.cost is not None and one.cost.estimated]
    by_usage = {(one.model, one.usage.input_tokens, one.usage.output_tokens) for one in exact if one.usage}
    known = [one for one in provider.requests if (model_of(one), *one.charged) in by_usage]
    # Every call that the provider counted, in the log once and to the cent.
    assert len(known) == len(exact) == 17
    bill = sum(billed(request) for request in known)
    spent = total_cost(exact)
    assert spent is not None
    assert spent.usd == pytest.approx(bill, rel=1e-12)
    # The rest was broken off before it was counted, and says so.
    assert len(estimated) == 3
    assert len(kept.attempts) == len(provider.requests)
    with open_log(settings.log, {}) as read:
        logged = list(read.outcomes())
        made = report(logged)
    assert sum(one.cost_usd or 0.0 for one in logged) == pytest.approx(
        spent.usd + sum(one.cost.usd for one in estimated if one.cost), rel=1e-9
    )
    assert made.estimated_calls == 3
    assert sum(group.spent.usd for group in made.models) == pytest.approx(sum(one.cost_usd or 0.0 for one in logged))


def test_a_failed_answer_counts_towards_the_budget_of_a_collection(provider: FakeProvider) -> None:
    from semroute.dispatch import Dispatcher
    from semroute.workflows.collect import Asked, Collector

    provider.always(error_event(3, answer(LONG)))

    async def collect() -> tuple[float, Completion | None]:
        dispatcher = Dispatcher(config(provider), env={})
        try:
            collector = Collector(dispatcher, ["small"], max_usd=1.0)
            (one,) = [row async for row in collector.collect([Asked(SOUP, SOUP)])]
            assert one.failures
            return collector.spent, one.completions.get("small")
        finally:
            await dispatcher.close()

    spent, completion = asyncio.run(collect())
    assert completion is None
    assert spent > 0
