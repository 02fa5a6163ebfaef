"""Application of the gateway: routes from client's body to answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from semroute.catalog import estimate_tokens
from semroute.dispatch.validation import valid_request
from semroute.errors import ContextLengthError, DispatchError, InputError, SemrouteError
from semroute.resilience.redis.failover import FailoverGates
from semroute.router import Router
from semroute.router.requested import AUTO, callable_names, constraints_of
from semroute.router.tracing import OpenTelemetryTracer
from semroute.server.admin import AdminCaller, Administration
from semroute.server.affinity import SessionTurn
from semroute.server.anthropic_messages import Messages
from semroute.server.anthropic_requests import request_of
from semroute.server.callers import CallerLimitError, Callers, ForbiddenError, UnknownCallerError, check_right
from semroute.server.explanation import explanation_headers
from semroute.server.formats import ServedCall, ServedError, ServerFormat, asked_model, json_bytes, served_error
from semroute.server.generations import CHECK_S, Generations
from semroute.server.guards import LOOPBACK, MAX_BODY_BYTES, Guards
from semroute.server.keys import DEFAULT_FILE, KeyRing, Right, VirtualKey
from semroute.server.metrics import CONTENT_TYPE
from semroute.server.models import anthropic_list, listed_models, openai_list
from semroute.server.openai_chat import ChatCompletions
from semroute.server.openai_responses import Responses
from semroute.server.openapi import describe_api
from semroute.server.operation import MAX_CONCURRENCY, GatewayState, Operation, show_breakers
from semroute.server.records import LEFT, ServedRecord, record_of
from semroute.server.request_log import RequestLog
from semroute.server.sessions import SESSION_TTL_S, Sessions, identity
from semroute.server.streams import PING_S, AnswerEvents, encoded
from semroute.types import Completion, Decision, Request

T = TypeVar("T")
AdminAction: TypeAlias = Callable[[AdminCaller, Mapping[str, Any]], Awaitable[Mapping[str, object]]]
"""Handler of an administrative route: of the caller and the body to the body of the answer."""
Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Response]]

LARGE_BODY_BYTES = 256 * 1024
"""Size from which a body is parsed in a thread, so that other requests do not wait for it."""
BODY_S = 60.0
"""Longest time for which a body is read, seconds: a slow sender would hold its place for ever."""
MAX_MESSAGES = 10_000
"""Most messages, or items of Responses, of a request."""
OPENAI, ANTHROPIC, RESPONSES = ChatCompletions(), Messages(), Responses()


class _LeftError(Exception):
    """The client closed its connection before there was anything to send."""


class SlowBodyError(SemrouteError):
    """Body that did not arrive in time."""


class BodySizeError(InputError):
    """Body that is too large."""


@dataclass(frozen=True)
class GatewayLimits:
    """Limits of one serving process.

    Attributes:
        max_concurrency: requests that are served at once, open streams included.
        body_s: longest time for which a body is read, seconds.
        messages: most messages of a request.
    """

    max_concurrency: int = MAX_CONCURRENCY
    body_s: float = BODY_S
    messages: int = MAX_MESSAGES


def create_app(
    router: Router,
    *,
    keys: Path = DEFAULT_FILE,
    hosts: Collection[str] = LOOPBACK,
    origins: Collection[str] = (),
    ping_s: float = PING_S,
    session_ttl_s: float = SESSION_TTL_S,
    limits: GatewayLimits = GatewayLimits(),
    log: RequestLog | None = None,
    reopen: Callable[[Router], Router] | None = None,
    stamp: Callable[[Router], object] | None = None,
    check_s: float = CHECK_S,
    tracer: OpenTelemetryTracer | None = None,
    tell: Callable[[], None] | None = None,
    settle: Callable[[], None] = lambda: None,
) -> Operation:
    """Return the gateway as an ASGI application that owns its router.

    The router is closed when the server ends.

    Args:
        router: decides and calls.
        keys: file of the virtual keys; while there is none, everybody may call.
        hosts: names that the Host header may have; empty allows all.
        origins: origins of pages that may call.
        ping_s: silence after which a stream gets a sign of life, seconds.
        session_ttl_s: time without a request after which a conversation's model is forgotten, seconds.
        limits: limits of this process.
        log: gets a line for each request; None writes none.
        reopen: opens the router that follows one, for a reload; None never reloads.
        stamp: identity of the files behind a router, checked for changes; None checks nothing.
        check_s: interval of these checks, seconds.
        tracer: gets a span for each request; None traces none. The router's own tracer gets decisions and attempts.
        tell: tells every process to reload, where there are several; None reloads in this one.
        settle: called when a replaced router is closed.
    """
    ring, state, sessions = KeyRing(keys), GatewayState(), Sessions(session_ttl_s)

    def application(router: Router) -> RouteTable:
        def show() -> Coroutine[Any, Any, None]:
            return show_breakers(generations, state.metrics)

        sessions.follow(router.config)
        if isinstance(gates := router.dispatcher.gates, FailoverGates):
            gates.answers_first = True

        async def reload() -> Mapping[str, object]:
            return await generations.reload_for(tell)

        gateway = Gateway(router, ring, sessions, ping_s, limits, state, show)
        return _routed(gateway, Administration(router, ring, reload))

    generations = Generations(
        router, application, state.metrics, reopen=reopen, stamp=stamp, check_s=check_s, settle=settle
    )
    guarded = Guards(generations, hosts, origins)
    return Operation(guarded, generations, state, log, limits.max_concurrency, tracer, (sessions.close,))


def _routed(gateway: Gateway, admin: Administration) -> RouteTable:
    """Return the application of a gateway's routes."""
    return RouteTable(routes_of(gateway, admin))


