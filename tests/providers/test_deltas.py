"""Fragments of tool calls and reasoning, in the three wire formats alike, against the shipped double."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.config.deployments import Format
from semroute.errors import BrokenStreamError, CapabilityError, DispatchError
from semroute.providers import ADAPTERS, CallTarget, openai_wire
from semroute.providers.answers import CallIds, SentCalls
from semroute.providers.openai import Assembly
from semroute.testing import Call, FakeProvider, Reply, answer, reset_after
from semroute.types import Completion, Delta, ReasoningBlock, Request, Tool, ToolCall, ToolCallDelta

QUESTION = Request(
    ({"role": "user", "content": "weather?"},), tools=(Tool("get_weather"), Tool("get_time"), Tool("get"))
)
FORMATS = pytest.mark.parametrize("format", ["openai", "anthropic", "gemini", "responses"])
OSLO = Call("get_weather", {"city": "Oslo", "days": [1, 2, 3]})


def target(provider: FakeProvider, format: Format, **more: Any) -> CallTarget:
    url = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }[format]
    upstream = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-pro"}.get(format, "m")
    return CallTarget(Deployment(name="spot", model="m", format=format, base_url=url, upstream_model=upstream, **more))


def ask(provider: FakeProvider, format: Format, reply: Reply, request: Request = QUESTION) -> Completion:
    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await ADAPTERS[format].complete(client, target(provider, format), request, within_s=10)

    provider.script(reply)
    return asyncio.run(work())


def stream(
    provider: FakeProvider, format: Format, reply: Reply, request: Request = QUESTION
) -> tuple[list[Delta], Completion | DispatchError]:
    async def work() -> tuple[list[Delta], Completion | DispatchError]:
        deltas: list[Delta] = []
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            events = ADAPTERS[format].stream(client, target(provider, format), request, within_s=10)
            try:
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, Completion):
                            return deltas, event
                        deltas.append(event)
            except DispatchError as error:
                return deltas, error
        raise AssertionError("a stream ends with a completion or an error")

    provider.script(reply)
    return asyncio.run(work())


def joined(deltas: list[Delta]) -> tuple[ToolCall, ...]:
    """The calls that a reader puts together from the fragments, as of OpenAI's streams."""
    calls: dict[int, dict[str, Any]] = {}
    for fragment in (fragment for delta in deltas for fragment in delta.tool_calls):
        if fragment.index not in calls:
            assert fragment.id
            assert fragment.name
            calls[fragment.index] = {"id": fragment.id, "name": fragment.name, "type": fragment.type, "arguments": ""}
        else:
            assert (fragment.id, fragment.name, fragment.type) == (None, None, None)
        calls[fragment.index]["arguments"] += fragment.arguments
        if fragment.signature is not None:
            calls[fragment.index]["signature"] = fragment.signature
    assert list(calls) == list(range(len(calls)))
    return tuple(ToolCall(**call) for call in calls.values())


@FORMATS
@pytest.mark.parametrize("calls", [(OSLO,), (OSLO, Call("get_time")), (Call("get_time"), OSLO, OSLO)])
@pytest.mark.parametrize("text", ["", "I look."])
def test_fragments_of_tool_calls_join_to_the_calls_of_the_completion(
    provider: FakeProvider, format: Format, calls: tuple[Call, ...], text: str
) -> None:
    deltas, found = stream(provider, format, answer(text, calls=calls))
    assert isinstance(found, Completion)
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == [
        (call.name, json.loads(call.text)) for call in calls
    ]
    assert joined(deltas) == found.tool_calls
    assert len({call.id for call in found.tool_calls}) == len(calls)
    assert "".join(delta.text for delta in deltas) == found.text == text


def test_arguments_come_in_pieces_before_the_call_is_complete(provider: FakeProvider) -> None:
    for format in ("openai", "anthropic"):
        deltas, _ = stream(provider, format, answer(calls=(OSLO,)))
        fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
        assert len([fragment for fragment in fragments if fragment.arguments]) > 1
        assert (fragments[0].index, fragments[0].name) == (0, "get_weather")


