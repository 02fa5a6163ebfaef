"""What is refused before a call, and what happens when a client or a provider stays silent or leaves."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S
from server.conftest import Served

from semroute.cli.serve import _listening
from semroute.server.guards import MAX_BODY_BYTES
from semroute.testing import fail, hang

SOUP = [{"role": "user", "content": "recipe for carrot soup"}]
CHAT: dict[str, Any] = {"model": "auto", "messages": SOUP}


def soon(is_so: Callable[[], bool]) -> bool:
    """Wait until it is so, as long as a test is patient."""
    end = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def leave_once_called(served: Served, body: dict[str, Any]) -> None:
    """Ask, and leave when the provider has been called."""

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            asking = asyncio.create_task(client.post(f"{served.url}/v1/chat/completions", json=body))
            while not served.provider.requests and not asking.done():
                await asyncio.sleep(0.01)
            assert asking.cancel()
            await asyncio.wait({asking})

    asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_leaves_cancels_the_call_and_the_outcome_is_recorded(
    serve: Callable[..., Served], streaming: bool
) -> None:
    served = serve()
    served.provider.always(hang())
    leave_once_called(served, {**CHAT, "stream": streaming})
    assert soon(lambda: any(request.disconnected for request in served.provider.requests))
    assert soon(lambda: [one.error_kind for one in served.router._log.outcomes()] == ["Cancelled"])  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_silent_provider_is_bridged_by_pings_and_the_answer_follows(serve: Callable[..., Served]) -> None:
    served = serve(ping_s=0.05)
    served.provider.set_speed(first_token_s=0.5)
    answered = httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=60)
    lines = [line for line in answered.text.splitlines() if line]
    assert lines.count(": ping") >= 2
    assert lines[-1] == "data: [DONE]"


@pytest.mark.slow
def test_an_error_after_the_start_of_a_stream_is_an_event(serve: Callable[..., Served]) -> None:
    served = serve(ping_s=0.01, retries={"attempts": 1})
    served.provider.set_speed(latency_s=0.3)
    served.provider.always(fail(500))
    answered = httpx.post(
        f"{served.url}/v1/messages", json={**CHAT, "max_tokens": 5, "stream": True, "model": "small"}, timeout=60
    )
    assert answered.status_code == 200
    assert "event: error\n" in answered.text
    assert "message_stop" not in answered.text


@pytest.mark.slow
def test_an_error_before_the_first_piece_is_an_error_of_http(serve: Callable[..., Served]) -> None:
    served = serve(retries={"attempts": 1})
    served.provider.always(fail(429, retry_after=3))
    answered = httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True, "model": "small"})
    assert answered.status_code == 429
    assert answered.headers["content-type"] == "application/json"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example"}, 421),
        ({"origin": "https://page.example"}, 403),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_what_a_page_or_a_rebound_name_sends_is_refused(
    serve: Callable[..., Served], headers: dict[str, str], status: int
) -> None:
    served = serve()
    answered = httpx.post(f"{served.url}/v1/chat/completions", json=CHAT, headers=headers)
    assert answered.status_code == status
    assert not served.provider.requests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"model": "auto"', "not JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(serve: Callable[..., Served], body: bytes, message: str) -> None:
    answered = httpx.post(f"{serve().url}/v1/chat/completions", content=body)
    assert answered.status_code == 400
    assert message in answered.json()["error"]["message"]


@pytest.mark.slow
def test_a_body_is_bounded_while_it_is_read(serve: Callable[..., Served]) -> None:
    served = serve()

    def parts() -> Any:
        for _ in range(MAX_BODY_BYTES // 2**20 + 2):
            yield b" " * 2**20

    answered = httpx.post(f"{served.url}/v1/chat/completions", content=parts(), timeout=60)
    assert answered.status_code in (400, 413)
    assert "larger than" in answered.json()["error"]["message"]


def test_a_request_with_two_framings_is_refused(serve: Callable[..., Served]) -> None:
    served = serve()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert not served.provider.requests


@pytest.mark.slow
def test_a_websocket_is_refused_at_once_and_head_is_answered(serve: Callable[..., Served]) -> None:
    served = serve()
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eA==",
    }
    assert (
        400
        <= httpx.get(f"{served.url}/v1/responses", headers={**upgrade, "sec-websocket-key": "eA=="}).status_code
        < 500
    )
    assert httpx.head(f"{served.url}/").status_code == 200
    assert httpx.get(f"{served.url}/readyz").json() == {"ready": True}


@pytest.mark.slow
def test_a_decision_is_given_alone_and_feedback_finds_the_answer(serve: Callable[..., Served]) -> None:
    served = serve()
    decision = httpx.post(f"{served.url}/v1/route", json={"query": "recipe for carrot soup"}).json()
    assert (decision["category"], decision["model"]) == ("cooking", "small")
    assert httpx.post(f"{served.url}/v1/route", json={"messages": SOUP}).json()["category"] == "cooking"
    assert not served.provider.requests
    completion = httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).json()
    given = httpx.post(f"{served.url}/v1/feedback", json={"outcome_id": completion["id"], "quality": 0.9})
    assert given.status_code == 200
    assert completion["id"].endswith(given.json()["outcome_id"])
    refused = httpx.post(f"{served.url}/v1/feedback", json={"outcome_id": completion["id"], "quality": 9})
    assert refused.status_code == 400


@pytest.mark.slow
def test_many_slow_streams_at_once_are_not_mixed_up(serve: Callable[..., Served]) -> None:
    served = serve()
    served.provider.set_speed(token_s=0.002)

    async def one(client: httpx.AsyncClient, number: int) -> str:
        body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": f"soup number {number}"}]}
        text = ""
        async with client.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answered:
            async for line in answered.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        return text

    async def all_of() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            return await asyncio.gather(*(one(client, number) for number in range(100)))

    assert asyncio.run(all_of()) == [f"soup number {number}" for number in range(100)]


def test_small_pieces_are_sent_at_once() -> None:
    with _listening("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
