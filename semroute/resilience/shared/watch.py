"""Tells a Redis that is silent from a process that is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

TICKS = 8
"""Looks within one limit."""


class Watch:
    """Limits calls of one event loop by the time in which it could have heard an answer.

    A time-out by the clock takes a loop that was busy, or a process that was not scheduled, for a Redis that is away.
    Here time passes in short ticks of the loop, and a tick that came late counts no more than two. Silence is that of
    Redis, and not of one call: after ``limit_s`` without any answer while one was due it is asked over a connection of
    its own, and only when that stays silent for as long it is held to be away (:attr:`is_away`). A call that gets no
    answer while others do is given up after twice the limit.

    Nothing runs while no call is under way.

    Args:
        ask: asks Redis over a connection of its own.
        limit_s: seconds of silence until it is asked.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_away = False
        """Whether Redis was silent twice; until it answers."""
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._now = 0.0
        self._heard_at = 0.0
        self._ticked_at = 0.0
        self._since: dict[asyncio.Timeout, float] = {}  # in the order in which they began
        self._tick: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def limited(self) -> AsyncGenerator[None]:
        """Bound what is done inside.

        Raises:
            TimeoutError: no answer; :attr:`is_away` tells whether to others neither.
        """
        async with asyncio.timeout(None) as limit:
            self._since[limit] = self._now
            if self._tick is None:
                self._ticked_at = self._loop.time()
                self._wait()
            try:
                yield
            finally:
                del self._since[limit]

    def heard(self) -> None:
        """Note an answer, whatever it says."""
        self._heard_at = self._now
        self.is_away = False

    def stop(self) -> None:
        """Look no more."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._asking is not None:
            self._asking.cancel()

    def _wait(self) -> None:
        self._tick = self._loop.call_later(self.limit_s / TICKS, self._look)

    def _look(self) -> None:
        self._tick = None
        now = self._loop.time()
        self._now += min(now - self._ticked_at, 2 * self.limit_s / TICKS)
        self._ticked_at = now
        silent_s = self._now - self._heard_at
        for limit, since in list(self._since.items()):
            waited_s = self._now - since
            if waited_s < self.limit_s:
                break
            if min(waited_s, silent_s) >= 2 * self.limit_s:
                self.is_away = True
                limit.reschedule(now)
            elif waited_s >= 2 * self.limit_s:
                limit.reschedule(now)
            elif silent_s >= self.limit_s and self._asking is None:
                self._asking = self._loop.create_task(self._ask_once())
        if self._since:
            self._wait()

    async def _ask_once(self) -> None:
        try:
            async with asyncio.timeout(4 * self.limit_s):
                await self._ask()
        except Exception:
            return  # no answer is no news: the silence goes on
        else:
            self.heard()
        finally:
            self._asking = None