def test_a_call_without_id_and_with_a_name_in_pieces_is_opened_once_its_name_is_complete(
    provider: FakeProvider,
) -> None:
    deltas, found = stream(provider, "openai", answer(calls=(OSLO, OSLO, Call("get_time")), loose=True))
    assert isinstance(found, Completion)
    assert joined(deltas) == found.tool_calls
    assert [call.name for call in found.tool_calls] == ["get_weather", "get_weather", "get_time"]


@FORMATS
def test_reasoning_streams_apart_from_the_text(provider: FakeProvider, format: Format) -> None:
    reply = answer("It rains.", reasoning="Oslo, so rain.")
    deltas, found = stream(provider, format, reply)
    assert isinstance(found, Completion)
    assert (found.text, found.reasoning) == ("It rains.", "Oslo, so rain.")
    assert "".join(delta.reasoning for delta in deltas) == found.reasoning
    assert "".join(delta.text for delta in deltas) == found.text
    assert [delta.is_answer for delta in deltas] == sorted(delta.is_answer for delta in deltas)  # it comes first
    whole = ask(provider, format, reply)
    assert (whole.text, whole.reasoning, whole.reasoning_blocks) == (
        found.text,
        found.reasoning,
        found.reasoning_blocks,
    )
    assert whole.reasoning_blocks == ((ReasoningBlock("Oslo, so rain.", "c2ln"),) if format == "anthropic" else ())


@FORMATS
def test_reasoning_is_no_first_token_and_a_tool_call_is(provider: FakeProvider, format: Format) -> None:
    _, found = stream(provider, format, answer(calls=(OSLO,), reasoning="hm"))
    assert isinstance(found, Completion)
    assert found.first_token_ms is not None
    deltas, broken = stream(provider, format, reset_after(1, answer("hello you", reasoning="hm hm hm")))
    assert isinstance(broken, BrokenStreamError)
    assert not any(delta.is_answer for delta in deltas)


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_content": "", "reasoning": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}, {"type": "reasoning.encrypted"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_every_servers_field_of_reasoning_is_read(delta: dict[str, Any]) -> None:
    assembly = Assembly()
    piece = assembly.add(openai_wire.Chunk.model_validate({"choices": [{"index": 0, "delta": delta}]}))
    assert piece == Delta(reasoning="hm")
    assert openai_wire.reasoning(assembly.answer().message) == "hm"
    assert not assembly.has_content


