from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from patience import PATIENCE_S, ends
from testing.conftest import Pace

from semroute.testing import (
    FakeProvider,
    RecordedRequest,
    Reply,
    answer,
    empty_choices,
    error_in_200,
    fail,
    hang,
    malformed,
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=False, timeout=60) as open_client:
        yield open_client


def ask(client: httpx.Client, provider: FakeProvider, text: str = "two words", **headers: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]}
    return client.post(f"{provider.base_url}/chat/completions", json=body, headers=headers)


@contextmanager
def requested(provider: FakeProvider, path: str = "/v1/chat/completions") -> Iterator[None]:
    """A request that the provider has begun to answer; its client leaves at the end."""
    before = len(provider.requests)
    address = ("127.0.0.1", int(provider.base_url.split(":")[2].removesuffix("/v1")))
    with socket.create_connection(address) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        while len(provider.requests) == before:
            time.sleep(0.001)
        yield


def test_an_unscripted_request_is_echoed_with_its_tokens_counted(provider: FakeProvider, client: httpx.Client) -> None:
    body = ask(client, provider).json()
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "two words", "refusal": None}
    assert body["model"] == "m"
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


def test_the_last_user_message_is_the_one_that_is_echoed(provider: FakeProvider, client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "second"}]
    messages = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "third"},
    ]
    answered = client.post(f"{provider.base_url}/chat/completions", json={"model": "m", "messages": messages})
    assert answered.json()["choices"][0]["message"]["content"] == "second"


def test_requests_are_recorded_in_order_with_their_headers(provider: FakeProvider, client: httpx.Client) -> None:
    ask(client, provider, "a", authorization="Bearer x")
    ask(client, provider, "b")
    first, second = provider.requests
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.headers["authorization"] == "Bearer x"
    assert [r.body["messages"][1]["content"] for r in (first, second)] == ["a", "b"]


def test_scripted_replies_come_once_each_and_in_order(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(fail(401), fail(429, "slow down", retry_after=7), fail(500), Reply(status=302))
    provider.script(answer("scripted", input_tokens=5, output_tokens=6))
    answers = [ask(client, provider) for _ in range(6)]
    assert [r.status_code for r in answers] == [401, 429, 500, 200, 200, 200]
    assert answers[1].headers["retry-after"] == "7"
    assert answers[1].json()["error"]["message"] == "slow down"
    assert answers[4].json()["choices"][0]["message"]["content"] == "scripted"
    assert answers[4].json()["usage"]["total_tokens"] == 11
    assert answers[5].json()["choices"][0]["message"]["content"] == "two words"


def test_a_success_can_be_malformed_hold_an_error_or_have_no_choices(
    provider: FakeProvider, client: httpx.Client
) -> None:
    provider.script(malformed(), error_in_200("broken", code=503), empty_choices())
    answers = [ask(client, provider) for _ in range(3)]
    assert [r.status_code for r in answers] == [200, 200, 200]
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answers[0].json()
    assert answers[1].json()["error"] == {"message": "broken", "type": "server_error", "code": 503}
    assert answers[2].json()["choices"] == []


@pytest.mark.slow
def test_a_hanging_request_does_not_keep_the_server_from_stopping() -> None:
    provider = FakeProvider().__enter__()
    provider.script(hang())
    with requested(provider):
        assert ends(lambda: provider.__exit__(None, None, None))
    assert not [thread for thread in threading.enumerate() if thread.name == "fake-provider"]


def test_a_short_delay_ends_in_an_honest_answer(provider: FakeProvider, client: httpx.Client, pace: Pace) -> None:
    provider.script(hang(0.05))
    pace.end()
    assert ask(client, provider).json()["choices"][0]["message"]["content"] == "two words"
    assert pace.waits == [0.05]


def test_a_provider_with_a_key_refuses_other_keys() -> None:
    with FakeProvider(key="right") as provider, httpx.Client(trust_env=False, verify=False) as client:
        wrong = ask(client, provider, authorization="Bearer wrong")
        right = ask(client, provider, authorization="Bearer right")
    assert (wrong.status_code, right.status_code) == (401, 200)
    assert wrong.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/chat/completions", b"not json", 400),
        ("/chat/completions", b"[]", 400),
        ("/chat/completions", b'{"model": "m", "messages": []}', 400),
        ("/chat/completions", b'{"messages": [{"role": "user", "content": "x"}]}', 400),
        ("/embeddings", b'{"model": "m", "input": []}', 400),
        ("/embeddings", b'{"model": "m", "input": ["x"], "dimensions": 0}', 400),
        ("/elsewhere", b"{}", 404),
    ],
)
def test_a_wrong_request_gets_an_openai_error(
    provider: FakeProvider, client: httpx.Client, path: str, content: bytes, status: int
) -> None:
    answered = client.post(f"{provider.base_url}{path}", content=content)
    assert answered.status_code == status
    assert answered.json()["error"]["message"]


