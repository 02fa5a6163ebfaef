"""Operation of the gateway: request ids, concurrency, orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from semroute.dispatch.status import endpoints_of
from semroute.errors import SemrouteError
from semroute.router.tracing import OpenTelemetryTracer, RequestEnd
from semroute.server.anthropic_messages import Messages
from semroute.server.formats import ServedError, json_bytes
from semroute.server.generations import Generations
from semroute.server.guards import Application, Receive, Scope, Send
from semroute.server.metrics import Metrics
from semroute.server.openai_chat import ChatCompletions
from semroute.server.records import LEFT, OTHER, ServedRecord, new_record
from semroute.server.request_log import RequestLog

MAX_CONCURRENCY = 2000
"""Requests that one process serves at once, open streams included; each holds a connection on both sides."""
BUSY_RETRY_S = 1.0
DRAIN_RETRY_S = 5.0
"""Waits that ``Retry-After`` names to those who are turned away, seconds."""
BREAKERS_S = 5.0
"""Interval in which each process notes the states of its breakers, seconds."""
CANCEL_S = 5.0
"""Longest wait at the end for cancelled calls to book their cost, seconds."""
NEVER_SHED = frozenset({"/healthz", "/readyz", "/metrics", "/"})

REASONS: Mapping[int, str] = {
    400: "invalid",
    401: "authentication",
    403: "permission",
    404: "not_found",
    405: "not_found",
    408: "slow_body",
    413: "too_large",
    415: "content_encoding",
    421: "host",
    429: "key_limit",
    431: "header_size",
}
"""Reason of a refusal that nothing else names, by its status."""


@dataclass
class GatewayState:
    """State of one serving process.

    Attributes:
        metrics: its counters.
        is_open: whether everything is loaded.
        is_draining: whether it is about to end.
        running: requests under way that may be shed.
    """

    metrics: Metrics = field(default_factory=Metrics)
    is_open: bool = False
    is_draining: bool = False
    running: int = 0

    @property
    def is_ready(self) -> bool:
        """True while requests are taken."""
        return self.is_open and not self.is_draining


class Operation:
    """ASGI middleware around everything: it counts, logs, sheds and drains.

    Args:
        app: the guarded application.
        generations: routers behind it, opened and closed with the server.
        state: state of this process.
        log: gets a line for each request.
        max_concurrency: requests that are served at once; further ones get a 503 at once.
        tracer: gets a span for each request, probes excepted; None traces nothing.
        closers: called one after another at the end, when no request is under way any more.
    """

    def __init__(
        self,
        app: Application,
        generations: Generations,
        state: GatewayState,
        log: RequestLog | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        tracer: OpenTelemetryTracer | None = None,
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._app, self._generations, self._log = app, generations, log or RequestLog()
        self._most, self._tracer, self._closers = max_concurrency, tracer, closers
        self.state = state

    @property
    def generations(self) -> Generations:
        """Routers that serve."""
        return self._generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or open and close the gateway."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._trace(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def drain(self) -> None:
        """Take no further request; those under way go on."""
        self.state.is_draining = True

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, in a span where there is a tracer."""
        record = new_record(scope)
        if self._tracer is None or record.route in NEVER_SHED:
            await self._serve(record, scope, receive, send)
            return
        route = None if record.route == OTHER else record.route
        with self._tracer.request(record.method, route, scope["scheme"], _trace_headers(scope)) as note:
            try:
                await self._serve(record, scope, receive, send)
            finally:
                note(_end_of(record))

    async def _serve(self, record: ServedRecord, scope: Scope, receive: Receive, send: Send) -> None:
        state = self.state
        is_counted = record.route not in NEVER_SHED
        refusal = self._refusal(record) if is_counted else None
        answer = _RecordedAnswer(send, record, state)
        state.running += is_counted
        state.metrics.run(+is_counted)
        try:
            if refusal is None:
                await self._app(scope, receive, answer)
            else:
                await _refuse(answer, refusal, is_last=state.is_draining)
        except BaseException as error:
            record.fail(error)
            record.status = record.status or 500
            raise
        finally:
            state.running -= is_counted
            state.metrics.run(-is_counted)
            answer.end()
            elapsed_s = record.elapsed_s()
            state.metrics.end(record, elapsed_s)
            self._log.write(record, elapsed_s)

    def _refusal(self, record: ServedRecord) -> ServedError | None:
        """Return the error of a request that is not taken now."""
        if self.state.is_draining:
            record.rejection, wait_s = "draining", DRAIN_RETRY_S
            message = "this server is about to end; ask again, and another one answers"
        elif self.state.running >= self._most:
            record.rejection, wait_s = "overloaded", BUSY_RETRY_S
            message = f"this server is busy with {self._most} requests; ask again soon"
        else:
            return None
        format = Messages() if record.format == "messages" else ChatCompletions()
        # 503 in every format: load balancers know no 529.
        return replace(format.error(503, "overloaded", message, wait_s), status=503)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        noting: asyncio.Task[None] | None = None
        try:
            await self._generations.open()
            noting = asyncio.create_task(self._note_breakers())
        except SemrouteError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self.state.is_open = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.state.is_open = False
        noting.cancel()
        await asyncio.wait({noting})
        await self._until_booked()
        await self._generations.close()
        for close in self._closers:
            await close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _until_booked(self) -> None:
        """Wait until calls that the server cancelled have booked their cost."""
        loop = asyncio.get_running_loop()
        end = loop.time() + CANCEL_S
        while self.state.running and loop.time() < end:
            await asyncio.sleep(0.02)

    async def _note_breakers(self) -> None:
        while True:
            await show_breakers(self._generations, self.state.metrics)
            await asyncio.sleep(BREAKERS_S)


