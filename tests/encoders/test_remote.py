from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from patience import ends

from semroute.encoders.remote import BATCH, RemoteEncoder
from semroute.errors import ConfigError, EncoderError
from semroute.types import Encoder

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"
DIMENSIONS = 6


def vector(text: str) -> list[float]:
    return [float(value) for value in np.random.default_rng(list(text.encode())).normal(size=DIMENSIONS) * 3]


@dataclass
class Server:
    """An embeddings endpoint whose answer a test may spoil."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    spoil: Callable[[dict[str, Any]], None] = lambda answer: None

    def answer(self, request: dict[str, Any]) -> bytes:
        if self.body is not None:
            return self.body
        data = [
            {"object": "embedding", "index": index, "embedding": vector(text)}
            for index, text in enumerate(request["input"])
        ]
        answer = {"object": "list", "data": data, "model": request["model"], "usage": {"prompt_tokens": 1}}
        self.spoil(answer)
        return json.dumps(answer).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.requests.append({"path": self.path, **request})
            state.keys.append(self.headers["authorization"])
            time.sleep(state.delay_s)
            content = state.answer(request)
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            try:
                for at in range(0, len(content), 1 if state.drip_s else max(1, len(content))):
                    self.wfile.write(content[at : at + 1] if state.drip_s else content)
                    time.sleep(state.drip_s)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def encoder(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteEncoder]:
    monkeypatch.setenv("TEST_EMBEDDINGS_KEY", KEY)
    encoder = RemoteEncoder(server.url + "/", "text-embedding", api_key_env="TEST_EMBEDDINGS_KEY", timeout_s=5)
    yield encoder
    encoder.close()


def failure(encoder: RemoteEncoder) -> str:
    with pytest.raises(EncoderError) as caught:
        encoder.encode(["one", "two"])
    assert KEY not in str(caught.value)
    assert KEY not in repr(encoder)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_vectors_are_those_of_the_server_at_unit_length(encoder: RemoteEncoder, server: Server) -> None:
    vectors = encoder.encode(["one", "two"])
    assert isinstance(encoder, Encoder)
    expected = np.array([vector("one"), vector("two")])
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert vectors.dtype == np.float32
    assert encoder.dimensions == DIMENSIONS
    (request,) = server.requests
    assert request["path"] == "/v1/embeddings"
    assert request["model"] == "text-embedding"
    assert request["encoding_format"] == "float"
    assert server.keys == [f"Bearer {KEY}"]


def test_the_order_is_that_of_the_index(encoder: RemoteEncoder, server: Server) -> None:
    expected = encoder.encode(["one", "two", "three"])
    server.spoil = lambda answer: answer["data"].reverse()
    np.testing.assert_array_equal(encoder.encode(["one", "two", "three"]), expected)


def test_many_texts_go_in_several_requests(encoder: RemoteEncoder, server: Server) -> None:
    texts = [f"text {number}" for number in range(2 * BATCH + 1)]
    vectors = encoder.encode(texts)
    assert [len(request["input"]) for request in server.requests] == [BATCH, BATCH, 1]
    np.testing.assert_array_equal(vectors[-1:], encoder.encode(texts[-1:]))


def test_no_texts_need_no_request(encoder: RemoteEncoder, server: Server) -> None:
    assert encoder.encode([]).shape[0] == 0
    assert server.requests == []


def test_long_and_odd_texts_are_sent_as_what_json_can_hold(encoder: RemoteEncoder, server: Server) -> None:
    encoder.encode(["head" + "x" * 1_000_000 + "tail", "a\0b", "\ud800"])
    long, nul, surrogate = server.requests[0]["input"]
    assert (long[:4], long[-4:], len(long)) == ("head", "tail", 3 * 512 + 1)
    assert (nul, surrogate) == ("a b", "\ufffd")


def test_it_works_inside_running_loops_of_different_threads(encoder: RemoteEncoder) -> None:
    async def both() -> None:
        awaited = await encoder.aencode(["one"])
        np.testing.assert_array_equal(awaited, encoder.encode(["one"]))
        await encoder.aclose()

    asyncio.run(both())
    asyncio.run(both())


def test_dimensions_are_asked_for_once(encoder: RemoteEncoder, server: Server) -> None:
    assert encoder.dimensions == DIMENSIONS
    assert encoder.dimensions == DIMENSIONS
    assert len(server.requests) == 1


def test_without_a_variable_no_key_is_sent(server: Server) -> None:
    encoder = RemoteEncoder(server.url, "local")
    encoder.encode(["one"])
    encoder.close()
    assert server.keys == [None]


def test_a_missing_key_is_an_error_that_names_the_variable(
    encoder: RemoteEncoder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_EMBEDDINGS_KEY")
    assert "set the environment variable TEST_EMBEDDINGS_KEY" in failure(encoder)
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"refuses the key (401); check the one in TEST_EMBEDDINGS_KEY"),
        (403, "refuses the key (403)"),
        (429, "limits our rate (429); it asks to wait 7 s"),
        (400, "refuses the request (400): bad input [key]"),
        (500, "server failed (500): bad input [key]"),
        (503, "server failed (503)"),
    ],
)
def test_refusals_are_reported_without_the_key(encoder: RemoteEncoder, server: Server, status: int, text: str) -> None:
    server.status, server.body = status, f"bad input {KEY}".encode()
    server.headers = {"retry-after": "7"}
    assert text in failure(encoder)


def test_a_silent_server_is_an_error(server: Server) -> None:
    server.delay_s = 1.0
    encoder = RemoteEncoder(server.url, "slow", timeout_s=0.1)
    assert "no answer within 0.1 s" in failure(encoder)
    encoder.close()


def test_an_answer_that_drips_in_ends_with_the_limit_of_the_whole(server: Server) -> None:
    server.drip_s, server.body = 0.05, b" " * 100_000  # of which no 2,000 come while the test is patient
    encoder = RemoteEncoder(server.url, "dripping", timeout_s=0.3)
    said: list[str] = []
    assert ends(lambda: said.append(failure(encoder)))
    assert "no answer within 0.3 s" in said[0]
    encoder.close()


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (gzip.compress(bytes(200 * 2**20), 1), "gzip", "the server answered with more than"),
        (gzip.compress(gzip.compress(b"{}")), "gzip, gzip", "the server packed its answer 2 times"),
        (b"{}", "br", "the server answered in the content-encoding br"),
        (b"{}", "gzip", "the server answered with a body that is not in gzip"),
    ],
    ids=["bomb", "twice", "other", "broken"],
)
def test_bodies_are_unpacked_once_and_within_bounds(
    encoder: RemoteEncoder, server: Server, status: int, body: bytes, encoding: str, said: str
) -> None:
    server.status, server.body, server.headers = status, body, {"content-encoding": encoding}
    assert said in failure(encoder)


@pytest.mark.parametrize(
    ("item", "times", "said"),
    [
        (b"{}", 300_000, "far more values than their vectors"),
        (b"[]", 300_000, "far more values than their vectors"),
        (b'{"embedding":[' + b"1," * 300_000 + b"1]}", 1, "far more values than their vectors"),
        (b'{"embedding":[' + b'"a",' * 5_000 + b"1]}", 2, "not embeddings (data.0.embedding.0: "),
    ],
    ids=["objects", "lists", "numbers", "texts"],
)
def test_an_answer_of_more_values_than_vectors_have_is_not_parsed(
    encoder: RemoteEncoder, server: Server, item: bytes, times: int, said: str
) -> None:
    server.body = b'{"data":[' + b",".join([item] * times) + b"]}"
    started = time.process_time()
    assert said in failure(encoder)
    assert time.process_time() - started < 1.0


def test_a_packed_answer_is_read(encoder: RemoteEncoder, server: Server) -> None:
    expected = encoder.encode(["one"])
    plain = server.answer(server.requests[0])
    server.body, server.headers = gzip.compress(plain), {"content-encoding": "gzip"}
    np.testing.assert_array_equal(encoder.encode(["one"]), expected)


@pytest.mark.parametrize("value", [1e308, -1e308])
def test_overflowing_numbers_are_an_error_without_a_warning(
    encoder: RemoteEncoder, server: Server, value: float
) -> None:
    server.spoil = lambda answer: answer["data"][1].update(embedding=[value] * DIMENSIONS)
    assert "zero, or not finite" in failure(encoder)


def test_a_refusal_shows_the_beginning_of_printable_words(encoder: RemoteEncoder, server: Server) -> None:
    server.status, server.body = 400, b"\x1b]52;c;AAAA\x07" + b"x" * 10_000
    said = failure(encoder)
    assert said.isprintable()
    assert len(said) < 400


def test_a_proxy_that_is_none_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{KEY}@[::")
    encoder = RemoteEncoder(server.url, "x")
    with pytest.raises(ConfigError, match="HTTP_PROXY is not the address of a proxy") as caught:
        encoder.encode(["one"])
    assert KEY not in str(caught.value)


def test_no_connection_is_an_error_that_names_the_address() -> None:
    encoder = RemoteEncoder("http://127.0.0.1:9/v1", "none", timeout_s=2)
    assert failure(encoder).startswith("http://127.0.0.1:9/v1/embeddings: no connection")
    encoder.close()


def test_a_key_that_no_header_can_hold_is_an_error(encoder: RemoteEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_EMBEDDINGS_KEY", "kéy\n")
    with pytest.raises(EncoderError) as caught:
        encoder.encode(["one"])
    assert "kéy" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda answer: answer["data"].pop(), "2 texts were sent, but the answer has 1 embeddings"),
        (lambda answer: answer["data"][1].update(index=0), "2 texts were sent"),
        (lambda answer: answer["data"][1].update(index=7), "2 texts were sent"),
        (lambda answer: answer["data"][1]["embedding"].pop(), "dimensions, not 6"),
        (lambda answer: [item.update(embedding=[]) for item in answer["data"]], "0 dimensions"),
        (lambda answer: answer["data"][1].update(embedding=[0.0] * DIMENSIONS), "zero, or not finite"),
        (lambda answer: answer["data"][1].update(embedding=[float("nan")] * DIMENSIONS), "not"),
        (lambda answer: answer["data"][1].update(embedding=[1e999] * DIMENSIONS), "not"),
        (lambda answer: answer["data"][1].update(embedding="AAAA"), "not embeddings (data.1.embedding"),
        (lambda answer: answer.pop("data"), "not embeddings (data"),
    ],
)
def test_answers_that_are_not_the_vectors_are_errors(
    encoder: RemoteEncoder, server: Server, spoil: Callable[[dict[str, Any]], None], text: str
) -> None:
    server.spoil = spoil
    assert text in failure(encoder)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff"])
def test_a_body_that_is_not_json_of_the_format_is_an_error(encoder: RemoteEncoder, server: Server, body: bytes) -> None:
    server.body = body
    assert "the answer is not embeddings" in failure(encoder)


def test_other_dimensions_than_stated_are_an_error(server: Server) -> None:
    encoder = RemoteEncoder(server.url, "x", dimensions=8)
    assert "an embedding has 6 dimensions, not 8" in failure(encoder)
    encoder.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("api.openai.com/v1", "must be a URL"),
        ("ftp://host/v1", "must be a URL"),
        ("http://", "must be a URL"),
        (f"https://me:{KEY}@host/v1", "must not hold a user or password"),
        ("http://[::1", "not a URL"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused(url: str, text: str) -> None:
    with pytest.raises(EncoderError, match=text) as caught:
        RemoteEncoder(url, "x")
    assert KEY not in str(caught.value)


def test_the_fingerprint_is_that_of_the_server_and_the_model() -> None:
    one = RemoteEncoder("https://host/v1", "a")
    assert one.fingerprint == RemoteEncoder("https://host/v1/", "a", timeout_s=1).fingerprint
    assert one.fingerprint != RemoteEncoder("https://host/v1", "b").fingerprint
    assert one.fingerprint != RemoteEncoder("https://other/v1", "a").fingerprint


def test_a_name_that_is_not_resolved_in_time_is_an_error_and_takes_no_thread_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, threads = threading.Event(), set[str]()

    def resolve(*arguments: Any, **options: Any) -> list[Any]:
        threads.add(threading.current_thread().name)
        go_on.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    encoder = RemoteEncoder("http://hanging.test/v1", "embed", timeout_s=0.1)
    with pytest.raises(EncoderError, match=r"no answer within 0\.1 s"):
        encoder.encode(["hello"])
    go_on.set()
    assert threads == {"semroute-lookup-hanging.test"}
