"""How long a call may take, on a clock that runs only while the provider is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from semroute.errors import ProviderTimeoutError
from semroute.eventloop import Countdown, bounded, stall_meter
from semroute.providers.target import Target


@dataclass(frozen=True, slots=True)
class Limit:
    """A moment of a call's clock, and what has not happened when it has come.

    Attributes:
        at: the moment, seconds on the call's clock.
        seconds: how long that was from where it was counted.
        message: what has not happened; ``{}`` stands for ``seconds``.
        is_the_requests: whether it is the request's own limit, and not the deployment's.
    """

    at: float
    seconds: float
    message: str
    is_the_requests: bool = False


class CallClock:
    """The clock of one call. It stands while the reader holds a piece, and while this process blocks its event loop.

    The deployment's limits (``timeout_s`` and ``timeouts``) are counted on it. The request's own limit is counted on
    the wall, moved by the reader's pauses alone. Made on a running event loop, where the call begins.

    Args:
        within_s: what the request has left, seconds.
        silent_s: longest wait for the first piece of an answer, seconds; None is no limit besides the others.

    Attributes:
        waited_s: seconds that the provider was waited for.
        quiet_s: those of them since the last piece of the answer.
        stalled_s: seconds of the waits in which this process did not run its event loop.
        longest_pause_s: longest time that the reader held a piece, seconds.
        has_begun: whether a first piece of the answer has come.
    """

    def __init__(self, within_s: float, silent_s: float | None = None) -> None:
        self.within_s = within_s
        self.silent_s = silent_s
        self.waited_s = 0.0
        self.quiet_s = 0.0
        self.stalled_s = 0.0
        self.longest_pause_s = 0.0
        self.has_begun = False
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + within_s

    @classmethod
    def of(cls, within: Within) -> CallClock:
        """The clock itself, or a new one that starts now."""
        return within if isinstance(within, CallClock) else cls(within)

    def begin(self) -> None:
        """Take note of a piece of the answer."""
        self.has_begun = True
        self.quiet_s = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the clock stand while the reader holds a piece."""
        held_at = self._loop.time()
        try:
            yield
        finally:
            pause_s = self._loop.time() - held_at
            self._ends_at += pause_s
            self.longest_pause_s = max(self.longest_pause_s, pause_s)

    @asynccontextmanager
    async def waiting(self, target: Target, *, streaming: bool = False) -> AsyncIterator[None]:
        """Wait for the provider, bounded by whichever limit comes first.

        Raises:
            ProviderTimeoutError: its moment came; ``is_cut_short`` where it was the request's.
        """
        wait = _Wait(self, min(self._limits(target, streaming), key=lambda limit: limit.at), self._ends_at)
        try:
            async with bounded(wait.left_s):
                yield
        except TimeoutError:
            limit = wait.limit
            name = target.deployment.name
            message = f"{name}: {limit.message.format(f'{limit.seconds:g}')}"
            error = ProviderTimeoutError(message, deployment=name)
            error.is_cut_short = limit.is_the_requests
            raise error from None
        finally:
            spent_s, stalled_s = wait.end()
            self.waited_s += spent_s
            self.quiet_s += spent_s
            self.stalled_s += stalled_s

    def _limits(self, target: Target, streaming: bool) -> Iterator[Limit]:
        deployment, timeouts = target.deployment, target.deployment.timeouts
        yield Limit(deployment.timeout_s, deployment.timeout_s, "no complete answer within {} s (timeout_s)")
        if streaming and self.has_begun:
            at = self.waited_s + timeouts.idle_s
            yield Limit(at, timeouts.idle_s, "the stream was silent for {} s (timeouts.idle_s)")
        elif streaming:
            message = "no first event within {} s (timeouts.first_token_s)"
            yield Limit(timeouts.first_token_s, timeouts.first_token_s, message)
        if self.silent_s is not None and not self.has_begun:
            message = "no sign of an answer within {} s, after which the request leaves time for another place"
            yield Limit(self.silent_s, self.silent_s, message, is_the_requests=True)


Within: TypeAlias = float | CallClock
"""Seconds that a call may take, or the clock of the call that it is a part of."""


class _Wait:
    """One wait: what is left of it, and which limit ended it."""

    def __init__(self, clock: CallClock, limit: Limit, ends_at: float) -> None:
        self.limit = limit
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._meter = stall_meter()
        self._meter.start()
        self._began = self._loop.time()
        self._stalled_before = self._meter.seconds()
        self._ends_at = ends_at
        self._grace = Countdown(0.0, self._meter)

    def left_s(self) -> float:
        spent_s, _ = self._spent()
        of_limit = self.limit.at - self._clock.waited_s - spent_s
        of_request = self._ends_at - self._loop.time()
        left = min(of_limit, of_request)
        if left > 0.0:
            return left
        # What arrived while this process stalled has still to be read.
        grace_s = self._grace.grace_s()
        if grace_s <= 0.0 and of_request <= of_limit:
            message = "no complete answer within {} s, which is what the request had left"
            self.limit = Limit(0.0, self._clock.within_s, message, is_the_requests=True)
        return grace_s

    def end(self) -> tuple[float, float]:
        """Seconds waited, and seconds stalled, of this wait."""
        found = self._spent()
        self._meter.stop()
        return found

    def _spent(self) -> tuple[float, float]:
        stalled_s = self._meter.seconds() - self._stalled_before
        return max(self._loop.time() - self._began - stalled_s, 0.0), stalled_s
