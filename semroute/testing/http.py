"""HTTP server side of the fake provider: parsing, sending, faults.

A connection takes requests in order, each answered by a handler that is cancelled when the client leaves.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from asyncio import sleep
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import cycle, repeat
from typing import Any, Protocol, TypeAlias, cast
from urllib.parse import parse_qs, unquote

import h11

from semroute.testing.replies import Delivery, StreamEvent, Then

# HTTP/1.1: requests are parsed by h11. Answers are framed here, because faults cut, stall and corrupt them.

_LONGEST_HEAD = 64 * 1024
_LONGEST_BODY = 64 * 1024 * 1024
LAST_CHUNK = b"0\r\n\r\n"


class BadRequestError(Exception):
    """Bytes that are not an HTTP/1.1 request; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Parsed HTTP request.

    ``target`` is path and query as sent; header names are in lower case.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes
    keep_alive: bool

    @property
    def path(self) -> str:
        """Decoded path without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the query; of a repeated one, the last value."""
        return {name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()}

    def json(self) -> Any:
        """Return the parsed JSON body; None where it is not JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


class RequestParser:
    """Incremental parser of requests from bytes, split anywhere.

    Each request has an ``h11`` connection of its own, which takes over the bytes that the one before left: one for all
    of them would have to see each answer, and faults send bytes that ``h11`` refuses.
    """

    def __init__(self) -> None:
        self._parser = _new_parser()
        self._head: h11.Request | None = None
        self._headers: dict[str, str] = {}
        self._content = bytearray()
        self._expects = False

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Add bytes and return the requests that are complete.

        Raises:
            BadRequestError: they are not an HTTP/1.1 request.
        """
        if not data:  # to h11, the end of the stream
            return []
        complete = []
        try:
            self._parser.receive_data(data)
            while (request := self._next()) is not None:
                complete.append(request)
        except h11.RemoteProtocolError as error:
            raise BadRequestError(str(error)) from None
        return complete

    def expects_continue(self) -> bool:
        """Return True if the client waits for ``100 Continue``.

        It does so before it sends the body; True once per request.
        """
        expects, self._expects = self._expects, False
        return expects

    def _next(self) -> HttpRequest | None:
        while True:
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._content += event.data
                if len(self._content) > _LONGEST_BODY:
                    raise BadRequestError("the body is too large")
            elif isinstance(event, h11.EndOfMessage):
                return self._end()
            else:  # h11.NEED_DATA
                return None

    def _begin(self, request: h11.Request) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers.raw_items()
        }
        if not request.target.startswith(b"/") or not request.http_version.startswith(b"1."):
            raise BadRequestError("the first line is not that of an HTTP/1.1 request")
        if int(headers.get("content-length", 0)) > _LONGEST_BODY:
            raise BadRequestError("content-length is too large")
        self._head, self._headers = request, headers
        self._expects = self._parser.they_are_waiting_for_100_continue

    def _end(self) -> HttpRequest:
        assert self._head is not None
        head, headers, content = self._head, self._headers, bytes(self._content)
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" if head.http_version != b"1.0" else connection == "keep-alive"
        rest, _ = self._parser.trailing_data
        self._parser, self._head, self._expects = _new_parser(), None, False
        self._content.clear()
        if rest:
            self._parser.receive_data(rest)
        return HttpRequest(head.method.decode("ascii"), head.target.decode("latin-1"), headers, content, keep_alive)


def _new_parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and headers of an answer."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # such as 529
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body.

    ``data`` must not be empty, as an empty chunk ends the body.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


Handler: TypeAlias = "Callable[[HttpRequest, Connection], Awaitable[None]]"


