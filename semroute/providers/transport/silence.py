"""Limits on the wait for the next token of a stream, whatever else the server sends to keep the connection alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from semroute.providers.target import Target
from semroute.providers.transport.limits import Limit, until


class Silence:
    """The clocks of one stream: first token, next bytes, next token.

    Comments and pings put off ``idle_s``, for a model may think for long without a word; only tokens put off
    ``first_token_s`` and ``keepalive_s``. Time that the reader of the answer takes does not count.

    Args:
        target: what is called; its ``timeouts`` are the limits.
        whole: the end of the whole call.
        progress: number of tokens, or pieces of several, that have come so far.
    """

    def __init__(self, target: Target, whole: Limit, progress: Callable[[], int]) -> None:
        self._target = target
        self._timeouts = target.deployment.timeouts
        self._whole = whole
        self._progress = progress
        self._first = Limit.of(self._timeouts.first_token_s, "no first token within {} s (timeouts.first_token_s)")
        self._seen = 0
        self._waited_s = 0.0  # since the last token

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Bound a wait for bytes.

        Raises:
            ProviderTimeoutError: one of the limits was reached.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with until(self._target, self._whole, *self._limits(started)):
            yield
        self._waited_s += loop.time() - started

    def _limits(self, now: float) -> tuple[Limit, ...]:
        progress = self._progress()
        if progress > self._seen:
            self._seen, self._waited_s = progress, 0.0
        if not progress:
            return (self._first,)
        idle = Limit.of(self._timeouts.idle_s, "the stream was silent for {} s (timeouts.idle_s)")
        most_s = self._timeouts.most_silent_s
        message = "nothing but signs of life for {} s (timeouts.keepalive_s)"
        return (idle, Limit(now + max(0.0, most_s - self._waited_s), most_s, message))
