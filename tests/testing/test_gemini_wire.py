"""The double's Gemini format, held to the truth by Google's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
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

WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters=types.Schema(
                type=types.Type.OBJECT,
                properties={
                    "city": types.Schema(type=types.Type.STRING),
                    "days": types.Schema(type=types.Type.INTEGER),
                },
                required=["city", "days"],
            ),
        )
    ]
)


def connected(provider: FakeProvider, key: str = "right") -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=provider.anthropic_url, timeout=10_000))


@pytest.fixture(scope="module")
def client(server: FakeProvider) -> Iterator[genai.Client]:
    with connected(server) as open_client:
        yield open_client


def ask(client: genai.Client, contents: Any = "héllo big world", **config: Any) -> types.GenerateContentResponse:
    return client.models.generate_content(
        model="m", contents=contents, config=types.GenerateContentConfig(**config) if config else None
    )


def stream(client: genai.Client, contents: Any = "héllo big world", **config: Any) -> Iterator[Any]:
    return iter(
        client.models.generate_content_stream(
            model="m", contents=contents, config=types.GenerateContentConfig(**config) if config else None
        )
    )


def only(given: types.GenerateContentResponse) -> types.Candidate:
    assert given.candidates is not None
    (candidate,) = given.candidates
    return candidate


@pytest.mark.slow
def test_an_answer_repeats_the_user_and_counts_words(provider: FakeProvider, client: genai.Client) -> None:
    given = ask(client, system_instruction="be kind")
    assert (given.text, given.model_version) == ("héllo big world", "m")
    assert only(given).finish_reason is types.FinishReason.STOP
    assert given.usage_metadata is not None
    counts = given.usage_metadata
    assert (counts.prompt_token_count, counts.candidates_token_count, counts.total_token_count) == (5, 3, 8)


def test_a_stream_comes_in_words_and_ends_with_a_reason_and_counts(
    provider: FakeProvider, client: genai.Client
) -> None:
    chunks = list(stream(client))
    assert [chunk.text for chunk in chunks] == ["héllo", " big", " world", ""]
    assert [only(chunk).finish_reason for chunk in chunks] == [None, None, None, types.FinishReason.STOP]
    assert chunks[-1].usage_metadata.total_token_count == 6


@pytest.mark.parametrize("allowed", [None, ["weather"]])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_demanded_function_is_called_with_arguments_that_fit(
    provider: FakeProvider, client: genai.Client, allowed: list[str] | None, streamed: bool
) -> None:
    calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=allowed)
    config = {"tools": [WEATHER], "tool_config": types.ToolConfig(function_calling_config=calling)}
    given = next(stream(client, **config)) if streamed else ask(client, **config)
    assert given.function_calls is not None
    (call,) = given.function_calls
    assert (call.name, call.args) == ("weather", {"city": "text", "days": 0})


def test_text_and_several_calls_come_together(provider: FakeProvider, client: genai.Client) -> None:
    provider.script(answer("look:", calls=[Call("weather", {"city": "Zürich"}), Call("weather")]))
    given = ask(client, tools=[WEATHER])
    content = only(given).content
    assert content is not None
    assert content.parts is not None
    assert content.parts[0].text == "look:"
    assert [call.args for call in given.function_calls or ()] == [{"city": "Zürich"}, {}]


def test_a_functions_response_is_taken(provider: FakeProvider, client: genai.Client) -> None:
    contents = [
        types.Content(role="user", parts=[types.Part(text="how is it?")]),
        types.Content(role="model", parts=[types.Part.from_function_call(name="weather", args={})]),
        types.Content(role="user", parts=[types.Part.from_function_response(name="weather", response={"sky": "blue"})]),
        types.Content(role="user", parts=[types.Part(text="and tomorrow?")]),
    ]
    assert ask(client, contents, tools=[WEATHER]).text == "and tomorrow?"


class Person(BaseModel):
    name: str
    age: int


@pytest.mark.parametrize(
    "config", [{"response_schema": Person}, {"response_json_schema": Person.model_json_schema()}], ids=["own", "json"]
)
def test_a_json_schema_gets_an_instance_of_it(
    provider: FakeProvider, client: genai.Client, config: dict[str, Any]
) -> None:
    given = ask(client, response_mime_type="application/json", **config)
    assert json.loads(given.text or "") == {"name": "text", "age": 0}


def test_log_probabilities_come_where_asked(provider: FakeProvider, client: genai.Client) -> None:
    measured = only(ask(client, response_logprobs=True, logprobs=2)).logprobs_result
    assert measured is not None
    chosen, top = measured.chosen_candidates or [], measured.top_candidates or []
    assert [token.token for token in chosen] == ["héllo", " big", " world"]
    assert all((token.log_probability or 0) <= 0 for token in chosen)
    assert [len(rank.candidates or ()) for rank in top] == [2, 2, 2]
    assert only(ask(client)).logprobs_result is None


def test_images_are_taken_stop_and_length_are_kept(provider: FakeProvider, client: genai.Client) -> None:
    contents = [types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png"), "one two three four"]
    cut = ask(client, contents, max_output_tokens=2)
    assert (cut.text, only(cut).finish_reason) == ("one two", types.FinishReason.MAX_TOKENS)
    assert ask(client, contents, stop_sequences=[" three"]).text == "one two"


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (fail(400), 400, "INVALID_ARGUMENT"),
        (fail(401), 401, "UNAUTHENTICATED"),
        (fail(403), 403, "PERMISSION_DENIED"),
        (fail(404), 404, "NOT_FOUND"),
        (fail(429), 429, "RESOURCE_EXHAUSTED"),
        (quota_exhausted(), 429, "RESOURCE_EXHAUSTED"),
        (context_length(), 400, "INVALID_ARGUMENT"),
        (fail(500), 500, "INTERNAL"),
        (fail(503), 503, "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_are_those_that_the_client_knows(
    provider: FakeProvider, client: genai.Client, reply: Reply, code: int, status: str, streamed: bool
) -> None:
    provider.script(reply)
    kind = errors.ClientError if code < 500 else errors.ServerError
    with pytest.raises(kind) as caught:
        list(stream(client)) if streamed else ask(client)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_a_wrong_key_is_a_bad_request_and_a_missing_one_forbidden(provider: FakeProvider, client: genai.Client) -> None:
    with connected(provider, "wrong") as wrong, pytest.raises(errors.ClientError) as caught:
        ask(wrong)
    assert caught.value.code == 400
    assert caught.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    with httpx.Client(trust_env=False, verify=False) as raw:
        url = f"{provider.gemini_url}/models/m:generateContent"
        assert raw.post(url, json=body).status_code == 403
        assert raw.post(f"{url}?key=right", json=body).status_code == 200


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent?alt=sse"])
def test_vertex_paths_want_a_bearer_token(provider: FakeProvider, method: str) -> None:
    path = f"v1/projects/p/locations/us-central1/publishers/google/models/m:{method}"
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    with httpx.Client(trust_env=False, verify=False) as raw:
        url = f"{provider.anthropic_url}/{path}"
        given = raw.post(url, json=body, headers={"authorization": "Bearer right"})
        refused = raw.post(url, json=body, headers={"x-goog-api-key": "right"})
    assert given.status_code == 200
    assert '"text":"x"' in given.text
    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_a_stream_without_sse_is_one_json_array(provider: FakeProvider) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "a b"}]}]}
    with httpx.Client(trust_env=False, verify=False, headers={"x-goog-api-key": "right"}) as raw:
        given = raw.post(f"{provider.gemini_url}/models/m:streamGenerateContent", json=body)
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in given.json()]
    assert texts == ["a", " b", ""]


@pytest.mark.parametrize(
    "wrong",
    [
        {"contents": []},
        {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]},
        {"contents": [{"role": "user", "parts": []}]},
        {"contents": [{"role": "user", "parts": [{"type": "text"}]}]},
        {"messages": []},
        {"generationConfig": {"maxOutputTokens": 0}},
        {"generationConfig": {"max_tokens": 5}},
        {"generationConfig": {"responseSchema": {"type": "STRING"}}},
        {"generationConfig": {"logprobs": 2}},
        {"generationConfig": {"stopSequences": ["a", "b", "c", "d", "e", "f"]}},
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        {"tools": [{"functionDeclarations": [{"name": "has space"}]}]},
    ],
)
def test_a_wrong_request_is_refused(provider: FakeProvider, wrong: dict[str, Any]) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}], **wrong}
    with httpx.Client(trust_env=False, verify=False, headers={"x-goog-api-key": "right"}) as raw:
        given = raw.post(f"{provider.gemini_url}/models/m:generateContent", json=body)
    assert given.status_code == 400
    assert given.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_fields_may_be_written_in_snake_case(provider: FakeProvider) -> None:
    body = {
        "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "iVBORw=="}}, {"text": "a b c"}]}],
        "generation_config": {"max_output_tokens": 1},
    }
    with httpx.Client(trust_env=False, verify=False, headers={"x-goog-api-key": "right"}) as raw:
        given = raw.post(f"{provider.gemini_url}/models/m:generateContent", json=body).json()
    assert given["candidates"][0]["content"]["parts"] == [{"text": "a"}]


def test_a_refusal_is_a_finish_reason_and_a_filtered_prompt_has_no_candidates(
    provider: FakeProvider, client: genai.Client
) -> None:
    provider.script(refusal("not this one"), content_filter(), empty_choices())
    refused = only(ask(client))
    assert refused.finish_reason is types.FinishReason.PROHIBITED_CONTENT
    blocked = ask(client)
    assert blocked.candidates is None
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    assert ask(client).candidates is None


def test_thoughts_are_counted_apart_and_counts_can_be_missing(provider: FakeProvider, client: genai.Client) -> None:
    provider.script(answer("x", input_tokens=9, cached_tokens=4, output_tokens=7, reasoning_tokens=5), no_usage())
    counts = ask(client).usage_metadata
    assert counts is not None
    assert (counts.candidates_token_count, counts.thoughts_token_count) == (2, 5)
    assert (counts.cached_content_token_count, counts.total_token_count) == (4, 16)
    assert ask(client).usage_metadata is None


def test_an_error_event_is_raised_by_the_client(provider: FakeProvider, client: genai.Client) -> None:
    provider.script(error_event(2))
    got: list[str] = []
    with pytest.raises(errors.ServerError):
        got.extend(chunk.text for chunk in stream(client))
    assert got == ["héllo", " big"]


def test_hints_are_in_the_body_as_google_gives_them(provider: FakeProvider) -> None:
    provider.script(fail(429, reset_s=2.5), quota_exhausted())
    with httpx.Client(trust_env=False, verify=False) as raw:
        url = f"{provider.gemini_url}/models/m:generateContent"
        limited, spent = (raw.post(url, json={}).json()["error"]["details"] for _ in range(2))
    assert [detail["@type"].rsplit(".")[-1] for detail in limited] == ["QuotaFailure", "RetryInfo"]
    assert limited[1]["retryDelay"] == "2.5s"
    assert "PerDay" in spent[0]["violations"][0]["quotaId"]


def test_the_list_of_models_is_read_by_the_client(provider: FakeProvider, client: genai.Client) -> None:
    assert [model.name for model in client.models.list()] == ["models/fake-model"]
