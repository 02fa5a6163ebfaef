"""Calls in Google Gemini's wire format: AI Studio with a key, Vertex with a bearer token, as the vendor's row says.

Source: https://ai.google.dev/api/generate-content. The body is written by :mod:`~semroute.providers.gemini.request`,
the answer read by :mod:`~semroute.providers.gemini.answer`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

import httpx

from semroute.providers.conversation.answers import combined
from semroute.providers.gemini.answer import GeminiAnswer
from semroute.providers.gemini.request import payload
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import authorization, failure_in_200, has_error, open_stream, post_json
from semroute.providers.transport.limits import Within
from semroute.providers.transport.streamed import read_stream, since
from semroute.types import Completion, Delta, Request

__all__ = ["complete", "stream"]


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Ask for one whole answer; see :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        CapabilityError: the request asks for what the format cannot carry.
        ContentFilterError: the prompt was blocked, or the filter left nothing of the answer.
        MalformedResponseError: a success that is not an answer.
        DispatchError: the other kinds, as the failure asks for.
    """
    started = time.perf_counter()
    path, body = _path(target, "generateContent"), payload(target, request)
    found = await post_json(client, target, path, body, headers=authorization(target), within_s=within_s)
    if has_error(found):
        raise failure_in_200(found, {}, target)
    given = found.get("candidates")
    listed = given if isinstance(given, list) else []
    # A zero is left out on the wire.
    indices = {one.get("index", 0) for one in listed if isinstance(one, dict)} & set(range(request.n or 1))

    def read(index: int) -> Completion:
        answer = GeminiAnswer(target, request, index=index)
        answer.add(found)
        return answer.completion(since(started))

    return combined(partial(read, index) for index in sorted(indices) or [0])


async def stream(
    client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Ask for an answer as it is written; see :class:`~semroute.providers.adapter.Adapter`.

    Errors are those of :func:`complete`, with the tokens that were counted until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    path, body = _path(target, "streamGenerateContent"), payload(target, request, stream=True)
    headers, query = authorization(target), {"alt": "sse"}  # without it the answer is one JSON array
    answer = GeminiAnswer(target, request, is_streamed=True)
    events = open_stream(
        client, target, path, body, headers=headers, within_s=within_s, query=query, progress=lambda: answer.progress
    )
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


def _path(target: CallTarget, method: str) -> str:
    """Google's own lists of models call them ``models/…``; the rest of a name is one segment of the path."""
    model = target.deployment.upstream.removeprefix("models/")
    return f"/models/{quote(model, safe='')}:{method}"
