"""Request handling of the fake provider: routes and responses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

from semroute.testing import answers, anthropic, gemini, openai, responses
from semroute.testing.answers import Records, RefusedError, Window
from semroute.testing.http import HttpRequest, Response
from semroute.testing.replies import JSON, Answer, ChatRequest, Failure, Reply, StreamEvent, encode

# Routes: wire format and operation of a path.

Operation: TypeAlias = Literal["chat", "embeddings", "models", "unknown"]


class Wire(Protocol):
    """Interface of a wire format's module."""

    MALFORMED_EVENT: bytes
    KEEPALIVE: bytes

    def refused(self, request: HttpRequest, key: str) -> Failure | None:
        """Return the failure of a request without the key, else None."""

    def read(self, request: HttpRequest, body: Any, serial: int) -> ChatRequest:
        """Check a request and return its content.

        Raises RefusedError.
        """

    def whole(self, ask: ChatRequest, answer: Answer) -> dict[str, object]:
        """Return the answer as one object."""

    def events(self, ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
        """Yield the answer as a stream."""

    def error(self, failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
        """Return the status, headers and body of an error."""

    def error_event(self, failure: Failure) -> bytes:
        """Return an error for the middle of a stream."""


@dataclass(frozen=True, slots=True)
class Route:
    """Wire format and operation of a request."""

    wire: Wire
    operation: Operation


_OPENAI = r"(/openai)?/v1|/openai/deployments/[^/]+"
_ROUTES: Sequence[tuple[str, re.Pattern[str], Route]] = (
    ("POST", re.compile(rf"({_OPENAI})/chat/completions"), Route(openai, "chat")),
    ("POST", re.compile(rf"({_OPENAI})/responses"), Route(responses, "chat")),
    ("POST", re.compile(rf"({_OPENAI})/embeddings"), Route(openai, "embeddings")),
    ("POST", re.compile(r"/v1/messages"), Route(anthropic, "chat")),
    (
        "POST",
        re.compile(r"/(v1|v1beta|v1beta1)/(projects/.+/publishers/google/)?models/[^/:]+:(streamG|g)enerateContent"),
        Route(gemini, "chat"),
    ),
    ("GET", re.compile(r"/v1beta/models"), Route(gemini, "models")),
)


def find(request: HttpRequest) -> Route:
    """Return the route of a request.

    An unknown path belongs to the format whose clients would request it.
    """
    path = request.path
    for method, pattern, route in _ROUTES:
        if request.method == method and pattern.fullmatch(path):
            return route
    wire: Wire = openai
    if "anthropic-version" in request.headers:
        wire = anthropic
    elif "x-goog-api-key" in request.headers or path.startswith("/v1beta") or "/models/" in path:
        wire = gemini
    return Route(wire, "models" if (request.method, path) == ("GET", "/v1/models") else "unknown")


def listing(wire: Wire, models: Sequence[str]) -> dict[str, object]:
    """Return the list of models in the wire format."""
    if wire is gemini:
        methods = ["generateContent", "streamGenerateContent"]
        return {"models": [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in models]}
    if wire is anthropic:
        made = "2025-01-01T00:00:00Z"
        data = [{"type": "model", "id": name, "display_name": name, "created_at": made} for name in models]
        ends = {"first_id": models[0], "last_id": models[-1]} if models else {"first_id": None, "last_id": None}
        return {"data": data, "has_more": False, **ends}
    listed = [{"id": name, "object": "model", "created": 1735689600, "owned_by": "semroute"} for name in models]
    return {"object": "list", "data": listed}


# From a request and a scripted reply to the response.

_SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


@dataclass(frozen=True, slots=True)
class ServerState:
    """State of the server.

    Key, models (any, where empty), length of embeddings, rate limit, counts, and the clock of the rate limit, seconds.
    """

    key: str | None = field(repr=False)
    models: tuple[str, ...]
    dimensions: int
    window: Window
    records: Records
    clock: Callable[[], float] = time.monotonic


def handle_request(
    house: ServerState, route: Route, request: HttpRequest, body: Any, reply: Reply, serial: int
) -> Response:
    """Return the response to one request."""
    if reply.body is not None:
        return Response(reply.status, reply.headers, reply.body)
    headers = {**reply.headers, **JSON, "x-request-id": f"req_fake{serial}", "request-id": f"req_fake{serial}"}
    try:
        if reply.failure is not None:
            return _scripted_failure(route, request, body, reply.failure, headers)
        _admit(house, route, request)
        if route.operation == "chat":
            return _chat(house, route.wire, request, body, reply, serial, headers)
        return _other(house, route, request, body, headers)
    except RefusedError as error:
        return _failed(route.wire, error.failure, headers)


def _scripted_failure(
    route: Route, request: HttpRequest, body: Any, failure: Failure, headers: Mapping[str, str]
) -> Response:
    streamed = ":stream" in request.path or (isinstance(body, dict) and body.get("stream") is True)
    if failure.status == 200 and streamed:
        return Response(200, {**headers, **_SSE}, route.wire.error_event(failure))
    return _failed(route.wire, failure, headers)


def _failed(wire: Wire, failure: Failure, headers: Mapping[str, str]) -> Response:
    status, hints, content = wire.error(failure)
    return Response(status, {**headers, **hints}, encode(content))


def _admit(house: ServerState, route: Route, request: HttpRequest) -> None:
    failure = None if house.key is None else route.wire.refused(request, house.key)
    if failure is not None:
        raise RefusedError(failure)


def _chat(
    house: ServerState,
    wire: Wire,
    request: HttpRequest,
    body: Any,
    reply: Reply,
    serial: int,
    headers: Mapping[str, str],
) -> Response:
    ask = wire.read(request, body, serial)
    if house.models and ask.model not in house.models:
        message = f"the model {ask.model} does not exist, or you have no access to it"
        raise RefusedError(Failure(404, message, code="model_not_found", param="model"))
    answer = reply.answer or answers.respond_chat(ask, reply.number)
    answer = replace(answer, counted=answer.counted and reply.counted)
    _charge(house, answer.input_tokens, answer.output_tokens)
    fault = Failure(500, "scripted failure")
    if ask.stream:
        kind = {**headers, **(JSON if ask.as_list else _SSE)}
        events = tuple(wire.events(ask, answer))
        return Response(
            200,
            kind,
            events=events,
            error_event=wire.error_event(fault),
            malformed_event=wire.MALFORMED_EVENT,
            keepalive=wire.KEEPALIVE,
        )
    return _whole(wire, ask, answer, reply, headers)


def _whole(wire: Wire, ask: ChatRequest, answer: Answer, reply: Reply, headers: Mapping[str, str]) -> Response:
    content = encode(wire.whole(ask, answer))
    if reply.delivery.then == "error":
        content = encode(wire.error(Failure(200, "scripted failure"))[2])
    elif reply.delivery.then == "malformed":
        content = content[: len(content) // 2]
    return Response(200, headers, content, tokens=answer.output_tokens)


def _other(house: ServerState, route: Route, request: HttpRequest, body: Any, headers: Mapping[str, str]) -> Response:
    if route.operation == "models":
        return Response(200, headers, encode(listing(route.wire, house.models or ("fake-model",))))
    if route.operation == "embeddings":
        taken, content = answers.respond_embeddings(body, house.dimensions)
        _charge(house, taken, 0)
        return Response(200, headers, encode(content))
    raise RefusedError(Failure(404, f"unknown path {request.method} {request.path}"))


def _charge(house: ServerState, input_tokens: int, output_tokens: int) -> None:
    """Count the tokens of a call against the rate limit.

    Raises:
        RefusedError: they exceed the limit now; nothing is counted.
    """
    wait = house.window.take(input_tokens + output_tokens, house.clock())
    if wait is not None:
        message = f"Rate limit reached. Please try again in {wait:.3f}s."
        raise RefusedError(Failure(429, message, retry_after=max(1, -int(-wait // 1)), reset_s=wait))
    house.records.input_tokens += input_tokens
    house.records.output_tokens += output_tokens
