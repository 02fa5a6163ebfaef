from __future__ import annotations

import asyncio
import json
import socket
import traceback
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.errors import (
    AuthenticationError,
    DispatchError,
    MalformedResponseError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import COMPLETE
from semroute.providers.http import MAX_QUOTED, quote
from semroute.providers.openai import complete, payload
from semroute.testing import FakeProvider, Reply, empty_choices, error_in_200, fail, hang, malformed
from semroute.types import Completion, Request, Usage

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello out there"},))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def deployment(base_url: str, *, timeout_s: float = 10.0, key: str | None = "TEST_KEY") -> Deployment:
    return Deployment(
        name="spot",
        model="small",
        base_url=base_url,
        upstream_model="gpt-test",
        api_key_env=key,
        timeout_s=timeout_s,
    )


def call(where: Deployment, request: Request = HELLO, key: str | None = KEY) -> Completion:
    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await complete(client, where, request, key=key)

    return asyncio.run(work())


def refusal(provider: FakeProvider, reply: Reply, *, timeout_s: float = 10.0) -> DispatchError:
    provider.script(reply)
    with pytest.raises(DispatchError) as caught:
        call(deployment(provider.base_url, timeout_s=timeout_s))
    error = caught.value
    assert error.deployment == "spot"
    assert str(error).startswith("spot")
    shown = "".join(traceback.format_exception(error))
    assert KEY not in shown
    assert KEY not in repr(error)
    return error


def body(**changes: object) -> Reply:
    whole: dict[str, object] = {
        "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "model": "gpt-test-2026",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    return Reply(body=json.dumps({**whole, **changes}).encode())


def test_an_answer_comes_with_model_tokens_and_time(provider: FakeProvider) -> None:
    answer = call(deployment(provider.base_url))
    assert (answer.text, answer.model, answer.deployment) == ("hello out there", "small", "spot")
    assert (answer.upstream_model, answer.finish_reason, answer.usage) == ("gpt-test", "stop", Usage(3, 3))
    assert 0 < answer.latency_ms < 10_000


def test_the_request_carries_the_upstream_name_and_the_key(provider: FakeProvider) -> None:
    call(deployment(provider.base_url), Request(HELLO.messages, max_tokens=7, temperature=0.0))
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
    call(deployment(provider.base_url), key=None)
    assert "authorization" not in provider.requests[0].headers


def test_what_the_request_leaves_open_is_not_sent() -> None:
    assert set(payload(deployment("http://x/v1"), HELLO)) == {"model", "messages"}


def test_openai_itself_gets_the_limit_under_its_new_name() -> None:
    limited = Request(HELLO.messages, max_tokens=7)
    assert payload(deployment("https://api.openai.com/v1"), limited)["max_completion_tokens"] == 7
    assert "max_completion_tokens" not in payload(deployment("http://localhost:8000/v1"), limited)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_base_url_works_with_and_without_the_slash(provider: FakeProvider, end: str) -> None:
    # model_construct keeps the slash that validation drops, as another caller's deployment might.
    where = Deployment.model_construct(**{**dict(deployment(provider.base_url)), "base_url": provider.base_url + end})
    assert call(where).text == "hello out there"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, RequestError),
        (400, RequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RequestError),
        (408, ProviderTimeoutError),
        (413, RequestError),
        (418, RequestError),
        (422, RequestError),
        (429, RateLimitError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, UnavailableError),
        (529, UnavailableError),
    ],
)
def test_every_status_has_its_error_with_the_providers_words_and_without_the_key(
    provider: FakeProvider, status: int, kind: type[DispatchError]
) -> None:
    error = refusal(provider, fail(status, f"Incorrect key {KEY} given"))
    assert type(error) is kind
    assert error.status == status
    assert "Incorrect key [key] given" in str(error)
    assert str(status) in str(error)


def test_a_refused_key_names_its_variable(provider: FakeProvider) -> None:
    assert "TEST_KEY" in str(refusal(provider, fail(401)))
    provider.script(fail(401))
    with pytest.raises(AuthenticationError, match="api_key_env"):
        call(deployment(provider.base_url, key=None), key=None)


def test_the_wait_that_a_provider_asks_for_is_in_the_message(provider: FakeProvider) -> None:
    assert "asks to wait 7 (Retry-After)" in str(refusal(provider, fail(429, retry_after=7)))


def test_a_wrong_path_points_at_the_address_and_the_models_name(provider: FakeProvider) -> None:
    error = refusal(provider, fail(404, "no such model"))
    assert f"{provider.base_url}/chat/completions" in str(error)
    assert "upstream_model" in str(error)


def test_a_redirect_is_not_followed_and_says_where_to(provider: FakeProvider) -> None:
    error = refusal(provider, Reply(302, b"", {"location": f"https://elsewhere/{KEY}"}))
    assert type(error) is RequestError
    assert "it moved to https://elsewhere/[key]" in str(error)
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"error": f"plain {KEY} words"}),
        json.dumps({"error": {"message": None, "code": f"code {KEY}"}}),
        json.dumps({"error": [KEY]}),
        json.dumps({"message": KEY}),
        f"<html>{KEY}</html>",
        f"\x1b[31m{KEY}\r\n\x00",
        "",
    ],
)
def test_error_pages_of_any_shape_are_quoted_without_the_key_or_control_characters(
    provider: FakeProvider, content: str
) -> None:
    error = refusal(provider, Reply(500, content.encode(), {"content-type": "text/html"}))
    assert type(error) is UnavailableError
    assert str(error).isprintable()


