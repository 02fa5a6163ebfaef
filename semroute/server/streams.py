"""Streamed answers: server-sent events with signs of life, and an end when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from semroute.errors import SemrouteError
from semroute.server.formats import AnswerStream, ServerFormat, served_error
from semroute.server.records import ServedRecord
from semroute.types import Completion, Delta

PING_S = 15.0
"""Silence after which a sign of life is sent, seconds: proxies cut connections that are silent for longer."""
QUEUED = 32
"""Pieces of an answer that wait for a slow client before its model has to."""


class AnswerEvents:
    """Events of one answer, made in a task of its own and ended with it.

    Args:
        source: the router's stream.
        record: record of the request, which takes what comes; None keeps none.
    """

    def __init__(self, source: AsyncGenerator[Delta | Completion], record: ServedRecord | None = None) -> None:
        self._source, self._record = source, record
        self._queue: asyncio.Queue[Delta | Completion | Exception] = asyncio.Queue(QUEUED)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    if self._record is not None:
                        self._record.take(event)
                    await self._queue.put(event)
        except Exception as error:
            if self._record is not None:
                self._record.fail(error)
            await self._queue.put(error)

    async def next(self, within_s: float) -> Delta | Completion | None:
        """Return the next event; None if there is none within ``within_s`` seconds.

        Raises:
            Exception: the answer failed.
        """
        try:
            event = await asyncio.wait_for(self._queue.get(), within_s)
        except TimeoutError:
            return None
        if isinstance(event, Exception):
            raise event
        return event

    async def stop(self) -> None:
        """Cancel the call, and wait until its cost is booked."""
        self._task.cancel()
        await asyncio.wait({self._task})


async def encoded(
    events: AnswerEvents,
    first: Delta | Completion | None,
    stream: AnswerStream,
    format: ServerFormat,
    ping_s: float = PING_S,
) -> AsyncGenerator[bytes]:
    """Yield an answer's server-sent events.

    Args:
        events: the answer.
        first: its first event; None if the first interval was silent.
        stream: encoder of the answer.
        format: shapes an error that comes after the start.
        ping_s: silence after which a sign of life is sent, seconds.
    """
    event = first
    if not (isinstance(event, Delta) and event.native):  # a vendor of the client's own format begins in its own way
        for chunk in stream.start():
            yield chunk
    try:
        while True:
            if event is None:
                yield stream.ping()
            elif isinstance(event, Completion):
                for chunk in stream.end(event):
                    yield chunk
                return
            else:
                for chunk in stream.delta(event):
                    yield chunk
            event = await events.next(ping_s)
    except SemrouteError as error:
        for chunk in stream.fail(served_error(format, error)):
            yield chunk
