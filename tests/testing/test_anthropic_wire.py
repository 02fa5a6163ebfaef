"""The double's Anthropic format, held to the truth by Anthropic's own client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx
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
    no_usage,
    quota_exhausted,
    refusal,
)

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}}
WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"enum": ["Bern", "Rome"]}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def client(server: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="right", base_url=server.anthropic_url, max_retries=0, timeout=10) as open_client:
        yield open_client


def ask(client: anthropic.Anthropic, content: Any = "héllo big world", **options: Any) -> Any:
    options = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": content}], **options}
    return client.messages.create(**options)


def stream(client: anthropic.Anthropic, content: Any = "héllo big world", **options: Any) -> Any:
    options = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": content}], **options}
    return client.messages.stream(**options)


def test_an_answer_repeats_the_user_and_counts_words(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    given = ask(client, system="be kind")
    assert given.content[0].text == "héllo big world"
    assert (given.stop_reason, given.model) == ("end_turn", "m")
    assert (given.usage.input_tokens, given.usage.output_tokens) == (5, 3)


@pytest.mark.slow
def test_a_stream_has_anthropics_events_in_their_order(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    events = list(ask(client, stream=True))
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert deltas == ["héllo", " big", " world"]
    kinds = [event.type for event in events if event.type not in ("content_block_delta", "ping")]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    with stream(client) as helper:
        message = helper.get_final_message()
    assert (message.content[0].text, message.stop_reason) == ("héllo big world", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 3)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_demanded_tool_is_called_with_input_that_fits(
    provider: FakeProvider, client: anthropic.Anthropic, choice: Any, streamed: bool
) -> None:
    if streamed:
        with stream(client, tools=[WEATHER], tool_choice=choice) as helper:
            message = helper.get_final_message()
    else:
        message = ask(client, tools=[WEATHER], tool_choice=choice)
    (block,) = message.content
    assert (block.type, block.name, block.input) == ("tool_use", "weather", {"city": "Bern"})
    assert message.stop_reason == "tool_use"


def test_text_and_several_calls_are_streamed_as_blocks(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    provider.script(answer("look:", calls=[Call("weather", {"city": "Zürich"}), Call("weather")]))
    with stream(client, tools=[WEATHER]) as helper:
        text, *calls = helper.get_final_message().content
    assert text.text == "look:"
    assert [call.input for call in calls] == [{"city": "Zürich"}, {}]
    assert calls[0].id != calls[1].id


def test_a_tools_result_is_taken_after_its_call_and_only_there(
    provider: FakeProvider, client: anthropic.Anthropic
) -> None:
    asked = {"role": "user", "content": "how is it?"}
    called = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]}
    told = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]}
    assert ask(client, messages=[asked, called, told], tools=[WEATHER]).content[0].text == "sunny"
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        ask(client, messages=[asked, told])
    with pytest.raises(anthropic.BadRequestError, match="tool_use ids"):
        ask(client, messages=[asked, called, asked])


class Person(BaseModel):
    name: str
    age: int


def test_a_json_schema_gets_an_instance_of_it(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    given = ask(client, output_config={"format": {"type": "json_schema", "schema": Person.model_json_schema()}})
    assert Person.model_validate_json(given.content[0].text) == Person(name="text", age=0)


def test_images_are_taken_stop_and_length_are_kept(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    parts = [IMAGE, {"type": "text", "text": "one two three four"}]
    cut = ask(client, parts, max_tokens=2)
    assert (cut.content[0].text, cut.stop_reason) == ("one two", "max_tokens")
    stopped = ask(client, parts, stop_sequences=[" three"])
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == (
        "one two",
        "stop_sequence",
        " three",
    )


@pytest.mark.parametrize(
    ("reply", "kind", "name"),
    [
        (fail(400), anthropic.BadRequestError, "invalid_request_error"),
        (fail(401), anthropic.AuthenticationError, "authentication_error"),
        (fail(403), anthropic.PermissionDeniedError, "permission_error"),
        (fail(404), anthropic.NotFoundError, "not_found_error"),
        (fail(429), anthropic.RateLimitError, "rate_limit_error"),
        (quota_exhausted(), anthropic.BadRequestError, "invalid_request_error"),
        (context_length(), anthropic.BadRequestError, "invalid_request_error"),
        (content_filter(), anthropic.BadRequestError, "invalid_request_error"),
        (fail(500), anthropic.InternalServerError, "api_error"),
        (fail(529), anthropic._exceptions.OverloadedError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_are_those_that_the_client_knows(
    provider: FakeProvider,
    client: anthropic.Anthropic,
    reply: Reply,
    kind: type[anthropic.APIStatusError],
    name: str,
    streamed: bool,
) -> None:
    provider.script(reply)
    with pytest.raises(kind) as caught:
        ask(client, stream=streamed)
    assert type(caught.value) is kind
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == name


def test_a_wrong_key_is_refused_and_either_header_carries_the_right_one(
    provider: FakeProvider, client: anthropic.Anthropic
) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        ask(client.with_options(api_key="wrong"))
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    with httpx.Client(trust_env=False, verify=False, headers={"anthropic-version": "2023-06-01"}) as raw:
        url = f"{provider.anthropic_url}/v1/messages"
        statuses = [
            raw.post(url, json=body, headers=headers).status_code
            for headers in ({"x-api-key": "right"}, {"x-api-key": "wrong", "authorization": "Bearer right"}, {})
        ]
    assert statuses == [200, 401, 401]


def test_the_version_header_has_to_be_sent(provider: FakeProvider) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    with httpx.Client(trust_env=False, verify=False, headers={"x-api-key": "right"}) as raw:
        given = raw.post(f"{provider.anthropic_url}/v1/messages", json=body)
    assert given.status_code == 400
    assert "anthropic-version" in given.json()["error"]["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": None},
        {"extra_body": {"temperature": 1.5}},
        {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
        {"tools": [{"name": "weather", "input_schema": {}}]},
        {"tool_choice": {"type": "any"}},
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}},
        {"stop_sequences": [" "]},
        {"extra_body": {"logprobs": True}},
        {"output_config": {"format": {"type": "json_object"}}},
    ],
)
def test_a_wrong_request_is_refused(provider: FakeProvider, client: anthropic.Anthropic, wrong: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError):
        ask(client, **wrong)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_is_a_stop_reason(provider: FakeProvider, client: anthropic.Anthropic, streamed: bool) -> None:
    provider.script(refusal("not this one"))
    if streamed:
        with stream(client) as helper:
            message = helper.get_final_message()
    else:
        message = ask(client)
    assert message.stop_reason == "refusal"
    assert message.content[0].text == "not this one"


def test_cached_tokens_are_counted_apart_and_counts_can_be_missing(
    provider: FakeProvider, client: anthropic.Anthropic
) -> None:
    provider.script(answer("x", input_tokens=9, cached_tokens=4, cache_write_tokens=2, output_tokens=7), no_usage())
    usage = ask(client).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 4, 2)
    assert usage.output_tokens == 7
    assert "usage" not in ask(client).model_fields_set


def test_no_content_and_an_error_event_reach_the_client(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    provider.script(empty_choices(), error_event(2))
    assert ask(client).content == []
    got: list[str] = []
    with stream(client) as helper, pytest.raises(anthropic.APIStatusError, match="scripted failure"):
        got.extend(helper.text_stream)
    assert got == ["héllo", " big"]


def test_hints_are_in_anthropics_headers(provider: FakeProvider) -> None:
    provider.script(fail(429, reset_s=30, retry_after=30))
    with httpx.Client(trust_env=False, verify=False) as raw:
        headers = raw.post(f"{provider.anthropic_url}/v1/messages", json={}).headers
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert timedelta(seconds=25) < reset - datetime.now(UTC) <= timedelta(seconds=30)
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["retry-after"] == "30"


def test_the_list_of_models_is_read_by_the_client(provider: FakeProvider, client: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["fake-model"]
