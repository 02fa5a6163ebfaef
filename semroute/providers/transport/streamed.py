"""Reading a stream to its end: what the formats share whose answers are put together by a reader of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

from semroute.errors import DispatchError
from semroute.providers.conversation.answers import is_blank
from semroute.providers.transport.http import drain
from semroute.providers.transport.sse import ServerSentEvent
from semroute.types import Completion, Delta, TokenLogprob, Usage

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
