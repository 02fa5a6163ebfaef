from __future__ import annotations

import base64
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing import FakeProvider, Reply, answer, empty_choices, error_in_200, fail, hang, malformed
from semroute.testing.replies import embed


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=False, timeout=10) as open_client:
        yield open_client


def ask(client: httpx.Client, provider: FakeProvider, text: str = "two words", **headers: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]}
    return client.post(f"{provider.base_url}/chat/completions", json=body, headers=headers)


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


def test_a_hanging_request_does_not_keep_the_server_from_stopping() -> None:
    with FakeProvider() as provider, httpx.Client(trust_env=False, verify=False) as client:
        provider.script(hang())
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{provider.base_url}/chat/completions", json={}, timeout=0.2)
        started = time.perf_counter()
    assert time.perf_counter() - started < 2
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name]


def test_a_short_delay_ends_in_an_honest_answer(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(hang(0.05))
    started = time.perf_counter()
    assert ask(client, provider).json()["choices"][0]["message"]["content"] == "two words"
    assert time.perf_counter() - started >= 0.05


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
        ("/chat/completions", b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}', 400),
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


def test_embeddings_are_in_the_order_of_the_texts_and_base64_holds_the_same(
    provider: FakeProvider, client: httpx.Client
) -> None:
    url = f"{provider.base_url}/embeddings"
    plain = client.post(url, json={"model": "e", "input": ["red car", "blue sky"]}).json()
    packed = client.post(url, json={"model": "e", "input": "blue sky", "encoding_format": "base64"}).json()
    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert plain["data"][1]["embedding"] == embed("blue sky", 64)
    assert plain["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    unpacked = struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(embed("blue sky", 64), abs=1e-6)


def test_the_length_of_embeddings_is_chosen_by_server_or_request(client: httpx.Client) -> None:
    with FakeProvider(dimensions=8) as provider:
        url = f"{provider.base_url}/embeddings"
        default = client.post(url, json={"model": "e", "input": "x"}).json()
        asked = client.post(url, json={"model": "e", "input": "x", "dimensions": 3}).json()
    assert [len(body["data"][0]["embedding"]) for body in (default, asked)] == [8, 3]


@given(st.text(max_size=30), st.integers(1, 40))
def test_every_embedding_has_unit_length_and_is_the_same_again(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert sum(value * value for value in vector) == pytest.approx(1)
    assert vector == embed(text, dimensions)


def test_texts_that_share_words_lie_nearer() -> None:
    def similarity(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(embed(a, 256), embed(b, 256), strict=True))

    assert similarity("cancel my order", "cancel my flight") > similarity("cancel my order", "prove this theorem")


def test_connections_are_kept_and_closed_with_the_server(client: httpx.Client) -> None:
    with FakeProvider() as provider:
        ports = {ask(client, provider).extensions["network_stream"].get_extra_info("client_addr") for _ in range(3)}
        address = provider.base_url
    assert len(ports) == 1
    with pytest.raises(httpx.TransportError):
        client.post(f"{address}/chat/completions", json={})


def test_the_address_is_known_only_while_the_server_runs() -> None:
    with pytest.raises(RuntimeError, match="with FakeProvider"):
        _ = FakeProvider().base_url


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "semroute.testing", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_runs_at_the_prompt_with_a_script(client: httpx.Client) -> None:
    with start("--port", "0", "--script", "429,ok") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        statuses = [client.post(f"{url}/chat/completions", json=body).status_code for _ in range(2)]
        process.terminate()
    assert statuses == [429, 200]


def test_a_wrong_script_and_a_taken_port_are_refused_in_words() -> None:
    with start("--script", "200,nonsense") as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "neither an error status" in said
    with socket.create_server(("127.0.0.1", 0)) as taken, start("--port", str(taken.getsockname()[1])) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "cannot listen" in said
    assert "Traceback" not in said