def test_a_custom_tools_call_is_read_whole_and_in_a_stream(raw: Any) -> None:
    opened = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": ""}}
    chunks = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [opened]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "custom": {"input": "SELECT "}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "custom": {"input": "1"}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    call = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    whole = raw.answer({"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    wanted = ToolCall("c1", "sql", "SELECT 1", type="custom")

    async def work() -> None:
        async with raw.serve(raw.events(*chunks), whole) as server, httpx.AsyncClient(trust_env=False) as client:
            where = CallTarget(Deployment(name="spot", model="m", base_url=server.url))
            *deltas, last = [one async for one in ADAPTERS["openai"].stream(client, where, QUESTION, within_s=10)]
            assert isinstance(last, Completion)
            assert joined([one for one in deltas if isinstance(one, Delta)]) == last.tool_calls == (wanted,)
            found = await ADAPTERS["openai"].complete(client, where, QUESTION, within_s=10)
            assert found.tool_calls == (wanted,)
            assert found.message["tool_calls"] == [call]

    asyncio.run(work())


# Signed reasoning, which goes back to Anthropic within a tool loop.


def loop(first: Completion, *more: Any, **fields: Any) -> Request:
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in first.tool_calls]
    messages = (*QUESTION.messages, first.message, *results, *more)
    return Request(messages, tools=QUESTION.tools, max_tokens=4096, **fields)


@FORMATS
def test_the_message_of_an_answer_goes_back_to_its_vendor_and_to_every_other(
    provider: FakeProvider, format: Format
) -> None:
    first = ask(provider, format, answer("I look.", calls=(OSLO, OSLO), reasoning="hm hm"))
    for other in ("openai", "anthropic", "gemini", "responses"):
        assert ask(provider, other, answer("It rains."), loop(first)).text == "It rains."


@pytest.mark.parametrize("streams", [False, True])
def test_a_thinking_model_gets_its_signed_reasoning_back_within_the_loop(provider: FakeProvider, streams: bool) -> None:
    thinks = Request(QUESTION.messages, tools=QUESTION.tools, max_tokens=4096, thinking_budget=1024)
    reply = answer("I look.", calls=(OSLO,), reasoning="hm hm")
    first = stream(provider, "anthropic", reply, thinks)[1] if streams else ask(provider, "anthropic", reply, thinks)
    assert isinstance(first, Completion)
    request = loop(first, thinking_budget=1024)
    assert ask(provider, "anthropic", answer("It rains."), request).text == "It rains."
    sent = provider.requests[-1].body["messages"][1]["content"]
    assert sent[0] == {"type": "thinking", "thinking": "hm hm", "signature": "c2ln"}
    assert [block["type"] for block in sent] == ["thinking", "text", "tool_use"]


def test_reasoning_of_a_finished_loop_is_not_sent_again(provider: FakeProvider) -> None:
    first = ask(provider, "anthropic", answer("I look.", calls=(OSLO,), reasoning="hm hm"))
    request = loop(first, {"role": "assistant", "content": "It rains."}, {"role": "user", "content": "And in Rome?"})
    ask(provider, "anthropic", answer("Sun."), request)
    kinds = [block["type"] for message in provider.requests[-1].body["messages"] for block in message["content"]]
    assert "thinking" not in kinds


def test_a_loop_without_signed_reasoning_cannot_think_on(provider: FakeProvider) -> None:
    first = ask(provider, "openai", answer("I look.", calls=(OSLO,), reasoning="hm hm"))
    with pytest.raises(CapabilityError, match="without the signed reasoning of the call"):
        ask(provider, "anthropic", answer("It rains."), loop(first, thinking_budget=1024))


# Invariants.


ARGUMENTS = st.text('{}":ab 1', max_size=8)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(["get", "get_time"]), ARGUMENTS, st.integers(1, 4)), min_size=1, max_size=4),
    st.booleans(),
)
def test_whatever_the_pieces_the_fragments_are_the_calls(calls: list[tuple[str, str, int]], has_ids: bool) -> None:
    assembly, sent, deltas = Assembly(ids=CallIds(QUESTION)), SentCalls(), []

    def add(**piece: Any) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}
        deltas.append(assembly.add(openai_wire.Chunk.model_validate(chunk)))
        sent.note(deltas[-1].tool_calls)

    for index, (name, arguments, step) in enumerate(calls):
        add(index=index, id=f"id{index}" if has_ids else None, function={"name": name, "arguments": ""})
        for start in range(0, len(arguments), step):
            add(index=index, function={"arguments": arguments[start : start + step]})
    whole = tuple(
        ToolCall(call.id or "", call.function.name or "", str(call.function.arguments))
        for call in assembly.answer().message.tool_calls or ()
    )
    ids = CallIds(QUESTION)
    whole = tuple(ToolCall(ids.next(call.id, call.name), call.name, call.arguments) for call in whole)
    assert joined([*deltas, Delta(tool_calls=sent.rest(whole))]) == whole
    assert [(call.name, call.arguments) for call in whole] == [(name, arguments) for name, arguments, _ in calls]


@pytest.mark.slow
@given(st.lists(st.sampled_from(["", "a", "b"]), max_size=6))
def test_ids_are_unique_and_differ_from_those_of_the_conversation(given_ids: list[str]) -> None:
    def made(request: Request) -> list[str]:
        ids = CallIds(request)
        return [ids.next(id, "f") for id in given_ids]

    first = made(QUESTION)
    assert len(set(first)) == len(given_ids)
    assert made(QUESTION) == first
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in first]
    # A client that keeps the last messages only: the number of messages does not tell the turns apart.
    second = made(Request(({"role": "assistant", "tool_calls": calls},)))
    assert not {id for id in second if id.startswith("call_")} & set(first)


def test_a_call_that_comes_whole_is_one_fragment() -> None:
    call = ToolCall("c1", "f", '{"a": 1}', "c2ln")
    assert SentCalls().rest([call]) == (ToolCallDelta(0, "c1", "f", '{"a": 1}', "c2ln", "function"),)
    assert Delta.of(Completion("", "m", "d", "u", "tool_calls", None, 1.0, tool_calls=(call,))).tool_calls == (
        ToolCallDelta(0, "c1", "f", '{"a": 1}', "c2ln", "function"),
    )