def routes_of(gateway: Gateway, admin: Administration) -> Mapping[str, Mapping[str, Handler]]:
    """Return the handlers of the gateway's routes by path and method.

    :mod:`semroute.server.openapi` describes them.
    """
    return {
        "/v1/chat/completions": {"POST": partial(gateway.complete, OPENAI)},
        "/v1/responses": {"POST": partial(gateway.complete, RESPONSES)},
        "/v1/messages": {"POST": partial(gateway.complete, ANTHROPIC)},
        "/v1/messages/count_tokens": {"POST": gateway.count_tokens},
        "/v1/models": {"GET": gateway.models},
        "/v1/route": {"POST": gateway.route},
        "/v1/feedback": {"POST": gateway.feedback},
        "/v1/keys": {"GET": partial(gateway.administer, admin.list_keys)},
        "/v1/keys/disable": {"POST": partial(gateway.administer, admin.disable)},
        "/v1/keys/enable": {"POST": partial(gateway.administer, admin.enable)},
        "/v1/reload": {"POST": partial(gateway.administer, admin.reload)},
        "/v1/trial": {
            "GET": partial(gateway.administer, admin.trial),
            "PUT": partial(gateway.administer, admin.set_trial),
        },
        "/v1/export": {"GET": partial(gateway.export, admin)},
        "/openapi.json": {"GET": gateway.describe},
        "/healthz": {"GET": _alive},
        "/readyz": {"GET": gateway.ready},
        "/metrics": {"GET": gateway.metrics},
        "/": {"GET": _alive},
    }


class RouteTable:
    """ASGI application of routes: one look-up, no middleware.

    Args:
        routes: handlers of each path by method; HEAD goes where GET does.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, Handler]]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; an unexpected error is a 500, raised for the log."""
        http, path = HttpRequest(scope, receive), scope["path"]
        handlers = self._routes.get(path) or self._routes.get(path.removesuffix("/"), {})
        handler = handlers.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if handler is None:
            response = _unserved(http, handlers)
        else:
            try:
                response = await handler(http)
            except _LeftError:
                response = Response(status_code=LEFT)
            except Exception as error:
                await _error(served_error(_format_of(path), error))(scope, receive, send)
                raise
        await response(scope, receive, send)


