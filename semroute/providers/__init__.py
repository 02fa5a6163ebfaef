"""Calls over HTTP, one module for each wire format.

A vendor that speaks a known format is a deployment in ``semroute.yaml``; only another wire format earns a module here
and a row in :data:`COMPLETE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httpx

from semroute.config import Deployment
from semroute.providers import openai
from semroute.types import Completion, Request


class Complete(Protocol):
    """A call in one wire format: the whole answer, or a :class:`~semroute.errors.DispatchError`."""

    async def __call__(
        self, client: httpx.AsyncClient, deployment: Deployment, request: Request, *, key: str | None
    ) -> Completion: ...


COMPLETE: Mapping[str, Complete] = {"openai": openai.complete}
"""The call for each value of a deployment's ``format``."""
