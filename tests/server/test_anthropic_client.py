"""Anthropic's own client against the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from server.conftest import Served

from semroute.testing import Call, answer, fail

FORMATS = ("openai", "anthropic", "gemini", "responses")
SOUP: Any = [{"role": "user", "content": "recipe for carrot soup"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client_of(served: Served) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_comes_whole(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots."))
    with client_of(served) as client:
        message = client.messages.create(model="claude-auto", max_tokens=100, messages=SOUP, system="Be short.")
    assert [block.text for block in message.content if block.type == "text"] == ["Boil the carrots."]
    assert (message.stop_reason, message.model) == ("end_turn", "small")
    assert message.usage.input_tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_brings_the_same_text_with_one_block_open_at_a_time(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots until they are soft."))
    kinds = []
    with (
        client_of(served) as client,
        client.messages.stream(model="auto", max_tokens=100, messages=SOUP) as stream,
    ):
        for event in stream:
            kinds.append(event.type)
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [
        "Boil the carrots until they are soft."
    ]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
    assert message.usage.output_tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_parallel_tools_are_called_and_their_results_answered(
    serve: Callable[..., Served], format: str, streaming: bool
) -> None:
    served = serve(format)
    cities = ["Paris", "Rome"]
    served.provider.script(
        answer("Let me look.", calls=[Call("weather", {"city": city}) for city in cities]), answer("Rain and sun.")
    )
    question: Any = {"role": "user", "content": [{"type": "text", "text": "weather in Paris and Rome?"}]}
    asked: dict[str, Any] = {"model": "auto", "max_tokens": 200, "tools": [WEATHER]}
    with client_of(served) as client:
        if streaming:
            with client.messages.stream(messages=[question], **asked) as stream:
                first = stream.get_final_message()
        else:
            first = client.messages.create(messages=[question], **asked)
        assert first.stop_reason == "tool_use"
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [call.input for call in calls] == [{"city": city} for city in cities]
        results: Any = [
            {"type": "tool_result", "tool_use_id": calls[0].id, "content": "rain"},
            {"type": "tool_result", "tool_use_id": calls[1].id, "content": [{"type": "text", "text": "sun"}]},
            {"type": "text", "text": "and now?"},
        ]
        history: Any = [question, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        last = client.messages.create(messages=history, **asked)
    assert [block.text for block in last.content if block.type == "text"] == ["Rain and sun."]


THINKING: Any = {
    "model": "small",
    "max_tokens": 4096,
    "tools": [WEATHER],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}


def ask(client: anthropic.Anthropic, streaming: bool, **body: Any) -> Any:
    if not streaming:
        return client.messages.create(**body)
    with client.messages.stream(**body) as stream:
        return stream.get_final_message()


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_signed_thinking_comes_back_to_its_vendor_and_foreign_thinking_is_left_out(
    serve: Callable[..., Served], streaming: bool
) -> None:
    served = serve({"small": "anthropic", "large": "openai"})
    call = Call("weather", {"city": "Paris"})
    served.provider.script(
        answer(reasoning="Paris is far.", calls=[call]),
        answer("Rain.", reasoning="It rains."),
        answer("Still rain."),
        answer("Rain again."),
    )
    history: Any = [{"role": "user", "content": "weather in Paris?"}]
    with client_of(served) as client:
        first = ask(client, streaming, messages=history, **THINKING)
        (thought,) = [block for block in first.content if block.type == "thinking"]
        assert (thought.thinking, bool(thought.signature)) == ("Paris is far.", True)
        (used,) = [block for block in first.content if block.type == "tool_use"]
        history += [{"role": "assistant", "content": first.content}]
        history += [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "rain"}]}]
        second = ask(client, streaming, messages=history, **THINKING)  # the double refuses a loop without its thinking
        sent = served.provider.requests[-1].body["messages"]
        assert {"type": "thinking", "thinking": "Paris is far.", "signature": thought.signature} in sent[1]["content"]
        history += [{"role": "assistant", "content": second.content}, {"role": "user", "content": "sure?"}]
        other = ask(client, streaming, messages=history, model="large", max_tokens=100)
        assert "signature" not in str(served.provider.requests[-1].body)
        history += [{"role": "assistant", "content": other.content}, {"role": "user", "content": "really?"}]
        again = ask(client, streaming, messages=history, **THINKING)
    assert [block.text for block in again.content if block.type == "text"] == ["Rain again."]


def test_tokens_are_counted_without_a_call(serve: Callable[..., Served]) -> None:
    served = serve()
    with client_of(served) as client:
        short = client.messages.count_tokens(model="auto", messages=SOUP).input_tokens
        longer = client.messages.count_tokens(model="auto", messages=SOUP, tools=[WEATHER]).input_tokens
    assert 0 < short < longer
    assert not served.provider.requests


@pytest.mark.slow
def test_models_are_listed_in_anthropics_shape(serve: Callable[..., Served]) -> None:
    with client_of(serve()) as client:
        ids = [model.id for model in client.models.list()]
    assert {"auto", "claude-auto", "small", "large"} <= set(ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fail(400), anthropic.BadRequestError),
        (fail(429, retry_after=2), anthropic.RateLimitError),
        (fail(500), anthropic.InternalServerError),
    ],
)
def test_errors_have_the_class_that_anthropics_client_knows(
    serve: Callable[..., Served], reply: Any, kind: type[Exception]
) -> None:
    served = serve(retries={"attempts": 1})
    served.provider.always(reply)
    with client_of(served) as client, pytest.raises(kind):
        client.messages.create(model="small", max_tokens=10, messages=SOUP)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0].source",
        ),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_its_path(
    serve: Callable[..., Served], change: dict[str, Any], path: str
) -> None:
    import httpx

    body = {"model": "auto", "max_tokens": 10, "messages": SOUP, **change}
    answered = httpx.post(f"{serve().url}/v1/messages", json=body)
    assert answered.status_code == 400
    assert answered.json()["type"] == "error"
    assert path in answered.json()["error"]["message"]
