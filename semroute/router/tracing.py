"""Traces by OpenTelemetry: spans of requests, decisions and attempts.

Names are those of its conventions for generative AI.

A request to the gateway is a span of kind SERVER, its decision one of kind INTERNAL, and every attempt at a deployment
one of kind CLIENT that is named ``chat MODEL``. No span has a word of a prompt or an answer, a key, or an error's
message, which may quote them. Nothing of a trace is sent to providers, but for the ``traceparent`` of an attempt to
those deployments that are named for it.

Sources: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (version 1.41),
https://opentelemetry.io/docs/specs/semconv/http/http-spans/, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from semroute._optional import require
from semroute.errors import InputError
from semroute.types import Attempt, Completion, Cost, Decision, Usage
from semroute.types.tracing import AttemptStart, NoteAttempt, NoteDecision, upstream_headers

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

SCOPE = "semroute"
"""Name of the instrumentation scope, and of the service where ``OTEL_SERVICE_NAME`` names none."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
PATH = "/v1/traces"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Methods that are named in spans; any other is ``_OTHER``, as the conventions want it."""
FLUSH_S = 5.0
"""Longest wait at the end for spans that were not sent yet, seconds."""

PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google-openai": "gcp.gemini",
    "mistral": "mistral_ai",
    "responses": "openai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""Values of ``gen_ai.provider.name`` that differ from the name of the vendor's row."""

Value: TypeAlias = str | bool | int | float | Sequence[str]

_decision: ContextVar[Decision | None] = ContextVar("semroute_traced_decision", default=None)


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """End of a request to the gateway.

    Attributes:
        status: HTTP status of the answer.
        error: class of the error that it ended with.
        rejection: reason for which the gateway itself refused it.
        decision: where the router sent it.
        completion: the answer.
        cost_usd: what it cost, as far as prices are known.
        request_id: request id, of plain characters.
        key: name of the caller's virtual key.
    """

    status: int
    error: str | None = None
    rejection: str | None = None
    decision: Decision | None = None
    completion: Completion | None = None
    cost_usd: float | None = None
    request_id: str | None = None
    key: str | None = None


