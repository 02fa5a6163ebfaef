from __future__ import annotations

import asyncio
import json
import logging
import traceback
from typing import Any

import httpx
import pytest

from semroute.config import Deployment
from semroute.config.extensions import BUILT_IN
from semroute.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    EmptyAnswerError,
    MalformedResponseError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import ADAPTERS, openai
from semroute.providers.target import CallTarget
from semroute.testing import FakeProvider, Reply, empty_choices, error_in_200, fail, hang, malformed
from semroute.types import Completion, Request, TokenLogprob, ToolCall, Usage

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello out there"},))


def target(base_url: str, *, key: str | None = KEY, **more: Any) -> CallTarget:
    row = {"provider": "vllm", "upstream_model": "gpt-test", "api_key_env": ("TEST_KEY",) if key else (), **more}
    where = Deployment(name="spot", model="small", base_url=base_url, **row)
    return CallTarget(where, "TEST_KEY" if key else None, key)


def call(where: CallTarget, request: Request = HELLO, *, within_s: float = 10.0) -> Completion:
    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await openai.complete(client, where, request, within_s=within_s)

    return asyncio.run(work())


def refusal(provider: FakeProvider, reply: Reply, **more: Any) -> DispatchError:
    provider.script(reply)
    with pytest.raises(DispatchError) as caught:
        call(target(provider.base_url, **more))
    error = caught.value
    assert error.deployment == "spot"
    assert str(error).startswith("spot")
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error)
    return error


def body(**changes: object) -> Reply:
    whole: dict[str, object] = {
        "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "model": "gpt-test-2026",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    return Reply(body=json.dumps({**whole, **changes}).encode())


def choice(reason: str | None = "stop", logprobs: object = None, **message: object) -> Reply:
    whole = {"role": "assistant", "content": None, **message}
    return body(choices=[{"message": whole, "finish_reason": reason, "logprobs": logprobs}])


def answered(provider: FakeProvider, reply: Reply) -> Completion:
    provider.script(reply)
    return call(target(provider.base_url))


def test_an_answer_comes_with_model_tokens_and_time(provider: FakeProvider) -> None:
    answer = call(target(provider.base_url))
    assert (answer.text, answer.model, answer.deployment) == ("hello out there", "small", "spot")
    assert (answer.upstream_model, answer.finish_reason) == ("gpt-test", "stop")
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0
    assert answer.first_token_ms is None
    assert 0 < answer.latency_ms < 10_000


def test_the_request_carries_the_upstream_name_and_the_key(provider: FakeProvider) -> None:
    call(target(provider.base_url), Request(HELLO.messages, max_tokens=7, temperature=0.0))
    sent = provider.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.body == {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": "hello out there"}],
        "max_tokens": 7,
        "temperature": 0.0,
    }


def test_without_a_key_no_authorization_is_sent(provider: FakeProvider) -> None:
    call(target(provider.base_url, key=None))
    assert "authorization" not in provider.requests[0].headers


def test_azure_gets_its_own_header_and_the_version_in_the_query(provider: FakeProvider) -> None:
    address = f"{provider.base_url}/openai/deployments/mini"
    provider.script(body())
    call(target(address, provider="azure", api_version="2026-01-01"))
    sent = provider.requests[0]
    assert sent.path == "/v1/openai/deployments/mini/chat/completions?api-version=2026-01-01"
    assert sent.headers["api-key"] == KEY
    assert "authorization" not in sent.headers


@pytest.mark.parametrize("end", ["", "/"])
def test_a_base_url_works_with_and_without_the_slash(provider: FakeProvider, end: str) -> None:
    where = target(provider.base_url)
    # model_construct keeps the slash that validation drops, as another caller's deployment might.
    kept = Deployment.model_construct(**{**dict(where.deployment), "base_url": provider.base_url + end})
    assert call(CallTarget(kept, "TEST_KEY", KEY)).text == "hello out there"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fail(401, f"Incorrect key {KEY} given"), AuthenticationError),
        (fail(404), RequestError),
        (fail(429, retry_after=7), RateLimitError),
        (fail(500, KEY), UnavailableError),
        (malformed(f"echo {KEY}"), MalformedResponseError),
        (Reply(402, json.dumps({"error": {"message": "no credits"}}).encode()), QuotaError),
        (Reply(400, json.dumps({"error": {"code": "context_length_exceeded"}}).encode()), ContextLengthError),
        (Reply(400, json.dumps({"error": {"code": "content_filter"}}).encode()), ContentFilterError),
    ],
)
def test_a_failure_is_the_error_that_it_asks_for(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, reply: Reply, kind: type[DispatchError]
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert type(refusal(provider, reply)) is kind
    assert KEY not in caplog.text


def test_a_wrong_path_points_at_the_address_and_the_models_name(provider: FakeProvider) -> None:
    error = refusal(provider, fail(404, "no such model"))
    assert f"{provider.base_url}/chat/completions" in str(error)
    assert "upstream_model" in str(error)


@pytest.mark.slow
def test_a_provider_that_hangs_times_out_and_names_the_setting(provider: FakeProvider) -> None:
    error = refusal(provider, hang(), timeout_s=0.2)
    assert type(error) is ProviderTimeoutError
    assert "0.2 s (timeout_s)" in str(error)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (malformed(), "not a JSON object"),
        (empty_choices(), "choices"),
        (body(choices=None), "choices"),
        (body(choices=[{}]), "choices.0.message"),
        (body(choices=[{"message": {"content": 3}}]), "choices.0.message.content"),
        (choice(tool_calls=[{"id": "a", "function": {"arguments": "{}"}}]), "names no function"),
    ],
)
def test_a_success_that_is_no_completion_is_malformed(provider: FakeProvider, reply: Reply, says: str) -> None:
    error = refusal(provider, reply)
    assert type(error) is MalformedResponseError
    assert error.status == 200
    assert says in str(error)


