"""Interface of the provider adapters."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import httpx

from semroute.providers.streaming import Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request


class Adapter(Protocol):
    """Adapter of one wire format.

    Both calls raise a :class:`~semroute.errors.DispatchError` subclass by the kind of failure, with the provider's
    retry hint in ``wait_s``. ``within_s`` is the request's remaining time, seconds, or the call's clock; the
    deployment's ``timeout_s`` bounds the whole call too, its ``timeouts`` bound connection, first token and idle time.
    """

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        """Return the whole answer; the caller fills in ``cost`` and ``attempts``."""
        ...

    def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer: deltas, then one completion.

        The deltas carry text, fragments of tool calls, and reasoning, which may come without an answer after it.
        Closing the generator closes the connection.
        """
        ...
