"""Encoder by an OpenAI-compatible embeddings endpoint.

Wire format: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import httpx
import numpy as np
from pydantic import BaseModel, FailFast, ValidationError

from semroute import _sync
from semroute.config.load import said_of
from semroute.encoders import fingerprint
from semroute.errors import EncoderError
from semroute.eventloop import look_up, timeout
from semroute.http_client import ACCEPTED, BodyError, open_client, read_body
from semroute.text.normalise import clip_characters, encodable
from semroute.types import Matrix

BATCH = 256
"""Inputs in one request; OpenAI takes 2048, many servers fewer."""

MAX_ANSWER = 64 * 2**20
"""Most bytes of an answer, unpacked: 256 vectors of 4,096 numbers are 22 MB of JSON."""

MAX_DIMENSIONS = 2**14
"""Most numbers of one vector.

With :data:`MAX_FIELDS` this bounds the values of an answer before it is parsed: 64 MiB of them would take 10 GB, and
block the event loop for a minute."""

MAX_FIELDS = 16
"""Most further values with each vector."""

MAX_REFUSAL = 2**16
"""Most bytes of an error response."""

MAX_TOKENS = 512
CHARACTERS_PER_TOKEN = 3
"""Estimate, as only the server can count tokens; English has 4 characters to a token and code 3."""


class RemoteEncoder:
    """Encoder by ``POST {base_url}/embeddings``.

    Safe to share between threads and event loops. The key is read from ``env`` at every call, and appears in no
    message, repr or description.

    Args:
        base_url: up to and including the version, such as ``https://api.openai.com/v1``.
        model: the server's name of the model.
        api_key_env: the environment variable that holds the key; no key is sent when None.
        timeout_s: seconds for one request and the whole of its answer.
        dimensions: length that the vectors must have; that of the first answer when None.
        max_tokens: longer texts, at 3 characters to a token, keep head and tail.
        env: environment that holds the key.

    Raises:
        EncoderError: ``base_url`` is not an HTTP URL, or holds a password.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout_s: float = 30.0,
        dimensions: int | None = None,
        max_tokens: int = MAX_TOKENS,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.base_url = _checked(base_url)
        self.model = model
        self.api_key_env = api_key_env
        self.timeout_s = timeout_s
        self.max_tokens = max_tokens
        self.name = model
        self.fingerprint = fingerprint.of_text(self.base_url, model)
        self._dimensions = dimensions
        self._env = env
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"RemoteEncoder({self.base_url!r}, {self.model!r}, api_key_env={self.api_key_env!r})"

    @property
    def dimensions(self) -> int:
        """Length of a vector; asks the server once where it is not known."""
        if self._dimensions is None:
            return int(self.encode(["dimensions"]).shape[1])
        return self._dimensions

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, for synchronous callers.

        See :meth:`aencode`.
        """
        return _sync.run(self.aencode(texts))

    async def aencode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, in order.

        Returns ``(len(texts), dimensions)`` float32, unit rows.

        Raises:
            EncoderError: no key, no connection, no answer in time, a refusal, or an answer that is not vectors.
            ConfigError: a proxy or certificate that the environment names cannot be used.
            TypeError: ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        limit = CHARACTERS_PER_TOKEN * self.max_tokens
        # Clipped again: one compatibility character may stand for several.
        inputs = [clip_characters(encodable(clip_characters(text, limit)), limit) for text in texts]
        if not inputs:
            return np.empty((0, self._dimensions or 0), dtype=np.float32)
        parts = [await self._request(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
        return np.concatenate(parts)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def close(self) -> None:
        """Close the connections of synchronous callers."""
        if self._clients:  # at the end of a program no thread for the event loop could start
            _sync.run(self.aclose())

    async def _request(self, inputs: list[str]) -> Matrix:
        key = self._key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        body = {"model": self.model, "input": inputs, "encoding_format": "float"}
        endpoint = f"{self.base_url}/embeddings"
        client = self._client()
        try:
            # One timeout for the whole request: httpx's own restarts with every byte received.
            async with timeout(self.timeout_s):
                request = client.build_request(
                    "POST", endpoint, json=body, headers=headers, extensions={"trace": self._look_up_first}
                )
                answer = await client.send(request, stream=True)
                try:
                    is_ok = answer.status_code == httpx.codes.OK
                    content = await read_body(answer, MAX_ANSWER if is_ok else MAX_REFUSAL)
                finally:
                    await answer.aclose()
        except (httpx.TimeoutException, TimeoutError):
            raise EncoderError(f"{endpoint}: no answer within {self.timeout_s:g} s") from None
        except BodyError as error:
            raise EncoderError(f"{endpoint}: the server {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, OverflowError, ValueError, OSError) as error:
            raise EncoderError(
                f"{endpoint}: no connection ({_hidden(str(error) or type(error).__name__, key)})"
            ) from None
        if not is_ok:
            raise EncoderError(f"{endpoint}: {self._refusal(answer, content, key)}")
        return self._vectors(content, len(inputs), endpoint)

    async def _look_up_first(self, step: str, details: Mapping[str, Any]) -> None:
        """Resolve the host outside asyncio's default executor.

        Look-ups that hang would fill that executor for everyone.
        """
        if step == "connection.connect_tcp.started":
            async with timeout(self.timeout_s):
                await look_up(details["host"], details["port"])

    def _client(self) -> httpx.AsyncClient:
        # Connections belong to the event loop that opened them.
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = open_client(timeout=None, headers={"accept-encoding": ACCEPTED})
        return client

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = self._env.get(self.api_key_env, "").strip()
        if not key:
            raise EncoderError(
                f'the encoder "{self.model}" needs a key: set the environment variable {self.api_key_env}'
            )
        return key

    def _refusal(self, answer: httpx.Response, content: bytes, key: str | None) -> str:
        status = answer.status_code
        if status in (401, 403):
            source = f"in {self.api_key_env}" if self.api_key_env else "is needed: name its variable as api_key_env"
            return f"the server refuses the key ({status}); check the one {source}"
        if status == 429:
            retry_after = _shown(answer.headers.get("retry-after", ""), key)
            return "the server limits our rate (429)" + (f"; it asks to wait {retry_after} s" if retry_after else "")
        detail = _shown(content.decode("utf-8", "replace"), key)
        fault = "the server failed" if status >= 500 else "the server refuses the request"
        return f"{fault} ({status}){': ' + detail if detail else ''}"

    def _vectors(self, content: bytes, count: int, endpoint: str) -> Matrix:
        opened, separated = content.count(b"[") + content.count(b"{"), content.count(b",")
        if opened > MAX_FIELDS * (count + 1) or separated > (MAX_DIMENSIONS + MAX_FIELDS) * (count + 1):
            raise EncoderError(
                f"{endpoint}: {count} texts were sent, but the answer has far more values than their vectors"
            )
        try:
            answer = _Answer.model_validate_json(content)
        except ValidationError as error:
            raise EncoderError(f"{endpoint}: the answer is not embeddings ({said_of(error)})") from None
        rows = {row if item.index is None else item.index: item.embedding for row, item in enumerate(answer.data)}
        if len(answer.data) != count or set(rows) != set(range(count)):
            raise EncoderError(f"{endpoint}: {count} texts were sent, but the answer has {len(answer.data)} embeddings")
        lengths = {len(row) for row in rows.values()}
        expected = self._dimensions or max(lengths)
        if lengths != {expected} or not expected:
            lengths_found = ", ".join(str(length) for length in sorted(lengths - {expected})) or "0"
            raise EncoderError(f"{endpoint}: an embedding has {lengths_found} dimensions, not {expected}")
        vectors = np.array([rows[row] for row in range(count)], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise EncoderError(f"{endpoint}: an embedding is zero, or not finite")
        self._dimensions = expected
        unit: Matrix = (vectors / norms).astype(np.float32)
        return unit


class _Item(BaseModel):
    # The first fault is enough: an error object for each of millions would take gigabytes.
    embedding: Annotated[list[float], FailFast()]
    index: int | None = None


class _Answer(BaseModel):
    # Other fields are ignored: servers add their own.
    data: Annotated[list[_Item], FailFast()]


def _checked(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise EncoderError(f"base_url is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise EncoderError("base_url must be a URL that starts with http:// or https://")
    if url.userinfo:
        raise EncoderError("base_url must not hold a user or password; name the key's variable as api_key_env instead")
    return base_url.rstrip("/")


def _shown(text: str, key: str | None) -> str:
    """Return the start of a server's message, printable, without the key."""
    printable = "".join(letter if letter.isprintable() else " " for letter in _hidden(text, key)[:4000])
    return " ".join(printable.split())[:200]


def _hidden(text: str, secret: str | None) -> str:
    return text.replace(secret, "[key]") if secret else text