class Gateway:
    """Handlers of the gateway's routes over one router.

    Args:
        router: decides and calls.
        keys: virtual keys.
        ping_s: see :func:`create_app`.
        sessions: the conversations that are under way, which a reload keeps.
        limits: limits of a body.
        state: state of the process.
        show: brings the breaker states in the metrics up to date.
    """

    def __init__(
        self,
        router: Router,
        keys: KeyRing,
        sessions: Sessions,
        ping_s: float,
        limits: GatewayLimits,
        state: GatewayState,
        show: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._router, self._sessions = router, sessions
        self._callers = Callers(router, keys)
        self._callable = frozenset(callable_names(router.config))
        self._ping_s, self._limits = ping_s, limits
        self._state, self._show = state, show

    def _caller(self, http: HttpRequest, right: Right | None = None) -> VirtualKey | None:
        """Return a request's key, which must have the right that is needed.

        The request's record takes the key.

        Raises:
            UnknownCallerError, ForbiddenError: keys are used, and it has none, or not the right.
        """
        key = self._callers.caller(http.headers)
        record_of(http.scope).called_by(key)
        if right is not None:
            check_right(key, right)
        return key

    async def complete(self, format: ServerFormat, http: HttpRequest) -> Response:
        """Answer a chat request, whole or streamed."""
        record = record_of(http.scope)
        try:
            key = self._caller(http, "call")
            call = format.read(await _body(http, self._limits), http.headers)
            record.take_call(call)
            config = self._router.config
            limits = constraints_of(call.model, config, self._router.live.models, self._callable)
            caller = None if key is None else key.id
            name = identity(http.headers, call.request)
            turn = SessionTurn(config, self._sessions, caller, name, call.request, limits)
            if not call.streaming:
                completion = await _while_connected(http.receive, self._callers.complete(call, key, turn))
                record.take(completion)
                shown = answer_headers(completion) | explanation_headers(http.headers, completion.decision)
                return _json(200, format.answer(call, completion), shown | turn_headers(turn))
            events = AnswerEvents(self._callers.stream(call, key, turn, record.take_decision), record)
            try:
                # The status is still open: an error before the first piece is an error of HTTP.
                first = await _while_connected(http.receive, events.next(self._ping_s))
            except BaseException as error:
                await events.stop()
                if format is RESPONSES and isinstance(error, ContextLengthError):
                    record.fail(error)
                    return _failed_stream(format, call, error)
                raise
            encoder = format.stream(call)
            chunks = encoded(events, first, encoder, format, self._ping_s)
            shown = _decided(record) | explanation_headers(http.headers, record.decision)
            return EventResponse(chunks, events, shown | turn_headers(turn))
        except SemrouteError as error:
            return _refused(format, error, record)

    async def count_tokens(self, http: HttpRequest) -> Response:
        """Estimate the tokens of a request of Anthropic's; no model is called."""
        try:
            self._caller(http, "call")
            request = request_of(await _body(http, self._limits), needs_limit=False)
        except SemrouteError as error:
            return _refused(ANTHROPIC, error, record_of(http.scope))
        return _json(200, {"input_tokens": max(1, estimate_tokens(request))})

    async def models(self, http: HttpRequest) -> Response:
        """List the model names in the shape of the vendor of the headers."""
        is_anthropics = "anthropic-version" in http.headers
        try:
            self._caller(http)
        except SemrouteError as error:
            return _refused(ANTHROPIC if is_anthropics else OPENAI, error, record_of(http.scope))
        models = listed_models(self._router.config, self._router.live.models)
        return _json(200, (anthropic_list if is_anthropics else openai_list)(models))

    async def route(self, http: HttpRequest) -> Response:
        """Decide without calling a model: the decision as JSON."""
        try:
            key = self._caller(http, "call")
            body = await _body(http, self._limits)
            query = body.get("query")
            request = Request.from_openai(body) if query is None else valid_request(query)
            name = AUTO if body.get("model") is None else asked_model(body)
            decision = await self._callers.route(ServedCall(name, request), key)
            record_of(http.scope).take_decision(decision)
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))
        return _json(200, decision.to_dict())

    async def feedback(self, http: HttpRequest) -> Response:
        """Store a user's feedback on an answer; a key knows its own answers alone."""
        try:
            key = self._caller(http, "feedback")
            body = await _body(http, self._limits)
            quality, comment = body.get("quality"), body.get("comment")
            if isinstance(quality, bool) or not isinstance(quality, int | float):
                raise InputError("quality: is not a number from 0 to 1")
            if not isinstance(comment, str | None):
                raise InputError("comment: is not text")
            outcome = await self._callers.judge(_outcome_id(body), quality, comment, key)
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))
        return _json(200, {"outcome_id": outcome})

    async def administer(self, action: AdminAction, http: HttpRequest) -> Response:
        """Do what needs a right of its own, and answer with its result as JSON."""
        try:
            caller = self._administrator(http)
            is_empty = "transfer-encoding" not in http.headers and http.headers.get("content-length", "0") == "0"
            return _json(200, await action(caller, {} if is_empty else await _body(http, self._limits)))
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))

    async def export(self, admin: Administration, http: HttpRequest) -> Response:
        """Stream logged outcomes as JSON lines."""
        try:
            lines = await admin.export(self._administrator(http), http.query_params)
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    def _administrator(self, http: HttpRequest) -> AdminCaller:
        source = "unknown" if http.client is None else http.client.host
        return AdminCaller(self._caller(http), source, record_of(http.scope).id)

    async def describe(self, http: HttpRequest) -> Response:
        """Describe the routes in OpenAPI's form."""
        try:
            self._caller(http)
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))
        return _json(200, describe_api())

    async def ready(self, _: HttpRequest) -> Response:
        """Answer 200 while requests are taken, else 503."""
        is_ready = self._state.is_ready
        return _json(200 if is_ready else 503, {"ready": is_ready})

    async def metrics(self, http: HttpRequest) -> Response:
        """Show the metrics in Prometheus' text format."""
        try:
            self._caller(http, "metrics")
        except SemrouteError as error:
            return _refused(OPENAI, error, record_of(http.scope))
        await self._show()
        return Response(self._state.metrics.render(), headers={"content-type": CONTENT_TYPE})


