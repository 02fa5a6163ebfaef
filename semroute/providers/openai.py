"""Chat completions in OpenAI's wire format, which most servers speak (vLLM, Ollama, llama.cpp, gateways).

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from semroute.config import Deployment
from semroute.errors import AuthenticationError, MalformedResponseError
from semroute.providers.http import error_text, failure, post_json, quote
from semroute.types import Completion, Request, Usage

_NEW_LIMIT_HOSTS = frozenset({"api.openai.com"})


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: Any = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


async def complete(
    client: httpx.AsyncClient, deployment: Deployment, request: Request, *, key: str | None
) -> Completion:
    """Ask for one whole answer.

    Args:
        client: the HTTP client.
        deployment: where to ask.
        request: what to ask.
        key: sent as a bearer token; None sends none.

    Raises:
        AuthenticationError: 401, 403, or a key that no header can carry.
        RequestError: the request itself was refused (400, 404, 413, 422 and the like).
        RateLimitError: 429.
        UnavailableError: 5xx, or no connection.
        ProviderTimeoutError: no complete answer within the deployment's ``timeout_s``.
        MalformedResponseError: a success that is not a completion.
    """
    started = time.perf_counter()
    answer = await post_json(
        client,
        deployment,
        "/chat/completions",
        payload(deployment, request),
        headers=_authorization(deployment, key),
        key=key,
    )
    latency_ms = (time.perf_counter() - started) * 1000
    return _completion(answer, deployment, key, latency_ms)


def payload(deployment: Deployment, request: Request) -> dict[str, object]:
    """The body of the request; what the request leaves open is left to the provider."""
    body: dict[str, object] = {
        "model": deployment.upstream,
        "messages": [dict(message) for message in request.messages],
    }
    if request.max_tokens is not None:
        # OpenAI's reasoning models refuse max_tokens; most other servers know no other name.
        is_new = urlsplit(deployment.base_url).hostname in _NEW_LIMIT_HOSTS
        body["max_completion_tokens" if is_new else "max_tokens"] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _authorization(deployment: Deployment, key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        message = (
            f"{deployment.name}: the key in {deployment.api_key_env or 'use'} holds a character that no key has "
            "(a space, a line break, a letter outside ASCII); set it again"
        )
        raise AuthenticationError(message, deployment=deployment.name)
    return {"authorization": f"Bearer {key}"}


def _completion(answer: dict[str, object], deployment: Deployment, key: str | None, latency_ms: float) -> Completion:
    error = error_text(answer, key)
    if error is not None:
        status = _status_in(answer)
        if status is not None:
            raise failure(status, error, deployment)
        raise _malformed(f"answered 200 with an error: {error}", deployment)
    try:
        parsed = _Answer.model_validate(answer)
    except ValidationError as invalid:
        where = ".".join(str(part) for part in invalid.errors()[0]["loc"])
        raise _malformed(f"answered 200 with something that is not a completion: {where}", deployment) from None
    choice = parsed.choices[0]
    if choice.message.content is None:
        why = (
            "a refusal"
            if choice.message.refusal
            else f"finish_reason {quote(choice.finish_reason or 'not given', key)}"
        )
        raise _malformed(f"answered without text ({why})", deployment)
    return Completion(
        text=choice.message.content,
        model=deployment.model,
        deployment=deployment.name,
        upstream_model=parsed.model or deployment.upstream,
        finish_reason=choice.finish_reason,
        usage=_usage(parsed.usage),
        latency_ms=latency_ms,
    )


def _status_in(answer: dict[str, object]) -> int | None:
    """The HTTP status that gateways write into an error inside a 200 (https://openrouter.ai/docs/api-reference/errors)."""
    error = answer["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _usage(value: object) -> Usage | None:
    """The counted tokens; an answer is not lost because its count is missing or wrong."""
    try:
        counted = _Usage.model_validate(value)
    except ValidationError:
        return None
    return Usage(counted.prompt_tokens, counted.completion_tokens)


def _malformed(message: str, deployment: Deployment) -> MalformedResponseError:
    return MalformedResponseError(f"{deployment.name} {message}", deployment=deployment.name, status=200)
