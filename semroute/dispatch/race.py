"""Hedging: a second attempt beside a first one that is slow to speak; whoever speaks first goes on alone.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013, "hedged requests".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

from semroute.types import Completion, Delta

Events: TypeAlias = AsyncGenerator[Delta | Completion]

QUEUED = 16
"""Pieces of an answer that wait for a slow reader before the connection is read no further."""


async def hedge(first: Events, delay_s: float, another: Callable[[], Awaitable[Events | None]]) -> Events:
    """The events of whichever attempt speaks first.

    Args:
        first: the attempt that starts at once.
        delay_s: how long it may stay silent.
        another: asked once after that for a second attempt; None when there is none to be had.

    Raises:
        DispatchError: the first attempt's when it fails before the second is started, else that of the last to fail.
    """
    runners = [_HedgedCall(first)]
    try:
        await asyncio.wait({runners[0].spoke}, timeout=delay_s)
        if not runners[0].spoke.done():
            second = await another()
            if second is not None:
                runners.append(_HedgedCall(second))
        winner = await _first_to_speak(runners)
        await asyncio.gather(*(runner.stop() for runner in runners if runner is not winner))
        async with aclosing(winner.events()) as events:
            async for event in events:
                yield event
    finally:
        await asyncio.gather(*(runner.stop() for runner in runners))


async def _first_to_speak(runners: list[_HedgedCall]) -> _HedgedCall:
    waiting = list(runners)
    while True:
        await asyncio.wait([runner.spoke for runner in waiting], return_when=asyncio.FIRST_COMPLETED)
        for runner in [runner for runner in waiting if runner.spoke.done()]:
            # The last one left wins even with an error: its error is then the race's.
            if runner.failure is None or len(waiting) == 1:
                return runner
            waiting.remove(runner)


class _HedgedCall:
    """An attempt that runs in a task of its own, from its first step to its last: a timeout inside it must not be
    entered in one task and left in another."""

    def __init__(self, events: Events) -> None:
        self._source = events
        self._queue: asyncio.Queue[Delta | Completion | None] = asyncio.Queue(QUEUED)
        self.failure: BaseException | None = None
        self.spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_begun = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._has_begun = True
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    self._speak()
                    await self._queue.put(event)
        except Exception as error:
            self.failure = error
        self._speak()
        await self._queue.put(None)

    def _speak(self) -> None:
        if not self.spoke.done():
            self.spoke.set_result(None)

    async def events(self) -> Events:
        while (event := await self._queue.get()) is not None:
            yield event
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        """Cancel what still runs and wait for its end, so that its record is complete."""
        while not self._has_begun:  # a task that is cancelled before its first step would never give its pass back
            await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.wait({self._task})
        self._speak()
