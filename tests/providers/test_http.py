from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from random import Random
from typing import Any, TypeVar

import httpx
import pytest
import transports
from patience import PATIENCE_S
from transports import open_connections

from semroute.config import Deployment, Timeouts
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    MalformedResponseError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import connection, http, streaming
from semroute.providers.connection import authorization, read_json
from semroute.providers.http import open_stream, post_json
from semroute.providers.target import CallTarget

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
T = TypeVar("T")
pytestmark = pytest.mark.usefixtures("each_transport")


def target(url: str, *, key: str | None = KEY, provider: str = "vllm", **more: Any) -> CallTarget:
    where = Deployment(name="spot", model="small", base_url=url, provider=provider, api_key_env=("TEST_KEY",), **more)
    return CallTarget(where, "TEST_KEY" if key else None, key)


def run(work: Callable[[httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    async def with_client() -> T:
        async with transports.client(verify=False, **options) as client:
            return await work(client)

    return asyncio.run(asyncio.wait_for(with_client(), PATIENCE_S))


async def post(
    client: httpx.AsyncClient, where: CallTarget, *, within_s: float = 10.0, **more: Any
) -> dict[str, object]:
    return await post_json(client, where, "/x", {"a": 1}, headers=authorization(where), within_s=within_s, **more)


def events_of(
    client: httpx.AsyncClient, where: CallTarget, *, within_s: float = 10.0
) -> AsyncGenerator[streaming.ServerSentEvent]:
    return open_stream(client, where, "/x", {"a": 1}, headers=authorization(where), within_s=within_s)


async def read(client: httpx.AsyncClient, where: CallTarget, **more: Any) -> list[str]:
    async with aclosing(events_of(client, where, **more)) as events:
        return [event.data async for event in events]


def failing(
    raw: Any, script: list[Any], ask: Callable[..., Awaitable[object]], *, within_s: float = 10.0, **more: Any
) -> DispatchError:
    """The error of one call to a server that plays ``script``; it holds the key nowhere."""

    async def work(client: httpx.AsyncClient) -> DispatchError:
        async with raw.serve(script) as server:
            with pytest.raises(DispatchError) as caught:
                await ask(client, target(server.url, **more), within_s=within_s)
        return caught.value

    error = run(work)
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert KEY not in shown
    assert str(error).startswith("spot")
    assert error.deployment == "spot"
    return error


def test_an_answer_comes_as_an_object_and_the_body_goes_as_json(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> tuple[dict[str, object], list[Any]]:
        async with raw.serve(raw.answer({"b": "é"})) as server:
            return await post(client, target(server.url)), server.bodies

    assert run(work) == ({"b": "é"}, [{"a": 1}])


def test_a_query_and_the_key_go_where_the_vendor_wants_them(raw: Any) -> None:
    seen: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        seen.append(request)

    async def work(client: httpx.AsyncClient) -> None:
        async with raw.serve(raw.answer({})) as server:
            await post(client, target(server.url, provider="azure"), query={"api-version": "2026-01-01"})

    run(work, event_hooks={"request": [note]})
    assert seen[0].url.query == b"api-version=2026-01-01"
    assert seen[0].headers["api-key"] == KEY
    assert "authorization" not in seen[0].headers


@pytest.mark.parametrize("ask", [post, read])
def test_a_failure_is_the_error_of_its_status_with_the_hint(raw: Any, ask: Callable[..., Awaitable[object]]) -> None:
    script = raw.answer({"error": {"message": f"slow down {KEY}"}}, "429 Too Many", retry_after="7")
    error = failing(raw, script, ask)
    assert type(error) is RateLimitError
    assert error.wait_s == 7.0
    assert "slow down [key]" in str(error)


@pytest.mark.parametrize("ask", [post, read])
def test_a_redirect_is_not_followed_and_says_where_to(raw: Any, ask: Callable[..., Awaitable[object]]) -> None:
    error = failing(raw, raw.answer(b"", "302 Found", location=f"https://elsewhere/{KEY}"), ask)
    assert type(error) is RequestError
    assert "it moved to https://elsewhere/[key]" in str(error)


@pytest.mark.parametrize("ask", [post, read])
def test_a_failure_whose_body_is_cut_off_is_still_that_failure(raw: Any, ask: Callable[..., Awaitable[object]]) -> None:
    script = [b"HTTP/1.1 401 No\r\ncontent-length: 100\r\n\r\nhalf", raw.cut]
    assert type(failing(raw, script, ask)) is AuthenticationError


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"cho', '{"cho'),
        (b"", "(empty)"),
        (b"[1]", "[1]"),
        (f"echo {KEY}".encode(), "echo [key]"),
        (b"\xff\xfe\x00", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
    ],
)
def test_a_success_that_is_no_object_is_malformed(raw: Any, content: bytes, says: str) -> None:
    error = failing(raw, raw.answer(content), post)
    assert type(error) is MalformedResponseError
    assert says in str(error)


def test_a_charset_that_nobody_knows_does_no_harm(raw: Any) -> None:
    head = b"HTTP/1.1 500 No\r\ncontent-type: text/plain; charset=klingon\r\ncontent-length: 4\r\n\r\n"
    assert "oops" in str(failing(raw, [head + b"oops"], post))


@pytest.mark.slow
@pytest.mark.parametrize("ask", [post, read])
def test_a_server_that_hangs_times_out_and_the_setting_is_named(
    raw: Any, ask: Callable[..., Awaitable[object]]
) -> None:
    error = failing(raw, [raw.listen], ask, timeout_s=0.1)
    assert type(error) is ProviderTimeoutError
    assert "0.1 s (timeout_s)" in str(error)
    assert "0.05 s, which is what the request had left" in str(failing(raw, [raw.listen], ask, within_s=0.05))


DRIP = [b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", *([b" ", 0.02] * 50_000)]
"""An answer that is not whole for a quarter of an hour, and never falls silent until then."""


@pytest.mark.slow
def test_an_answer_that_comes_a_byte_now_and_then_times_out_as_a_whole(raw: Any) -> None:
    assert type(failing(raw, DRIP, post, within_s=0.15)) is ProviderTimeoutError


@pytest.mark.slow
def test_a_stream_that_comes_a_byte_now_and_then_times_out_as_a_whole(raw: Any) -> None:
    drip = [*raw.bytes(b"data: 1\n\n", end=False), *([raw.bytes(b":")[1], 0.02] * 50_000)]
    error = failing(raw, drip, read, within_s=0.15, timeouts=Timeouts(idle_s=0.1))
    assert "no complete answer within 0.15 s" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [lambda raw: [raw.listen], lambda raw: [*raw.head(), *([raw.bytes(b":\n\n")[1], 0.02] * 50_000)]]
)
def test_comments_do_not_put_off_the_wait_for_the_first_token(raw: Any, script: Any) -> None:
    error = failing(raw, script(raw), read, timeouts=Timeouts(first_token_s=0.1))
    assert type(error) is ProviderTimeoutError
    assert "no first token within 0.1 s (timeouts.first_token_s)" in str(error)


@pytest.mark.slow
def test_a_stream_that_falls_silent_times_out(raw: Any) -> None:
    script = [*raw.bytes(b"data: 1\n\n", end=False), raw.listen]
    error = failing(raw, script, read, timeouts=Timeouts(idle_s=0.1))
    assert type(error) is ProviderTimeoutError
    assert "silent for 0.1 s (timeouts.idle_s)" in str(error)


@pytest.mark.slow
def test_a_slow_reader_does_not_make_the_stream_silent(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> list[str]:
        async with raw.serve(raw.bytes(b"data: 1\n\n", b"data: 2\n\n")) as server:
            where, seen = target(server.url, timeouts=Timeouts(idle_s=0.05)), []
            async with aclosing(events_of(client, where)) as events:
                async for event in events:
                    seen.append(event.data)
                    await asyncio.sleep(0.1)
            return seen

    assert run(work) == ["1", "2"]


@pytest.mark.slow
def test_a_connection_that_is_never_made_is_unavailable_within_its_time(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> DispatchError:
        async with raw.serve([raw.listen]) as server:
            url = server.url.replace("http:", "https:")  # it never answers the TLS greeting
            with pytest.raises(UnavailableError) as caught:
                await post(client, target(url, timeouts=Timeouts(connect_s=0.1)))
        return caught.value

    assert "0.1 s (timeouts.connect_s)" in str(run(work))


def test_a_closed_port_is_unavailable_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(UnavailableError) as caught:
        run(lambda client: post(client, target(url)))
    assert url in str(caught.value)
    assert caught.value.status is None


@pytest.mark.parametrize("ask", [post, read])
def test_a_connection_that_breaks_before_the_answer_is_unavailable(
    raw: Any, ask: Callable[..., Awaitable[object]]
) -> None:
    error = failing(raw, [raw.cut], ask)
    assert type(error) is UnavailableError
    assert error.status is None


def test_an_answer_that_is_cut_off_is_unavailable(raw: Any) -> None:
    script = [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", raw.cut]
    error = failing(raw, script, post)
    assert type(error) is UnavailableError
    assert "broke its answer off" in str(error)


@pytest.mark.parametrize("end", ["cut", "closed"])
def test_a_stream_that_is_cut_is_broken_after_the_events_before(raw: Any, end: str) -> None:
    async def work(client: httpx.AsyncClient) -> list[str]:
        script = raw.bytes(b"data: 1\n\n", b"data: 2", end=False)
        seen: list[str] = []
        async with raw.serve([*script, 0.05, raw.cut] if end == "cut" else script) as server:
            events = events_of(client, target(server.url))
            seen.append((await anext(events)).data)
            with pytest.raises(BrokenStreamError) as caught:
                await anext(events)
            assert caught.value.status == 200
        return seen

    assert run(work) == ["1"]


def test_a_stream_that_ends_is_simply_over(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> list[str]:
        async with raw.serve(raw.bytes(b"da", b"ta: 1\r", b"\n\r\n", b"data: 2\n\n")) as server:
            return await read(client, target(server.url))

    assert run(work) == ["1", "2"]


def test_one_json_text_in_place_of_a_stream_is_the_error_in_it_or_malformed(raw: Any) -> None:
    inside = failing(raw, raw.answer({"error": {"message": "busy", "code": 429}}), read)
    assert type(inside) is RateLimitError
    assert "cannot stream" in str(failing(raw, raw.answer({"choices": []}), read))


@pytest.mark.slow
def test_an_answer_without_end_is_not_kept(raw: Any) -> None:
    script = raw.bytes(*[b"x" * 2**20] * (connection.MAX_ANSWER // 2**20 + 1))
    error = failing(raw, script, post)
    assert type(error) is MalformedResponseError
    assert "64 MiB" in str(error)


def test_an_error_page_without_end_is_still_the_error_of_its_status(raw: Any) -> None:
    head, *rest = raw.bytes(*[b"x" * 2**18] * 6)
    error = failing(raw, [head.replace(b"200 OK", b"429 No"), *rest], post)
    assert type(error) is RateLimitError
    assert len(str(error)) < 400


@pytest.mark.slow
def test_a_stream_without_end_is_not_kept(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_STREAM", 2**20)
    error = failing(raw, raw.bytes(*[b"data: x\n\n" * 2**15] * 6), read)
    assert type(error) is MalformedResponseError
    assert "1 MiB" in str(error)


@pytest.mark.slow
def test_a_line_without_end_is_not_kept(raw: Any) -> None:
    error = failing(raw, raw.bytes(b"data: ", *[b"x" * 2**20] * 17), read)
    assert type(error) is MalformedResponseError
    assert "16 MiB" in str(error)


ONE_PLACE = httpx.Limits(max_connections=1, max_keepalive_connections=1)


def test_closing_a_stream_early_closes_the_connection_and_frees_its_place(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> dict[str, object]:
        held = [*raw.bytes(b"data: 1\n\n", end=False), raw.listen]
        async with raw.serve(held, raw.answer({"b": 2})) as server:
            events = events_of(client, target(server.url))
            assert (await anext(events)).data == "1"
            await events.aclose()
            assert open_connections(client._transport) == []  # at once, and not when its garbage is collected
            await server.left.wait()
            return await post(client, target(server.url))

    assert run(work, limits=ONE_PLACE) == {"b": 2}


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("ask", [post, read])
def test_cancelling_a_call_is_no_timeout_and_frees_its_place(
    raw: Any, ask: Callable[..., Awaitable[object]], begun: bool
) -> None:
    async def work(client: httpx.AsyncClient) -> dict[str, object]:
        held = [*(raw.bytes(b"data: 1\n\n", end=False) if begun else []), raw.listen]
        async with raw.serve(held, raw.answer({"b": 2})) as server:
            task = asyncio.ensure_future(ask(client, target(server.url)))
            while not server.bodies:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)  # the answer begins to be read, where it has begun
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.left.wait()
            return await post(client, target(server.url))

    assert run(work, limits=ONE_PLACE) == {"b": 2}


@pytest.mark.slow
def test_a_stream_that_times_out_frees_its_place(raw: Any) -> None:
    async def work(client: httpx.AsyncClient) -> dict[str, object]:
        held = [*raw.bytes(b"data: 1\n\n", end=False), raw.listen]
        async with raw.serve(held, raw.answer({"b": 2})) as server:
            with pytest.raises(ProviderTimeoutError):
                await read(client, target(server.url), within_s=0.1)
            return await post(client, target(server.url))

    assert run(work, limits=ONE_PLACE) == {"b": 2}


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} x", f"{KEY}é", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(AuthenticationError, match="TEST_KEY") as caught:
        authorization(target("http://x/v1", key=key))
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_target_shows_its_variable_and_never_its_key() -> None:
    assert KEY not in repr(target("http://x/v1"))
    assert "TEST_KEY" in repr(target("http://x/v1"))


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_what_json_cannot_hold_is_refused_before_it_is_sent(value: object) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        where = target("http://127.0.0.1:9/v1")
        await post_json(client, where, "/x", {"a": value}, headers={}, within_s=1)

    with pytest.raises(RequestError, match="cannot be written as JSON"):
        run(work)


@pytest.mark.slow
def test_a_body_that_holds_itself_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        http.encode({"a": deep}, target("http://x/v1"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"\\ud83d\\ude00 \\ud800"', "😀 \ufffd"),
        ('{"\\udc00": 1}', {"\ufffd": 1}),
        ('"\\u00e9"', "é"),
        (b'"\xc3\xa9"', "é"),
    ],
)
def test_a_lone_surrogate_in_an_answer_becomes_the_replacement_character(text: str | bytes, value: object) -> None:
    assert read_json(text) == value


FAILURES: list[Callable[[Any], list[Any]]] = [
    *(
        lambda raw, status=status: raw.answer({"error": {"message": f"bad {KEY}"}}, f"{status} No", x_echo=KEY)
        for status in (302, 400, 401, 402, 404, 429, 500, 503)
    ),
    lambda raw: raw.answer(f"<html>{KEY}</html>".encode(), "500 No"),
    lambda raw: raw.answer(f"not json {KEY}".encode()),
    lambda raw: [f"HTTP/1.1 {KEY}\r\n\r\n".encode()],
    lambda raw: [f"{KEY}\r\n\r\n".encode()],
    lambda raw: [f"HTTP/1.1 200 OK\r\ncontent-length: {KEY}\r\n\r\n".encode()],
    lambda raw: [f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{KEY}\r\n".encode()],
    lambda raw: [raw.cut],
    lambda raw: [0.3],
    lambda raw: [*raw.bytes(f"data: {KEY}\n\n".encode(), end=False), raw.cut],
]


@pytest.mark.slow
@pytest.mark.parametrize("script", FAILURES)
@pytest.mark.parametrize("ask", [post, read])
def test_no_failure_shows_the_key_in_its_error_or_in_any_log(
    raw: Any,
    caplog: pytest.LogCaptureFixture,
    ask: Callable[..., Awaitable[object]],
    script: Callable[[Any], list[Any]],
) -> None:
    with caplog.at_level(logging.DEBUG, logger="semroute"):
        failing(raw, script(raw), ask, within_s=0.2)
    assert KEY not in caplog.text


def test_no_log_of_the_client_shows_the_key_that_is_sent(raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        failing(raw, raw.answer({"error": {"message": "no"}}, "401 No"), post)
    assert "HTTP Request: POST" in caplog.text
    assert KEY not in caplog.text


def test_calls_that_are_left_at_any_moment_leave_no_connection_behind(raw: Any) -> None:
    # Without a limit on connections, as dispatch has it: httpcore 1.0.9 loses places where calls that wait for one are
    # cancelled, whoever calls it.
    moments = Random(7)
    script = [*raw.head(), *(step for _ in range(5) for step in (raw.bytes(b"data: 1\n\n")[1], 0.002)), b"0\r\n\r\n"]

    async def leave_early(client: httpx.AsyncClient, where: CallTarget) -> None:
        ask = read if moments.random() < 0.8 else post
        with suppress(TimeoutError, DispatchError):
            async with asyncio.timeout(moments.uniform(0, 0.02)):
                await ask(client, where, within_s=moments.uniform(0, 0.03))

    async def work(client: httpx.AsyncClient) -> list[Any]:
        async with raw.serve(script) as server:
            where = target(server.url)
            await asyncio.gather(*(leave_early(client, where) for _ in range(100)))
            return open_connections(client._transport)

    assert run(work, limits=httpx.Limits(max_connections=None)) == []
