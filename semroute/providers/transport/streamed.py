"""Reading a stream to its end: what the formats share whose answers are put together by a reader of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from semroute.errors import DispatchError
from semroute.providers.transport.http import drain
from semroute.providers.transport.sse import Event
from semroute.types import Completion, Delta, TokenLogprob, Usage


class Reader(Protocol):
    """An answer as far as it has come."""

    @property
    def has_content(self) -> bool:
        """Whether a first piece of text or of a tool call has come."""
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

    def feed(self, event: Event) -> str:
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
    events: AsyncGenerator[Event], reader: Reader, started: float
) -> AsyncGenerator[Delta | Completion]:
    """Pass on what the reader makes of the events; last comes the completion.

    ``started`` is the moment of the call by :func:`time.perf_counter`. An error of the stream leaves with the tokens
    that were counted before it, and with the status of the answer that it broke off, 200.
    """
    first_token_ms: float | None = None
    told = 0
    async with aclosing(events):
        try:
            async for event in events:
                text = reader.feed(event)
                if first_token_ms is None and reader.has_content:
                    first_token_ms = since(started)
                if text:
                    logprobs = reader.logprobs_since(told)
                    told += len(logprobs)
                    yield Delta(text, logprobs)
                if reader.is_done:
                    break
            completion = reader.completion(since(started), first_token_ms)
        except DispatchError as error:
            if reader.usage is not None:
                error.usage, error.status = reader.usage, 200
            raise
        await drain(events)
    yield completion


def since(started: float) -> float:
    """Milliseconds since ``started``."""
    return (time.perf_counter() - started) * 1000
