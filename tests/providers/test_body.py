"""Bodies that are packed, too large, or not what they say: from a server that sends the bytes as they are."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import transports

from semroute.config import Deployment, Timeouts
from semroute.errors import (
    BrokenStreamError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitError,
    UnavailableError,
)
from semroute.http_client import SLICE, body_pieces
from semroute.providers import connection, http, streaming
from semroute.providers import connection as wire
from semroute.providers.connection import read_json
from semroute.providers.http import open_stream, post_json
from semroute.providers.target import CallTarget

ANSWER = {"text": "é" * 1000}
PLAIN = json.dumps(ANSWER).encode()
MIB = 2**20
pytestmark = pytest.mark.usefixtures("each_transport")

Ask = Callable[[httpx.AsyncClient, CallTarget], Awaitable[Any]]


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


async def post(client: httpx.AsyncClient, where: CallTarget) -> dict[str, object]:
    return await post_json(client, where, "/x", {}, headers={}, within_s=20)


async def read(client: httpx.AsyncClient, where: CallTarget) -> list[str]:
    events: AsyncGenerator[streaming.ServerSentEvent] = open_stream(client, where, "/x", {}, headers={}, within_s=20)
    async with aclosing(events):
        return [event.data async for event in events]


def asked(raw: Any, script: list[Any], ask: Ask, **more: Any) -> Any:
    async def work() -> Any:
        async with raw.serve(script) as server, transports.client() as client:
            where = Deployment(name="spot", model="small", base_url=server.url, **more)
            return await ask(client, CallTarget(where, None, None))

    return asyncio.run(work())


def refused(raw: Any, script: list[Any], ask: Ask, **more: Any) -> DispatchError:
    with pytest.raises(DispatchError) as caught:
        asked(raw, script, ask, **more)
    assert str(caught.value).startswith("spot")
    return caught.value


def stream(raw: Any, content: bytes, encoding: str, *, end: bool = True) -> list[Any]:
    """A stream of events that is packed, in pieces."""
    script: list[Any] = raw.bytes(*(content[at : at + 5000] for at in range(0, len(content), 5000)), end=end)
    head = script[0].replace(b"transfer-encoding", f"content-encoding: {encoding}\r\ntransfer-encoding".encode())
    return [head, *script[1:]]


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(PLAIN, mtime=0)),
        ("X-GZip", gzip.compress(PLAIN, mtime=0)),
        ("identity, gzip", gzip.compress(PLAIN, mtime=0)),
        ("gzip", gzip.compress(PLAIN[:9], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(PLAIN[9:], mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw_deflate(PLAIN)),
        ("identity", PLAIN),
        ("", PLAIN),
    ],
)
def test_a_body_that_is_packed_once_is_unpacked(raw: Any, encoding: str, packed: bytes) -> None:
    assert asked(raw, raw.answer(packed, content_encoding=encoding), post) == ANSWER


def test_requests_ask_for_what_is_understood(raw: Any) -> None:
    seen: list[str] = []

    async def ask(client: httpx.AsyncClient, where: CallTarget) -> None:
        async def note(request: httpx.Request) -> None:
            seen.append(request.headers["accept-encoding"])

        client.event_hooks = {"request": [note]}
        await post(client, where)

    asked(raw, raw.answer({}), ask)
    assert seen == ["gzip"]


@pytest.mark.slow
@pytest.mark.parametrize("ask", [post, read])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("gzip, gzip", "packed its answer 2 times"),
        ("gzip,identity, deflate ,gzip", "packed its answer 3 times"),
        ("gzip\r\ncontent-encoding: gzip", "packed its answer 2 times"),
        ("br", "content-encoding br, which it was not asked for"),
        ("zstd", "content-encoding zstd"),
    ],
)
def test_other_encodings_and_several_are_refused_unread(raw: Any, ask: Ask, encoding: str, said: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(8 * MIB)))
    error = refused(raw, stream(raw, bomb, encoding), ask)
    assert type(error) is MalformedResponseError
    assert said in str(error)


@pytest.mark.slow
def test_what_comes_out_is_bounded_and_so_is_the_memory(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER", 4 * MIB)
    bomb = gzip.compress(bytes(200 * MIB), 1)

    async def ask(client: httpx.AsyncClient, where: CallTarget) -> None:
        tracemalloc.start()
        try:
            await connection.read_content(
                await connection.send(client, connection.build(client, where, "/x", {}, {}, None), where),
                where,
                4 * MIB,
            )
        finally:
            peak.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    peak: list[int] = []
    error = refused(raw, raw.answer(bomb, content_encoding="gzip"), ask)
    assert type(error) is MalformedResponseError
    assert "answered with more than 4 MiB; the rest was not read" in str(error)
    assert peak[0] < 16 * MIB


@pytest.mark.slow
def test_the_loop_has_its_turns_while_a_body_is_unpacked(raw: Any) -> None:
    packed = gzip.compress(b'{"a": "' + b"x" * (16 * MIB) + b'"}', 1)

    async def ask(client: httpx.AsyncClient, where: CallTarget) -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        request = connection.build(client, where, "/x", {}, {}, None)
        async with asyncio.timeout(20):
            response = await connection.send(client, request, where)
            counting = asyncio.create_task(count())
            turns = 0
            sizes = [len(piece) async for piece in body_pieces(response, 64 * MIB)]
            counting.cancel()
        assert max(sizes) <= SLICE
        return turns

    assert asked(raw, raw.answer(packed, content_encoding="gzip"), ask) >= 16 * MIB // SLICE


@pytest.mark.slow
@pytest.mark.parametrize("ask", [post, read])
def test_the_body_of_an_error_is_bounded_and_its_status_counts(raw: Any, ask: Ask) -> None:
    told = gzip.compress(json.dumps({"error": {"message": "slow down"}}).encode())
    assert "slow down" in str(refused(raw, raw.answer(told, "429 Slow", content_encoding="gzip"), ask))
    bomb = gzip.compress(bytes(50 * MIB), 1)
    for packed, encoding in ((bomb, "gzip"), (gzip.compress(bomb), "gzip, gzip"), (b"not packed", "gzip"), (b"", "br")):
        error = refused(raw, raw.answer(packed, "429 Slow", content_encoding=encoding, retry_after="3"), ask)
        assert (type(error), error.wait_s) == (RateLimitError, 3.0)
        assert type(refused(raw, raw.answer(packed, "529 Busy", content_encoding=encoding), ask)) is OverloadedError


def test_a_packed_stream_gives_its_events(raw: Any) -> None:
    events = b"".join(b"data: %d\n\n" % number for number in range(5000))
    assert asked(raw, stream(raw, gzip.compress(events), "gzip"), read) == [str(number) for number in range(5000)]


@pytest.mark.slow
def test_a_packed_stream_is_bounded(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_STREAM", MIB)
    for content, most in ((b": x\n" * MIB, "1 MiB"), (bytes(4 * MIB), "1 MiB")):
        error = refused(raw, stream(raw, gzip.compress(content, 1), "gzip"), read)
        assert type(error) is MalformedResponseError
        assert most in str(error)
    members = gzip.compress(b"") * (2 * MIB // 20)
    assert "1 MiB" in str(refused(raw, stream(raw, members, "gzip"), read))


@pytest.mark.slow
def test_a_body_that_is_not_what_it_says_is_malformed(raw: Any) -> None:
    for encoding in ("gzip", "deflate"):
        error = refused(raw, raw.answer(b"plain text", content_encoding=encoding), post)
        assert type(error) is MalformedResponseError
        assert f"not in {encoding}, as it says" in str(error)
    broken = gzip.compress(PLAIN)[:-8] + b"\0" * 8
    assert type(refused(raw, raw.answer(broken, content_encoding="gzip"), post)) is MalformedResponseError
    assert type(refused(raw, stream(raw, b"plain text", "gzip"), read)) is MalformedResponseError


def test_a_packed_body_without_its_end_was_broken_off(raw: Any) -> None:
    half = gzip.compress(PLAIN)[:-20]
    assert type(refused(raw, raw.answer(half, content_encoding="gzip"), post)) is UnavailableError
    assert type(refused(raw, stream(raw, half, "gzip"), read)) is BrokenStreamError


@pytest.mark.parametrize("ask", [post, read])
def test_a_length_that_is_not_kept_is_an_answer_broken_off(raw: Any, ask: Ask) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n"
    assert isinstance(refused(raw, [head + PLAIN, raw.cut], ask), UnavailableError)


@pytest.mark.parametrize("ask", [post, read])
@pytest.mark.parametrize("line", [b"x-more: " + b"y" * 1000 + b"\r\n", b"z" * 1000], ids=["many", "one"])
def test_headers_without_end_are_given_up(raw: Any, ask: Ask, line: bytes) -> None:
    error = refused(raw, [b"HTTP/1.1 200 OK\r\n", *[line] * 1000, raw.listen], ask)
    assert isinstance(error, UnavailableError)


@pytest.mark.slow
def test_informational_answers_without_end_are_timed(raw: Any) -> None:
    more = {"timeout_s": 0.3, "timeouts": Timeouts(first_token_s=0.3)}
    script = [b"HTTP/1.1 100 Continue\r\n\r\n", 0.01] * 100
    for ask in (post, read):
        assert type(refused(raw, script, ask, **more)) is ProviderTimeoutError


@pytest.mark.parametrize(
    "text",
    ["[" * 500 + "]" * 500, '{"a":' * 300 + "1" + "}" * 300, "[" + "[1]," * 300 + "[" * 201 + "]" * 201 + "]"],
)
def test_json_that_is_nested_deeply_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(form)


def test_json_of_many_values_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_VALUES", 1000)
    assert read_json("[" + "1," * 900 + "1]") == [1] * 901
    for text in ("[" + "1," * 1000 + "1]", "[[]" * 1001):
        with pytest.raises(ValueError, match="too many values"):
            read_json(text)


def test_brackets_within_texts_and_flat_lists_are_not_depth() -> None:
    value = {"a": "[" * 1000, "b": [[] for _ in range(1000)]}
    assert read_json(json.dumps(value)) == value


def test_a_surrogate_that_comes_as_bytes_is_replaced() -> None:
    assert read_json(b'"a\xed\xa0\x80b"') in ("a\ufffdb", "a\ufffd\ufffd\ufffdb")
    assert read_json(b'"\\ud83d\\ude00 \\ud800"') == "\U0001f600 \ufffd"


def test_large_json_is_read_off_the_loop_and_not_behind_names_that_hang(raw: Any) -> None:
    large = {"a": "x" * wire.OFF_LOOP}

    async def ask(client: httpx.AsyncClient, where: CallTarget) -> dict[str, object]:
        loop, release = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        hanging = loop.run_in_executor(None, release.wait, 20)
        try:
            return await post(client, where)
        finally:
            assert not hanging.done()
            release.set()
            await hanging

    assert asked(raw, raw.answer(large), ask) == large


def test_json_is_read_by_the_loops_thread_only_where_it_is_small() -> None:
    def where(size: int) -> str:
        return asyncio.run(wire.off_loop(lambda: threading.current_thread().name, size))

    assert where(wire.OFF_LOOP - 1) == threading.current_thread().name
    assert where(wire.OFF_LOOP).startswith("semroute-json")
