"""Requests that are too long: a larger model takes them, or the client reads its own vendor's sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from server.conftest import Served
from server.test_sessions import SOUP, agent, models_asked

from semroute.testing import FakeProvider, answer, context_length, fail

LONG = f"{SOUP} {'with many carrots ' * 1000}"
ALL_SMALL: dict[str, Any] = {name: {"context": 500} for name in ("small", "large", "coder")}
ONE_LARGE = ALL_SMALL | {"large": {"context": 1_000_000}}


def openai_client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_model_that_it_fits_is_asked_before_any_byte(serve: Callable[..., Served], streaming: bool) -> None:
    served = serve("openai", models=ONE_LARGE)
    with openai_client(served) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": LONG}], stream=streaming
        )
        if streaming:
            assert list(raw.parse())
    assert (raw.headers["x-semroute-model"], models_asked(served)) == ("large", ["large"])


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_what_a_provider_finds_too_long_goes_to_a_larger_model(serve: Callable[..., Served], streaming: bool) -> None:
    known = {"small": {"context": 8000}, "coder": {"context": 4000}, "large": {"context": 1_000_000}}
    served = serve("openai", models=known)
    served.provider.script(context_length(), answer("a soup"))
    with openai_client(served) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": SOUP}], stream=streaming
        )
        if streaming:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == "a soup"
    assert (raw.headers["x-semroute-model"], models_asked(served)) == ("large", ["small", "large"])


def test_anthropics_clients_read_the_counts(serve: Callable[..., Served]) -> None:
    served = serve("anthropic", models=ALL_SMALL)
    with agent(served) as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="claude-auto", max_tokens=10, messages=[{"role": "user", "content": LONG}])
    body: Any = caught.value.body
    assert body["error"]["type"] == "invalid_request_error"
    counts = re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", body["error"]["message"])
    assert counts is not None
    assert int(counts[1]) > int(counts[2]) == 500
    assert models_asked(served) == []


def test_an_answer_that_leaves_no_room_is_said_as_anthropic_says_it(serve: Callable[..., Served]) -> None:
    served = serve("anthropic", models=ALL_SMALL)
    with agent(served) as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="claude-auto", max_tokens=600, messages=[{"role": "user", "content": SOUP}])
    body: Any = caught.value.body
    sentence = r"input length and `max_tokens` exceed context limit: \d+ \+ 600 > 500, decrease input length .*"
    assert re.fullmatch(sentence, body["error"]["message"])


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_openais_clients_read_the_code(serve: Callable[..., Served], streaming: bool) -> None:
    served = serve("openai", models=ALL_SMALL)
    with openai_client(served) as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": LONG}], stream=streaming)
    assert caught.value.code == "context_length_exceeded"
    assert "This model's maximum context length is 500 tokens. However, you requested" in str(caught.value)


@pytest.mark.slow
def test_codex_reads_it_from_the_stream(serve: Callable[..., Served]) -> None:
    served = serve("openai", models=ALL_SMALL)
    body = {"model": "auto", "input": LONG, "stream": True}
    answered = httpx.post(f"{served.url}/v1/responses", json=body)
    events = [json.loads(line[5:]) for line in answered.text.splitlines() if line.startswith("data:")]
    assert answered.status_code == 200
    assert [event["type"] for event in events][-1] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "context_length_exceeded"
    assert "exceeds the context window of this model" in events[-1]["response"]["error"]["message"]
    assert httpx.post(f"{served.url}/v1/responses", json=body | {"stream": False}).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_the_providers_own_counts_are_passed_on_across_formats(
    serve: Callable[..., Served], provider: FakeProvider, format: str
) -> None:
    served = serve(format)
    sentence = {
        "openai": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "anthropic": "prompt is too long: 9000 tokens > 8192 maximum",
    }[format]
    provider.always(fail(400, message=sentence))
    with agent(served) as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="claude-auto", max_tokens=10, messages=[{"role": "user", "content": SOUP}])
    body: Any = caught.value.body
    assert body["error"]["message"] == "prompt is too long: 9000 tokens > 8192 maximum"


def test_another_reason_is_not_called_too_long(serve: Callable[..., Served], provider: FakeProvider) -> None:
    lacking: dict[str, Any] = {name: {"capabilities": [], "context": 500} for name in ALL_SMALL}
    served = serve("openai", models=lacking)
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with openai_client(served) as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": SOUP}], tools=[tool])
    assert caught.value.code is None
    assert "has no tools" in str(caught.value)
    assert provider.requests == []


@pytest.mark.slow
def test_a_capability_that_is_lacking_is_no_reason_to_leave_the_decisions_models(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("openai", models={"small": {"capabilities": []}, "coder": {}, "large": {"capabilities": ["tools"]}})
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with openai_client(served) as client, pytest.raises(openai.BadRequestError, match="has no tools"):
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": SOUP}], tools=[tool])
    assert provider.requests == []


SHORT_ANSWERS: dict[str, Any] = {name: {"max_output": 500} for name in ALL_SMALL}


def test_a_model_that_gives_the_answer_asked_for_is_called(serve: Callable[..., Served]) -> None:
    served = serve("openai", models=SHORT_ANSWERS | {"large": {"max_output": 4000}})
    with openai_client(served) as client:
        for asked in (500, 501):
            client.chat.completions.create(
                model="auto", max_tokens=asked, messages=[{"role": "user", "content": SOUP}], user=str(asked)
            )
    assert models_asked(served) == ["small", "large"]


def test_an_unlimited_answer_is_not_held_to_the_limit(serve: Callable[..., Served]) -> None:
    served = serve("openai", models={name: {"max_output": 1} for name in ALL_SMALL})
    with openai_client(served) as client:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": SOUP}])
    assert models_asked(served) == ["small"]


@pytest.mark.parametrize("model", ["auto", "small"])
def test_too_long_an_answer_is_refused_as_openai_does(serve: Callable[..., Served], model: str) -> None:
    # Windows that the request fits: they are not what its client is to read about.
    served = serve("openai", models={name: {"max_output": 500, "context": 8000} for name in ALL_SMALL})
    with openai_client(served) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, max_tokens=600, messages=[{"role": "user", "content": SOUP}])
        with pytest.raises(openai.BadRequestError) as caught_responses:
            client.responses.create(model=model, max_output_tokens=600, input=SOUP)
    assert "at most 500 completion tokens, whereas you provided 600" in str(caught.value)
    assert caught.value.code is None
    assert "Expected a value <= 500, but got 600" in str(caught_responses.value)
    assert models_asked(served) == []


def test_too_long_an_answer_is_refused_as_anthropic_does(serve: Callable[..., Served]) -> None:
    served = serve("anthropic", models=SHORT_ANSWERS)
    with agent(served) as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="claude-auto", max_tokens=600, messages=[{"role": "user", "content": SOUP}])
    body: Any = caught.value.body
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"] == "max_tokens: 600 > 500, which is the maximum allowed number of output tokens"
    assert models_asked(served) == []


def test_a_window_that_is_too_small_as_well_is_what_the_client_reads_of(serve: Callable[..., Served]) -> None:
    served = serve("anthropic", models={name: {"max_output": 500, "context": 500} for name in ALL_SMALL})
    with (
        agent(served) as client,
        pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 500"),
    ):
        client.messages.create(model="claude-auto", max_tokens=600, messages=[{"role": "user", "content": LONG}])
