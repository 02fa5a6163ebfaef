"""Calls in the wire formats alike, whole and streamed, against the shipped double over real HTTP.

What an answer means is in test_answers.py; what one format alone has is in the folder of its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from semroute.config import Deployment, Timeouts
from semroute.config.deployments import Format
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    CapabilityError,
    ContextLengthError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import ADAPTERS, CallTarget
from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    context_length,
    drip,
    empty_choices,
    error_event,
    error_in_200,
    fail,
    hang,
    malformed,
    malformed_event,
    no_end_marker,
    no_usage,
    quota_exhausted,
    reset_after,
    split_sse,
    stall_after,
    truncated,
)
from semroute.types import Completion, Delta, Request, Tool, Usage

KEY = "sk-a1b2c3d4e5f6g7h8"
USER = {"role": "user", "content": "hello out there"}
HELLO = Request((USER,))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
EVERYTHING = Request(
    (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "user", "content": "and now"},
    ),
    max_tokens=20,
    temperature=0.5,
    stop=("END",),
    tools=(Tool("add", "adds", SCHEMA),),
    tool_choice="auto",
    json_schema=SCHEMA,
)


@dataclass(frozen=True)
class Wire:
    """What differs between the formats."""

    format: Format
    path: str
    header: tuple[str, str]
    results: Callable[[Any], list[str]]
    uncarried: Request
    counts_early: bool  # tokens of a stream are counted before its end
    writes_cache: bool = False
    stops: bool = True  # at texts of the request

    def target(self, provider: FakeProvider, **settings: Any) -> CallTarget:
        urls = {"anthropic": provider.anthropic_url, "gemini": provider.gemini_url}
        url = urls.get(self.format, provider.base_url)
        fields = {"upstream_model": f"{self.format}-test", "api_key_env": "TEST_KEY", "timeout_s": 5.0, **settings}
        deployment = Deployment(name="spot", model="large", format=self.format, base_url=url, **fields)
        return CallTarget(deployment, "TEST_KEY", KEY)

    def ask(
        self,
        where: CallTarget,
        request: Request = HELLO,
        *,
        streams: bool = False,
        said: list[str] | None = None,
    ) -> Completion:
        """The completion; texts of a stream are added to ``said`` as they come."""

        async def work() -> Completion:
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                if not streams:
                    return await ADAPTERS[self.format].complete(client, where, request, within_s=60.0)
                last: Completion | None = None
                async with aclosing(ADAPTERS[self.format].stream(client, where, request, within_s=60.0)) as events:
                    async for event in events:
                        assert last is None, "nothing comes after the completion"
                        if isinstance(event, Completion):
                            last = event
                        elif said is not None:
                            said.append(event.text)
                assert last is not None
                return last

        return asyncio.run(work())


WIRES = (
    Wire(
        "openai",
        "/v1/chat/completions",
        ("authorization", f"Bearer {KEY}"),
        lambda body: [message["tool_call_id"] for message in body["messages"][2:]],
        replace(HELLO, extra={"safetySettings": []}),
        counts_early=False,
    ),
    Wire(
        "anthropic",
        "/v1/messages",
        ("x-api-key", KEY),
        lambda body: [block["tool_use_id"] for block in body["messages"][2]["content"]],
        replace(HELLO, logprobs=True),
        counts_early=True,
        writes_cache=True,
    ),
    Wire(
        "gemini",
        "/v1beta/models/gemini-test:generateContent",
        ("x-goog-api-key", KEY),
        lambda body: [part["functionResponse"]["id"] for part in body["contents"][2]["parts"]],
        Request(({**USER, "name": "Ann"},)),
        counts_early=True,
    ),
    Wire(
        "responses",
        "/v1/responses",
        ("authorization", f"Bearer {KEY}"),
        lambda body: [item["call_id"] for item in body["input"] if item.get("type") == "function_call_output"],
        replace(HELLO, stop=("END",)),
        counts_early=False,
        writes_cache=True,
        stops=False,
    ),
)
EACH = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.format)
BOTH = pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])


@EACH
def test_a_whole_answer_comes_with_the_key_in_the_vendors_header(provider: FakeProvider, wire: Wire) -> None:
    counts = {"input_tokens": 30, "output_tokens": 9, "cached_tokens": 8, "reasoning_tokens": 2}
    if wire.writes_cache:
        counts["cache_write_tokens"] = 4
    provider.script(answer("Hi.", **counts))
    found = wire.ask(wire.target(provider))
    assert (found.text, found.model, found.deployment, found.finish_reason) == ("Hi.", "large", "spot", "stop")
    assert found.usage == Usage(**counts)
    assert found.latency_ms > 0
    assert found.first_token_ms is None
    (seen,) = provider.requests
    assert seen.path == wire.path
    name, value = wire.header
    assert seen.headers[name] == value
    assert {"authorization", "x-api-key", "x-goog-api-key"} & seen.headers.keys() == {name}


@EACH
def test_a_streamed_answer_is_the_same_answer(provider: FakeProvider, wire: Wire) -> None:
    reply = answer("Hello out there, friend.", input_tokens=30, output_tokens=9, cached_tokens=8, reasoning_tokens=2)
    provider.script(reply, reply)
    whole = wire.ask(wire.target(provider))
    texts: list[str] = []
    streamed = wire.ask(wire.target(provider), streams=True, said=texts)
    assert "".join(texts) == whole.text
    assert len(texts) > 1
    assert streamed.first_token_ms is not None
    assert 0 < streamed.first_token_ms <= streamed.latency_ms
    assert replace(streamed, latency_ms=whole.latency_ms, first_token_ms=None) == whole


@pytest.mark.slow
@EACH
@BOTH
@pytest.mark.parametrize(
    "travel",
    [
        lambda told: told,
        lambda told: split_sse((1,), told),
        lambda told: split_sse((1, 2, 3), told),
        lambda told: drip(0.01, told),
        no_end_marker,
        no_usage,
    ],
)
def test_an_honest_answer_arrives_whole_however_it_travels(
    provider: FakeProvider, wire: Wire, streams: bool, travel: Any
) -> None:
    reply = travel(answer("Grüße, 世界 🌍 und alle"))
    provider.script(reply)
    texts: list[str] = []
    found = wire.ask(wire.target(provider), streams=streams, said=texts)
    assert (found.text, found.finish_reason) == ("Grüße, 世界 🌍 und alle", "stop")
    assert (found.usage is not None) == reply.counted
    assert "".join(texts) == (found.text if streams else "")


@pytest.mark.slow
@EACH
def test_the_time_to_the_first_token_leaves_out_the_rest(provider: FakeProvider, wire: Wire) -> None:
    provider.set_speed(first_token_s=0.05, token_s=0.05)
    provider.script(answer("one two three"))
    found = wire.ask(wire.target(provider), streams=True)
    assert found.first_token_ms is not None
    assert 45 <= found.first_token_ms <= found.latency_ms - 30


@EACH
@BOTH
def test_calls_come_back_and_their_results_are_understood(provider: FakeProvider, wire: Wire, streams: bool) -> None:
    where, tool = wire.target(provider), Tool("weather", "", {"type": "object"})
    provider.script(answer(calls=[Call("weather", {"city": "Oslo"}), Call("weather", {"city": "Tromsø"})]))
    request = Request(HELLO.messages, tools=(tool,))
    found = wire.ask(where, request, streams=streams)
    assert found.finish_reason == "tool_calls"
    assert [json.loads(item.arguments) for item in found.tool_calls] == [{"city": "Oslo"}, {"city": "Tromsø"}]
    calls = [
        {"id": item.id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        for item in found.tool_calls
    ]
    results = [{"role": "tool", "tool_call_id": item.id, "content": "rain"} for item in found.tool_calls]
    wire.ask(where, replace(request, messages=(*HELLO.messages, {"role": "assistant", "tool_calls": calls}, *results)))
    assert wire.results(provider.requests[-1].body) == [item.id for item in found.tool_calls]


@EACH
@BOTH
def test_a_request_with_everything_is_taken_by_the_server(provider: FakeProvider, wire: Wire, streams: bool) -> None:
    found = wire.ask(wire.target(provider), EVERYTHING if wire.stops else replace(EVERYTHING, stop=()), streams=streams)
    assert found.usage is not None
    assert isinstance(json.loads(found.text)["a"], int)


@EACH
@BOTH
@pytest.mark.parametrize(
    ("reply", "kind", "wait_s"),
    [
        (fail(400), RequestError, None),
        (fail(401), AuthenticationError, None),
        (fail(404), RequestError, None),
        (fail(429, retry_after=7), RateLimitError, 7.0),
        (fail(500), UnavailableError, None),
        (fail(503, retry_after=2), OverloadedError, 2.0),
        (fail(529), OverloadedError, None),
        (context_length(), ContextLengthError, None),
        (quota_exhausted(), QuotaError, None),
        (reset_after(0), UnavailableError, None),
        (malformed(), MalformedResponseError, None),
    ],
)
def test_a_failure_is_the_error_of_its_kind(
    provider: FakeProvider,
    wire: Wire,
    reply: Reply,
    kind: type[DispatchError],
    wait_s: float | None,
    streams: bool,
) -> None:
    provider.script(reply)
    with pytest.raises(DispatchError) as caught:
        wire.ask(wire.target(provider), streams=streams)
    is_cut = kind is UnavailableError and reply.status == 200
    assert type(caught.value) is (BrokenStreamError if is_cut and streams else kind)
    assert caught.value.deployment == "spot"
    assert KEY not in str(caught.value)
    assert caught.value.wait_s == wait_s


@EACH
@BOTH
@pytest.mark.parametrize("reply", [empty_choices(), error_in_200()])
def test_a_200_that_is_no_answer_is_an_error(provider: FakeProvider, wire: Wire, reply: Reply, streams: bool) -> None:
    provider.script(reply)
    with pytest.raises(DispatchError):
        wire.ask(wire.target(provider), streams=streams)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (truncated(2), BrokenStreamError),
        (truncated(), BrokenStreamError),
        (reset_after(2), BrokenStreamError),
        (stall_after(2), ProviderTimeoutError),
        (malformed_event(2), MalformedResponseError),
        (error_event(2), BrokenStreamError),
    ],
)
def test_a_stream_that_breaks_tells_what_was_said_and_counted(
    provider: FakeProvider, wire: Wire, reply: Reply, kind: type[DispatchError]
) -> None:
    provider.script(reply)
    said: list[str] = []
    with pytest.raises(DispatchError) as caught:
        wire.ask(wire.target(provider, timeouts=Timeouts(idle_s=0.15)), streams=True, said=said)
    assert type(caught.value) is kind
    assert "".join(said).startswith("hello out")
    if wire.counts_early:
        assert caught.value.usage is not None
        assert caught.value.usage.input_tokens == 3
        assert caught.value.status == 200


@pytest.mark.slow
@EACH
@BOTH
def test_a_server_that_says_nothing_is_not_waited_for(provider: FakeProvider, wire: Wire, streams: bool) -> None:
    provider.script(hang())
    with pytest.raises(ProviderTimeoutError):
        wire.ask(wire.target(provider, timeout_s=0.15), streams=streams)


@EACH
@BOTH
def test_what_cannot_be_carried_is_refused_before_any_call(provider: FakeProvider, wire: Wire, streams: bool) -> None:
    with pytest.raises(CapabilityError, match=r"logprobs|'name'|safetySettings|stop"):
        wire.ask(wire.target(provider), wire.uncarried, streams=streams)
    assert provider.requests == []


@EACH
def test_closing_a_stream_closes_its_connection(provider: FakeProvider, wire: Wire) -> None:
    provider.script(stall_after(1))

    async def work() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            events = ADAPTERS[wire.format].stream(client, wire.target(provider), HELLO, within_s=60.0)
            assert isinstance(await anext(events), Delta)
            await events.aclose()
            assert await asyncio.to_thread(provider.wait_idle)

    asyncio.run(work())