def _outcome_id(body: Mapping[str, Any]) -> str:
    """Return an outcome's id, also from the id of an answer that has it."""
    given = body.get("outcome_id")
    if not isinstance(given, str) or not given:
        raise InputError("outcome_id: is missing; it is the x-semroute-outcome-id of the answer")
    return given.removeprefix("chatcmpl-").removeprefix("msg_").removeprefix("resp_")


async def _received(http: HttpRequest, within_s: float) -> bytes:
    """Return a body, which is bounded while it is read.

    Raises:
        BodySizeError, SlowBodyError: it is too large, or too slow.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(within_s):
            async for part in http.stream():
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise BodySizeError(f"the body is larger than {MAX_BODY_BYTES // 2**20} MB")
                parts.append(part)
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {within_s:g} s") from None
    except ClientDisconnect:
        raise _LeftError from None
    return b"".join(parts)


async def _body(http: HttpRequest, limits: GatewayLimits) -> Mapping[str, Any]:
    """Return the JSON object in a body.

    Raises:
        InputError: it is none, too large, or has too many messages.
        SlowBodyError: it did not arrive in time.
    """
    text = await _received(http, limits.body_s)
    try:
        body = await asyncio.to_thread(json.loads, text) if len(text) > LARGE_BODY_BYTES else json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = f"{error}" if isinstance(error, json.JSONDecodeError) else "it is nested too deeply, or not UTF-8"
        raise InputError(f"the body is not JSON: {detail}") from None
    if not isinstance(body, dict):
        raise InputError(f"the body is {type(body).__name__}, not a JSON object")
    for name in ("messages", "input"):
        count = len(body[name]) if isinstance(body.get(name), list) else 0
        if count > limits.messages:
            raise InputError(f"{name}: has {count} entries; {limits.messages} are the most")
    return body


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``, and cancel it when the client leaves.

    Raises:
        _LeftError: the client has left; what the call cost is booked.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a request is served in a task")
    watch = asyncio.ensure_future(_disconnected(receive))
    has_left = False

    def leave(watch: asyncio.Future[None]) -> None:
        nonlocal has_left
        if not watch.cancelled():
            has_left = True
            task.cancel()

    watch.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and not task.uncancel():
            raise _LeftError from None
        raise
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventResponse(Response):
    """Response of server-sent events that ends when the client leaves."""

    def __init__(self, chunks: AsyncIterator[bytes], events: AnswerEvents, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self._chunks, self._events, self._shown = chunks, events, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _while_connected(receive, self._send(send))
        except (OSError, _LeftError):
            pass  # the client has left
        finally:
            await self._events.stop()

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would gather what is meant to flow
            *((name.encode(), value.encode()) for name, value in self._shown.items()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answer_headers(completion: Completion) -> dict[str, str]:
    """Return the headers of an answer: decision, model, cost and outcome."""
    cost = completion.total_cost
    headers = {} if completion.decision is None else decision_headers(completion.decision)
    headers |= _headers({"model": completion.model, "deployment": completion.deployment})
    if cost is not None:
        headers |= _headers({"cost-usd": f"{cost.usd:.8f}"})
    return headers if completion.outcome_id is None else headers | _headers({"outcome-id": completion.outcome_id})


def decision_headers(decision: Decision) -> dict[str, str]:
    """Return the headers of a decision, with its first candidate as model."""
    found = {"model": decision.model, "category": decision.category or "", "strategy": decision.strategy}
    return _headers(found | {"decision-ms": f"{decision.elapsed_ms:.2f}"})


def _decided(record: ServedRecord) -> dict[str, str]:
    return {} if record.decision is None else decision_headers(record.decision)


def turn_headers(turn: SessionTurn) -> dict[str, str]:
    """Return the header of a conversation's move, if any.

    It is ``stays``, ``switches`` or ``new``.
    """
    return {} if turn.move is None else _headers({"session": turn.move})


def _failed_stream(format: ServerFormat, call: ServedCall, error: SemrouteError) -> Response:
    """Return a stream of one error.

    Codex looks for a context overflow there, and not at the status of HTTP.
    """
    stream = format.stream(call)
    chunks = [*stream.start(), *stream.fail(served_error(format, error))]
    return Response(b"".join(chunks), media_type="text/event-stream")


def _headers(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values that a header can have: printable ASCII."""
    return {f"x-semroute-{name}": text for name, text in values.items() if text.isascii() and text.isprintable()}


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_bytes(body), status, headers, media_type="application/json")


