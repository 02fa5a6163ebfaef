"""Streamed answers: server-sent events with pings, ended on leaving."""

from __future__ import annotations

import asyncio
from collections import deque
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

    A piece costs no task and no timer: the one that ends a silence is set again when it is due, and not for each piece.

    Args:
        source: the router's stream.
        record: record of the request, which takes what comes; None keeps none.
    """

    def __init__(self, source: AsyncGenerator[Delta | Completion], record: ServedRecord | None = None) -> None:
        self._source, self._record = source, record
        self._loop = asyncio.get_running_loop()
        self._events: deque[Delta | Completion | Exception] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silent_at = 0.0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    if self._record is not None:
                        self._record.take(event)
                    self._add(event)
                    if len(self._events) >= QUEUED:
                        self._room = self._loop.create_future()
                        await self._room
        except Exception as error:
            if self._record is not None:
                self._record.fail(error)
            self._add(error)

    def _add(self, event: Delta | Completion | Exception) -> None:
        self._events.append(event)
        _wake(self._arrival)

    @property
    def is_ready(self) -> bool:
        """True if the next event is there already."""
        return bool(self._events)

    async def next(self, within_s: float) -> Delta | Completion | None:
        """Return the next event; None without one in ``within_s`` seconds.

        Raises:
            Exception: the answer failed.
        """
        if not self._events:
            self._arrival = self._loop.create_future()
            self._watch(within_s)
            try:
                await self._arrival
            finally:
                self._arrival = None
            if not self._events:
                return None
        event = self._events.popleft()
        if len(self._events) < QUEUED:
            _wake(self._room)
        if isinstance(event, Exception):
            raise event
        return event

    def _watch(self, within_s: float) -> None:
        """See to it that the reader is woken when it has waited for so long."""
        self._silent_at = self._loop.time() + within_s
        if self._timer is not None and self._timer.when() > self._silent_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._silent_at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._arrival is None:
            return  # the next wait sets it again
        if self._loop.time() < self._silent_at:
            self._timer = self._loop.call_at(self._silent_at, self._look)
        else:
            _wake(self._arrival)

    async def stop(self) -> None:
        """Cancel the call, and wait until its cost is booked."""
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        await asyncio.wait({self._task})


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


async def encoded(
    events: AnswerEvents,
    first: Delta | Completion | None,
    stream: AnswerStream,
    format: ServerFormat,
    ping_s: float = PING_S,
) -> AsyncGenerator[bytes]:
    """Yield server-sent events; those that are ready go out together.

    Args:
        events: the answer.
        first: its first event; None if the first interval was silent.
        stream: encoder of the answer.
        format: shapes an error that comes after the start.
        ping_s: silence after which a sign of life is sent, seconds.
    """
    event, chunks = first, list[bytes]()
    if not (isinstance(event, Delta) and event.native):  # a vendor of the client's own format begins in its own way
        chunks += stream.start()
    try:
        while True:
            if event is None:
                chunks.append(stream.ping())
            elif isinstance(event, Completion):
                chunks += stream.end(event)
            else:
                chunks += stream.delta(event)
            is_end = isinstance(event, Completion)
            if chunks and (is_end or not events.is_ready):
                yield b"".join(chunks)
                chunks.clear()
            if is_end:
                return
            event = await events.next(ping_s)
    except SemrouteError as error:
        yield b"".join([*chunks, *stream.fail(served_error(format, error))])
