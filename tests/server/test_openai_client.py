"""OpenAI's own client against the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from server.conftest import Served

from semroute.testing import Call, answer, fail

FORMATS = ("openai", "anthropic", "gemini", "responses")
SOUP = [{"role": "user", "content": "recipe for carrot soup"}]
CHAT = {"model": "auto", "messages": SOUP}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def client_of(served: Served, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0, **options)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_comes_whole_and_its_headers_have_the_decision(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots."))
    with client_of(served) as client:
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=SOUP)
    completion = raw.parse()
    assert completion.choices[0].message.content == "Boil the carrots."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "small"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0
    assert (raw.headers["x-semroute-category"], raw.headers["x-semroute-model"]) == ("cooking", "small")
    assert float(raw.headers["x-semroute-cost-usd"]) > 0
    assert completion.id == f"chatcmpl-{raw.headers['x-semroute-outcome-id']}"


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_brings_the_same_text_and_the_usage(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(answer("Boil the carrots until they are soft."))
    with client_of(served) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=SOUP, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Boil the carrots until they are soft."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert (raw.headers["x-semroute-category"], raw.headers["x-semroute-model"]) == ("cooking", "small")


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_tool_is_called_and_its_result_answered(serve: Callable[..., Served], format: str, streaming: bool) -> None:
    served = serve(format)
    served.provider.script(answer(calls=[Call("weather", {"city": "Paris"})]), answer("It rains in Paris."))
    messages: list[Any] = [{"role": "user", "content": "what is the weather in Paris"}]
    with client_of(served) as client:
        if streaming:
            with client.chat.completions.stream(model="auto", messages=messages, tools=[WEATHER]) as stream:
                first = stream.get_final_completion()
        else:
            first = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER])
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        (call,) = message.tool_calls or ()
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        asked = [*messages, message.model_dump(exclude_none=True), result]
        last = client.chat.completions.create(model="auto", messages=asked, tools=[WEATHER])
    assert last.choices[0].message.content == "It rains in Paris."


@pytest.mark.slow
def test_a_schema_is_parsed_into_its_model(serve: Callable[..., Served]) -> None:
    class Recipe(BaseModel):
        title: str
        minutes: int

    served = serve()
    served.provider.always(answer('{"title": "Soup", "minutes": 20}'))
    with client_of(served) as client:
        parsed = client.chat.completions.parse(model="auto", messages=SOUP, response_format=Recipe)
    assert parsed.choices[0].message.parsed == Recipe(title="Soup", minutes=20)
    assert served.provider.requests[-1].body["response_format"]["json_schema"]["name"] == "Recipe"


@pytest.mark.slow
def test_a_model_a_group_and_auto_are_taken_and_another_name_is_refused(serve: Callable[..., Served]) -> None:
    served = serve()
    with client_of(served) as client:
        assert client.chat.completions.create(model="large", messages=SOUP).model == "large"
        assert client.chat.completions.create(model="both", messages=SOUP).model in ("small", "large")
        assert {"auto", "small", "both"} <= {model.id for model in client.models.list()}
        with pytest.raises(openai.NotFoundError, match="large") as refused:
            client.chat.completions.create(model="larg", messages=SOUP)
    assert refused.value.code == "model_not_found"


@pytest.mark.slow
def test_unknown_parameters_of_openai_reach_the_provider(serve: Callable[..., Served]) -> None:
    served = serve()
    with client_of(served) as client:
        client.chat.completions.create(model="auto", messages=SOUP, logit_bias={"50256": -100}, seed=7, top_p=0.5)
    body = served.provider.requests[-1].body
    assert (body["logit_bias"], body["seed"], body["top_p"]) == ({"50256": -100}, 7, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fail(400), openai.BadRequestError),
        (fail(429, retry_after=2), openai.RateLimitError),
        (fail(500), openai.InternalServerError),
        (fail(401), openai.InternalServerError),
    ],
)
def test_errors_have_the_class_that_openais_client_knows(
    serve: Callable[..., Served], reply: Any, kind: type[Exception]
) -> None:
    served = serve(retries={"attempts": 1})
    served.provider.always(reply)
    with client_of(served) as client, pytest.raises(kind):
        client.chat.completions.create(model="small", messages=SOUP)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": SOUP}, "model"),
        ({"model": "auto"}, "messages"),
        ({"model": "auto", "messages": "x"}, "messages"),
        (
            {"model": "auto", "messages": SOUP, "tools": [{"type": "function", "function": {}}]},
            "tools[0].function.name",
        ),
        ({**CHAT, "n": 2, "stream": True}, "n:"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_its_path(
    serve: Callable[..., Served], body: dict[str, Any], path: str
) -> None:
    import httpx

    answered = httpx.post(f"{serve().url}/v1/chat/completions", json=body)
    assert answered.status_code == 400
    assert answered.json()["error"]["type"] == "invalid_request_error"
    assert path in answered.json()["error"]["message"]


@pytest.mark.slow
def test_the_asynchronous_client_is_answered_many_times_at_once(serve: Callable[..., Served]) -> None:
    served = serve()

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model="auto", messages=[{"role": "user", "content": f"soup {n}"}])
                    for n in range(40)
                )
            )
        return [one.choices[0].message.content or "" for one in answers]

    answers = asyncio.run(ask())
    assert [f"soup {n}" in text for n, text in enumerate(answers)] == [True] * 40
