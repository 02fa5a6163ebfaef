"""Answers that are none, and parameters that a place cannot say, on their way through dispatch: in every format."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random
from typing import Any

import httpx
import pytest

from semroute.config import Config
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import CapabilityError, EmptyAnswerError
from semroute.testing import FakeProvider, Reply, answer
from semroute.types import BreakerState, Completion, Delta, Request

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
FORMATS = pytest.mark.parametrize("format", ["openai", "anthropic", "gemini", "responses"])
BOTH = pytest.mark.parametrize("streams", [False, True])


def place(name: str, format: str, provider: FakeProvider, usd: float = 1.0, **more: Any) -> dict[str, Any]:
    url = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }[format]
    price = {"input": usd, "output": usd}
    return {"name": name, "model": "m", "format": format, "base_url": url, "price": price, **more}


def ask(
    *places: dict[str, Any], request: Request = HELLO, streams: bool = False, times: int = 1
) -> tuple[list[Completion], dict[str, BreakerState], list[str]]:
    """The answers, the breakers' states by deployment, and the texts that were given out."""
    config = Config.model_validate(
        {
            "deployments": list(places),
            "retries": {"backoff_s": 0.001, "most_backoff_s": 0.001, "deadline_s": 10.0},
            # A preference sharp enough to be relied on: the cheaper deployment comes first.
            "selection": {"sharpness": 500.0, "exploration": 0.0, "weights": {"latency": 0, "availability": 0}},
        }
    )
    said: list[str] = []

    async def one(dispatcher: Dispatcher) -> Completion:
        if not streams:
            return await dispatcher.complete(request, ("m",), Constraints())
        async with aclosing(dispatcher.stream(request, ("m",), Constraints())) as events:
            found: list[Delta | Completion] = [event async for event in events]
        said.extend(event.text for event in found if isinstance(event, Delta) and event.is_answer)
        assert isinstance(found[-1], Completion)
        return found[-1]

    async def work() -> tuple[list[Completion], dict[str, BreakerState]]:
        from semroute.dispatch.status import endpoints_of

        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(config, client=client, env={}, random=Random(0))
            try:
                answers = [await one(dispatcher) for _ in range(times)]
                known = endpoints_of(config)
                statuses = await dispatcher.gates.statuses(known)
                states = {where.deployment: status.breaker for where, status in zip(known, statuses, strict=True)}
                return answers, states
            finally:
                await dispatcher.close()

    answers, states = asyncio.run(work())
    return answers, states, said


@pytest.mark.slow
@FORMATS
@BOTH
@pytest.mark.parametrize("reply", [answer(""), answer(" \n"), answer("", reasoning="hm")])
def test_an_empty_answer_is_charged_and_another_place_answers(
    first: FakeProvider, second: FakeProvider, format: str, streams: bool, reply: Reply
) -> None:
    first.always(reply)
    second.always(answer("hello"))
    where = (place("empty", format, first), place("full", format, second, usd=50.0))
    answers, states, said = ask(*where, streams=streams, times=8)
    assert {found.text for found in answers} == {"hello"}
    assert said == ["hello"] * 8 * streams
    # A caller's words may be what makes a model say nothing: they close no place for others.
    assert states["empty"] is BreakerState.CLOSED
    lost, given = answers[0].attempts
    assert (lost.deployment, lost.error_kind, lost.status) == ("empty", "EmptyAnswerError", 200)
    assert lost.cost is not None
    assert lost.cost.usd == pytest.approx(2e-6)
    assert given.deployment == "full"


@FORMATS
def test_a_place_that_never_runs_its_model_is_closed(first: FakeProvider, second: FakeProvider, format: str) -> None:
    first.always(answer("", input_tokens=5, output_tokens=0))
    second.always(answer("hello"))
    answers, states, _ = ask(place("dead", format, first), place("full", format, second, usd=50.0), times=6)
    assert {found.text for found in answers} == {"hello"}
    assert states["dead"] is BreakerState.OPEN


def test_where_nobody_says_anything_the_error_says_so(first: FakeProvider) -> None:
    first.always(answer("", finish="length", reasoning="hm", reasoning_tokens=1))
    with pytest.raises(EmptyAnswerError, match="max_tokens of 100 was used up") as caught:
        ask(place("only", "openai", first))
    assert len(caught.value.attempts) == 1


@pytest.mark.slow
def test_a_place_without_a_word_for_a_parameter_is_not_chosen(first: FakeProvider, second: FakeProvider) -> None:
    claude, gemini = place("claude", "anthropic", first), place("gemini", "gemini", second, usd=50.0)
    seeded = Request(HELLO.messages, seed=7)
    (found,), _, _ = ask(claude, gemini, request=seeded)
    assert found.deployment == "gemini"
    assert second.requests[0].body["generationConfig"]["seed"] == 7
    assert first.requests == []
    with pytest.raises(CapabilityError, match="claude: anthropic does not carry seed"):
        ask(claude, request=seeded)
    assert first.requests == []
    (found,), _, _ = ask(claude, request=Request(HELLO.messages, seed=7, droppable=frozenset({"seed"})))
    assert found.deployment == "claude"


@FORMATS
def test_a_count_of_a_million_millions_closes_and_charges_nothing(first: FakeProvider, format: str) -> None:
    first.always(answer("hello", output_tokens=10**12))
    answers, states, _ = ask(place("odd", format, first, limits={"tpm": 100_000}), times=3)
    assert states["odd"] is BreakerState.CLOSED
    costs = [attempt.cost for found in answers for attempt in found.attempts]
    assert all(cost is not None and cost.estimated and cost.usd < 1e-3 for cost in costs)
