"""HTTP calls of the adapters: JSON POST, event streams, stream reading."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Protocol

import httpx

from semroute.errors import DispatchError, MalformedResponseError
from semroute.http_client import body_pieces
from semroute.providers import streaming
from semroute.providers.answers import SentCalls, is_blank
from semroute.providers.connection import (
    authorization,
    build,
    decoded,
    encode,
    json_or_text,
    next_piece,
    off_loop,
    read_content,
    read_json,
    send,
    too_long,
)
from semroute.providers.error_codes import MAX_QUOTED, has_error, quote_reply
from semroute.providers.failures import failure, failure_in_200
from semroute.providers.streaming import CallClock, ServerSentEvent, Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, TokenLogprob, Usage

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
    "read_json",
]

MAX_STREAM = 512 * 2**20
"""Most bytes of a stream: some hundred per token."""

DRAIN_S = 0.1
"""Longest wait for the end of a completed stream, seconds."""


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
    """POST ``body`` to a deployment's ``path`` and return the JSON object.

    ``within_s`` and the deployment's ``timeout_s`` bound the whole exchange, so that a server that trickles bytes
    cannot hold it; see :class:`~semroute.providers.streaming.CallClock`.

    Raises:
        DispatchError: the subclass is by the kind of failure; the message never contains the key.
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
) -> AsyncGenerator[streaming.ServerSentEvent]:
    """POST like :func:`post_json`, and yield the events of the response.

    The deployment's ``timeouts`` also bound the waits for tokens and for bytes, see
    :class:`~semroute.providers.streaming.CallClock`. Time in which the reader holds an event does not count.
    ``progress`` returns the number of tokens, or chunks of several, in the events so far; without it every event
    counts. Closing the generator closes the connection.

    Raises:
        DispatchError: as :func:`post_json`; a connection cut after the answer began is a
            :class:`BrokenStreamError`. The caller must detect an early end.
    """
    clock = CallClock.of(within_s)
    tokens = _Tokens(clock, progress)
    # A compressed stream would arrive in large blocks.
    request = build(client, target, path, body, {"accept-encoding": "identity", **headers}, query, clock)
    async with clock.waiting(target, streaming=True):
        response = await send(client, request, target)
    try:
        if not _is_stream(response):
            async with clock.waiting(target, streaming=True):
                content = await read_content(response, target)
            raise _not_a_stream(response, content, target)
        parser, pieces = streaming.Parser(), body_pieces(response, MAX_STREAM)
        while True:
            async with clock.waiting(target, streaming=True):
                piece = await next_piece(pieces, target)
            if piece is None:
                return
            try:
                for event in parser.feed(piece):
                    with tokens:
                        yield event
            except streaming.EventTooLongError:
                raise too_long(target, streaming.MAX_EVENT) from None
    finally:
        await response.aclose()


class _Tokens:
    """Token counter of a stream, which updates the clock at each event.

    The clock is paused while the reader holds the event; then progress counts, even if the reader leaves. A comment, a
    ping or the frame of an empty text is no sign of an answer.
    """

    def __init__(self, clock: CallClock, progress: Callable[[], int] | None) -> None:
        self._clock = clock
        self._pause = clock.paused()
        self._events = self._seen = 0
        self._progress = progress or (lambda: self._events)

    def __enter__(self) -> None:
        self._events += 1
        self._pause.__enter__()

    def __exit__(self, *error: object) -> None:
        self._pause.__exit__(*error)
        if (now := self._progress()) > self._seen:
            self._seen = now
            self._clock.begin()


