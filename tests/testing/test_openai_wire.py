"""The double's OpenAI format, held to the truth by OpenAI's own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    content_filter,
    context_length,
    empty_choices,
    error_event,
    fail,
    no_end_marker,
    no_usage,
    quota_exhausted,
    refusal,
)
from semroute.testing.answers import embed
from semroute.testing.openai import duration

PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city", "days"],
        },
    },
}


@pytest.fixture(scope="module")
def client(server: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="right", base_url=server.base_url, max_retries=0, timeout=10) as open_client:
        yield open_client


def ask(client: openai.OpenAI, content: Any = "héllo big world", **options: Any) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}], **options)


def test_an_answer_repeats_the_user_and_counts_words(provider: FakeProvider, client: openai.OpenAI) -> None:
    given = ask(client)
    assert given.choices[0].message.content == "héllo big world"
    assert given.choices[0].finish_reason == "stop"
    assert (given.usage.prompt_tokens, given.usage.completion_tokens, given.usage.total_tokens) == (3, 3, 6)
    assert given.model == "m"


def test_a_stream_comes_in_words_with_usage_only_where_asked(provider: FakeProvider, client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert words == ["héllo", " big", " world"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 6
    assert all(chunk.usage is None for chunk in ask(client, stream=True))


def test_the_clients_own_stream_helper_puts_the_answer_together(provider: FakeProvider, client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "a b"}]) as events:
        assert events.get_final_completion().choices[0].message.content == "a b"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_demanded_tool_is_called_with_arguments_that_fit(
    provider: FakeProvider, client: openai.OpenAI, choice: Any
) -> None:
    choices = ask(client, tools=[WEATHER], tool_choice=choice).choices
    (call,) = choices[0].message.tool_calls
    assert choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "text", "days": 1})
    assert choices[0].message.content is None


def test_tool_calls_are_streamed_in_pieces_that_the_client_joins(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.script(answer("look:", calls=[Call("weather", {"city": "Zürich", "days": 2}), Call("weather")]))
    with client.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": "x"}], tools=[WEATHER]
    ) as events:
        message = events.get_final_completion().choices[0].message
    assert message.content == "look:"
    assert message.tool_calls is not None
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Zürich", "days": 2}, {}]
    assert len({call.id for call in message.tool_calls}) == 2


def test_a_tools_result_is_taken_after_its_call_and_only_there(provider: FakeProvider, client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns: list[Any] = [
        {"role": "user", "content": "how is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    given = client.chat.completions.create(model="m", messages=turns, tools=[WEATHER])
    assert given.choices[0].message.content == "how is it?"
    with pytest.raises(openai.BadRequestError, match="preceding"):
        client.chat.completions.create(model="m", messages=[turns[0], turns[2]])


class Person(BaseModel):
    name: str
    age: int
    friends: list[Person]


def test_a_json_schema_gets_an_instance_of_it(provider: FakeProvider, client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "who?"}], response_format=Person
    )
    assert parsed.choices[0].message.parsed == Person(name="text", age=0, friends=[])


def test_log_probabilities_come_where_asked_streamed_or_not(provider: FakeProvider, client: openai.OpenAI) -> None:
    content = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [token.token for token in content] == ["héllo", " big", " world"]
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in content)
    chunks = list(ask(client, stream=True, logprobs=True))
    streamed = [token for c in chunks if c.choices[0].logprobs for token in c.choices[0].logprobs.content]
    assert [(t.token, t.logprob) for t in streamed] == [(t.token, t.logprob) for t in content]
    assert ask(client).choices[0].logprobs is None


def test_images_are_taken_stop_and_length_are_kept(provider: FakeProvider, client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "one two three four"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    assert ask(client, parts).choices[0].message.content == "one two three four"
    cut = ask(client, parts, max_completion_tokens=2).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("one two", "length")
    stopped = ask(client, parts, stop=[" three", "four"], max_tokens=9).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("one two", "stop")


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (fail(400), openai.BadRequestError, None),
        (fail(401), openai.AuthenticationError, None),
        (fail(403), openai.PermissionDeniedError, None),
        (fail(404), openai.NotFoundError, None),
        (fail(422), openai.UnprocessableEntityError, None),
        (fail(429), openai.RateLimitError, "rate_limit_exceeded"),
        (quota_exhausted(), openai.RateLimitError, "insufficient_quota"),
        (context_length(), openai.BadRequestError, "context_length_exceeded"),
        (content_filter(), openai.BadRequestError, "content_filter"),
        (fail(500), openai.InternalServerError, None),
        (fail(503), openai.InternalServerError, None),
        (fail(529), openai.InternalServerError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_those_that_the_client_knows(
    provider: FakeProvider,
    client: openai.OpenAI,
    reply: Reply,
    kind: type[openai.APIStatusError],
    code: str,
    stream: bool,
) -> None:
    provider.script(reply)
    with pytest.raises(kind) as caught:
        ask(client, stream=stream)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.request_id


def test_a_wrong_key_is_refused_and_azures_header_is_taken(provider: FakeProvider, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(client.with_options(api_key="wrong"))
    assert caught.value.code == "invalid_api_key"
    url = provider.base_url.removesuffix("/v1")
    with openai.AzureOpenAI(api_key="right", azure_endpoint=url, api_version="2024-10-21", max_retries=0) as azure:
        assert ask(azure).choices[0].message.content == "héllo big world"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": 3},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"tool_choice": "auto"},
        {"tools": [{"type": "function", "function": {"name": "has space"}}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"top_logprobs": 2},
        {"stream_options": {"include_usage": True}},
        {"extra_body": {"nonsense": 1}},
        {"n": 0},
        {"parallel_tool_calls": True},
    ],
)
def test_a_wrong_request_is_refused(provider: FakeProvider, client: openai.OpenAI, wrong: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, **wrong)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_marked_as_one(provider: FakeProvider, client: openai.OpenAI, stream: bool) -> None:
    provider.script(refusal("not this one"))
    if stream:
        text = "".join(chunk.choices[0].delta.refusal or "" for chunk in ask(client, stream=True))
    else:
        message = ask(client).choices[0].message
        text = message.refusal
        assert message.content is None
    assert text == "not this one"


def test_counts_can_be_detailed_or_missing(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.script(answer("x", input_tokens=9, cached_tokens=4, output_tokens=7, reasoning_tokens=5), no_usage())
    usage = ask(client).usage
    assert (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens) == (4, 5)
    assert ask(client).usage is None


def test_an_answer_without_choices_and_a_stream_without_a_marker_are_read(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.script(empty_choices(), no_end_marker())
    assert ask(client).choices == []
    assert [c.choices[0].finish_reason for c in ask(client, stream=True)][-1] == "stop"


def test_an_error_event_is_raised_by_the_client(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.script(error_event(2))
    got: list[str] = []
    with pytest.raises(openai.APIError, match="scripted failure"):
        got.extend(chunk.choices[0].delta.content for chunk in ask(client, stream=True))
    assert got == ["", "héllo", " big"]


def test_embeddings_and_the_list_of_models_are_read_by_the_client(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    given = client.embeddings.create(model="e", input=["red car", "blue sky"])
    assert given.data[1].embedding == pytest.approx(embed("blue sky", 64), abs=1e-6)
    assert given.usage.total_tokens == 4
    assert [model.id for model in client.models.list()] == ["fake-model"]


def test_models_that_are_listed_are_the_only_ones() -> None:
    with (
        FakeProvider(models=["only"]) as provider,
        openai.OpenAI(api_key="k", base_url=provider.base_url, max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["only"]
        with pytest.raises(openai.NotFoundError) as caught:
            ask(client)
        assert caught.value.code == "model_not_found"


def test_hints_are_in_openais_headers(provider: FakeProvider) -> None:
    provider.script(fail(429, reset_s=90.5), fail(429, retry_after=3))
    with httpx.Client(trust_env=False, verify=False) as raw:
        first, second = (raw.post(f"{provider.base_url}/chat/completions", json={}).headers for _ in range(2))
    assert first["x-ratelimit-reset-requests"] == "1m30.5s"
    assert first["x-ratelimit-remaining-requests"] == "0"
    assert "retry-after" not in first
    assert second["retry-after"] == "3"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.02, "20ms"), (1.5, "1.5s"), (360, "6m0s"), (3600, "1h0m0s"), (7322.25, "2h2m2.25s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
