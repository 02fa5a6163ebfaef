"""The adapter against the shipped double: both sides have to mean the same by OpenAI's wire format."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from semroute.config import Deployment, Timeouts
from semroute.errors import (
    BrokenStreamError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    UnavailableError,
)
from semroute.providers import openai
from semroute.providers.target import CallTarget
from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    content_filter,
    context_length,
    drip,
    error_event,
    fail,
    malformed_event,
    no_end_marker,
    no_usage,
    quota_exhausted,
    refusal,
    reset_after,
    split_sse,
    stall_after,
    truncated,
)
from semroute.types import Completion, Delta, Request, Tool, Usage

HELLO = Request(({"role": "user", "content": "hello out there é😀"},))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
PICTURE = "data:image/png;base64,iVBORw0KGgo="
EVERYTHING = Request(
    (
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "user", "content": "and now"},
    ),
    max_tokens=50,
    temperature=0.5,
    stop=("END",),
    tools=(Tool("add", "adds", SCHEMA),),
    tool_choice="auto",
    json_schema=SCHEMA,
    logprobs=True,
)


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
@pytest.mark.parametrize("reply", [Reply(), split_sse(), split_sse((1,)), drip(0.01), no_end_marker(), no_usage()])
def test_an_honest_answer_arrives_whole_however_it_travels(provider: FakeProvider, reply: Reply, streams: bool) -> None:
    *deltas, completion = ask(provider, reply, streams=streams)
    assert (completion.text, completion.finish_reason) == ("hello out there é😀", "stop")
    assert (completion.usage is not None) == reply.counted
    if streams:
        assert "".join(delta.text for delta in deltas) == completion.text
        assert 0 < completion.first_token_ms <= completion.latency_ms


@BOTH
def test_a_request_of_everything_is_taken(provider: FakeProvider, streams: bool) -> None:
    *_, completion = ask(provider, Reply(), EVERYTHING, streams=streams)
    assert completion.usage is not None
    assert provider.requests[0].body["max_completion_tokens"] == 50


@BOTH
def test_calls_counts_and_refusals_are_read(provider: FakeProvider, streams: bool) -> None:
    calls = [Call("add", {"n": 1}), Call("now")]
    told = answer(calls=calls, input_tokens=9, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
    completion = ask(provider, told, EVERYTHING, streams=streams)[-1]
    assert [(call.name, json.loads(call.arguments)) for call in completion.tool_calls] == [
        ("add", {"n": 1}),
        ("now", {}),
    ]
    assert all(call.id for call in completion.tool_calls)
    assert completion.finish_reason == "tool_calls"
    assert completion.usage == Usage(9, 5, cached_tokens=4, reasoning_tokens=2)
    completion = ask(provider, refusal("no way"), streams=streams)[-1]
    assert (completion.text, completion.refusal, completion.finish_reason) == ("", "no way", "refusal")


@BOTH
@pytest.mark.parametrize(
    ("reply", "kind", "wait_s"),
    [
        (fail(429, retry_after=7), RateLimitError, 7.0),
        (fail(429, reset_s=3), RateLimitError, 3.0),
        (fail(500), UnavailableError, None),
        (fail(503, retry_after=2), OverloadedError, 2.0),
        (fail(529), OverloadedError, None),
        (quota_exhausted(), QuotaError, None),
        (context_length(), ContextLengthError, None),
        (content_filter(), ContentFilterError, None),
        (reset_after(0), UnavailableError, None),
    ],
)
def test_a_failure_is_the_error_that_it_asks_for(
    provider: FakeProvider, reply: Reply, kind: type[DispatchError], wait_s: float | None, streams: bool
) -> None:
    with pytest.raises(kind) as caught:
        ask(provider, reply, streams=streams)
    assert caught.value.wait_s == wait_s


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (reset_after(2), BrokenStreamError),
        (truncated(2), BrokenStreamError),
        (truncated(), BrokenStreamError),
        (error_event(2), BrokenStreamError),
        (malformed_event(2), MalformedResponseError),
        (stall_after(2), ProviderTimeoutError),
    ],
)
def test_a_stream_that_breaks_says_how(provider: FakeProvider, reply: Reply, kind: type[DispatchError]) -> None:
    with pytest.raises(DispatchError) as caught:
        ask(provider, reply, streams=True, timeouts=Timeouts(idle_s=0.1))
    assert type(caught.value) is kind
