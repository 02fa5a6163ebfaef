from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from semroute.config import Deployment
from semroute.errors import RequestError
from semroute.providers import CallTarget, openai
from semroute.providers.openai import payload
from semroute.testing import FakeProvider, answer
from semroute.types import Completion, Request

CALL = {
    "index": 0,
    "id": "c1",
    "type": "function",
    "function": {"name": "f", "arguments": "{}", "parsed_arguments": None},
    "extra_content": {"google": {"thought_signature": "c2ln"}},
}
BACK = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "annotations": [{"type": "url_citation"}],
    "audio": None,
    "function_call": None,
    "parsed": {"a": 1},
    "reasoning": "hm",
    "reasoning_content": "hm",
    "reasoning_details": [{"data": "x"}],
    "thinking_blocks": [{"type": "thinking"}],
    "provider_specific_fields": {"x": 1},
    "tool_calls": [CALL],
}
LOOP = Request(({"role": "user", "content": "hello"}, BACK, {"role": "tool", "tool_call_id": "c1", "content": "ok"}))


def sent(request: Request, **place: Any) -> dict[str, Any]:
    where = Deployment.model_validate({"name": "spot", "model": "m", "base_url": "http://localhost:9/v1", **place})
    body: Any = payload(CallTarget(where), request)
    message: dict[str, Any] = body["messages"][1]
    return message


@pytest.mark.parametrize("place", [{}, {"provider": "openai"}, {"provider": "groq"}, {"provider": "mistral"}])
def test_what_other_vendors_added_to_an_answer_is_not_sent_back(place: dict[str, Any]) -> None:
    plain = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert sent(LOOP, **place) == {"role": "assistant", "content": None, "tool_calls": [plain]}


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ({"provider": "deepseek"}, {"reasoning_content"}),
        ({"provider": "vllm"}, {"reasoning", "reasoning_content"}),
        ({"provider": "openrouter"}, {"reasoning", "reasoning_details", "annotations"}),
        ({"base_url": "https://openrouter.ai/api/v1/"}, {"reasoning", "reasoning_details", "annotations"}),
        ({"message_fields": ["thinking_blocks"]}, {"thinking_blocks"}),
    ],
)
def test_what_the_vendor_reads_is_sent_back_to_it(place: dict[str, Any], kept: set[str]) -> None:
    assert sent(LOOP, **place).keys() - {"role", "content", "tool_calls"} == kept


@pytest.mark.parametrize(
    "place",
    [{"provider": "google-openai"}, {"base_url": "https://generativelanguage.googleapis.com/v1beta/openai/"}],
)
def test_googles_own_server_of_the_format_gets_its_signatures_back(place: dict[str, Any]) -> None:
    assert sent(LOOP, **place)["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}


def test_another_models_thinking_within_the_content_is_left_out() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes", "annotations": []}]
    request = Request(({"role": "user", "content": "a"}, {"role": "assistant", "content": parts}))
    assert sent(request)["content"] == [{"type": "text", "text": "yes"}]


def test_a_refusal_is_what_was_said_where_there_is_no_field_for_it() -> None:
    request = Request(({"role": "user", "content": "a"}, {"role": "assistant", "content": None, "refusal": "no"}))
    assert sent(request)["content"] == "no"
    assert sent(request, provider="openai") == {"role": "assistant", "content": None, "refusal": "no"}


def test_the_fields_of_a_callers_own_messages_are_left_alone() -> None:
    request = Request(({"role": "user", "content": "a"}, {"role": "user", "content": "b", "name": "Ann"}))
    assert sent(request) == {"role": "user", "content": "b", "name": "Ann"}


def test_a_strict_server_takes_a_conversation_that_came_from_elsewhere(provider: FakeProvider) -> None:
    provider.script(answer("fine"))

    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            where = CallTarget(Deployment(name="spot", model="m", base_url=provider.base_url))
            return await openai.complete(client, where, LOOP, within_s=10)

    assert asyncio.run(work()).text == "fine"


@pytest.mark.parametrize("streams", [False, True])
def test_googles_signature_of_a_call_is_kept_for_the_next_request(raw: Any, streams: bool) -> None:
    choice = {"index": 0, "finish_reason": "tool_calls"}
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    whole = raw.answer({"choices": [{**choice, "message": message}]})
    script = raw.events({"choices": [{**choice, "delta": message}]}) if streams else whole

    async def work() -> Completion:
        async with raw.serve(script) as server, httpx.AsyncClient(trust_env=False, verify=False) as client:
            where = CallTarget(Deployment(name="spot", model="m", base_url=server.url))
            if not streams:
                return await openai.complete(client, where, LOOP, within_s=10)
            *_, last = [piece async for piece in openai.stream(client, where, LOOP, within_s=10)]
            assert isinstance(last, Completion)
            return last

    assert asyncio.run(work()).tool_calls[0].signature == "c2ln"


@pytest.mark.parametrize("streams", [False, True])
def test_what_a_model_refuses_and_may_be_left_out_is_asked_for_again_without(raw: Any, streams: bool) -> None:
    refused = raw.answer(
        {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model."}},
        "400 Bad Request",
    )
    said = {
        "choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "hi"}, "message": {"content": "hi"}}]
    }
    script = raw.events(said) if streams else raw.answer(said)
    cold = Request(LOOP.messages[:1], temperature=0.0, seed=7, droppable=frozenset({"temperature", "seed"}))

    async def work(request: Request) -> list[Any]:
        async with raw.serve(refused, script) as server, httpx.AsyncClient(trust_env=False, verify=False) as client:
            where = CallTarget(Deployment(name="spot", model="m", base_url=server.url))
            if streams:
                assert [piece async for piece in openai.stream(client, where, request, within_s=10)]
            else:
                await openai.complete(client, where, request, within_s=10)
            bodies: list[Any] = server.bodies
            return bodies

    first, again = asyncio.run(work(cold))
    assert first["temperature"] == 0.0
    assert "temperature" not in again
    assert again["seed"] == 7
    with pytest.raises(RequestError):
        asyncio.run(work(Request(cold.messages, temperature=0.0)))
