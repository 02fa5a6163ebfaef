"""What every wire format offers to dispatch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import httpx

from semroute.providers.streaming import Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request


class Adapter(Protocol):
    """Calls in one wire format.

    Both calls raise a :class:`~semroute.errors.DispatchError` of the kind that the failure asks for, with the
    provider's hint in ``wait_s``. ``within_s`` is what the request has left, seconds, or the call's clock; the whole
    call is bounded by the deployment's ``timeout_s`` too, connection, first token and idle time by its ``timeouts``.
    """

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        """The whole answer at once; ``cost`` and ``attempts`` are left to the caller."""
        ...

    def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer as it arrives: any number of :class:`~semroute.types.Delta`, then one completion, the last.

        An answer that only calls tools has no delta. Closing the generator closes the connection.
        """
        ...
