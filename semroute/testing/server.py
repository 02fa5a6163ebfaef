"""Fake provider: an asyncio server in a thread, and its control."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from asyncio import sleep
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeAlias

from semroute.testing import handler
from semroute.testing import replies as words
from semroute.testing.answers import RateLimit, RecordedRequest, Records, Window, within
from semroute.testing.handler import ServerState, handle_request
from semroute.testing.http import Connection, HttpRequest, Response, Speed, deliver
from semroute.testing.replies import JSON, Reply, encode

# Control of a server from another process: ``POST /_control`` switches, ``GET /_stats`` counts.
#
# The body of ``/_control`` is a JSON object with any of these keys; the answer is that of ``/_stats``::
#
# {"reset": true,                                             first clear requests, script and standing reply
# "script": "429,hang:2,ok",                                 replies of the coming requests, by name
# "always": "500",                                           reply of all others; null: default answers
# "speed": {"latency_s": 0, "first_token_s": 0.2, "token_s": 0.01},
# "limit": {"rpm": 600, "tpm": 60000, "window_s": 60}}       null: no limit
#
# No key is required: the server is for tests.

PATHS = ("/_control", "/_stats")
_SPEED = ("latency_s", "first_token_s", "token_s")
_LIMIT = ("rpm", "tpm", "window_s")


def answer(provider: FakeProvider, request: HttpRequest, body: Any) -> Response:
    """Return the response to a request for one of :data:`PATHS`."""
    if (request.method, request.path) == ("GET", "/_stats"):
        return Response(200, JSON, encode(provider.stats()))
    if (request.method, request.path) != ("POST", "/_control"):
        return Response(405, JSON, encode({"error": "POST /_control, or GET /_stats"}))
    try:
        for switch in _switches(provider, body):
            switch()
    except ValueError as error:
        return Response(400, JSON, encode({"error": str(error)}))
    return Response(200, JSON, encode(provider.stats()))


def _switches(provider: FakeProvider, body: Any) -> list[Callable[[], None]]:
    """Return the actions of a control request, all of them checked."""
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    for name in body:
        if name not in ("reset", "script", "always", "speed", "limit"):
            raise ValueError(f'unknown key "{name}"; there are reset, script, always, speed and limit')
    switches: list[Callable[[], None]] = [provider.reset] if body.get("reset") else []
    if "script" in body:
        replies = words.script(str(body["script"]))
        switches.append(lambda: provider.script(*replies))
    if "always" in body:
        standing = None if body["always"] is None else words.reply(str(body["always"]))
        switches.append(lambda: provider.always(standing))
    if "speed" in body:
        speed = _numbers("speed", body["speed"], _SPEED)
        switches.append(lambda: provider.set_speed(**speed))
    if "limit" in body:
        limit = _numbers("limit", body["limit"] or {}, _LIMIT)
        switches.append(lambda: provider.set_limit(**limit))
    return switches


def _numbers(where: str, given: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object")
    for name, value in given.items():
        if name not in names or not within(value, 0, 1e9):
            raise ValueError(f"{where}.{name} must be one of {', '.join(names)}, with a number from 0")
    return given


Always: TypeAlias = "Reply | Callable[[RecordedRequest], Reply | None] | None"

_BACKLOG = 1024  # so that hundreds of clients may connect at once


class FakeProvider:
    """Local server with the wire formats of OpenAI, Anthropic and Gemini.

    A context manager. Unscripted chat requests are answered with the last user message (or the tool call or JSON that
    they require), ``/v1/embeddings`` with unit vectors that are the same at every call. Tokens are words.

    Args:
        key: required key, where each vendor's clients send it; None accepts any request.
        dimensions: length of the embeddings.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        models: names of the available models (404 for others); empty: any.
        latency_s: seconds to the headers of each answer.
        first_token_s: seconds from there to the first word.
        token_s: seconds between words.
        rpm: requests a minute, in a sliding window; beyond it 429. None is no limit.
        tpm: tokens a minute, input and output together; None is no limit.
        keep: number of requests in :attr:`requests`; None: all.
        clock: monotonic clock of the rate limit, seconds.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        dimensions: int = 64,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Sequence[str] = (),
        latency_s: float = 0.0,
        first_token_s: float = 0.0,
        token_s: float = 0.0,
        rpm: int | None = None,
        tpm: int | None = None,
        keep: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = (host, port)
        self._lock = threading.Lock()
        self._replies: deque[Reply] = deque()
        self._always: Always = None
        self._speed = Speed(latency_s, first_token_s, token_s)
        window = Window(RateLimit(rpm, tpm))
        self._house = ServerState(key, tuple(models), dimensions, window, Records(keep), clock)
        self._serials = itertools.count(1)
        self._connections: set[Connection] = set()
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    # Addresses.

    @property
    def base_url(self) -> str:
        """``base_url`` of a deployment of the format ``openai`` or ``responses``.

        Known while the server runs.
        """
        return f"{self.anthropic_url}/v1"

    @property
    def anthropic_url(self) -> str:
        """``base_url`` of a deployment of the format ``anthropic``."""
        if self._listener is None:
            raise RuntimeError('the provider is not running; use it as "with FakeProvider() as provider:"')
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def gemini_url(self) -> str:
        """``base_url`` of a deployment of the format ``gemini``."""
        return f"{self.anthropic_url}/v1beta"

    # Behaviour.

    def script(self, *replies: Reply) -> None:
        """Queue replies for the coming requests, one each, in order.

        They follow those that are already queued.
        """
        with self._lock:
            self._replies.extend(replies)

    def always(self, reply: Always) -> None:
        """Set the reply to every request beyond the script.

        None restores the default answers.

        A function is called with each request, in the server's thread, and returns a reply or None.
        """
        with self._lock:
            self._always = reply

    def set_speed(
        self, *, latency_s: float | None = None, first_token_s: float | None = None, token_s: float | None = None
    ) -> None:
        """Change the speed for the coming requests; omitted values stay."""
        given = {"latency_s": latency_s, "first_token_s": first_token_s, "token_s": token_s}
        with self._lock:
            self._speed = replace(self._speed, **{name: value for name, value in given.items() if value is not None})

    def set_limit(self, *, rpm: int | None = None, tpm: int | None = None, window_s: float = 60.0) -> None:
        """Change the rate limit, and clear its window.

        Without arguments there is no limit.
        """
        with self._lock:
            self._house = replace(self._house, window=Window(RateLimit(rpm, tpm, window_s)))

    # Recorded requests.

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests so far, in order of arrival."""
        with self._lock:
            return list(self._house.records.requests)

    def stats(self) -> dict[str, Any]:
        """Return counts of requests, by status and in flight, and of tokens.

        Also the peak of the rate limit window.
        """
        with self._lock:
            peak = self._house.window.peak
            in_window = {"peak_requests_in_window": peak[0], "peak_tokens_in_window": peak[1]}
            return {**self._house.records.stats(), **in_window, "connections": len(self._connections)}

    def reset(self) -> None:
        """Clear requests, script, standing reply, and rate limit window."""
        with self._lock:
            self._replies.clear()
            self._always = None
            self._house.records.clear()
            self._house = replace(self._house, window=Window(self._house.window.limit))

    def wait_idle(self, timeout_s: float = 2.0) -> bool:
        """Wait until no request is in flight, as after a client has left.

        Returns False on timeout.
        """
        end = time.monotonic() + timeout_s
        while self._house.records.in_flight and time.monotonic() < end:
            time.sleep(0.002)
        return not self._house.records.in_flight

    # Start and stop.

    def __enter__(self) -> Self:
        host = self._address[0]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        # Accepted connections inherit it. Without it a piece of a stream would wait 40 ms for the acknowledgement of
        # the one before (asyncio sets it only on sockets that it made itself).
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(self._listener, started),), name="fake-provider", daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, self._thread, self._listener = self._thread, None, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self._handle, self._connections, self._stop), sock=listener, backlog=_BACKLOG
        )
        started.set()
        await self._stop.wait()
        # A socket that was accepted a moment ago gets its transport now: a closed server gives none, and asyncio would
        # then drop the socket without closing it.
        self._loop.remove_reader(listener)
        await asyncio.sleep(0)
        server.close()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, request: HttpRequest, out: Connection) -> None:
        body = request.json() if request.method == "POST" else None
        if request.path in PATHS:
            await deliver(out, answer(self, request, body), Reply().delivery, Speed())
            return
        record = RecordedRequest(request.method, request.target, request.headers, body, content=request.content)
        house = self._house
        with self._lock:
            house.records.begin(record)
        try:
            await self._answer(house, request, record, out)
        finally:
            record.disconnected = out.gone
            with self._lock:
                house.records.finish(record)

    async def _answer(self, house: ServerState, request: HttpRequest, record: RecordedRequest, out: Connection) -> None:
        with self._lock:
            reply = self._replies.popleft() if self._replies else None
            always, speed = self._always, self._speed
        if reply is None:
            reply = always(record) if callable(always) else always
        reply = reply or Reply()
        if reply.delay_s or speed.latency_s:
            await sleep(reply.delay_s + speed.latency_s)
        records = house.records
        before = records.input_tokens, records.output_tokens
        response = handle_request(house, handler.find(request), request, record.body, reply, next(self._serials))
        record.status = response.status
        record.charged = records.input_tokens - before[0], records.output_tokens - before[1]
        await deliver(out, response, reply.delivery, speed)
