"""Chat completions in OpenAI's wire format, which most servers speak (Azure, vLLM, Ollama, llama.cpp, gateways).

Source: https://platform.openai.com/docs/api-reference/chat; Azure: https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx

from semroute.errors import RequestError
from semroute.providers.openai.answer import StreamedAnswer, read_answer
from semroute.providers.openai.payload import payload
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import authorization, open_stream, post_json
from semroute.providers.transport.limits import CallClock, Within
from semroute.providers.transport.sse import ServerSentEvent
from semroute.providers.transport.streamed import read_stream, since
from semroute.types import Completion, Delta, Request

__all__ = ["complete", "stream"]

PATH = "/chat/completions"


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Ask for one whole answer; see :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        MalformedResponseError: a success that is not a completion.
        DispatchError: the other kinds, as the failure asks for.
    """
    started = time.perf_counter()
    body, headers, query = payload(target, request), authorization(target), _query(target)
    clock = CallClock.of(within_s)  # one for both
    while True:
        try:
            answer = await post_json(client, target, PATH, body, headers=headers, within_s=clock, query=query)
            return read_answer(answer, target, request, since(started))
        except RequestError as error:
            if not _leave_out(body, request, error):
                raise


async def stream(
    client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Ask for an answer as it is written; see :class:`~semroute.providers.adapter.Adapter`.

    Errors are those of :func:`complete`, with the tokens that were counted until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    answer = StreamedAnswer(target, request)
    events = _open(client, target, request, answer, within_s=within_s)
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


async def _open(
    client: httpx.AsyncClient, target: CallTarget, request: Request, answer: StreamedAnswer, *, within_s: Within
) -> AsyncGenerator[ServerSentEvent]:
    """The events of the answer."""
    body, headers, query = payload(target, request, stream=True), authorization(target), _query(target)
    clock = CallClock.of(within_s)  # one for both
    while True:
        events = open_stream(
            client,
            target,
            PATH,
            body,
            headers=headers,
            within_s=clock,
            query=query,
            progress=lambda: answer.progress,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
            return
        except RequestError as error:
            if not _leave_out(body, request, error):
                raise


def _leave_out(body: dict[str, object], request: Request, error: RequestError) -> bool:
    """Remove from a body what its server has refused, if it may be left out; False if there is nothing.

    Models of one vendor differ: some take no ``temperature`` but 1, and old servers know no ``stream_options``.
    """
    refused = [name for name in ("stream_options", *request.droppable) if name in body and name in str(error)]
    for name in refused:
        del body[name]
    return bool(refused)


def _query(target: CallTarget) -> Mapping[str, str] | None:
    version = target.deployment.api_version
    return None if version is None else {"api-version": version}
