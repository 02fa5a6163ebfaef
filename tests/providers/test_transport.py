"""The transport over aiohttp is held to what httpx's own does, since retries and costs depend on its errors."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import gzip
import ipaddress
import multiprocessing
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from raw_server import Raw
from transports import open_connections

from semroute.providers.transport import AiohttpTransport, LeanClient

T = TypeVar("T")
RAW = Raw()
PATIENCE_S = 10.0
PARTS = 64
ONE_PLACE = httpx.Limits(max_connections=1, max_keepalive_connections=1)
# An idle connection is kept for 5 s by default, and a busy machine may take longer between two requests.
LONG_KEPT = httpx.Limits(keepalive_expiry=PATIENCE_S)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
KEPT = RAW.bytes(b"{}")
"""Script of an answer after which the connection may be used again."""
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Transport = httpx.AsyncBaseTransport
Make = Callable[..., Transport]


def run(work: Callable[[httpx.AsyncClient], Awaitable[T]], transport: Transport, **options: Any) -> T:
    async def with_client() -> T:
        async with httpx.AsyncClient(transport=transport, **{"timeout": None, **options}) as client:
            return await work(client)

    return asyncio.run(with_client())


async def post(client: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
    return await client.post(url, **{"json": {"a": 1}, **more})


@contextlib.asynccontextmanager
async def answering(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server of one connection, which is waited for; gives its address."""
    has_ended = asyncio.Event()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            has_ended.set()

    async with await asyncio.start_server(handled, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.wait_for(has_ended.wait(), PATIENCE_S)


def error_of(make: Make, script: list[Any], **options: Any) -> Exception:
    """The error of one call to a server that plays ``script``."""

    async def work(client: httpx.AsyncClient) -> Exception:
        async with RAW.serve(script) as server:
            with pytest.raises(httpx.TransportError) as caught:
                await post(client, server.url)
        return caught.value

    return run(work, make(verify=False), **options)


FAULTS: dict[str, tuple[list[Any], set[type[httpx.TransportError]]]] = {
    "closed before the answer": ([RAW.cut], {httpx.RemoteProtocolError}),
    "reset before the answer": ([RAW.reset], {httpx.ReadError}),
    "cut in the head": ([b"HTTP/1.1 200 OK\r\ncontent-le", RAW.cut], {httpx.RemoteProtocolError}),
    "cut in the body": ([HEAD + b"half", RAW.cut], {httpx.RemoteProtocolError}),
    "cut in a chunk": ([CHUNKED + b"9\r\nhalf", RAW.cut], {httpx.RemoteProtocolError}),
    "cut between chunks": ([CHUNKED + b"1\r\na\r\n", RAW.cut], {httpx.RemoteProtocolError}),
    "reset in the body": ([HEAD + b"half", 0.02, RAW.reset], {httpx.ReadError, httpx.RemoteProtocolError}),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n", RAW.listen], {httpx.RemoteProtocolError}),
    "a length that is none": ([b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"], {httpx.RemoteProtocolError}),
    "a chunk that is none": ([CHUNKED + b"zz\r\n", RAW.listen], {httpx.RemoteProtocolError}),
    "a head without end": ([b"HTTP/1.1 200 OK\r\n", *[b"x" * 2**14] * 20, RAW.listen], {httpx.RemoteProtocolError}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_fails_may_have_been_sent(transport_class: Make, fault: str) -> None:
    script, errors = FAULTS[fault]
    assert type(error_of(transport_class, script)) in errors


@pytest.mark.parametrize("script", [[RAW.listen], [HEAD + b"half", RAW.listen]], ids=["head", "body"])
def test_silence_is_a_read_timeout(transport_class: Make, script: list[Any]) -> None:
    assert type(error_of(transport_class, script, timeout=httpx.Timeout(None, read=0.05))) is httpx.ReadTimeout


@pytest.mark.slow
def test_the_time_to_read_begins_anew_with_every_byte(transport_class: Make) -> None:
    script = [HEAD, *(step for _ in range(9) for step in (0.05, b"x"))]

    async def work(client: httpx.AsyncClient) -> bytes:
        async with RAW.serve(script) as server:
            return (await post(client, server.url)).content

    assert run(work, transport_class(), timeout=httpx.Timeout(None, read=0.3)) == b"x" * 9


def test_a_closed_port_sends_nothing(transport_class: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(httpx.ConnectError):
        run(lambda client: post(client, url), transport_class())


@pytest.mark.parametrize(
    "failure", [socket.gaierror("no such name"), UnicodeError("label too long")], ids=["os", "idna"]
)
def test_a_name_that_is_not_found_sends_nothing(
    transport_class: Make, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises((httpx.ConnectError, UnicodeError)) as caught:
        run(lambda client: post(client, "http://nowhere.test/v1"), transport_class())
    assert isinstance(caught.value, httpx.ConnectError if transport_class is AiohttpTransport else Exception)


def test_a_name_that_is_not_found_in_time_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go_on.wait(PATIENCE_S) and [])

    async def work(client: httpx.AsyncClient) -> None:
        try:
            with pytest.raises(httpx.ConnectTimeout):
                await post(client, "http://hanging.test/v1")
        finally:
            go_on.set()

    run(work, AiohttpTransport(), timeout=httpx.Timeout(None, connect=0.05))


def test_a_greeting_that_is_not_answered_is_a_connect_timeout(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(httpx.ConnectTimeout):
            await post(client, f"https://127.0.0.1:{silent.getsockname()[1]}/v1")

    run(work, transport_class(), timeout=httpx.Timeout(None, connect=0.05))


def test_a_server_without_tls_sends_nothing(transport_class: Make) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def work(client: httpx.AsyncClient) -> None:
        async with answering(answer) as url:
            with pytest.raises(httpx.ConnectError):
                await post(client, url.replace("http", "https"))

    run(work, transport_class())


@pytest.mark.slow
def test_a_request_that_is_not_read_is_a_write_timeout(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(httpx.WriteTimeout):
            await client.post(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", content=bytes(2**26))

    run(work, transport_class(), timeout=httpx.Timeout(None, write=0.1))


def test_a_full_pool_is_a_pool_timeout_and_has_a_place_again_afterwards(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> bytes:
        async with RAW.serve([HEAD, RAW.listen], RAW.answer(b"second")) as server:
            async with client.stream("POST", server.url, json={}):
                with pytest.raises(httpx.PoolTimeout):
                    await post(client, server.url)
            return (await post(client, server.url)).content

    options = {"timeout": httpx.Timeout(None, pool=0.05)}
    assert run(work, transport_class(limits=ONE_PLACE), **options) == b"second"


@pytest.mark.parametrize(
    ("url", "headers"),
    [("ftp://127.0.0.1/v1", {}), ("http://127.0.0.1:9/v1", {"x-a": "b\r\nx-c: d"})],
    ids=["scheme", "header"],
)
def test_what_cannot_be_sent_is_refused(transport_class: Make, url: str, headers: dict[str, str]) -> None:
    # httpx's own finds a connection first.
    refusals = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.ConnectError)
    with pytest.raises(refusals):
        run(lambda client: post(client, url, headers=headers), transport_class())


def test_head_and_body_go_out_and_come_in_as_they_are(transport_class: Make) -> None:
    packed = gzip.compress(b"text")
    lines = [b"HTTP/1.1 299 Fine By Me", b"X-Two: 1", b"x-TWO: \xe9", b"Set-Cookie: a=b", b"content-encoding: gzip"]
    script = [b"\r\n".join([*lines, b"content-length: %d" % len(packed)]) + b"\r\n\r\n" + packed]
    sent = [("accept", "x/y"), ("X-Key", "é"), ("x-a", "1"), ("X-A", "2"), ("content-length", "2")]

    async def work(client: httpx.AsyncClient) -> tuple[httpx.Response, list[bytes], bytes]:
        async with RAW.serve(script) as server:
            raw_headers = [(name.encode(), value.encode()) for name, value in sent]
            request = httpx.Request("POST", f"{server.url}/a%20b?c=%C3%A9&d", headers=raw_headers, content=b"{}")
            response = await transport.handle_async_request(request)
            content = b"".join([part async for part in response.stream])  # type: ignore[union-attr]
            await response.aclose()
            return response, server.heads, content

    transport = transport_class()
    response, (head,), content = run(work, transport)
    line, *headers = head.decode().split("\r\n")
    assert line == "POST /v1/a%20b?c=%C3%A9&d HTTP/1.1"
    pairs = [tuple(header.split(": ", 1)) for header in headers[:-2] if not header.lower().startswith("host")]
    assert [(name.lower(), value) for name, value in pairs] == [(name.lower(), value) for name, value in sent]
    assert response.headers.raw[:2] == [(b"X-Two", b"1"), (b"x-TWO", b"\xe9")]
    assert (response.status_code, response.reason_phrase, response.http_version) == (299, "Fine By Me", "HTTP/1.1")
    assert content == packed


def test_no_redirect_is_followed_and_no_cookie_sent(transport_class: Make) -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /x\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"

    async def work(client: httpx.AsyncClient) -> list[bytes]:
        async with RAW.serve([moved]) as server:
            for _ in range(2):
                request = httpx.Request("POST", server.url, json={})
                response = await transport.handle_async_request(request)
                await response.aclose()
                assert response.status_code == 307
            return server.heads

    transport = transport_class()
    heads = run(work, transport)
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("{}/a%20b?c=d", {"content": b"{}", "headers": {"Accept-Encoding": "gzip", "authorization": "Bearer k"}}),
        ("{}/a", {"content": b"{}", "params": {"api-version": "1"}}),
        ("{}/a", {"json": {"a": 1}}),
        ("{}/a", {"content": b"{}", "extensions": {"sni_hostname": "x"}, "timeout": 5.0}),
        ("http://ann:secret@{host}/a", {"content": b"{}"}),
    ],
    ids=["headers", "query", "json", "extensions", "user"],
)
def test_the_lean_client_sends_what_httpxs_own_does(address: str, options: dict[str, Any]) -> None:
    async def sent(kind: type[httpx.AsyncClient], script: list[Any]) -> tuple[bytes, object, bytes]:
        async with RAW.serve(script) as server, kind(transport=AiohttpTransport(), timeout=None) as client:
            host = server.url.removeprefix("http://").removesuffix("/v1")
            url = httpx.URL(address.format(server.url, host=host))
            request = client.build_request("POST", url, **options)
            response = await client.send(request, stream=True)
            content = await response.aread()
            return server.heads[0].replace(host.encode(), b"host"), request.extensions["timeout"], content

    async def both() -> list[tuple[bytes, object, bytes]]:
        return [await sent(kind, KEPT) for kind in (httpx.AsyncClient, LeanClient)]

    own, lean = asyncio.run(both())
    assert lean == own


def test_the_lean_client_keeps_no_cookie_and_follows_no_redirect_of_a_call() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /x\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"

    async def work() -> list[bytes]:
        async with RAW.serve([moved]) as server, LeanClient(transport=AiohttpTransport(), timeout=None) as client:
            for _ in range(2):
                request = client.build_request("POST", httpx.URL(server.url), content=b"{}")
                response = await client.send(request, stream=True)
                assert (await response.aread(), response.status_code) == (b"", 307)
            await client.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await client.send(request, stream=True)
            return server.heads

    heads = asyncio.run(work())
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 10, 3 * 2**20])
def test_bodies_of_any_size_arrive(transport_class: Make, size: int) -> None:
    async def work(client: httpx.AsyncClient) -> tuple[Any, httpx.Response]:
        async with RAW.serve(RAW.answer({"b": "y" * size})) as server:
            return server.bodies, await post(client, server.url, json={"a": "x" * size})

    bodies, response = run(work, transport_class())
    assert bodies == [{"a": "x" * size}]
    assert response.json() == {"b": "y" * size}


def test_a_body_of_unknown_length_goes_in_chunks(transport_class: Make) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"a"'
        yield b": 1}"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(HEAD + b"123456789")

    async def work(client: httpx.AsyncClient) -> bytes:
        async with answering(answer) as url:
            return (await client.post(url, content=parts())).content

    seen: list[bytes] = []
    assert run(work, transport_class()) == b"123456789"
    assert b"ransfer-" in seen[0]
    assert seen[0].endswith(b'4\r\n{"a"\r\n4\r\n: 1}\r\n0\r\n\r\n')


def test_what_came_before_a_cut_is_read(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> bytes:
        async with RAW.serve([CHUNKED + b"5\r\nfirst\r\n", RAW.cut]) as server:
            request = client.build_request("POST", server.url, json={})
            response = await client.send(request, stream=True)
            await asyncio.sleep(0.02)  # both are there before the first is read
            parts = response.aiter_raw()
            first = await anext(parts)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
            await response.aclose()
            return first

    assert run(work, transport_class()) == b"first"


def test_an_answer_before_the_request_was_read_counts(transport_class: Make) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await reader.read()

    async def work(client: httpx.AsyncClient) -> int:
        async with answering(answer) as url, client.stream("POST", url, content=bytes(2**16)) as response:
            return response.status_code

    assert run(work, transport_class()) == 413


def test_a_connection_is_used_again_after_a_whole_answer_and_closed_after_half_a_one(transport_class: Make) -> None:
    half = [*RAW.bytes(b"data: 1\n\n", end=False), RAW.listen]

    async def work(client: httpx.AsyncClient) -> list[int]:
        async with RAW.serve(KEPT, half, KEPT) as server:
            await post(client, server.url)
            used = [server.connections]
            async with client.stream("POST", server.url, json={}) as response:
                assert await anext(response.aiter_raw()) == b"data: 1\n\n"
                assert len(open_connections(transport)) == 1
            assert open_connections(transport) == []
            await asyncio.wait_for(server.left.wait(), PATIENCE_S)
            used.append(server.connections)
            await post(client, server.url)
            return [*used, server.connections]

    transport = transport_class(limits=ONE_PLACE)
    assert run(work, transport) == [1, 1, 2]


@pytest.mark.parametrize("limits", [httpx.Limits(max_keepalive_connections=0), httpx.Limits(keepalive_expiry=0.0)])
def test_a_connection_that_may_not_be_kept_is_closed(transport_class: Make, limits: httpx.Limits) -> None:
    async def work(client: httpx.AsyncClient) -> int:
        async with RAW.serve(KEPT) as server:
            await post(client, server.url)
            await post(client, server.url)
            return server.connections

    assert run(work, transport_class(limits=limits)) == 2


class BlockingServer:
    """A server in a thread, which closes its connections when it is told."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.requests = 0
        self._peers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> BlockingServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        self.close_connections()

    def close_connections(self) -> None:
        for peer in self._peers:
            peer.close()
        self._peers.clear()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self._peers.append(peer)
                if peer.recv(2**16):
                    self.requests += 1
                    peer.sendall(HEAD + b"123456789")


def test_an_idle_connection_that_was_closed_behind_a_blocked_loop_is_not_used(transport_class: Make) -> None:
    with BlockingServer() as server:

        async def work(client: httpx.AsyncClient) -> bytes:
            await client.post(server.url, content=b"")
            server.close_connections()  # and the loop has not looked since
            return (await client.post(server.url, content=b"")).content

        assert run(work, transport_class()) == b"123456789"
        assert server.requests == 2


def test_a_request_that_may_have_arrived_is_not_sent_again(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> list[Any]:
        async with RAW.serve(KEPT, [RAW.cut]) as server:
            await post(client, server.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await post(client, server.url)
            assert server.connections == 1
            return server.bodies

    assert len(run(work, transport_class(limits=LONG_KEPT))) == 2


@pytest.mark.parametrize("script", [[RAW.listen], [HEAD, RAW.listen]], ids=["head", "body"])
def test_a_cancelled_call_closes_its_connection_and_frees_its_place(transport_class: Make, script: list[Any]) -> None:
    async def work(client: httpx.AsyncClient) -> bytes:
        async with RAW.serve(script, RAW.answer(b"second")) as server:
            task = asyncio.create_task(post(client, server.url))
            while not server.bodies:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.left.wait(), PATIENCE_S)
            assert open_connections(transport) == []
            return (await post(client, server.url)).content

    transport = transport_class(limits=ONE_PLACE)
    assert run(work, transport) == b"second"


@pytest.mark.slow
def test_a_reader_that_pauses_holds_the_server_up(transport_class: Make) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for _ in range(PARTS):
            writer.write(bytes(2**20))
            await writer.drain()
            sent.append(1)

    async def work(client: httpx.AsyncClient) -> int:
        async with answering(answer) as url, client.stream("POST", url, content=b"") as response:
            for _ in range(1000):  # more rounds of the loop than the whole would take
                await asyncio.sleep(0)
            assert len(sent) < PARTS // 2
            return sum([len(part) async for part in response.aiter_raw()])

    sent: list[int] = []
    assert run(work, transport_class()) == PARTS * 2**20


def test_closing_the_client_ends_what_still_reads() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async with RAW.serve([*RAW.bytes(b"data: 1\n\n", end=False), RAW.listen]) as server:
            response = await client.send(client.build_request("POST", server.url, json={}), stream=True)
            parts = response.aiter_raw()
            assert await anext(parts) == b"data: 1\n\n"
            reading = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            await client.aclose()
            with pytest.raises(httpx.ReadError):
                await asyncio.wait_for(reading, PATIENCE_S)

    run(work, AiohttpTransport())


def test_steps_of_a_connection_are_traced_before_anything_is_sent(transport_class: Make) -> None:
    async def work(client: httpx.AsyncClient) -> list[str]:
        steps: list[str] = []

        async def trace(step: str, details: Any) -> None:
            if step.endswith(("connect_tcp.started", "send_request_headers.started")):
                steps.append(step)
                assert "connect" not in step or (details["host"], details["port"]) == (address.host, address.port)
                assert server.bodies == []

        async with RAW.serve(RAW.answer({})) as server:
            address = httpx.URL(server.url)
            await post(client, server.url, extensions={"trace": trace})
        return steps

    expected = ["connection.connect_tcp.started", "http11.send_request_headers.started"]
    assert run(work, transport_class()) == expected


@pytest.mark.parametrize("step", ["connect_tcp", "send_request_headers"])
def test_a_trace_that_fails_sends_nothing_and_leaves_nothing(transport_class: Make, step: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def trace(name: str, details: Any) -> None:
            if f"{step}.started" in name:
                raise httpx.ConnectError("not there")

        async with RAW.serve(RAW.answer({})) as server:
            with pytest.raises(httpx.ConnectError, match="not there"):
                await post(client, server.url, extensions={"trace": trace})
            assert open_connections(transport) == []
            assert server.bodies == []

    transport = transport_class()
    run(work, transport)


def test_version_6_addresses_are_reached(transport_class: Make) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def work(client: httpx.AsyncClient) -> tuple[int, bytes]:
        async with RAW.serve(RAW.answer({}), host="::1") as server:
            return (await post(client, server.url)).status_code, server.heads[0]

    status, head = run(work, transport_class())
    assert status == 200
    assert b"[::1]:" in head


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    encoding = serialization.Encoding.PEM
    form, unlocked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(encoding, form, unlocked) + signed.public_bytes(encoding))
    return path


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def over_tls(client: httpx.AsyncClient, tls: ssl.SSLContext) -> int:
    async with RAW.serve(RAW.answer({}), tls=tls) as server:
        return (await post(client, server.url)).status_code


@pytest.mark.slow
def test_a_certificate_of_nobody_known_sends_nothing(transport_class: Make, certificate: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        run(lambda client: over_tls(client, tls_server(certificate)), transport_class())


@pytest.mark.slow
def test_certificates_are_those_of_the_setting_or_of_the_environment(
    transport_class: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**options: Any) -> int:
        return run(lambda client: over_tls(client, tls_server(certificate)), transport_class(**options))

    assert asked(verify=ssl.create_default_context(cafile=str(certificate))) == 200
    assert asked(verify=False) == 200
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asked() == 200
    with pytest.raises(httpx.ConnectError):
        asked(trust_env=False)


@pytest.mark.slow
def test_a_client_certificate_is_shown_where_a_server_wants_one(transport_class: Make, certificate: Path) -> None:
    tls = tls_server(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    known = ssl.create_default_context(cafile=str(certificate))
    with pytest.raises(httpx.TransportError):
        run(lambda client: over_tls(client, tls), transport_class(verify=known))
    known.load_cert_chain(certificate)
    assert run(lambda client: over_tls(client, tls), transport_class(verify=known)) == 200


def test_another_loop_gets_connections_of_its_own() -> None:
    transport = AiohttpTransport(limits=LONG_KEPT)

    async def work() -> tuple[int, int]:
        client = httpx.AsyncClient(transport=transport)
        async with RAW.serve(KEPT) as server:
            await post(client, server.url)
            status = (await post(client, server.url)).status_code
            await transport.aclose()
            return status, server.connections

    assert asyncio.run(work()) == asyncio.run(work()) == (200, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own_and_leaves_the_parents() -> None:
    transport = AiohttpTransport(limits=LONG_KEPT)
    client = httpx.AsyncClient(transport=transport)

    def child(url: str, far: Any) -> None:
        gc.collect()
        far.send(asyncio.new_event_loop().run_until_complete(post(client, url)).status_code)

    async def work() -> tuple[bool, Any, int, int]:
        async with RAW.serve(KEPT) as server:
            await post(client, server.url)
            near, far = multiprocessing.Pipe()
            process = multiprocessing.get_context("fork").Process(target=child, args=(server.url, far))
            process.start()
            has_answer = await asyncio.to_thread(near.poll, PATIENCE_S)
            process.kill()
            process.join()
            status = (await post(client, server.url)).status_code
            await transport.aclose()
            return has_answer, near.recv(), status, server.connections

    assert asyncio.run(work()) == (True, 200, 200, 2)


@pytest.mark.slow
def test_a_program_that_never_closes_its_client_ends_in_silence() -> None:
    code = """
from semroute import _sync
from semroute.providers.connection import shared_client
from semroute.testing import FakeProvider

provider = FakeProvider().__enter__()

async def ask():
    client = await shared_client()
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    return (await client.post(provider.base_url + "/chat/completions", json=body)).status_code

print(_sync.run(ask()))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, encoding="utf-8")
    assert (run.stdout, run.stderr) == ("200\n", "")