class Connection(asyncio.Protocol):
    """Server side of a connection.

    A protocol rather than a pair of streams, because it is notified at once when the client leaves.

    Args:
        handle: answers a request.
        everyone: the server's open connections, kept up to date.
        ending: set when the server ends; a connection made after that is closed at once.

    Attributes:
        gone: true if the client left.
    """

    def __init__(self, handle: Handler, everyone: set[Connection], ending: asyncio.Event) -> None:
        self.gone = False
        self._handle = handle
        self._everyone = everyone
        self._ending = ending
        self._parser = RequestParser()
        self._waiting: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)
        if self._ending.is_set():  # accepted before the server closed its known connections
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._everyone.discard(self)
        self._writable.set()
        self.cancel()

    def eof_received(self) -> bool:
        """Treat a client that sends no more as gone.

        Nobody half-closes a connection that it waits on.
        """
        return False

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._parser.feed(data))
        except BadRequestError as error:
            self._give_up(400, str(error))
            return
        if self._parser.expects_continue():
            self.write(head(100, {}))
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by a handler and the server.

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them until they can be sent."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait while too many bytes are buffered."""
        if not self._writable.is_set():
            await self._writable.wait()

    def reset(self) -> None:
        """Reset the connection (RST): close() with a linger time of 0."""
        owner = self._transport.get_extra_info("socket")
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now, and cancel its answer."""
        self.cancel()
        self._transport.abort()

    def cancel(self) -> None:
        """Cancel the answer in progress."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """Task of the answer in progress."""
        return self._task

    async def _serve(self) -> None:
        try:
            while self._waiting and not self._transport.is_closing():
                request = self._waiting.popleft()
                await self._handle(request, self)
                if not request.keep_alive:
                    self.close()
        except Exception as error:  # a bug here or in a user's reply function; the client must not wait for ever
            said = f"{type(error).__name__}: {error}"
            asyncio.get_running_loop().call_exception_handler({"message": said, "exception": error})
            self._give_up(500, said)
        finally:
            self._task = None

    def _give_up(self, status: int, message: str) -> None:
        content = message.encode("utf-8", "replace")
        headers = {"content-type": "text/plain", "content-length": str(len(content)), "connection": "close"}
        self.write(head(status, headers) + content)
        self.close()


# Delivery of an answer: at the speed of a model, in parts, or with a scripted fault.

_FOR_EVER_S = 86_400.0
_BEFORE_RESET_S = 0.02  # a reset may overtake bytes that the client has not read yet
_DRIPS = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Simulated speed of the model, seconds.

    Times to the headers, from there to the first token, and between tokens.

    An answer that is not streamed is sent after all of them.
    """

    latency_s: float = 0.0
    first_token_s: float = 0.0
    token_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Response:
    """Response in its wire format: a body, or the events of a stream.

    Attributes:
        status: HTTP status.
        headers: of the answer, without its framing.
        body: bytes; unused where there are events.
        events: of a stream.
        tokens: length of a body's text, for its delay.
        error_event: the event that an ``error`` fault sends.
        malformed_event: the event that a ``malformed`` fault sends.
        keepalive: bytes of a keep-alive message.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    events: tuple[StreamEvent, ...] | None = None
    tokens: int = 0
    error_event: bytes = b""
    malformed_event: bytes = b""
    keepalive: bytes = b": keep-alive\n\n"


class Out(Protocol):
    """Output of a connection."""

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them until they can be sent."""

    async def drain(self) -> None:
        """Wait while too many bytes are buffered."""

    def reset(self) -> None:
        """Reset the connection (RST)."""

    def close(self) -> None:
        """Close the connection in order."""


async def deliver(out: Out, response: Response, delivery: Delivery, speed: Speed) -> None:
    """Send one response; a fault that ends the connection closes ``out``."""
    if response.events is None:
        await _deliver_body(out, response, delivery, speed)
    else:
        await _deliver_events(out, response, response.events, delivery, speed)


