"""Wire formats of the gateway: requests from bodies, and answers."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from semroute.errors import (
    AllClosedError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DeadlineError,
    DispatchError,
    InputError,
    NoDeploymentError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitError,
    RequestError,
)
from semroute.server.overflow import ContextOverflowError, OutputLimitError, Overflow
from semroute.types import Completion, Delta, Request
from semroute.types.serialization import json_ready

HINTS = frozenset(
    {
        "cache_control", "metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "store", "user",
    }
)  # fmt: skip
"""Parameters that change what a call costs or what the vendor records, and not the answer: a deployment of another
format is called without them."""


@dataclass(frozen=True, slots=True)
class ServedCall:
    """Call of a client, as its format has it.

    Attributes:
        model: name that the client asked for, to be resolved by :mod:`semroute.server.models`.
        request: what is asked.
        streaming: whether the answer is to be streamed.
        include_usage: whether a stream of OpenAI's ends with the token counts.
        created: when it arrived, seconds since the epoch.
        namespaces: namespace and own name of each tool of one, by the name that models know it by (Responses only).
    """

    model: str
    request: Request
    streaming: bool = False
    include_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedError:
    """Error as a client sees it.

    Attributes:
        status: HTTP status.
        body: JSON of the format.
        wait_s: seconds for ``Retry-After``; None without a hint.
    """

    status: int
    body: Mapping[str, object]
    wait_s: float | None = None


class AnswerStream(Protocol):
    """Encoder of one streamed answer to server-sent events."""

    def start(self) -> Iterator[bytes]:
        """Yield the events before the answer."""
        ...

    def delta(self, delta: Delta) -> Iterator[bytes]:
        """Yield the events of a piece of the answer."""
        ...

    def end(self, completion: Completion) -> Iterator[bytes]:
        """Yield the events that close the answer."""
        ...

    def fail(self, error: ServedError) -> Iterator[bytes]:
        """Yield the events of an error after the start."""
        ...

    def ping(self) -> bytes:
        """Return the event of a silent interval, which clients skip."""
        ...


class ServerFormat(Protocol):
    """One vendor's format, seen from the server's side."""

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ServedCall:
        """Return the call in a body, with beta features from its headers.

        Raises:
            InputError: the body cannot be used; the message names the path.
        """
        ...

    def answer(self, call: ServedCall, completion: Completion) -> Mapping[str, object]:
        """Return the body of a whole answer."""
        ...

    def stream(self, call: ServedCall) -> AnswerStream:
        """Return the encoder of a streamed answer."""
        ...

    def error(self, status: int, kind: str, message: str, wait_s: float | None = None) -> ServedError:
        """Return an error in the format's shape; ``kind`` is in :data:`KINDS`."""
        ...

    def overflow(self, overflow: Overflow) -> str:
        """Return the vendor's sentence for a request or answer too long."""
        ...


KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (ContextLengthError, 400, "context_length"),
    (ContentFilterError, 400, "content_filter"),
    (CapabilityError, 400, "invalid_request"),
    (RequestError, 400, "invalid_request"),
    (InputError, 400, "invalid_request"),
    (RateLimitError, 429, "rate_limit"),
    (AllClosedError, 503, "overloaded"),
    (OverloadedError, 503, "overloaded"),
    (DeadlineError, 504, "timeout"),
    (ProviderTimeoutError, 504, "timeout"),
    (NoDeploymentError, 404, "not_found"),
    (DispatchError, 502, "upstream"),
)
"""Status and kind of an error, by its class: the first that fits."""


def asked_model(body: Mapping[str, Any]) -> str:
    """Return the model name in a body; its field is the same everywhere.

    Raises:
        InputError: it is missing.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InputError('model: is missing; it is "auto", or a name that GET /v1/models lists')
    return model


def is_streamed(body: Mapping[str, Any]) -> bool:
    """Return True if a body asks for a stream.

    Raises:
        InputError: ``stream`` is neither true nor false.
    """
    streaming = body.get("stream")
    if not isinstance(streaming, bool | None):
        raise InputError("stream: is neither true nor false")
    return bool(streaming)


def served_error(format: ServerFormat, error: Exception) -> ServedError:
    """Return an error of the router in a format's shape.

    A credential that the provider refused is the operator's matter: the client reads that the upstream failed.
    """
    if isinstance(error, ContextOverflowError) and error.overflow is not None:
        return format.error(400, "context_length", format.overflow(error.overflow))
    if isinstance(error, OutputLimitError) and error.overflow is not None:
        return format.error(400, "invalid_request", format.overflow(error.overflow))
    for kind, status, name in KINDS:
        if isinstance(error, kind):
            return format.error(status, name, str(error), getattr(error, "wait_s", None))
    return format.error(500, "internal", "an error within the gateway; its log has the details")


def vendor_headers(headers: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """Return the headers that go upstream with a body.

    They are those of a list, without values that a header cannot carry.

    Args:
        headers: the client's; of a repeated one all values are kept, joined as HTTP joins them.
        allowed: names in lower case.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        if name.lower() in allowed and value.isascii() and value.isprintable():
            found.setdefault(name.lower(), []).append(value)
    return {name: ",".join(values) for name, values in found.items()}


# json.dumps() would make one for every event of a stream.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_bytes(value: object) -> bytes:
    """Return compact JSON in UTF-8; a number JSON has no word for is null."""
    try:
        return _compact(value).encode()
    except ValueError:
        return _compact(json_ready(value)).encode()
