"""How long a call may take, and which setting said so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from semroute.errors import ProviderTimeoutError
from semroute.providers.target import Target


@dataclass(frozen=True, slots=True)
class Limit:
    """A moment of the event loop's clock, and what has not happened when it has come.

    Attributes:
        at: the moment, seconds.
        seconds: how long that was from the start.
        message: what has not happened; ``{}`` stands for ``seconds``.
        is_the_requests: whether it is the request's own limit, and not the deployment's.
    """

    at: float
    seconds: float
    message: str
    is_the_requests: bool = False

    @classmethod
    def of(cls, seconds: float, message: str, *, is_the_requests: bool = False) -> Limit:
        """The moment ``seconds`` from now."""
        return cls(asyncio.get_running_loop().time() + seconds, seconds, message, is_the_requests)

    @classmethod
    def whole(cls, target: Target, within_s: float) -> Limit:
        """The end of the whole call: ``within_s`` from now, or the deployment's own limit where that is earlier."""
        timeout_s = target.deployment.timeout_s
        if timeout_s <= within_s:
            return cls.of(timeout_s, "no complete answer within {} s (timeout_s)")
        message = "no complete answer within {} s, which is what the request had left"
        return cls.of(within_s, message, is_the_requests=True)


@asynccontextmanager
async def until(target: Target, *limits: Limit) -> AsyncIterator[None]:
    """Bound what happens inside by the earliest limit.

    Raises:
        ProviderTimeoutError: its moment came.
    """
    limit = min(limits, key=lambda limit: limit.at)
    try:
        async with asyncio.timeout_at(limit.at):
            yield
    except TimeoutError:
        name = target.deployment.name
        message = f"{name}: {limit.message.format(f'{limit.seconds:g}')}"
        error = ProviderTimeoutError(message, deployment=name)
        error.is_cut_short = limit.is_the_requests
        raise error from None
