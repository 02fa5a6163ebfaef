"""Calls in the wire format of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages. The body is written by
:mod:`~semroute.providers.anthropic.request`, the answer read by :mod:`~semroute.providers.anthropic.answer`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from semroute.providers.anthropic.answer import AnthropicAnswer
from semroute.providers.anthropic.request import payload
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import authorization, open_stream, post_json
from semroute.providers.transport.limits import Within
from semroute.providers.transport.streamed import read_stream, since
from semroute.types import Completion, Delta, Request

__all__ = ["complete", "stream"]

PATH = "/v1/messages"
VERSION = "2023-06-01"
"""Of the API; every later change of it has been an addition."""


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Ask for one whole answer; see :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        CapabilityError: the request asks for what the format cannot carry.
        MalformedResponseError: a success that is not a message.
        DispatchError: the other kinds, as the failure asks for.
    """
    started = time.perf_counter()
    body = payload(target, request)
    answer = AnthropicAnswer(target, request)
    answer.read(await post_json(client, target, PATH, body, headers=_headers(target), within_s=within_s))
    return answer.completion(since(started))


async def stream(
    client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Ask for an answer as it is written; see :class:`~semroute.providers.adapter.Adapter`.

    Errors are those of :func:`complete`, with the tokens that were counted until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    body = payload(target, request, stream=True)
    headers, answer = _headers(target), AnthropicAnswer(target, request)
    events = open_stream(
        client, target, PATH, body, headers=headers, within_s=within_s, progress=lambda: answer.progress
    )
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


def _headers(target: CallTarget) -> dict[str, str]:
    return {"anthropic-version": VERSION, **authorization(target)}
