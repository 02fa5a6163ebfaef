"""A provider: a server that takes ``{"model": …, "say": …}`` at ``/talk``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import httpx
from pydantic import BaseModel

from semroute.errors import MalformedResponseError
from semroute.providers import CallTarget
from semroute.providers.http import post_json
from semroute.providers.streaming import Within
from semroute.types import Completion, Delta, Request, Usage


class AcmeWire:
    """Adapter of the format ``acme-wire``, which has neither tools nor images."""

    lacks = frozenset({"tools", "vision", "json_schema", "logprobs"})

    class Options(BaseModel):
        tone: str = "plain"

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        started, deployment = time.perf_counter(), target.deployment
        body = {
            "model": deployment.upstream,
            "say": [message["content"] for message in request.messages],
            "tone": deployment.options.tone,
        }
        headers = {"x-acme-key": target.key or ""}
        got = await post_json(client, target, "/talk", body, headers=headers, within_s=within_s)
        match got:
            case {"answer": str(text), "in": int(taken), "out": int(given)}:
                elapsed_ms = (time.perf_counter() - started) * 1000
                return Completion(text, deployment.model, deployment.name, deployment.upstream, "stop",
                                  Usage(taken, given), elapsed_ms)  # fmt: skip
        message = f"{deployment.name} answered without text"
        raise MalformedResponseError(message, deployment=deployment.name, status=200)

    async def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        completion = await self.complete(client, target, request, within_s=within_s)
        yield Delta(completion.text)
        yield completion