async def drain(events: AsyncGenerator[streaming.ServerSentEvent]) -> None:
    """Read a completed stream to its end, to reuse its connection.

    If the server does not end it at once, the connection is closed instead.
    """
    with suppress(TimeoutError, DispatchError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in events:
                pass


def _is_stream(response: httpx.Response) -> bool:
    """Return True unless the response is JSON.

    Not every server names the type of a stream.
    """
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
        shown = quote_reply(decoded(response, content), target.key) or "(empty)"
        raise MalformedResponseError(message + shown, deployment=target.deployment.name, status=status)
    return answer


# Reading of a stream to its end, shared by the formats; each has a reader of its own.

TRAILER_S = 1.0
"""Longest wait for the token counts and the end of a stream once its answer is complete, seconds: servers send them at
once or never."""


class Reader(Protocol):
    """Reader of a streamed answer, with the answer so far."""

    @property
    def has_content(self) -> bool:
        """True once a first chunk of text or of a tool call has arrived."""
        ...

    @property
    def progress(self) -> int:
        """Number of events so far with text, a tool call, reasoning or an end."""
        ...

    @property
    def is_whole(self) -> bool:
        """True once the finish reason has arrived.

        Only token counts may be missing then.
        """
        ...

    @property
    def is_done(self) -> bool:
        """True once the server has signalled the end.

        Always False if the format has no such signal.
        """
        ...

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        ...

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Return log probabilities from the ``start``-th token on, if any."""
        ...

    def feed(self, event: ServerSentEvent) -> Delta:
        """Read an event and return its piece of the answer, often empty.

        It has no log probabilities; those are read with :meth:`logprobs_since`.

        Raises:
            DispatchError: the event is an error, or cannot be parsed.
        """
        ...

    def completion(self, latency_ms: float, first_token_ms: float | None) -> Completion:
        """Return the whole answer.

        Raises:
            DispatchError: the answer is incomplete or missing.
        """
        ...


async def read_stream(
    events: AsyncGenerator[ServerSentEvent], reader: Reader, started: float
) -> AsyncGenerator[Delta | Completion]:
    """Yield the deltas found by the reader, and last the completion.

    ``started`` is the start of the call on the clock of :func:`time.perf_counter`. White space before the first visible
    character is held back until that arrives, or a tool call: an answer without either is an error, and failover is
    possible as long as no part of an answer was yielded. Reasoning is none, and is yielded as it comes. A complete
    answer is valid whatever happens to its connection. Native events wait for the next piece of the answer, since one
    alone would end the chance of failover. An error of the stream carries the tokens counted before it, and
    the status of the response that it broke off, 200.
    """
    first_token_ms: float | None = None
    told, held, is_visible, calls, native = 0, "", False, SentCalls(), list[Mapping[str, Any]]()
    async with aclosing(events):
        pieces = _Pieces(events, reader)
        try:
            while (piece := await pieces.next()) is not None:
                if first_token_ms is None and reader.has_content:
                    first_token_ms = since(started)
                held += piece.text
                native += piece.native
                is_visible = is_visible or bool(piece.tool_calls) or not is_blank(held)
                text = held if is_visible else ""
                if text or piece.tool_calls or piece.reasoning or piece.reasoning_blocks:
                    logprobs = reader.logprobs_since(told) if text else ()
                    told += len(logprobs)
                    calls.note(piece.tool_calls)
                    is_same = not logprobs and text == piece.text and len(native) == len(piece.native)
                    own, native = tuple(native), []
                    yield piece if is_same else replace(piece, text=text, logprobs=logprobs, native=own)
                    held = held[len(text) :]
            completion = reader.completion(since(started), first_token_ms)
        except DispatchError as error:
            if reader.usage is not None:
                error.usage, error.status = reader.usage, 200
            raise
        rest = calls.rest(completion.tool_calls)
        if held or rest or native:  # white space in an answer of tool calls; the end of calls
            yield Delta(held, reader.logprobs_since(told) if held else (), rest, native=tuple(native))
        await drain(events)
    yield completion


class _Pieces:
    """Pieces of a stream up to its end.

    The wait for the end is short once the answer is complete.

    A finish reason followed by an answer is ignored (old Gemini models sent one with every chunk): from then on the
    stream is read to its own end.
    """

    def __init__(self, events: AsyncGenerator[ServerSentEvent], reader: Reader) -> None:
        self._events = events
        self._reader = reader
        self._ends_at: float | None = None
        self._is_open_ended = False

    async def next(self) -> Delta | None:
        """Return the piece of the next event, often empty; None at the end.

        Raises:
            DispatchError: error of the connection or of an event, unless the answer was complete before it.
        """
        if self._reader.is_done:
            return None
        was_whole = self._reader.is_whole
        try:
            event = await (self._trailing() if was_whole else anext(self._events, None))
            if event is None:
                return None
            piece = self._reader.feed(event)
        except DispatchError:
            if was_whole:
                return None
            raise
        self._is_open_ended = self._is_open_ended or (was_whole and piece.is_answer)
        return piece

    async def _trailing(self) -> ServerSentEvent | None:
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + TRAILER_S
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if self._is_open_ended else self._ends_at):
                return await anext(self._events, None)
        return None


def since(started: float) -> float:
    """Return the milliseconds since ``started``."""
    return (time.perf_counter() - started) * 1000
