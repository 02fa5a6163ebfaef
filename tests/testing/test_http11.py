from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S

from semroute.testing import FakeProvider
from semroute.testing.http import BadRequestError, HttpRequest, RequestParser, head

PLAIN = b"POST /v1/x?a=1&a=2 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n" + '{"a":"ü"}'.encode()[:9]
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b'4;x=y\r\n{"a"\r\n3\r\n:1}\r\n0\r\nTrailer: t\r\n\r\n'
BARE = b"GET /g HTTP/1.0\r\nX-Key:  v \r\n\r\n"


def parsed(parts: list[bytes]) -> list[HttpRequest]:
    parser = RequestParser()
    return [request for part in parts for request in parser.feed(part)]


@pytest.mark.slow
@given(st.lists(st.sampled_from([PLAIN, CHUNKED, BARE]), min_size=1, max_size=4), st.data())
def test_requests_are_the_same_wherever_their_bytes_are_split(requests: list[bytes], data: st.DataObject) -> None:
    content = b"".join(requests)
    places = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    parts = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]
    assert parsed(parts) == [parsed([request])[0] for request in requests]


def test_a_request_has_its_parts() -> None:
    plain, chunked, bare = parsed([PLAIN + CHUNKED + BARE])
    assert (plain.method, plain.path, plain.query, plain.headers["host"]) == ("POST", "/v1/x", {"a": "2"}, "h")
    assert (chunked.json(), chunked.keep_alive) == ({"a": 1}, True)
    assert (bare.headers, bare.keep_alive, bare.json()) == ({"x-key": "v"}, False, None)


@pytest.mark.parametrize(
    "wrong",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: h\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadRequestError):
        parsed([wrong])


def test_a_status_without_a_name_is_written_too() -> None:
    assert head(529, {"a": "b"}) == b"HTTP/1.1 529 Unknown\r\na: b\r\n\r\n"


def test_the_server_says_continue_and_refuses_what_is_no_request() -> None:
    with FakeProvider() as provider:
        address = ("127.0.0.1", int(provider.base_url.split(":")[2].split("/")[0]))
        with socket.create_connection(address, timeout=PATIENCE_S) as raw:
            raw.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
            raw.sendall(b"{}")
            assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(address, timeout=PATIENCE_S) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
            assert raw.recv(1000) == b""
