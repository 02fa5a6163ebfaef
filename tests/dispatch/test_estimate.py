from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from semroute.config import Config
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError
from semroute.testing import FakeProvider, fail
from semroute.types import Request, Tool

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
T = TypeVar("T")


def place(name: str, provider: FakeProvider, price: float | None = None, **more: Any) -> dict[str, Any]:
    priced = {} if price is None else {"price": {"input": 0.0, "output": price}}
    return {"name": name, "model": "large", "base_url": provider.base_url, **priced, **more}


def run(places: list[dict[str, Any]], work: Callable[[Dispatcher], Awaitable[T]], **sections: Any) -> T:
    async def inside() -> T:
        async with httpx.AsyncClient() as client:
            config = Config.model_validate({"deployments": places, **sections})
            dispatcher = Dispatcher(config, client=client, env={})
            try:
                return await work(dispatcher)
            finally:
                await dispatcher.close()

    return asyncio.run(inside())


def test_it_tells_the_cheapest_price_of_the_longest_answer_and_calls_nobody(provider: FakeProvider) -> None:
    places = [place("dear", provider, 100.0), place("cheap", provider, 10.0), place("unknown", provider)]
    estimate = run(places, lambda d: d.estimate(HELLO, ["large"]))
    assert estimate.usd == pytest.approx(100 * 10.0 / 1e6)
    assert (estimate.expected_s, estimate.closed, estimate.wait_s) == (None, None, None)
    assert not provider.requests


@pytest.mark.slow
def test_it_knows_the_time_that_calls_took(provider: FakeProvider) -> None:
    provider.set_speed(first_token_s=0.05)

    async def after_calls(dispatcher: Dispatcher) -> float | None:
        for _ in range(20):
            await dispatcher.complete(HELLO, ["large"])
        return (await dispatcher.estimate(HELLO, ["large"])).expected_s

    expected = run([place("only", provider)], after_calls)
    assert expected is not None
    assert 0.05 <= expected < 1.0


@pytest.mark.slow
def test_where_every_breaker_is_open_it_says_why_and_until_when(provider: FakeProvider) -> None:
    provider.always(fail(500))

    async def after_failures(dispatcher: Dispatcher) -> tuple[str | None, float | None]:
        for _ in range(5):
            with pytest.raises(DispatchError):
                await dispatcher.complete(HELLO, ["large"])
        estimate = await dispatcher.estimate(HELLO, ["large"])
        return estimate.closed, estimate.wait_s

    closed, wait_s = run([place("only", provider)], after_failures, retries={"same_place": 0})
    assert closed is not None
    assert closed.startswith("only: ")
    assert wait_s is not None
    assert 0 < wait_s < 60


def test_what_no_place_can_do_is_closed_for_ever(provider: FakeProvider) -> None:
    asks = Request(HELLO.messages, tools=(Tool("clock"),))
    estimate = run(
        [place("only", provider)], lambda d: d.estimate(asks, ["large"]), models={"large": {"capabilities": []}}
    )
    assert estimate.closed is not None
    assert "tools" in estimate.closed
    assert estimate.wait_s is None


@pytest.mark.slow
def test_tokens_that_are_known_are_not_estimated_again(provider: FakeProvider) -> None:
    models = {"large": {"context": 1000}}

    def closed(input_tokens: int | None) -> str | None:
        known = {"input_tokens": input_tokens}
        return run([place("a", provider)], lambda d: d.estimate(HELLO, ["large"], **known), models=models).closed

    assert (closed(None), closed(10)) == (None, None)
    assert "takes 1000 tokens, and the request may have 5100" in (closed(5000) or "")


def test_the_limits_of_the_request_hold(provider: FakeProvider) -> None:
    places = [place("here", provider, 100.0, region="eu"), place("there", provider, 1.0, region="us")]
    estimate = run(places, lambda d: d.estimate(HELLO, ["large"], Constraints(regions=frozenset({"eu"}))))
    assert estimate.usd == pytest.approx(100 * 100.0 / 1e6)