def _trace_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by which a trace is continued."""
    names = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}


def _end_of(record: ServedRecord) -> RequestEnd:
    """Return what a trace shows of a request that has ended."""
    return RequestEnd(
        record.status,
        record.error,
        record.rejection,
        record.decision,
        record.completion,
        record.usd,
        record.id,
        record.key,
    )


async def show_breakers(generations: Generations, metrics: Metrics) -> None:
    """Set the breaker states in the metrics.

    Where they cannot be read, the last ones stay.
    """
    router = generations.router
    endpoints = endpoints_of(router.config)
    try:
        statuses = await router.dispatcher.gates.statuses(endpoints)
    except (OSError, SemrouteError):
        return
    metrics.show_breakers((one.deployment, status) for one, status in zip(endpoints, statuses, strict=True))


class _RecordedAnswer:
    """ASGI ``send`` of one answer: keeps its status, adds its request id."""

    def __init__(self, send: Send, record: ServedRecord, state: GatewayState) -> None:
        self._send, self._record, self._state = send, record, state
        self._is_stream = self._is_complete = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._record.id.encode())]
            if self._record.format == "messages":
                headers.append((b"request-id", self._record.id.encode()))  # the name that Anthropic's clients read
            message = {**message, "headers": headers}
            if (b"content-type", b"text/event-stream; charset=utf-8") in headers:
                self._is_stream = True
                self._state.metrics.stream(1)
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_complete = True
        await self._send(message)

    def end(self) -> None:
        """Note how the answer ended."""
        record = self._record
        if self._is_stream:
            self._state.metrics.stream(-1)
        if record.status == LEFT or (not self._is_complete and record.error is None):
            record.status = record.status or LEFT
            record.error = record.error or "ClientLeft"
        elif record.status >= 400 and record.error is None and record.rejection is None:
            record.rejection = REASONS.get(record.status)


async def _refuse(send: _RecordedAnswer, error: ServedError, *, is_last: bool) -> None:
    body = json_bytes(error.body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(round(error.wait_s or BUSY_RETRY_S)).encode()),
    ]
    if is_last:
        headers.append((b"connection", b"close"))  # the next request goes to another server
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