@pytest.mark.parametrize(("code", "kind"), [(401, AuthenticationError), (429, RateLimitError), (502, UnavailableError)])
def test_an_error_inside_a_200_that_names_a_status_is_that_error(
    provider: FakeProvider, code: int, kind: type[DispatchError]
) -> None:
    for reply in (
        error_in_200("inside", code=code),
        body(choices=[{"message": {}, "error": {"code": code, "message": "inside"}}]),
    ):
        error = refusal(provider, reply)
        assert type(error) is kind
        assert error.status == code


def test_an_error_that_is_null_is_no_error(provider: FakeProvider) -> None:
    assert answered(provider, body(error=None)).text == "yes"


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 2}, "many"])
def test_an_answer_is_not_lost_for_a_missing_or_wrong_count(provider: FakeProvider, usage: object) -> None:
    answer = answered(provider, body(usage=usage))
    assert (answer.text, answer.usage, answer.upstream_model) == ("yes", None, "gpt-test-2026")


def test_cached_and_reasoning_tokens_are_counted(provider: FakeProvider) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 8,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert answered(provider, body(usage=usage)).usage == Usage(10, 8, cached_tokens=4, reasoning_tokens=5)


@pytest.mark.parametrize("text", ["", None])
@pytest.mark.parametrize(("reason", "said"), [("stop", "stop"), (None, "not given"), (KEY, "[key]")])
def test_an_empty_text_is_no_answer(provider: FakeProvider, text: str | None, reason: str | None, said: str) -> None:
    error = refusal(provider, choice(reason, content=text))
    assert type(error) is EmptyAnswerError
    assert f"without text (finish_reason {said})" in str(error)


def test_the_text_of_a_content_in_parts_is_the_answer(provider: FakeProvider) -> None:
    parts = [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "y"}, {"text": "es"}]
    assert answered(provider, choice(content=parts)).text == "yes"


def test_a_refusal_is_an_answer_with_its_words_apart(provider: FakeProvider) -> None:
    answer = answered(provider, choice(refusal="I will not"))
    assert (answer.text, answer.refusal, answer.finish_reason) == ("", "I will not", "refusal")


def test_a_filter_that_leaves_nothing_is_an_error_with_the_tokens_it_cost(provider: FakeProvider) -> None:
    error = refusal(provider, choice("content_filter"))
    assert type(error) is ContentFilterError
    assert error.usage == Usage(3, 1)
    answer = answered(provider, choice("content_filter", content="up to he"))
    assert (answer.text, answer.finish_reason) == ("up to he", "content_filter")


@pytest.mark.parametrize("reason", ["tool_calls", "stop", None])
def test_tool_calls_come_as_they_were_written(provider: FakeProvider, reason: str | None) -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "now", "arguments": ""}},
        {"function": {"name": "set", "arguments": {"y": "é"}}},
    ]
    answer = answered(provider, choice(reason, tool_calls=calls))
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert answer.tool_calls == (
        ToolCall("a", "add", '{"x": 1}'),
        ToolCall("b", "now", "{}"),
        ToolCall(answer.tool_calls[2].id, "set", '{"y": "é"}'),
    )


@pytest.mark.parametrize(
    ("logprobs", "read"),
    [
        ({"content": [{"token": "yes", "logprob": -0.5, "bytes": [1]}]}, (TokenLogprob("yes", -0.5),)),
        ({"content": []}, None),
        ({"content": [{"token": "yes", "logprob": None}]}, None),
        (None, None),
        ("often", None),
    ],
)
def test_logprobs_are_read_where_there_are_any(
    provider: FakeProvider, logprobs: object, read: tuple[TokenLogprob, ...] | None
) -> None:
    assert answered(provider, choice(content="yes", logprobs=logprobs)).logprobs == read


@pytest.mark.slow
def test_cancelling_a_call_is_not_taken_for_a_timeout(provider: FakeProvider) -> None:
    provider.script(hang())

    async def work() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            task = asyncio.create_task(openai.complete(client, target(provider.base_url), HELLO, within_s=10))
            await asyncio.sleep(0.1)
            task.cancel()
            await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())


@pytest.mark.parametrize("key", [f"{KEY}\n", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_before_it_is_sent(provider: FakeProvider, key: str) -> None:
    with pytest.raises(AuthenticationError, match="TEST_KEY"):
        call(target(provider.base_url, key=key))
    assert provider.requests == []


def test_a_message_that_json_cannot_hold_is_refused(provider: FakeProvider) -> None:
    request = Request(({"role": "user", "content": "x", "name": {1, 2}},))
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        call(target(provider.base_url), request)


def test_a_lone_surrogate_arrives_as_the_replacement_character(provider: FakeProvider) -> None:
    assert call(target(provider.base_url), Request(({"role": "user", "content": "a\ud800b 😀"},))).text == "a�b 😀"


def test_a_lone_surrogate_in_an_answer_does_not_lose_it(provider: FakeProvider) -> None:
    assert answered(provider, choice(content="a\ud800b")).text == "a\ufffdb"


def test_every_format_that_a_deployment_can_name_has_an_adapter() -> None:
    assert set(ADAPTERS) == set(BUILT_IN["providers"])
