"""The double's Responses, held to the truth by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    context_length,
    empty_choices,
    error_event,
    error_in_200,
    fail,
    invalid_encrypted_content,
    quota_exhausted,
    refusal,
)

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]},
}
SEALED: Any = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA1"}


@pytest.fixture(scope="module")
def client(server: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="right", base_url=server.base_url, max_retries=0, timeout=10, _strict_response_validation=True
    ) as open_client:
        yield open_client


def ask(client: openai.OpenAI, content: Any = "héllo big world", **options: Any) -> Any:
    return client.responses.create(model="m", input=content, **options)


def test_an_answer_repeats_the_user_and_counts_words(provider: FakeProvider, client: openai.OpenAI) -> None:
    given = ask(client, instructions="Be brief.")
    assert (given.output_text, given.status, given.model) == ("héllo big world", "completed", "m")
    assert (given.usage.input_tokens, given.usage.output_tokens, given.usage.total_tokens) == (5, 3, 8)


@pytest.mark.parametrize(
    "reply",
    [
        answer("Boil the carrots.", reasoning="Carrots first.", cached_tokens=3, input_tokens=5, reasoning_tokens=1),
        answer("Let me look.", calls=[Call("weather", {"days": 1}), Call("weather", {"days": 2})]),
        answer("Boil the", finish="length"),
        answer("Boil", finish="content_filter"),
        refusal(),
    ],
)
def test_a_stream_is_numbered_and_its_pieces_are_the_whole_answer(
    provider: FakeProvider, client: openai.OpenAI, reply: Reply
) -> None:
    provider.always(reply)
    events = list(ask(client, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert events[-1].type == f"response.{last.status}"
    whole = ask(client)
    assert [item.type for item in last.output] == [item.type for item in whole.output]
    assert (last.status, last.incomplete_details, last.usage) == (whole.status, whole.incomplete_details, whole.usage)
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert done == last.output
    for kind, text in [
        ("output_text", last.output_text),
        ("function_call_arguments", "".join(item.arguments for item in done if item.type == "function_call")),
        ("reasoning_summary_text", "".join(item.summary[0].text for item in done if item.type == "reasoning")),
    ]:
        assert "".join(event.delta for event in events if event.type == f"response.{kind}.delta") == text


def test_the_clients_own_stream_helper_puts_the_answer_together(provider: FakeProvider, client: openai.OpenAI) -> None:
    with client.responses.stream(model="m", input="a b") as stream:
        assert stream.get_final_response().output_text == "a b"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_demanded_tool_is_called_and_its_result_understood(
    provider: FakeProvider, client: openai.OpenAI, choice: Any
) -> None:
    first = ask(client, tools=[WEATHER, {"type": "web_search"}], tool_choice=choice)
    (call,) = first.output
    assert isinstance(json.loads(call.arguments)["days"], int)
    history = [{"role": "user", "content": "hi"}, call.model_dump(exclude_none=True)]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    assert ask(client, history, tools=[WEATHER]).output_text == "hi"


def test_a_schema_is_followed(provider: FakeProvider, client: openai.OpenAI) -> None:
    class Recipe(BaseModel):
        title: str
        minutes: int

    parsed = client.responses.parse(model="m", input="soup", text_format=Recipe)
    assert isinstance(parsed.output_parsed, Recipe)


def test_reasoning_is_sealed_where_that_is_asked_for(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.always(answer("Soup.", reasoning="Carrots."))
    sealed = ask(client, include=["reasoning.encrypted_content"], store=False)
    assert sealed.output[0].encrypted_content.startswith("gAAAA")
    assert ask(client).output[0].encrypted_content is None
    history = [item.model_dump(exclude_none=True) for item in sealed.output]
    assert ask(client, [*history, {"role": "user", "content": "and?"}]).output_text == "Soup."


def test_log_probabilities_come_where_they_are_included(provider: FakeProvider, client: openai.OpenAI) -> None:
    given = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    tokens = given.output[0].content[0].logprobs
    assert "".join(one.token for one in tokens) == given.output_text
    assert {len(one.top_logprobs) for one in tokens} == {2}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"extra_body": {"stop": ["x"]}}, 400, None),
        ({"max_output_tokens": 5}, 400, None),
        ({"previous_response_id": "resp_1"}, 400, "previous_response_not_found"),
        ({"input": []}, 400, None),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "r"}]}, 400, None),
        ({"input": [{**SEALED, "encrypted_content": "foreign"}]}, 400, "invalid_encrypted_content"),
        ({"input": [{**SEALED, "encrypted_content": None}]}, 404, None),
        ({"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]}, 400, None),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, None),
        ({"text": {"format": {"type": "json_schema"}}}, 400, None),
    ],
)
def test_what_the_vendor_refuses_is_refused(
    provider: FakeProvider, client: openai.OpenAI, change: dict[str, Any], status: int, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(**{"model": "m", "input": "soup", **change})
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (fail(429), openai.RateLimitError, "rate_limit_exceeded"),
        (fail(500), openai.InternalServerError, None),
        (quota_exhausted(), openai.RateLimitError, "insufficient_quota"),
        (context_length(), openai.BadRequestError, "context_length_exceeded"),
        (invalid_encrypted_content(), openai.BadRequestError, "invalid_encrypted_content"),
    ],
)
def test_a_scripted_failure_is_the_clients_own_error(
    provider: FakeProvider, client: openai.OpenAI, reply: Reply, kind: type[openai.APIError], code: str | None
) -> None:
    provider.script(reply)
    with pytest.raises(kind) as caught:
        ask(client)
    assert caught.value.code == code


def test_failures_within_a_200_are_responses_and_events(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.script(error_in_200("no luck"), empty_choices(), error_event(2))
    failed = ask(client)
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "server_error", "no luck")
    assert ask(client).output == []
    last = list(ask(client, stream=True))[-1]
    assert (last.type, last.code, last.message) == ("error", "server_error", "scripted failure")
