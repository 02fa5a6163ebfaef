"""Chat completions in OpenAI's wire format, which most servers speak (Azure, vLLM, Ollama, llama.cpp, gateways).

Source: https://platform.openai.com/docs/api-reference/chat; Azure: https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx

from semroute.errors import BrokenStreamError, DispatchError, ProviderTimeoutError, RequestError
from semroute.providers.openai.answer import read_answer, read_chunk, read_stream_end
from semroute.providers.openai.payload import payload
from semroute.providers.openai.stream import Assembly
from semroute.providers.target import Target
from semroute.providers.transport.http import authorization, drain, open_stream, post_json
from semroute.providers.transport.limits import CallClock, Within
from semroute.providers.transport.sse import Event
from semroute.types import Completion, Delta, Request

__all__ = ["complete", "stream"]

PATH = "/chat/completions"


async def complete(client: httpx.AsyncClient, target: Target, request: Request, *, within_s: Within) -> Completion:
    """Ask for one whole answer; see :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        MalformedResponseError: a success that is not a completion.
        DispatchError: the other kinds, as the failure asks for.
    """
    started = time.perf_counter()
    answer = await post_json(
        client,
        target,
        PATH,
        payload(target, request),
        headers=authorization(target),
        within_s=within_s,
        query=_query(target),
    )
    return read_answer(answer, target, _since(started))


async def stream(
    client: httpx.AsyncClient, target: Target, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Ask for an answer as it is written; see :class:`~semroute.providers.adapter.Adapter`.

    Errors are those of :func:`complete`, with the tokens that were counted until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    first_token_ms: float | None = None
    told = 0
    assembly = Assembly()
    async with aclosing(_open(client, target, request, within_s=within_s)) as events:
        try:
            while (event := await _next(events, assembly, target)) is not None:
                text = assembly.add(read_chunk(event, target))
                if first_token_ms is None and assembly.has_content:
                    first_token_ms = _since(started)
                if text:
                    logprobs = assembly.logprobs_since(told)
                    told += len(logprobs)
                    yield Delta(text, logprobs)
            completion = read_stream_end(assembly, target, _since(started), first_token_ms)
        except DispatchError as error:
            error.usage = error.usage or assembly.usage
            raise
        await drain(events)
    yield completion


async def _open(
    client: httpx.AsyncClient, target: Target, request: Request, *, within_s: Within
) -> AsyncGenerator[Event]:
    """The events of the answer. A server that refuses ``stream_options`` is asked again without."""
    body, headers, query = payload(target, request, stream=True), authorization(target), _query(target)
    clock = CallClock.of(within_s)  # one for both
    while True:
        events = open_stream(client, target, PATH, body, headers=headers, within_s=clock, query=query)
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
            return
        except RequestError as error:
            if "stream_options" not in body or "stream_options" not in str(error):
                raise
            del body["stream_options"]


async def _next(events: AsyncGenerator[Event], assembly: Assembly, target: Target) -> Event | None:
    """The next event that is not empty; None at the answer's end.

    Once a finish reason has come, the answer is whole: what is missing then (the count of tokens, ``[DONE]``) is not
    worth an error.
    """
    is_whole = assembly.finish_reason is not None
    try:
        while (event := await anext(events, None)) is not None:
            if event.data.strip() == "[DONE]":
                return None
            if event.data.strip():
                return event
    except (BrokenStreamError, ProviderTimeoutError):
        if not is_whole:
            raise
    if not is_whole:
        raise _broken_off(target)
    return None


def _query(target: Target) -> Mapping[str, str] | None:
    version = target.deployment.api_version
    return None if version is None else {"api-version": version}


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _broken_off(target: Target) -> BrokenStreamError:
    name = target.deployment.name
    message = f"{name}: the stream ended before the answer (no finish_reason, no [DONE])"
    return BrokenStreamError(message, deployment=name, status=200)
