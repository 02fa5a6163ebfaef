"""What every wire format shares: a POST with JSON whose answer comes whole, or as a stream of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import Protocol

import httpx

from semroute.errors import DispatchError, MalformedResponseError
from semroute.http_client import body_pieces
from semroute.providers import streaming
from semroute.providers.answers import is_blank
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
    then cannot hold it; see :class:`~semroute.providers.streaming.CallClock`.

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
) -> AsyncGenerator[streaming.ServerSentEvent]:
    """POST as :func:`post_json` does, and yield the events of the answer until the server ends it.

    Besides the whole, ``timeouts`` of the deployment bound the waits for tokens and for bytes, as
    :class:`~semroute.providers.streaming.CallClock` says. Time in which the reader holds an event runs on none
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
        parser, pieces = streaming.Parser(), body_pieces(response, MAX_STREAM)
        while True:
            async with clock.waiting(target, streaming=True):
                piece = await next_piece(pieces, target)
            if piece is None:
                return
            try:
                for event in parser.feed(piece):
                    with tokens.given_out():
                        yield event
            except streaming.EventTooLongError:
                raise too_long(target, streaming.MAX_EVENT) from None
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


async def drain(events: AsyncGenerator[streaming.ServerSentEvent]) -> None:
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
        shown = quote_reply(decoded(response, content), target.key) or "(empty)"
        raise MalformedResponseError(message + shown, deployment=target.deployment.name, status=status)
    return answer


# Reading a stream to its end: what the formats share whose answers are put together by a reader of their own.

TRAILER_S = 1.0
"""How long the count of tokens and the end of a stream are waited for once its answer is whole, seconds: servers send
them at once or never."""


class Reader(Protocol):
    """An answer as far as it has come."""

    @property
    def has_content(self) -> bool:
        """Whether a first piece of text or of a tool call has come."""
        ...

    @property
    def progress(self) -> int:
        """Number of events so far that brought the answer on: with text, a tool call, reasoning or an end."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the server has said why the answer ended: only counts of tokens may be missing then."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the server has said that nothing more comes; False where only the stream's end says so."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        ...

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Log probabilities of the tokens from the ``start``-th on; none where the format has none."""
        ...

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event in and return the text that it brings.

        Raises:
            DispatchError: the event is an error, or cannot be read.
        """
        ...

    def completion(self, latency_ms: float, first_token_ms: float | None) -> Completion:
        """The whole answer.

        Raises:
            DispatchError: it is not whole, or no answer.
        """
        ...


async def read_stream(
    events: AsyncGenerator[ServerSentEvent], reader: Reader, started: float
) -> AsyncGenerator[Delta | Completion]:
    """Pass on what the reader makes of the events; last comes the completion.

    ``started`` is the moment of the call by :func:`time.perf_counter`. White space before the first visible character
    is held back until that comes: an answer without one is an error, and another place can still give an answer where
    nothing has left. An answer that is whole is one, whatever becomes of its connection. An error of the stream leaves
    with the tokens that were counted before it, and with the status of the answer that it broke off, 200.
    """
    first_token_ms: float | None = None
    told, held, is_visible = 0, "", False
    async with aclosing(events):
        texts = _Texts(events, reader)
        try:
            while (text := await texts.next()) is not None:
                if first_token_ms is None and reader.has_content:
                    first_token_ms = since(started)
                held += text
                is_visible = is_visible or not is_blank(held)
                if held and is_visible:
                    logprobs = reader.logprobs_since(told)
                    told += len(logprobs)
                    yield Delta(held, logprobs)
                    held = ""
            completion = reader.completion(since(started), first_token_ms)
        except DispatchError as error:
            if reader.usage is not None:
                error.usage, error.status = reader.usage, 200
            raise
        if held:  # white space beside tool calls
            yield Delta(held, reader.logprobs_since(told))
        await drain(events)
    yield completion


class _Texts:
    """The texts of a stream up to its end, which is not waited for long once the answer is whole.

    A finish reason that text comes after is none (old Gemini models sent one with every piece): from then on the stream
    is read to its own end.
    """

    def __init__(self, events: AsyncGenerator[ServerSentEvent], reader: Reader) -> None:
        self._events = events
        self._reader = reader
        self._ends_at: float | None = None
        self._is_open_ended = False

    async def next(self) -> str | None:
        """The text of the next event, often empty; None at the end.

        Raises:
            DispatchError: of the connection or of an event, unless the answer was whole before it.
        """
        if self._reader.is_done:
            return None
        was_whole = self._reader.is_whole
        try:
            event = await (self._trailing() if was_whole else anext(self._events, None))
            if event is None:
                return None
            text = self._reader.feed(event)
        except DispatchError:
            if was_whole:
                return None
            raise
        self._is_open_ended = self._is_open_ended or (was_whole and bool(text))
        return text

    async def _trailing(self) -> ServerSentEvent | None:
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + TRAILER_S
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if self._is_open_ended else self._ends_at):
                return await anext(self._events, None)
        return None


def since(started: float) -> float:
    """Milliseconds since ``started``."""
    return (time.perf_counter() - started) * 1000
