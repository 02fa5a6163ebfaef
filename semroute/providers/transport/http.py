"""What every wire format shares: a POST with JSON whose answer comes whole, or as a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import httpx

from semroute.errors import DispatchError, MalformedResponseError
from semroute.http_client import body_pieces
from semroute.providers.target import CallTarget
from semroute.providers.transport import sse
from semroute.providers.transport.connection import (
    authorization,
    build,
    decoded,
    json_or_text,
    next_piece,
    read_content,
    send,
    too_long,
)
from semroute.providers.transport.failures import failure, failure_in_200
from semroute.providers.transport.limits import CallClock, Within
from semroute.providers.transport.reports import MAX_QUOTED, has_error, quote
from semroute.providers.transport.wire import encode, off_loop, read_json

__all__ = [
    "MAX_QUOTED",
    "authorization",
    "drain",
    "encode",
    "failure",
    "failure_in_200",
    "has_error",
    "open_stream",
    "post_json",
    "quote",
    "read_json",
]

MAX_STREAM = 512 * 2**20
"""Bytes of a stream: some hundred for each token."""

DRAIN_S = 0.1
"""How long the end of a finished stream is waited for, seconds."""


async def post_json(
    client: httpx.AsyncClient,
    target: CallTarget,
    path: str,
    body: Mapping[str, object],
    *,
    headers: Mapping[str, str],
    within_s: Within,
    query: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """POST ``body`` to ``path`` under the deployment's address and return the JSON object that it answers.

    ``within_s`` and the deployment's ``timeout_s`` bound the whole exchange, so that a server that sends a byte now and
    then cannot hold it; see :class:`~semroute.providers.transport.limits.CallClock`.

    Raises:
        DispatchError: the subclass that the failure asks for; the message never holds the key.
    """
    clock = CallClock.of(within_s)
    request = build(client, target, path, body, headers, query, clock)
    async with clock.waiting(target):
        response = await send(client, request, target)
        content = await read_content(response, target)
    answer = await off_loop(lambda: json_or_text(response, content), len(content))
    return _object(response, content, answer, target)


async def open_stream(
    client: httpx.AsyncClient,
    target: CallTarget,
    path: str,
    body: Mapping[str, object],
    *,
    headers: Mapping[str, str],
    within_s: Within,
    query: Mapping[str, str] | None = None,
    progress: Callable[[], int] | None = None,
) -> AsyncGenerator[sse.ServerSentEvent]:
    """POST as :func:`post_json` does, and yield the events of the answer until the server ends it.

    Besides the whole, ``timeouts`` of the deployment bound the waits for tokens and for bytes, as
    :class:`~semroute.providers.transport.limits.CallClock` says. Time in which the reader holds an event runs on none
    of them. ``progress`` is the number of tokens, or pieces of several, that the events have brought so far; every
    event counts where it is left out. Closing the generator closes the connection.

    Raises:
        DispatchError: as :func:`post_json`; a connection that is cut after the answer began is a
            :class:`BrokenStreamError`. An end that comes too early is for the caller to see.
    """
    clock = CallClock.of(within_s)
    tokens = _Tokens(clock, progress)
    # A compressed stream would come in lumps.
    request = build(client, target, path, body, {"accept-encoding": "identity", **headers}, query, clock)
    async with clock.waiting(target, streaming=True):
        response = await send(client, request, target)
    try:
        if not _is_stream(response):
            async with clock.waiting(target, streaming=True):
                content = await read_content(response, target)
            raise _not_a_stream(response, content, target)
        parser, pieces = sse.Parser(), body_pieces(response, MAX_STREAM)
        while True:
            async with clock.waiting(target, streaming=True):
                piece = await next_piece(pieces, target)
            if piece is None:
                return
            try:
                for event in parser.feed(piece):
                    with tokens.given_out():
                        yield event
            except sse.EventTooLongError:
                raise too_long(target, sse.MAX_EVENT) from None
    finally:
        await response.aclose()


class _Tokens:
    """Counts tokens as the reader of the events finds them, and tells the clock: a comment, a ping or the frame of an
    empty text is no sign of an answer."""

    def __init__(self, clock: CallClock, progress: Callable[[], int] | None) -> None:
        self._clock = clock
        self._events = self._seen = 0
        self._progress = progress or (lambda: self._events)

    @contextmanager
    def given_out(self) -> Iterator[None]:
        """Let the clock stand while the reader holds an event, and look what it made of it, also when it leaves."""
        self._events += 1
        try:
            with self._clock.paused():
                yield
        finally:
            if (now := self._progress()) > self._seen:
                self._seen = now
                self._clock.begin()


async def drain(events: AsyncGenerator[sse.ServerSentEvent]) -> None:
    """Read a stream whose answer is complete to its very end, so that its connection can be used again.

    A server that does not end it at once loses the connection instead.
    """
    with suppress(TimeoutError, DispatchError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in events:
                pass


def _is_stream(response: httpx.Response) -> bool:
    """Whatever does not call itself JSON is read as events: not every server names the type."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() != "application/json"


def _not_a_stream(response: httpx.Response, content: bytes, target: CallTarget) -> DispatchError:
    answer = json_or_text(response, content)
    if has_error(answer):
        return failure_in_200(answer, response.headers, target)
    message = f"{target.deployment.name} answered a request for a stream with one JSON text; it cannot stream"
    return MalformedResponseError(message, deployment=target.deployment.name, status=response.status_code)


def _object(response: httpx.Response, content: bytes, answer: object, target: CallTarget) -> dict[str, object]:
    if not isinstance(answer, dict):
        status = response.status_code
        message = f"{target.deployment.name} answered {status} with something that is not a JSON object: "
        shown = quote(decoded(response, content), target.key) or "(empty)"
        raise MalformedResponseError(message + shown, deployment=target.deployment.name, status=status)
    return answer