def test_connections_are_kept_and_closed_with_the_server(client: httpx.Client) -> None:
    with FakeProvider() as provider:
        ports = {ask(client, provider).extensions["network_stream"].get_extra_info("client_addr") for _ in range(3)}
        address = provider.base_url
    assert len(ports) == 1
    with pytest.raises(httpx.TransportError):
        client.post(f"{address}/chat/completions", json={})


@pytest.mark.slow
def test_a_client_that_connects_while_the_server_stops_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unclosed: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: unclosed.append(str(found.exc_value)))
    for _ in range(20):
        with FakeProvider() as provider:
            address = httpx.URL(provider.anthropic_url)
            client = socket.create_connection((address.host, address.port or 0))
        client.close()
    gc.collect()  # frees what nobody closed, which then warns
    assert unclosed == []


def test_the_address_is_known_only_while_the_server_runs() -> None:
    with pytest.raises(RuntimeError, match="with FakeProvider"):
        _ = FakeProvider().base_url


def test_it_can_be_started_again_and_forgets_nothing(client: httpx.Client) -> None:
    provider = FakeProvider()
    for _ in range(2):
        with provider:
            ask(client, provider)
    assert len(provider.requests) == 2


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
def test_an_ipv6_address_is_written_in_brackets(client: httpx.Client) -> None:
    with FakeProvider(host="::1") as provider:
        assert provider.base_url.startswith("http://[::1]:")
        assert ask(client, provider).status_code == 200


def test_a_standing_reply_comes_after_the_script_until_it_is_taken_back(
    provider: FakeProvider, client: httpx.Client
) -> None:
    provider.always(fail(500))
    provider.script(fail(429))
    assert [ask(client, provider).status_code for _ in range(3)] == [429, 500, 500]
    provider.always(lambda request: fail(503) if request.body["model"] == "m" else None)
    assert ask(client, provider).status_code == 503
    other = {"model": "other", "messages": [{"role": "user", "content": "x"}]}
    assert client.post(f"{provider.base_url}/chat/completions", json=other).status_code == 200
    provider.always(None)
    assert ask(client, provider).status_code == 200


def test_a_reply_function_that_fails_is_seen_by_the_client_and_by_the_log(
    provider: FakeProvider, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: RecordedRequest) -> Reply | None:
        raise RuntimeError("a bug in the test")

    provider.always(broken)
    given = ask(client, provider)
    assert (given.status_code, given.text) == (500, "RuntimeError: a bug in the test")
    assert "a bug in the test" in caplog.text
    provider.always(None)
    assert ask(client, provider).status_code == 200
    assert provider.wait_idle()