def _refused(format: ServerFormat, error: SemrouteError, record: ServedRecord) -> Response:
    """Return the answer to a request that failed or was refused."""
    if isinstance(error, DispatchError):
        record.fail(error)
    match error:
        case SlowBodyError():
            refusal = _error(format.error(408, "timeout", str(error)))
            refusal.headers["connection"] = "close"  # the rest of the body may still come
            return refusal
        case BodySizeError():
            return _error(format.error(413, "too_large", str(error)))
        case UnknownCallerError():
            return _error(format.error(401, "authentication", str(error)))
        case ForbiddenError():
            return _error(format.error(403, "permission", str(error)))
        case CallerLimitError():
            return _error(format.error(429, "rate_limit", str(error), error.wait_s))
    return _error(served_error(format, error))


def _error(error: ServedError) -> Response:
    headers = {} if error.wait_s is None else {"retry-after": str(max(1, round(error.wait_s)))}
    return _json(error.status, error.body, headers)


async def _alive(_: HttpRequest) -> Response:
    return _json(200, {"status": "ok"})


def _format_of(path: str) -> ServerFormat:
    return ANTHROPIC if path.startswith("/v1/messages") else OPENAI


def _unserved(http: HttpRequest, methods: Collection[str]) -> Response:
    """Return the refusal of a request to a path that has these methods.

    Without any, the path is not served at all.
    """
    message = f"{http.method} {http.url.path} is not served here; GET /v1/models lists the models"
    refusal = _error(_format_of(http.url.path).error(405 if methods else 404, "not_found", message))
    if methods:  # RFC 9110, 15.5.6: it must be there
        refusal.headers["allow"] = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
    return refusal