def test_a_key_that_a_long_message_would_cut_in_two_does_not_leak_in_part(provider: FakeProvider) -> None:
    error = refusal(provider, fail(500, "x" * (MAX_QUOTED - 8) + KEY + "y" * 9000))
    assert KEY[:6] not in str(error)
    assert len(str(error)) < MAX_QUOTED + 100


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (malformed(), "not a JSON object"),
        (malformed(""), "(empty)"),
        (malformed("[1]"), "not a JSON object"),
        (malformed(f"echo {KEY}"), "echo [key]"),
        (Reply(body=b"\xff\xfe\x00"), "not a JSON object"),
        (empty_choices(), "choices"),
        (body(choices=None), "choices"),
        (body(choices=[{}]), "choices.0.message"),
        (body(choices=[{"message": {"content": 3}}]), "choices.0.message.content"),
        (body(choices=[{"message": {"content": None}, "finish_reason": "tool_calls"}]), "finish_reason tool_calls"),
        (body(choices=[{"message": {"content": None, "refusal": "no"}}]), "a refusal"),
        (error_in_200(f"overloaded {KEY}"), "overloaded [key]"),
        (error_in_200("context", code="too_long"), "context"),
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
    error = refusal(provider, error_in_200("inside", code=code))
    assert type(error) is kind
    assert error.status == code


def test_an_error_that_is_null_is_no_error(provider: FakeProvider) -> None:
    provider.script(body(error=None))
    assert call(deployment(provider.base_url)).text == "yes"


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 2}, "many"])
def test_an_answer_is_not_lost_for_a_missing_or_wrong_count(provider: FakeProvider, usage: object) -> None:
    provider.script(body(usage=usage))
    answer = call(deployment(provider.base_url))
    assert (answer.text, answer.usage, answer.upstream_model) == ("yes", None, "gpt-test-2026")


def test_an_empty_text_is_an_answer(provider: FakeProvider) -> None:
    provider.script(body(choices=[{"message": {"content": ""}, "finish_reason": "length"}]))
    answer = call(deployment(provider.base_url))
    assert (answer.text, answer.finish_reason) == ("", "length")


def test_a_provider_that_hangs_times_out_and_names_the_setting(provider: FakeProvider) -> None:
    error = refusal(provider, hang(), timeout_s=0.2)
    assert type(error) is ProviderTimeoutError
    assert "0.2 s (timeout_s)" in str(error)


def test_a_server_that_sends_a_byte_now_and_then_times_out_as_well() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.05)
        finally:
            writer.close()

    async def work() -> float:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        started = asyncio.get_running_loop().time()
        async with server, httpx.AsyncClient(trust_env=False, verify=False) as client:
            with pytest.raises(ProviderTimeoutError):
                await complete(client, deployment(f"http://127.0.0.1:{port}/v1", timeout_s=0.3), HELLO, key=None)
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(work()) < 3


def test_cancelling_a_call_is_not_taken_for_a_timeout(provider: FakeProvider) -> None:
    provider.script(hang())

    async def work() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            call_task = asyncio.create_task(complete(client, deployment(provider.base_url), HELLO, key=None))
            await asyncio.sleep(0.1)
            call_task.cancel()
            await call_task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())


def test_a_closed_port_is_unavailable_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(UnavailableError) as caught:
        call(deployment(url))
    assert url in str(caught.value)
    assert caught.value.status is None


def test_a_connection_that_breaks_off_is_unavailable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, httpx.AsyncClient(trust_env=False, verify=False) as client:
            await complete(client, deployment(f"http://127.0.0.1:{port}/v1"), HELLO, key=KEY)

    with pytest.raises(UnavailableError):
        asyncio.run(work())


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} x", f"{KEY}é", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_before_it_is_sent(provider: FakeProvider, key: str) -> None:
    with pytest.raises(AuthenticationError, match="TEST_KEY") as caught:
        call(deployment(provider.base_url), key=key)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert provider.requests == []


def test_a_message_that_json_cannot_hold_is_refused(provider: FakeProvider) -> None:
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        call(deployment(provider.base_url), Request(({"role": "user", "content": {1, 2}},)))


def test_a_lone_surrogate_arrives_as_the_replacement_character(provider: FakeProvider) -> None:
    assert call(deployment(provider.base_url), Request(({"role": "user", "content": "a\ud800b 😀"},))).text == "a�b 😀"


@given(st.text(max_size=400), st.text("abc", min_size=8, max_size=12))
def test_a_quotation_is_one_short_printable_line_without_the_key(text: str, key: str) -> None:
    shown = quote(f"{text}{key}{text}", key)
    assert key not in shown
    assert len(shown) <= MAX_QUOTED
    assert shown.isprintable()


def test_every_format_that_a_deployment_can_name_has_a_call() -> None:
    assert set(COMPLETE) == set(Deployment.model_fields["format"].annotation.__args__)  # type: ignore[union-attr]
