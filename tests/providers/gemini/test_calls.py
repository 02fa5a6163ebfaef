"""Against the double over real HTTP; what an answer means is in test_answer.py."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest

from semroute.config import Deployment, Timeouts
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import ADAPTERS, CallTarget
from semroute.providers.adapter import Adapter
from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    content_filter,
    context_length,
    empty_choices,
    error_event,
    error_in_200,
    fail,
    hang,
    malformed,
    malformed_event,
    refusal,
    reset_after,
    split_sse,
    stall_after,
    truncated,
)
from semroute.types import Completion, Delta, Request, Tool, Usage

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
            return await ADAPTER.complete(client, where, request, within_s=5.0)

    return asyncio.run(work())


def stream(where: CallTarget, request: Request = HELLO, said: list[str] | None = None) -> tuple[list[str], Completion]:
    texts = [] if said is None else said

    async def work() -> Completion:
        async with (
            httpx.AsyncClient(trust_env=False, verify=False) as client,
            aclosing(ADAPTER.stream(client, where, request, within_s=5.0)) as events,
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


def test_a_whole_answer_comes_with_version_and_key_in_the_headers(provider: FakeProvider) -> None:
    provider.script(answer("Hi.", input_tokens=30, output_tokens=9, cached_tokens=8, reasoning_tokens=2))
    found = call(target(provider.gemini_url))
    assert (found.text, found.model, found.deployment, found.finish_reason) == ("Hi.", "large", "spot", "stop")
    assert found.usage == Usage(30, 9, cached_tokens=8, reasoning_tokens=2)
    assert found.latency_ms > 0
    assert found.first_token_ms is None
    (seen,) = provider.requests
    assert seen.path == "/v1beta/models/gemini-test:generateContent"
    assert seen.headers["x-goog-api-key"] == KEY
    assert "authorization" not in seen.headers


def test_a_streamed_answer_is_the_same_answer(provider: FakeProvider) -> None:
    reply = answer("Hello out there, friend.", input_tokens=30, output_tokens=9, cached_tokens=8, reasoning_tokens=2)
    provider.script(reply, reply)
    whole = call(target(provider.gemini_url))
    texts, streamed = stream(target(provider.gemini_url))
    assert "".join(texts) == whole.text
    assert len(texts) > 1
    assert streamed.first_token_ms is not None
    assert 0 < streamed.first_token_ms <= streamed.latency_ms
    assert replace(streamed, latency_ms=whole.latency_ms, first_token_ms=None) == whole


def test_a_stream_may_be_cut_into_bytes_anywhere(provider: FakeProvider) -> None:
    provider.script(split_sse((1, 2, 3), answer("Grüße, 世界 🌍 und alle")))
    texts, found = stream(target(provider.gemini_url))
    assert "".join(texts) == found.text == "Grüße, 世界 🌍 und alle"


def test_the_time_to_the_first_token_leaves_out_the_rest(provider: FakeProvider) -> None:
    provider.set_speed(first_token_s=0.05, token_s=0.05)
    provider.script(answer("one two three"))
    _, found = stream(target(provider.gemini_url))
    assert found.first_token_ms is not None
    assert 45 <= found.first_token_ms <= found.latency_ms - 30


@pytest.mark.parametrize("is_streamed", [False, True])
def test_calls_come_back_and_their_results_are_understood(provider: FakeProvider, is_streamed: bool) -> None:
    where, tool = target(provider.gemini_url), Tool("weather", "", {"type": "object"})
    provider.script(answer(calls=[Call("weather", {"city": "Oslo"}), Call("weather", {"city": "Tromsø"})]))
    request = Request(HELLO.messages, tools=(tool,))
    found = stream(where, request)[1] if is_streamed else call(where, request)
    assert found.finish_reason == "tool_calls"
    assert [json.loads(item.arguments) for item in found.tool_calls] == [{"city": "Oslo"}, {"city": "Tromsø"}]
    calls = [
        {"id": item.id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        for item in found.tool_calls
    ]
    results = [{"role": "tool", "tool_call_id": item.id, "content": "rain"} for item in found.tool_calls]
    call(where, replace(request, messages=(*HELLO.messages, {"role": "assistant", "tool_calls": calls}, *results)))
    sent = provider.requests[-1].body["contents"][2]["parts"]
    assert [part["functionResponse"]["id"] for part in sent] == [item.id for item in found.tool_calls]


def test_a_request_with_everything_is_taken_by_the_server(provider: FakeProvider) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    request = Request(
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [picture, {"type": "text", "text": "?"}]},
        ),
        max_tokens=20,
        temperature=0.5,
        stop=("END",),
        json_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    )
    assert isinstance(json.loads(call(target(provider.gemini_url), request).text)["a"], int)
    assert "".join(stream(target(provider.gemini_url), request)[0])


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


FAILURES = [
    (fail(401), AuthenticationError),
    (fail(400), RequestError),
    (context_length(), ContextLengthError),
    (fail(404), RequestError),
    (fail(429, retry_after=7), RateLimitError),
    (fail(500), UnavailableError),
    (fail(529), OverloadedError),
    (malformed(), MalformedResponseError),
]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(("reply", "kind"), FAILURES)
def test_a_failure_is_the_error_of_its_kind(
    provider: FakeProvider, reply: Reply, kind: type[DispatchError], is_streamed: bool
) -> None:
    provider.script(reply)
    where = target(provider.gemini_url)
    with pytest.raises(DispatchError) as caught:
        _ = stream(where) if is_streamed else call(where)
    assert type(caught.value) is kind
    assert caught.value.deployment == "spot"
    assert KEY not in str(caught.value)
    assert caught.value.wait_s == (7 if kind is RateLimitError else None)


@pytest.mark.parametrize("reply", [empty_choices(), error_in_200()])
def test_a_200_that_is_no_answer_is_an_error(provider: FakeProvider, reply: Reply) -> None:
    provider.script(reply, reply)
    with pytest.raises(DispatchError):
        call(target(provider.gemini_url))
    with pytest.raises(DispatchError):
        stream(target(provider.gemini_url))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (truncated(2), BrokenStreamError),
        (reset_after(2), BrokenStreamError),
        (stall_after(2), ProviderTimeoutError),
        (malformed_event(2), MalformedResponseError),
        (error_event(2), BrokenStreamError),
    ],
)
def test_a_stream_that_breaks_tells_what_was_said_and_counted(
    provider: FakeProvider, reply: Reply, kind: type[DispatchError]
) -> None:
    provider.script(reply)
    said: list[str] = []
    where = target(provider.gemini_url, timeouts=Timeouts(idle_s=0.15))
    with pytest.raises(DispatchError) as caught:
        stream(where, said=said)
    assert type(caught.value) is kind
    assert "".join(said).startswith("hello out")
    assert caught.value.usage is not None
    assert caught.value.usage.input_tokens == 3
    assert caught.value.status == 200


def test_a_server_that_says_nothing_is_not_waited_for(provider: FakeProvider) -> None:
    provider.script(hang(), hang())
    where = target(provider.gemini_url, timeout_s=0.15)
    with pytest.raises(ProviderTimeoutError):
        call(where)
    with pytest.raises(ProviderTimeoutError):
        stream(where)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_cannot_be_carried_is_refused_before_any_call(provider: FakeProvider, is_streamed: bool) -> None:
    where, request = target(provider.gemini_url), Request(({"role": "user", "content": "x", "name": "Ann"},))
    with pytest.raises(CapabilityError, match="'name'"):
        _ = stream(where, request) if is_streamed else call(where, request)
    assert provider.requests == []


def test_closing_a_stream_closes_its_connection(provider: FakeProvider) -> None:
    provider.script(stall_after(1))

    async def work() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            events = ADAPTER.stream(client, target(provider.gemini_url), HELLO, within_s=5.0)
            assert isinstance(await anext(events), Delta)
            await events.aclose()
            assert await asyncio.to_thread(provider.wait_idle)

    asyncio.run(work())
