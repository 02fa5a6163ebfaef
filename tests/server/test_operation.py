"""What an operator sees and sets: metrics, log lines, request ids, limits, reloads."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from server.conftest import Served, config_over
from server.test_connections import leave_once_called, soon

from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.server.app import GatewayLimits, create_app
from semroute.server.guards import MAX_HEADER_BYTES
from semroute.server.keys import create_key
from semroute.server.records import ServedRecord, request_id
from semroute.server.request_log import RequestLog, text_line
from semroute.server.worker import DrainingServer, server_config
from semroute.testing import FakeProvider, fail, hang

SECRET = "carrot soup of my grandmother"
CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": f"recipe for {SECRET}"}]}
MESSAGES: dict[str, Any] = {**CHAT, "max_tokens": 50}


def metrics_of(served: Served) -> dict[str, float]:
    """Return the samples of /metrics, by name and labels."""
    text = httpx.get(f"{served.url}/metrics").text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@pytest.mark.slow
def test_metrics_count_requests_tokens_cost_decisions_and_breakers(serve: Callable[..., Served]) -> None:
    served = serve()
    whole = httpx.post(f"{served.url}/v1/chat/completions", json=CHAT)
    httpx.post(f"{served.url}/v1/messages", json={**MESSAGES, "stream": True})
    found = metrics_of(served)
    chat, messages = "chat_completions", "messages"
    requests = 'semroute_requests_total{format="%s",model="small",route="%s",status="2xx"}'
    assert found[requests % (chat, "/v1/chat/completions")] == 1
    assert found[requests % (messages, "/v1/messages")] == 1
    assert found[f'semroute_first_token_seconds_count{{format="{messages}",model="small"}}'] == 1
    assert f'semroute_first_token_seconds_count{{format="{chat}",model="small"}}' not in found
    assert found['semroute_decisions_total{strategy="semantic"}'] == 2
    usage = whole.json()["usage"]
    assert found['semroute_tokens_total{kind="input",model="small"}'] == 2 * usage["prompt_tokens"]
    assert found['semroute_cost_usd_total{model="small"}'] == pytest.approx(
        2 * float(whole.headers["x-semroute-cost-usd"]), rel=1e-6
    )
    assert found['semroute_breaker_state{deployment="small-1"}'] == 0
    assert found["semroute_requests_in_progress"] == found["semroute_open_streams"] == 0


@pytest.mark.slow
def test_a_name_that_a_client_made_up_is_no_label(serve: Callable[..., Served]) -> None:
    served = serve()
    for number in range(20):
        httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "model": f"invented-{number}"})
        httpx.get(f"{served.url}/invented/{number}")
        httpx.request(f"INVENTED{number}", f"{served.url}/v1/models")
    text = httpx.get(f"{served.url}/metrics").text
    assert "invented" not in text.lower()
    assert 'route="other",status="4xx"} 20.0' in text


@pytest.mark.slow
def test_metrics_want_a_key_where_keys_are_used(serve: Callable[..., Served], tmp_path: Any) -> None:
    served = serve()
    secret = create_key(tmp_path / "keys.json", "scraper")[1]
    assert httpx.get(f"{served.url}/metrics").status_code == 401
    assert httpx.get(f"{served.url}/metrics", headers={"authorization": f"Bearer {secret}"}).status_code == 200
    assert httpx.get(f"{served.url}/healthz").status_code == 200


@pytest.mark.slow
def test_a_breaker_that_is_open_is_seen(serve: Callable[..., Served]) -> None:
    served = serve(retries={"attempts": 1})
    served.provider.always(fail(401))
    httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "model": "small"})
    found = metrics_of(served)
    assert found['semroute_breaker_state{deployment="small-1"}'] > 0
    assert found['semroute_breaker_state{deployment="large-1"}'] == 0


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_log_line_has_the_request_and_no_word_of_it(
    serve: Callable[..., Served], tmp_path: Any, streaming: bool
) -> None:
    lines = io.StringIO()
    served = serve(log=RequestLog("json", lines))
    secret = create_key(tmp_path / "keys.json", "free plan")[1]
    headers = {"authorization": f"Bearer {secret}", "x-request-id": "mine-1", "x-private": "a header"}
    answered = httpx.post(f"{served.url}/v1/messages", json={**MESSAGES, "stream": streaming}, headers=headers)
    assert answered.headers["x-request-id"] == answered.headers["request-id"] == "mine-1"
    assert soon(lambda: bool(lines.getvalue()))
    (line,) = lines.getvalue().splitlines()
    fields = json.loads(line)
    expected = {"request_id": "mine-1", "route": "/v1/messages", "status": 200, "model": "small", "key": "free plan"}
    assert fields.items() >= {**expected, "deployment": "small-1", "category": "cooking"}.items()
    assert fields["usd"] > 0
    assert fields["input_tokens"] > 0
    assert not [word for word in (SECRET, secret, secret[-20:], "a header") if word in line]


@pytest.mark.slow
def test_a_client_that_leaves_is_in_the_log_as_one(serve: Callable[..., Served]) -> None:
    lines = io.StringIO()
    served = serve(log=RequestLog("json", lines))
    served.provider.always(hang())
    leave_once_called(served, CHAT)
    assert soon(lambda: bool(lines.getvalue()))
    fields = json.loads(lines.getvalue())
    assert (fields["status"], fields["error"]) == (499, "ClientLeft")


@pytest.mark.slow
def test_an_answer_that_fails_in_mid_stream_is_in_the_log_as_an_error(serve: Callable[..., Served]) -> None:
    lines = io.StringIO()
    served = serve(log=RequestLog("json", lines), ping_s=0.01, retries={"attempts": 1})
    served.provider.set_speed(latency_s=0.3)
    served.provider.always(fail(500))
    httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True, "model": "small"}, timeout=60)
    assert soon(lambda: bool(lines.getvalue()))
    fields = json.loads(lines.getvalue())
    assert fields["status"] == 200
    assert fields["error"].endswith("Error")


@given(st.binary(max_size=100))
def test_a_request_id_is_short_and_plain_whatever_is_given(given_id: bytes) -> None:
    found = request_id(given_id)
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", found)
    assert found.encode() == given_id or found.startswith("req_")


@pytest.mark.slow
@given(st.text(), st.text())
def test_a_text_line_is_one_line(key: str, asked: str) -> None:
    record = ServedRecord("id", "/v1/messages", "POST", key=key, error=asked)
    assert len(text_line(record, 0.1).splitlines()) == 1


@contextmanager
def request_under_way(served: Served) -> Iterator[None]:
    """Hold a request open; the client leaves at the end."""
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_beyond_the_limit_a_request_is_turned_away_at_once_in_its_format(
    serve: Callable[..., Served], path: str
) -> None:
    served = serve(limits=GatewayLimits(max_concurrency=2))
    served.provider.always(hang())
    with request_under_way(served), request_under_way(served):
        assert soon(lambda: metrics_of(served)["semroute_requests_in_progress"] == 2)
        answered = httpx.post(f"{served.url}{path}", json={**MESSAGES, "input": "soup"})
        assert httpx.get(f"{served.url}/healthz").status_code == 200
        assert httpx.get(f"{served.url}/readyz").status_code == 200
    assert answered.status_code == 503
    assert int(answered.headers["retry-after"]) >= 1
    assert "busy" in answered.json()["error"]["message"]
    assert answered.json().get("type") == ("error" if path == "/v1/messages" else None)
    assert soon(lambda: metrics_of(served)["semroute_requests_in_progress"] == 0)
    assert metrics_of(served)['semroute_rejections_total{reason="overloaded"}'] == 1


@pytest.mark.slow
def test_a_slow_sender_is_turned_away(serve: Callable[..., Served]) -> None:
    served = serve(limits=GatewayLimits(body_s=0.2))
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90\r\n\r\n{")
        answer = connection.makefile("rb").read()  # until the server closes
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within" in answer
    assert metrics_of(served)['semroute_rejections_total{reason="slow_body"}'] == 1


@pytest.mark.slow
def test_a_connection_that_sends_its_header_for_too_long_is_ended_and_others_are_not(
    live: LoadedIndex, provider: FakeProvider
) -> None:
    config = config_over(provider, "openai")
    router = Router(live.with_config(config), config)
    app = create_app(router)
    now = [0.0]
    server = DrainingServer(uvicorn.Config(app, log_level="warning"), app, 1.0, head_s=20, clock=lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = listening.getsockname()
        provider.always(hang())
        served = Served(f"http://127.0.0.1:{address[1]}", provider, router)
        with socket.create_connection(address, timeout=60) as slow, request_under_way(served):
            slow.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: ")
            assert soon(lambda: len(server._without_head) == 1 and app.state.running == 1)
            now[0] = 21.0
            assert slow.makefile("rb").read().startswith(b"HTTP/1.1 408")
            assert app.state.running == 1
        server.should_exit = True
        thread.join()


@pytest.mark.slow
def test_a_large_header_and_many_messages_are_refused(serve: Callable[..., Served]) -> None:
    served = serve(limits=GatewayLimits(messages=3))
    large = httpx.get(f"{served.url}/v1/models", headers={"x-large": "x" * MAX_HEADER_BYTES})
    assert large.status_code == 431
    many = httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "messages": CHAT["messages"] * 4})
    assert many.status_code == 400
    assert many.json()["error"]["message"] == "messages: has 4 entries; 3 are the most"
    assert not served.provider.requests


def test_an_idle_connection_is_closed_by_clients_and_load_balancers_before_the_server_does(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    app = create_app(serve().router, keys=tmp_path / "keys.json")
    kept_s = server_config(app).timeout_keep_alive
    kept_by_clients_s = httpx.Limits().keepalive_expiry
    assert kept_by_clients_s is not None
    assert kept_s > max(kept_by_clients_s, 60.0)
