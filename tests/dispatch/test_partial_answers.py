"""What a piece of reasoning or of a tool call means for failover, for time and for cost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random

import pytest
import transports

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.errors import BrokenStreamError, DispatchError
from semroute.testing import Call, FakeProvider, answer, reset_after
from semroute.types import Attempt, Completion, Delta, Request, Tool

QUESTION = Request(({"role": "user", "content": "weather?"},), tools=(Tool("get_weather"),), max_tokens=100)
CALL = Call("get_weather", {"city": "Oslo"})
pytestmark = pytest.mark.usefixtures("each_transport")


def stream(
    provider: FakeProvider, attempts: list[Attempt] | None = None, leave_after: int | None = None
) -> tuple[list[Delta], Completion | DispatchError | None]:
    """The pieces of a stream of two deployments of one model, the cheap one first, and its end."""
    places = [
        {"name": name, "model": "m", "base_url": provider.base_url, "price": {"input": usd, "output": usd}}
        for name, usd in (("cheap", 1.0), ("dear", 100.0))
    ]
    config = Config.model_validate(
        {
            "deployments": places,
            "retries": {"same_place": 0, "backoff_s": 0.001, "most_backoff_s": 0.001},
            "selection": {"sharpness": 500.0, "exploration": 0.0},
        }
    )

    async def work() -> tuple[list[Delta], Completion | DispatchError | None]:
        deltas: list[Delta] = []
        async with transports.client() as client:
            dispatcher = Dispatcher(config, client=client, env={}, random=Random(0))
            try:
                async with aclosing(dispatcher.stream(QUESTION, ("m",), attempts=attempts)) as events:
                    async for event in events:
                        if isinstance(event, Completion):
                            return deltas, event
                        deltas.append(event)
                        if len(deltas) == leave_after:
                            return deltas, None
            except DispatchError as error:
                return deltas, error
            finally:
                await dispatcher.close()
        raise AssertionError("a stream ends with a completion or an error")

    return asyncio.run(work())


@pytest.mark.slow
def test_reasoning_that_breaks_off_is_followed_by_another_deployment(provider: FakeProvider) -> None:
    provider.script(
        reset_after(3, answer("Rain.", reasoning="one two three four five")), answer("Sun.", reasoning="of another")
    )
    deltas, last = stream(provider)
    assert isinstance(last, Completion)
    assert (last.text, last.deployment, last.reasoning) == ("Sun.", "dear", "of another")
    assert "".join(delta.text for delta in deltas) == "Sun."
    assert "".join(delta.reasoning for delta in deltas).endswith("of another")
    assert [attempt.error_kind for attempt in last.attempts] == ["BrokenStreamError", None]


@pytest.mark.slow
def test_reasoning_without_an_answer_is_followed_by_another_deployment(provider: FakeProvider) -> None:
    provider.script(answer("", reasoning="one two"), answer("Sun."))
    deltas, last = stream(provider)
    assert isinstance(last, Completion)
    assert (last.text, last.deployment, last.reasoning) == ("Sun.", "dear", None)
    assert [delta.text for delta in deltas if delta.is_answer] == ["Sun."]


def test_a_tool_call_that_breaks_off_is_an_error_for_its_beginning_was_given_out(provider: FakeProvider) -> None:
    provider.script(reset_after(3, answer(calls=(CALL,))), answer("Sun."))
    deltas, last = stream(provider)
    assert isinstance(last, BrokenStreamError)
    assert deltas[0].tool_calls[0].name == "get_weather"
    assert provider.stats()["requests"] == 1


@pytest.mark.slow
def test_reasoning_is_charged_and_is_no_first_token(provider: FakeProvider) -> None:
    attempts: list[Attempt] = []
    provider.script(answer("Rain.", reasoning="a very long thought " * 40))
    deltas, last = stream(provider, attempts, leave_after=20)
    assert last is None
    (left,) = attempts
    assert left.error_kind == "Abandoned"
    assert left.first_token_ms is None
    thought = sum(len(delta.reasoning) for delta in deltas)
    assert left.cost is not None
    assert left.cost.usd >= thought / 4 / 1e6


def test_a_tool_call_is_a_first_token(provider: FakeProvider) -> None:
    attempts: list[Attempt] = []
    provider.script(answer(calls=(CALL,), reasoning="hm"))
    _, last = stream(provider, attempts)
    assert isinstance(last, Completion)
    assert attempts[0].first_token_ms is not None