class OpenTelemetryTracer:
    """Tracer of requests, decisions and attempts by OpenTelemetry.

    Args:
        provider: makes and exports the spans.
        closes: whether :meth:`close` ends the provider; False leaves it to its owner.
        upstream: deployments that get the ``traceparent`` of an attempt, such as a gateway of one's own.

    Raises:
        MissingExtraError: the extra "otel" is not installed.
    """

    def __init__(
        self, provider: TracerProvider, *, closes: bool = True, upstream: Collection[str] = frozenset()
    ) -> None:
        self._api = require("opentelemetry.trace", what="tracing", extra="otel")
        propagation = require("opentelemetry.trace.propagation.tracecontext", what="tracing", extra="otel")
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._provider, self._closes, self._upstream = provider, closes, frozenset(upstream)
        self._tracer = provider.get_tracer(SCOPE)

    @contextmanager
    def request(
        self, method: str, route: str | None, scheme: str, headers: Mapping[str, str]
    ) -> Iterator[Callable[[RequestEnd], None]]:
        """Trace a request to the gateway, to the end of its answer.

        Args:
            method: HTTP method, which may be one that a client made up.
            route: its route; None for a path that is not served, which may hold anything.
            scheme: ``http`` or ``https``.
            headers: its ``traceparent`` and ``tracestate``, if it has them: the trace that it continues.
        """
        method = method if method in METHODS else "_OTHER"
        given: dict[str, Value] = {"http.request.method": method, "url.scheme": scheme}
        if route is not None:
            given |= {"http.route": route, "url.path": route}
        parent = self._propagator.extract(headers) if headers else None
        name = method.replace("_OTHER", "HTTP")
        name = name if route is None else f"{name} {route}"
        with self._span(name, "SERVER", given, parent) as span:
            yield lambda end: self._end_request(span, end)

    @contextmanager
    def decision(self) -> Iterator[NoteDecision]:
        """Trace a decision; see :class:`~semroute.types.tracing.Tracer`."""
        _decision.set(None)  # calls of a judge belong to no decision yet
        with self._span("semroute.decide", "INTERNAL", {}) as span:

            def note(decision: Decision) -> None:
                span.set_attributes(_of_decision(decision))
                _decision.set(decision)

            yield note

    @contextmanager
    def attempt(self, start: AttemptStart) -> Iterator[NoteAttempt]:
        """Trace an attempt; see :class:`~semroute.types.tracing.Tracer`."""
        with self._span(f"chat {start.upstream_model}", "CLIENT", _of_start(start, _decision.get())) as span:
            outer = upstream_headers.set(self._shown_to(start.deployment))

            def note(attempt: Attempt | None, answer: Completion | None) -> None:
                if attempt is not None:
                    span.set_attributes(_of_attempt(attempt))
                if answer is not None:
                    span.set_attributes(_of_answer(answer))
                elif attempt is None or attempt.error_kind != "Abandoned":  # one that nobody needs has not failed
                    self._fail(span, (attempt and attempt.error_kind) or "_OTHER")

            try:
                yield note
            finally:
                upstream_headers.reset(outer)

    def close(self, within_s: float = FLUSH_S) -> None:
        """Send the spans that are left, within ``within_s`` seconds."""
        if not self._closes:
            return
        # A collector that is away would keep the exporter's retries going for longer than a drain may take.
        ending = threading.Thread(target=self._provider.shutdown, name="semroute-traces", daemon=True)
        ending.start()
        ending.join(within_s)

    def _shown_to(self, deployment: str) -> dict[str, str]:
        """Return the headers by which a deployment may continue the trace.

        A client's own ``tracestate`` is not among them.
        """
        carrier: dict[str, str] = {}
        if deployment in self._upstream:
            self._propagator.inject(carrier)
            carrier.pop("tracestate", None)
        return carrier

    @contextmanager
    def _span(
        self, name: str, kind: str, attributes: Mapping[str, Value], parent: Context | None = None
    ) -> Iterator[Span]:
        """Run the block as a span.

        Only the class of an error is recorded: its message may quote a prompt.
        """
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=self._api.SpanKind[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                self._fail(span, type(error).__name__)
                raise

    def _fail(self, span: Span, kind: str) -> None:
        span.set_attribute("error.type", kind)
        span.set_status(self._api.StatusCode.ERROR)

    def _end_request(self, span: Span, end: RequestEnd) -> None:
        known: dict[str, Value | None] = {
            "http.response.status_code": end.status or None,
            "error.type": end.error or (str(end.status) if end.status >= 500 else None),
            "semroute.rejection": end.rejection,
            "semroute.cost_usd": end.cost_usd,
            "semroute.request_id": end.request_id,
            "semroute.key": end.key,
        }
        if end.decision is not None:
            known |= _of_decision(end.decision)
        if end.completion is not None:
            answer = end.completion
            known |= {"semroute.model": answer.model, "semroute.deployment": answer.deployment}
            known |= {"semroute.tier": answer.tier, **_of_usage(answer.usage)}
        span.set_attributes(_present(known))
        if end.status >= 500:
            span.set_status(self._api.StatusCode.ERROR)


def _present(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _of_decision(decision: Decision) -> dict[str, Value]:
    return _present(
        {
            "semroute.category": decision.category,
            "semroute.strategy": decision.strategy,
            "semroute.model": decision.model,
            "semroute.candidates": decision.candidates,
            "semroute.tiers": len(decision.cascade) or None,
            "semroute.is_fallback": decision.is_fallback,
            "semroute.confidence": decision.confidence,
            "semroute.decide_ms": decision.elapsed_ms,
        }
    )


def _of_start(start: AttemptStart, decision: Decision | None) -> dict[str, Value]:
    address = urlsplit(start.address)
    return _present(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS.get(start.provider, start.provider),
            "gen_ai.request.model": start.upstream_model,
            "gen_ai.request.max_tokens": start.max_tokens,
            "gen_ai.request.temperature": start.temperature,
            "gen_ai.request.stream": start.streaming or None,
            "server.address": address.hostname,
            "server.port": address.port or (443 if address.scheme == "https" else 80),
            "semroute.deployment": start.deployment,
            "semroute.model": start.model,
            "semroute.tier": start.tier,
            "semroute.hedge": start.hedge or None,
            "semroute.retry": start.retry or None,
            "semroute.category": None if decision is None else decision.category,
            "semroute.strategy": None if decision is None else decision.strategy,
        }
    )


def _of_attempt(attempt: Attempt) -> dict[str, Value]:
    cost = attempt.cost or Cost(0.0)
    first_ms = attempt.first_token_ms
    return _present(
        {
            "http.response.status_code": attempt.status,
            "error.type": attempt.error_kind,
            "gen_ai.response.time_to_first_chunk": None if first_ms is None else first_ms / 1000,
            "semroute.cost_usd": None if attempt.cost is None else cost.usd,
            "semroute.cost_estimated": cost.estimated or None,
            "semroute.propensity": attempt.probability,
        }
    ) | _of_usage(attempt.usage)


def _of_answer(answer: Completion) -> dict[str, Value]:
    ends = [answer.finish_reason, *(one.finish_reason for one in answer.alternatives)]
    reasons = [end for end in ends if end is not None]
    return _present({"gen_ai.response.model": answer.upstream_model, "gen_ai.response.finish_reasons": reasons or None})


def _of_usage(usage: Usage | None) -> dict[str, Value]:
    if usage is None:
        return {}
    return _present(
        {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
        }
    )


def is_configured(env: Mapping[str, str]) -> bool:
    """Return True if OpenTelemetry's variables ask for traces.

    They name a collector, and do not turn traces off.
    """
    is_off = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
    return not is_off and any(env.get(name) for name in ENDPOINTS)


def open_tracer(
    address: str | None = None, *, exporter: SpanExporter | None = None, upstream: Collection[str] = frozenset()
) -> OpenTelemetryTracer:
    """Open a tracer that sends spans by OTLP over HTTP.

    They are sent in batches, in a thread of its own. Headers, time limits, compression, sampling and the names of the
    service are taken from OpenTelemetry's variables of the process's environment.

    Args:
        address: of the collector, such as ``http://localhost:4318``; None takes ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        exporter: exporter to use in place of the one that sends.
        upstream: as of :class:`OpenTelemetryTracer`.

    Raises:
        MissingExtraError: the extra "otel" is not installed.
        InputError: the address is none of HTTP, or the environment asks for another protocol.
    """
    sdk = require("opentelemetry.sdk.trace", what="tracing", extra="otel")
    export = require("opentelemetry.sdk.trace.export", what="tracing", extra="otel")
    resources = require("opentelemetry.sdk.resources", what="tracing", extra="otel")
    resource = resources.Resource.create()
    if resource.attributes.get("service.name", "").startswith("unknown_service"):
        resource = resource.merge(resources.Resource({"service.name": SCOPE}))
    provider: TracerProvider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(exporter or _otlp_exporter(address)))
    return OpenTelemetryTracer(provider, upstream=upstream)


def _otlp_exporter(address: str | None) -> SpanExporter:
    http = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", what="tracing", extra="otel")
    if address is not None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{address!r} is no address of a collector; give one such as http://localhost:4318")
        exporter: SpanExporter = http.OTLPSpanExporter(address.rstrip("/").removesuffix(PATH) + PATH)
        return exporter
    asked = next((value for name in PROTOCOLS if (value := os.environ.get(name))), PROTOCOL)
    if asked != PROTOCOL:
        raise InputError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {asked!r}, and traces are sent by {PROTOCOL}: set it so, with the port "
            "of the collector's HTTP receiver (usually 4318)"
        )
    from_environment: SpanExporter = http.OTLPSpanExporter()
    return from_environment
