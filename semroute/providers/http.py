"""What every wire format shares: one POST with JSON, and what its failures are called in our error tree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx

from semroute.config import Deployment
from semroute.errors import (
    AuthenticationError,
    DispatchError,
    MalformedResponseError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
    UnavailableError,
)

MAX_QUOTED = 300
"""Characters of a provider's own message that an error repeats."""


async def post_json(
    client: httpx.AsyncClient,
    deployment: Deployment,
    path: str,
    body: Mapping[str, object],
    *,
    headers: Mapping[str, str],
    key: str | None,
) -> dict[str, object]:
    """POST ``body`` to ``path`` under the deployment's address and return the JSON object that it answers.

    ``deployment.timeout_s`` bounds the whole exchange, so that a server that sends a byte now and then cannot hold it.

    Raises:
        DispatchError: the subclass that the failure asks for; the message never holds ``key``.
    """
    url = f"{deployment.base_url.rstrip('/')}{path}"
    content = encode(body, deployment)
    try:
        async with asyncio.timeout(deployment.timeout_s):
            response = await client.post(
                url, content=content, headers={"content-type": "application/json", **headers}, timeout=None
            )
    except TimeoutError:
        message = f"{deployment.name}: no complete answer within {deployment.timeout_s:g} s (timeout_s)"
        raise ProviderTimeoutError(message, deployment=deployment.name) from None
    except httpx.RequestError as error:
        reason = quote(str(error) or type(error).__name__, key)
        message = f"{deployment.name}: {deployment.base_url} could not be reached: {reason}"
        # The cause is left out: a transport's own message may repeat a header.
        raise UnavailableError(message, deployment=deployment.name) from None
    except httpx.InvalidURL:
        message = f"{deployment.name}: {deployment.base_url} is not an address; correct base_url"
        raise RequestError(message, deployment=deployment.name) from None
    return _object(response, deployment, key)


def encode(body: Mapping[str, object], deployment: Deployment) -> bytes:
    """``body`` as UTF-8 JSON; a lone surrogate, which UTF-8 cannot write, becomes U+FFFD."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"{deployment.name}: the request cannot be written as JSON: {error}"
        raise RequestError(message, deployment=deployment.name) from error
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def failure(status: int, message: str, deployment: Deployment) -> DispatchError:
    """The error of our tree for an HTTP status that is not a success."""
    kind: type[DispatchError]
    if status in (401, 403):
        kind = AuthenticationError
        if deployment.api_key_env:
            message += f" (key: {deployment.api_key_env})"
        else:
            message += " (no key was sent: name its variable in api_key_env)"
    elif status == 408:
        kind = ProviderTimeoutError
    elif status == 429:
        kind = RateLimitError
    elif status >= 500:
        kind = UnavailableError
    else:
        kind = RequestError
    return kind(f"{deployment.name} answered {status}: {message}", deployment=deployment.name, status=status)


def quote(text: str, key: str | None) -> str:
    """A provider's words made safe to print: one line, no control characters, no key, not too long."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    words = " ".join(printable.split())
    if key:
        words = words.replace(key, "[key]")
    return words if len(words) <= MAX_QUOTED else words[: MAX_QUOTED - 1] + "…"


def error_text(answer: object, key: str | None) -> str | None:
    """The message in an answer's ``error``, in the shapes that servers use; None where it has no error."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return None
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or error.get("type") or "an error without a message"
    return quote(error if isinstance(error, str) else json.dumps(error, default=str), key)


def _object(response: httpx.Response, deployment: Deployment, key: str | None) -> dict[str, object]:
    answer = _json(response)
    if not response.is_success:
        message = error_text(answer, key) or quote(response.text, key) or "(no message)"
        raise failure(response.status_code, message + _hint(response, key), deployment)
    if not isinstance(answer, dict):
        message = f"{deployment.name} answered {response.status_code} with something that is not a JSON object: "
        shown = quote(response.text, key) or "(empty)"
        raise MalformedResponseError(message + shown, deployment=deployment.name, status=response.status_code)
    return answer


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return None


def _hint(response: httpx.Response, key: str | None) -> str:
    if response.has_redirect_location:
        return f"; it moved to {quote(response.headers['location'], key)}: correct base_url"
    if response.status_code == 404:
        return f"; check base_url ({response.url.copy_with(query=None)}) and upstream_model"
    wait = response.headers.get("retry-after")
    return f"; it asks to wait {quote(wait, key)} (Retry-After)" if wait else ""