def test_a_scripted_answer_does_not_hide_a_wrong_request(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(answer("scripted"))
    assert client.post(f"{provider.base_url}/chat/completions", json={"model": "m"}).status_code == 400


def test_a_record_says_when_and_how_a_request_ended(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(fail(503), hang())
    before = time.time()
    ask(client, provider)
    with requested(provider, "/v1/chat/completions?x=1"):
        pass
    assert provider.wait_idle(PATIENCE_S)
    answered, left = provider.requests
    assert (answered.status, answered.disconnected) == (503, False)
    assert answered.ended is not None
    assert before <= answered.at <= answered.ended <= time.time()
    assert (left.path, left.status, left.disconnected) == ("/v1/chat/completions?x=1", None, True)
    assert provider.stats()["disconnected"] == 1


def test_only_so_many_records_are_kept_as_asked(client: httpx.Client) -> None:
    with FakeProvider(keep=2) as provider:
        for text in "abc":
            ask(client, provider, text)
        assert [request.body["messages"][1]["content"] for request in provider.requests] == ["b", "c"]
        assert provider.stats()["requests"] == 3


def test_waiting_for_idle_gives_up_in_time(provider: FakeProvider) -> None:
    assert provider.wait_idle(0.01)
    provider.script(hang())
    with requested(provider):
        assert not provider.wait_idle(0.01)
    assert provider.wait_idle(PATIENCE_S)


def test_the_first_word_and_the_others_have_their_own_speed(client: httpx.Client, pace: Pace) -> None:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "a b c"}]}
    with FakeProvider(first_token_s=0.08, token_s=0.03) as provider:
        with client.stream("POST", f"{provider.base_url}/chat/completions", json=body) as response:
            pieces = (line for line in response.iter_lines() if '"content":"' in line)
            next(pieces)  # the role, for which there is no wait
            for word in "abc":
                pace.end()
                assert word in next(pieces)
        assert pace.waits == [0.08, 0.03, 0.03]
        provider.set_speed(first_token_s=0, token_s=0)
        assert "data: [DONE]" in client.post(f"{provider.base_url}/chat/completions", json=body).text
        assert len(pace.waits) == 3


def test_an_honest_limit_counts_requests_and_tokens(client: httpx.Client) -> None:
    now = 0.0
    with FakeProvider(tpm=20, clock=lambda: now) as provider:
        assert [ask(client, provider).status_code for _ in range(4)] == [200, 200, 200, 429]
        provider.set_limit(rpm=1, window_s=10)
        assert [ask(client, provider).status_code for _ in range(2)] == [200, 429]
        now = 9.9
        assert ask(client, provider).status_code == 429
        now = 10.0
        assert ask(client, provider).status_code == 200


@pytest.mark.slow
def test_two_hundred_streams_at_once_are_not_mixed_up(provider: FakeProvider) -> None:
    provider.set_speed(first_token_s=0.3, token_s=0.01)
    port = int(provider.base_url.split(":")[2].removesuffix("/v1"))

    async def stream(number: int) -> str:
        """A bare client: two hundred of httpx would be what takes the time."""
        text = " ".join(f"{number}-{word}" for word in range(10))
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)
        )
        received = (await reader.readuntil(b"0\r\n\r\n")).decode()
        writer.close()
        await writer.wait_closed()
        events = [json.loads(line[6:]) for line in received.splitlines() if line.startswith("data: {")]
        assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == text
        return str(events[0]["id"])

    async def together() -> list[str]:
        return await asyncio.gather(*(stream(number) for number in range(200)))

    assert len(set(asyncio.run(together()))) == 200
    assert provider.stats()["most_in_flight"] > 100


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "semroute.testing", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_it_runs_at_the_prompt_and_is_steered_from_outside(client: httpx.Client) -> None:
    with start("--port", "0", "--key", "k", "--always", "503", "--first-token-ms", "1", "--rpm", "5") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        headers = {"authorization": "Bearer k"}
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        first = client.post(f"{url}/chat/completions", json=body, headers=headers).status_code
        client.post(url.replace("/v1", "/_control"), json={"always": None})
        statuses = [client.post(f"{url}/chat/completions", json=body, headers=headers).status_code for _ in range(6)]
        process.terminate()
    assert [first, *statuses] == [503, 200, 200, 200, 200, 200, 429]


@pytest.mark.slow
def test_it_runs_at_the_prompt_with_a_script(client: httpx.Client) -> None:
    with start("--port", "0", "--script", "429,ok") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        statuses = [client.post(f"{url}/chat/completions", json=body).status_code for _ in range(2)]
        process.terminate()
    assert statuses == [429, 200]


@pytest.mark.slow
def test_a_wrong_script_and_a_taken_port_are_refused_in_words() -> None:
    with start("--script", "200,nonsense") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "neither an error status" in said
    with socket.create_server(("127.0.0.1", 0)) as taken, start("--port", str(taken.getsockname()[1])) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot listen" in said
    assert "Traceback" not in said


def test_pieces_of_a_stream_are_sent_at_once() -> None:
    with FakeProvider() as provider, httpx.Client() as client:
        client.get(f"{provider.base_url}/models")
        (connection,) = provider._connections
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
