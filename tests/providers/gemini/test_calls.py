"""What Gemini's format alone has, over real HTTP; the rest is in test_formats.py and test_answer.py."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest

from semroute.config import Deployment
from semroute.errors import ContentFilterError
from semroute.providers import ADAPTERS, CallTarget
from semroute.providers.adapter import Adapter
from semroute.testing import FakeProvider, Reply, content_filter, refusal
from semroute.types import Completion, Delta, Request

KEY = "AIza-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello out there"},))
ADAPTER: Adapter = ADAPTERS["gemini"]


def target(base_url: str, **settings: Any) -> CallTarget:
    fields = {"upstream_model": "gemini-test", "api_key_env": "TEST_KEY", "timeout_s": 5.0, **settings}
    deployment = Deployment(name="spot", model="large", format="gemini", base_url=base_url, **fields)
    return CallTarget(deployment, "TEST_KEY", KEY)


def call(where: CallTarget, request: Request = HELLO) -> Completion:
    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await ADAPTER.complete(client, where, request, within_s=60.0)

    return asyncio.run(work())


def stream(where: CallTarget, request: Request = HELLO, said: list[str] | None = None) -> tuple[list[str], Completion]:
    texts = [] if said is None else said

    async def work() -> Completion:
        async with (
            httpx.AsyncClient(trust_env=False, verify=False) as client,
            aclosing(ADAPTER.stream(client, where, request, within_s=60.0)) as events,
        ):
            last: Completion | None = None
            async for event in events:
                assert last is None, "nothing comes after the completion"
                if isinstance(event, Delta):
                    texts.append(event.text)
                else:
                    last = event
            assert last is not None
            return last

    return texts, asyncio.run(work())


@pytest.mark.slow
def test_what_the_filter_stopped_is_an_error_of_its_own(provider: FakeProvider) -> None:
    provider.script(refusal("Not this."), refusal("Not this."), content_filter())
    for ask in (call, stream, call):
        with pytest.raises(ContentFilterError, match="PROHIBITED_CONTENT") as caught:
            ask(target(provider.gemini_url))
        assert caught.value.usage is not None


@pytest.mark.parametrize("is_streamed", [False, True])
def test_logprobs_are_of_the_whole_text(provider: FakeProvider, is_streamed: bool) -> None:
    where, request = target(provider.gemini_url), replace(HELLO, logprobs=True)
    found = stream(where, request)[1] if is_streamed else call(where, request)
    assert found.logprobs is not None
    assert "".join(token.token for token in found.logprobs) == found.text == "hello out there"
    assert all(token.logprob <= 0 for token in found.logprobs)


def test_vertex_is_called_under_its_own_address_with_a_bearer_token(provider: FakeProvider) -> None:
    base = f"{provider.anthropic_url}/v1/projects/p/locations/us-central1/publishers/google"
    vertex = target(base, provider="vertex")
    assert call(vertex).text == stream(vertex)[1].text == "hello out there"
    whole, streamed = provider.requests
    assert whole.headers["authorization"] == streamed.headers["authorization"] == f"Bearer {KEY}"
    assert whole.path.endswith("/publishers/google/models/gemini-test:generateContent")
    assert streamed.path.endswith("/publishers/google/models/gemini-test:streamGenerateContent?alt=sse")


@pytest.mark.parametrize(
    ("upstream", "segment"),
    [("models/gemini-2.5-flash", "gemini-2.5-flash"), ("a/../b?c#d e:é", "a%2F..%2Fb%3Fc%23d%20e%3A%C3%A9")],
)
def test_the_name_of_the_model_is_one_segment_of_the_path(provider: FakeProvider, upstream: str, segment: str) -> None:
    provider.script(Reply(body=b'{"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}'))
    call(target(provider.gemini_url, upstream_model=upstream))
    assert provider.requests[0].path == f"/v1beta/models/{segment}:generateContent"
