"""From a request and a scripted reply to the response: who is refused, what is answered, and in which shape."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from semroute.testing import echo, embeddings
from semroute.testing.checks import RefusedError
from semroute.testing.delivery import Response
from semroute.testing.http11 import HttpRequest
from semroute.testing.limits import Window
from semroute.testing.listing import listing
from semroute.testing.neutral import Answer, ChatRequest, Failure, encode
from semroute.testing.records import Records
from semroute.testing.replies import JSON, Reply
from semroute.testing.routes import Route, Wire

_SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server goes by: its key, models (any, where empty), embeddings' length, limit, and counts."""

    key: str | None = field(repr=False)
    models: tuple[str, ...]
    dimensions: int
    window: Window
    records: Records


def handle_request(
    house: ServerState, route: Route, request: HttpRequest, body: Any, reply: Reply, serial: int
) -> Response:
    """The response to one request."""
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
    answer = reply.answer or echo.respond(ask, reply.number)
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
        taken, content = embeddings.respond(body, house.dimensions)
        _charge(house, taken, 0)
        return Response(200, headers, encode(content))
    raise RefusedError(Failure(404, f"unknown path {request.method} {request.path}"))


def _charge(house: ServerState, input_tokens: int, output_tokens: int) -> None:
    """Count what a call takes.

    Raises:
        RefusedError: it is more than the limit allows now; nothing is counted.
    """
    wait = house.window.take(input_tokens + output_tokens, time.monotonic())
    if wait is not None:
        message = f"Rate limit reached. Please try again in {wait:.3f}s."
        raise RefusedError(Failure(429, message, retry_after=max(1, -int(-wait // 1)), reset_s=wait))
    house.records.input_tokens += input_tokens
    house.records.output_tokens += output_tokens
