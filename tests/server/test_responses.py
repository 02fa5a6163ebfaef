"""OpenAI's Responses through OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from server.conftest import Served

from semroute.testing import Call, answer, fail, refusal

TRANSLATED = ("openai", "anthropic", "gemini")
FORMATS = (*TRANSLATED, "responses")
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
SOUP = {"type": "input_text", "text": "soup"}


def client_of(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_comes_whole(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots.", input_tokens=7, output_tokens=5))
    with client_of(served) as client:
        response = client.responses.create(model="auto", input="recipe for carrot soup", instructions="Be short.")
    assert (response.output_text, response.status, response.model) == ("Boil the carrots.", "completed", "small")
    assert response.usage is not None
    assert response.usage.total_tokens == 12


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_has_numbered_events_and_ends_with_the_whole_response(
    serve: Callable[..., Served], format: str
) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots until they are soft."))
    with client_of(served) as client:
        events = list(client.responses.create(model="auto", input="recipe for carrot soup", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert text == last.response.output_text == "Boil the carrots until they are soft."


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_parallel_tools_are_called_and_their_results_answered(
    serve: Callable[..., Served], format: str, streaming: bool
) -> None:
    served = serve(format)
    cities = ["Paris", "Rome"]
    served.provider.script(answer(calls=[Call("weather", {"city": city}) for city in cities]), answer("Rain and sun."))
    history: list[Any] = [{"role": "user", "content": "weather in Paris and Rome?"}]
    with client_of(served) as client:
        if streaming:
            with client.responses.stream(model="auto", input=history, tools=[WEATHER]) as stream:
                for _ in stream:
                    pass
                first: Any = stream.get_final_response()
        else:
            first = client.responses.create(model="auto", input=history, tools=[WEATHER])
        calls = [item for item in first.output if item.type == "function_call"]
        assert [json.loads(call.arguments) for call in calls] == [{"city": city} for city in cities]
        history += [item.model_dump(exclude_none=True) for item in first.output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
        last = client.responses.create(model="auto", input=history, tools=[WEATHER])
    assert last.output_text == "Rain and sun."


@pytest.mark.slow
def test_tools_that_agents_offer_with_every_request_are_left_out(serve: Callable[..., Served]) -> None:
    served = serve()
    with client_of(served) as client:
        client.responses.create(model="auto", input="soup", tools=[WEATHER, {"type": "web_search"}])
    assert [tool["function"]["name"] for tool in served.provider.requests[-1].body["tools"]] == ["weather"]


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", TRANSLATED)
def test_a_tool_of_a_namespace_is_called_by_it_and_its_result_is_answered(
    serve: Callable[..., Served], format: str, streaming: bool
) -> None:
    served = serve(format)
    served.provider.script(answer(calls=[Call("sky__weather", {"city": "Paris"})]), answer("Rain."))
    namespace: Any = {"type": "namespace", "name": "sky", "description": "The sky", "tools": [WEATHER]}
    history: list[Any] = [{"role": "user", "content": "weather in Paris?"}]
    with client_of(served) as client:
        if streaming:
            events = list(client.responses.create(model="auto", input=history, tools=[namespace], stream=True))
            first: Any = events[-1].response  # type: ignore[union-attr]
        else:
            first = client.responses.create(model="auto", input=history, tools=[namespace])
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert (call.namespace, call.name) == ("sky", "weather")
        history += [item.model_dump(exclude_none=True) for item in first.output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        last = client.responses.create(model="auto", input=history, tools=[namespace])
    assert last.output_text == "Rain."


@pytest.mark.slow
def test_a_schema_is_parsed_into_its_model(serve: Callable[..., Served]) -> None:
    class Recipe(BaseModel):
        title: str
        minutes: int

    served = serve()
    served.provider.always(answer('{"title": "Soup", "minutes": 20}'))
    with client_of(served) as client:
        parsed = client.responses.parse(model="auto", input="soup", text_format=Recipe)
    assert parsed.output_parsed == Recipe(title="Soup", minutes=20)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_that_is_cut_off_is_incomplete(serve: Callable[..., Served], streaming: bool) -> None:
    served = serve()
    served.provider.always(answer("Boil the", finish="length"))
    with client_of(served) as client:
        if streaming:
            last: Any = list(client.responses.create(model="auto", input="soup", stream=True))[-1]
            assert last.type == "response.incomplete"
            response = last.response
        else:
            response = client.responses.create(model="auto", input="soup")
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@pytest.mark.slow
def test_a_refusal_is_a_part_of_its_own(serve: Callable[..., Served]) -> None:
    served = serve()
    served.provider.always(refusal("I will not."))
    with client_of(served) as client:
        events = list(client.responses.create(model="auto", input="soup", stream=True))
    assert "response.refusal.done" in [event.type for event in events]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [SOUP, {"type": "input_file"}]}]}, "input[0].content[1]"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": None}, "input"),
    ],
)
def test_what_needs_state_or_openais_own_tools_is_refused_with_its_path(
    serve: Callable[..., Served], change: dict[str, Any], path: str
) -> None:
    served = serve()
    with client_of(served) as client, pytest.raises(openai.BadRequestError, match=path.replace("[", r"\[")):
        client.responses.create(**{"model": "auto", "input": "soup", **change})
    assert not served.provider.requests


@pytest.mark.slow
def test_a_failure_in_the_middle_ends_the_stream_as_failed(serve: Callable[..., Served]) -> None:
    served = serve(ping_s=0.01, retries={"attempts": 1})
    served.provider.set_speed(latency_s=0.3)
    served.provider.always(fail(500))
    with client_of(served) as client:
        events = list(client.responses.create(model="small", input="soup", stream=True))
    assert events[-1].type == "response.failed"
