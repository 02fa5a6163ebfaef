"""What OpenAI's format alone has, against the shipped double; the rest is in test_formats.py."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from semroute.config import Deployment
from semroute.errors import ContentFilterError, DispatchError, RateLimitError
from semroute.providers import openai
from semroute.providers.target import CallTarget
from semroute.testing import FakeProvider, Reply, content_filter, fail, refusal
from semroute.types import Completion, Delta, Request

HELLO = Request(({"role": "user", "content": "hello out there é😀"},))


def ask(provider: FakeProvider, reply: Reply, request: Request = HELLO, *, streams: bool, **more: Any) -> list[Any]:
    """What one call gives: the completion last."""
    where = CallTarget(Deployment(name="spot", model="small", provider="openai", base_url=provider.base_url, **more))
    provider.script(reply)

    async def work() -> list[Delta | Completion]:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            if not streams:
                return [await openai.complete(client, where, request, within_s=10)]
            async with aclosing(openai.stream(client, where, request, within_s=10)) as pieces:
                return [piece async for piece in pieces]

    return asyncio.run(work())


BOTH = pytest.mark.parametrize("streams", [False, True])


@BOTH
def test_a_refusal_is_read_with_its_words_apart(provider: FakeProvider, streams: bool) -> None:
    completion = ask(provider, refusal("no way"), streams=streams)[-1]
    assert (completion.text, completion.refusal, completion.finish_reason) == ("", "no way", "refusal")


@BOTH
def test_logprobs_are_of_the_whole_text_and_the_limit_has_openais_name(provider: FakeProvider, streams: bool) -> None:
    request = Request(HELLO.messages, max_tokens=50, logprobs=True)
    completion = ask(provider, Reply(), request, streams=streams)[-1]
    assert "".join(token.token for token in completion.logprobs) == completion.text
    assert provider.requests[0].body["max_completion_tokens"] == 50


@BOTH
@pytest.mark.parametrize(
    ("reply", "kind", "wait_s"),
    [
        (fail(429, reset_s=3), RateLimitError, 3.0),
        (content_filter(), ContentFilterError, None),
    ],
)
def test_a_failure_is_the_error_that_it_asks_for(
    provider: FakeProvider, reply: Reply, kind: type[DispatchError], wait_s: float | None, streams: bool
) -> None:
    with pytest.raises(kind) as caught:
        ask(provider, reply, streams=streams)
    assert caught.value.wait_s == wait_s