async def _deliver_body(out: Out, response: Response, delivery: Delivery, speed: Speed) -> None:
    thinking = speed.first_token_s + speed.token_s * max(0, response.tokens - 1) if response.tokens else 0.0
    if thinking:
        await sleep(thinking)
    start = head(response.status, {**response.headers, "content-length": str(len(response.body))})
    if delivery.then in ("stall", "reset", "close"):
        out.write(start + response.body[: len(response.body) // 2])
        await _end(out, delivery.then)
    elif delivery.sizes or delivery.interval_s:
        out.write(start)
        sizes = delivery.sizes or (len(response.body) // _DRIPS + 1,)
        await _send_slowly(out, _sliced(response.body, sizes), delivery.interval_s)
    else:
        out.write(start + response.body)
        await out.drain()


async def _deliver_events(
    out: Out, response: Response, events: tuple[StreamEvent, ...], delivery: Delivery, speed: Speed
) -> None:
    sent, ending = _planned(response, events, delivery)
    out.write(head(response.status, {**response.headers, "transfer-encoding": "chunked"}))
    if delivery.sizes:
        content = b"".join(event.data for event in sent)
        await _send_slowly(out, map(chunk, _sliced(content, delivery.sizes)), delivery.interval_s)
    elif delivery.interval_s:
        await _send_slowly(out, (chunk(event.data) for event in sent), delivery.interval_s)
    else:
        await _send_paced(out, sent, speed)
    if ending == "stall" and delivery.keepalive_s:
        await _send_slowly(out, repeat(chunk(response.keepalive)), delivery.keepalive_s)
    elif ending in ("stall", "reset"):
        await _end(out, ending)
    else:
        out.write(LAST_CHUNK)
        await out.drain()


def _planned(
    response: Response, events: tuple[StreamEvent, ...], delivery: Delivery
) -> tuple[Sequence[StreamEvent], Then | None]:
    """Return the events to send, and how the connection ends."""
    then = delivery.then
    if then is None:
        return events, None
    if then == "unmarked":
        return [event for event in events if event.kind != "end"], None
    place = _after_finish(events) if delivery.at_end else _place(events, delivery.after)
    if then == "error":
        return [*events[:place], StreamEvent(response.error_event, "frame")], None
    if then == "malformed":
        return [*events[:place], StreamEvent(response.malformed_event, "frame"), *events[place:]], None
    return events[:place], then


def _place(events: Sequence[StreamEvent], after: int | None) -> int:
    """Return the position of a fault among the events.

    It comes before the piece that follows ``after`` pieces, and before the finish at the latest.
    """
    sent = 0
    for place, event in enumerate(events):
        if event.kind in ("finish", "end") or (event.kind == "piece" and sent == after):
            return place
        sent += event.kind == "piece"
    return len(events)


def _after_finish(events: Sequence[StreamEvent]) -> int:
    """Return the position of a fault that follows the finish reason."""
    return 1 + next(place for place, event in enumerate(events) if event.kind == "finish")


async def _send_paced(out: Out, events: Iterable[StreamEvent], speed: Speed) -> None:
    """Send each event as a chunk of its own, at the given speed.

    Events without a wait between them go out in one write.
    """
    ready: list[bytes] = []
    wait = speed.first_token_s
    for event in events:
        if event.kind == "piece":
            if wait:
                out.write(b"".join(ready))
                ready.clear()
                await out.drain()
                await sleep(wait)
            wait = speed.token_s
        ready.append(chunk(event.data))
    out.write(b"".join(ready))
    await out.drain()


async def _send_slowly(out: Out, parts: Iterable[bytes], interval_s: float) -> None:
    for part in parts:
        out.write(part)
        await out.drain()
        await sleep(interval_s)


def _sliced(content: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for size in cycle(sizes):
        if start >= len(content):
            return
        yield content[start : start + size]
        start += size


async def _end(out: Out, then: Then) -> None:
    await out.drain()
    if then == "stall":
        await sleep(_FOR_EVER_S)
    if then == "reset":
        await sleep(_BEFORE_RESET_S)
        out.reset()
    else:
        out.close()
