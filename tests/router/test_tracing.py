"""Spans of the library: their names, attributes and parents, and what is never in them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.errors import DispatchError, InputError, MissingExtraError
from semroute.router import Router
from semroute.router.tracing import PROVIDERS, OpenTelemetryTracer, is_configured, open_tracer
from semroute.testing import FakeProvider, answer, fail, hang

pytest.importorskip("opentelemetry.sdk", reason='needs the extra "otel"')

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

SOUP = "recipe for carrot soup of my grandmother"
KEY = "sk-secret-of-the-tests"
CASCADE = {"tiers": ["small", "large"]}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as running:
        yield running


class Traced:
    """A router with two deployments of ``small`` and one of ``large``, and the spans that it made."""

    def __init__(self, index: Path, provider: FakeProvider, upstream: Sequence[str] = (), **sections: Any) -> None:
        place = {"base_url": provider.base_url, "price": {"input": 1.0, "output": 2.0}, "api_key_env": ["SECRET"]}
        names = (("small-1", "small"), ("small-2", "small"), ("large-1", "large"))
        deployments = [{"name": name, "model": model, **place} for name, model in names]
        self._exporter = InMemorySpanExporter()
        self.tracer = open_tracer(exporter=self._exporter, upstream=upstream)
        config = Config.model_validate({"deployments": deployments, **sections})
        self.router = Router.load(index, config=config, log=False, env={"SECRET": KEY}, tracer=self.tracer)

    def spans(self) -> list[ReadableSpan]:
        """Return every span that has ended, in the order of their beginnings."""
        self.router.close()
        self.tracer.close()
        found = self._exporter.get_finished_spans()
        return sorted(found, key=lambda span: span.start_time or 0)

    def attempts(self) -> list[dict[str, Any]]:
        """Return the attributes of every attempt's span."""
        return [dict(span.attributes or {}) for span in self.spans() if span.kind is SpanKind.CLIENT]


@pytest.mark.slow
def test_an_attempt_has_the_names_of_the_conventions(routing_index: Path, provider: FakeProvider) -> None:
    traced = Traced(routing_index, provider)
    provider.script(answer("Take carrots."))
    completion = traced.router.complete(SOUP)
    decided, called = traced.spans()
    assert (decided.name, decided.kind) == ("semroute.decide", SpanKind.INTERNAL)
    assert (called.name, called.kind) == ("chat small", SpanKind.CLIENT)
    assert decided.attributes is not None
    assert (decided.attributes["semroute.category"], decided.attributes["semroute.strategy"]) == ("cooking", "semantic")
    found = dict(called.attributes or {})
    assert completion.usage is not None
    assert completion.cost is not None
    expected: dict[str, object] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": completion.upstream_model,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": completion.usage.input_tokens,
        "gen_ai.usage.output_tokens": completion.usage.output_tokens,
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(provider.base_url.split(":")[2].split("/")[0]),
        "semroute.deployment": completion.deployment,
        "semroute.model": "small",
        "semroute.category": "cooking",
        "semroute.strategy": "semantic",
        "semroute.cost_usd": completion.cost.usd,
    }
    assert expected.items() <= found.items()
    assert "error.type" not in found


@pytest.mark.slow
def test_a_failover_is_two_spans_of_which_the_first_has_the_error(routing_index: Path, provider: FakeProvider) -> None:
    traced = Traced(routing_index, provider)
    provider.script(fail(503, f"no {SOUP}"), answer("fine"))
    traced.router.complete(SOUP)
    _, first, second = traced.spans()
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["error.type"] == "OverloadedError"
    assert first.attributes["http.response.status_code"] == 503
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, None)
    assert "error.type" not in second.attributes
    assert {first.attributes["semroute.deployment"], second.attributes["semroute.deployment"]} == {"small-1", "small-2"}


@pytest.mark.slow
def test_the_calls_of_a_cascade_have_their_tiers(routing_index: Path, provider: FakeProvider) -> None:
    traced = Traced(routing_index, provider, cascade=CASCADE, categories={"cooking": {"models": ["small", "large"]}})
    provider.script(answer(""), answer(""), answer("Take carrots."))  # the other deployment of small is tried as well
    assert traced.router.complete(SOUP).tier == 1
    traced.router.complete(SOUP, model="small")
    tiers = [(one["semroute.model"], one.get("semroute.tier")) for one in traced.attempts()]
    assert tiers == [("small", 0), ("small", 0), ("large", 1), ("small", None)]


@pytest.mark.slow
def test_neither_prompts_nor_answers_nor_messages_nor_keys_are_in_a_span(
    routing_index: Path, provider: FakeProvider
) -> None:
    traced = Traced(routing_index, provider)
    provider.always(fail(400, f"{SOUP} with {KEY}"))
    with pytest.raises(DispatchError):
        traced.router.complete(SOUP)
    provider.always(answer("Take carrots of grandmother."))
    traced.router.complete(SOUP)
    text = "".join(span.to_json() for span in traced.spans())
    assert "chat small" in text
    assert not [word for word in ("carrot", "grandmother", "secret") if word in text.lower()]


@pytest.mark.slow
def test_the_span_of_a_stream_ends_with_its_last_piece(routing_index: Path, provider: FakeProvider) -> None:
    traced = Traced(routing_index, provider)
    provider.script(answer("one two three"))
    pieces = list(traced.router.stream(SOUP))
    assert len(pieces) > 2
    (called,) = traced.attempts()
    assert called["gen_ai.request.stream"] is True
    assert called["gen_ai.usage.output_tokens"] > 0
    assert called["gen_ai.response.time_to_first_chunk"] > 0


@pytest.mark.slow
def test_an_attempt_that_the_caller_gave_up_is_marked_and_no_failure(
    routing_index: Path, provider: FakeProvider
) -> None:
    traced = Traced(routing_index, provider)
    arrived = threading.Event()
    provider.always(lambda _: arrived.set() or hang())  # type: ignore[func-returns-value]

    async def leave() -> None:
        call = asyncio.create_task(traced.router.acomplete(SOUP))
        await asyncio.to_thread(arrived.wait)
        call.cancel()
        await asyncio.wait({call})

    asyncio.run(leave())
    (span,) = [span for span in traced.spans() if span.kind is SpanKind.CLIENT]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Abandoned"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.slow
def test_the_spans_of_a_call_are_of_the_trace_that_it_is_made_in(routing_index: Path, provider: FakeProvider) -> None:
    traced = Traced(routing_index, provider)
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    async def call() -> None:
        with traced.tracer.request("POST", "/v1/chat/completions", "http", parent):
            await traced.router.acomplete(SOUP)

    asyncio.run(call())
    spans = traced.spans()
    assert [span.kind for span in spans] == [SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {"0af7651916cd43dd8448eb211c80319c"}
    server, *inner = spans
    assert server.parent is not None
    assert server.context is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert [span.parent and span.parent.span_id for span in inner] == [server.context.span_id] * 2
    assert all("traceparent" not in request.headers for request in provider.requests)


@pytest.mark.slow
def test_only_deployments_that_are_named_get_the_trace_of_their_calls(
    routing_index: Path, provider: FakeProvider
) -> None:
    traced = Traced(routing_index, provider, upstream=["large-1"])
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "of=a-client"}

    async def call() -> None:
        with traced.tracer.request("POST", "/v1/chat/completions", "http", parent):
            await traced.router.acomplete(SOUP, model="small")
            await traced.router.acomplete(SOUP, model="large")
            await traced.router.acomplete(SOUP, model="small")

    asyncio.run(call())
    told = [request.headers.get("traceparent") for request in provider.requests]
    large = next(span for span in traced.spans() if span.name == "chat large")
    assert large.context is not None
    assert told == [None, f"00-0af7651916cd43dd8448eb211c80319c-{large.context.span_id:016x}-01", None]
    assert not any("tracestate" in request.headers for request in provider.requests)


def test_what_a_client_makes_up_is_no_name_of_a_span() -> None:
    exporter = InMemorySpanExporter()
    tracer = open_tracer(exporter=exporter)
    with tracer.request("INVENTED1", None, "http", {"traceparent": "no trace at all"}):
        pass
    tracer.close()
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.parent) == ("HTTP", None)
    assert dict(span.attributes or {}) == {"http.request.method": "_OTHER", "url.scheme": "http"}


def test_only_what_is_named_otherwise_in_the_conventions_is_renamed() -> None:
    from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GenAiProviderNameValues

    assert set(PROVIDERS.values()) <= {value.value for value in GenAiProviderNameValues}


@pytest.mark.parametrize(
    ("env", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_turn_traces_on_and_off(env: dict[str, str], is_on: bool) -> None:
    assert is_configured(env) is is_on


@pytest.mark.slow
@pytest.mark.parametrize("address", ["localhost:4318", "grpc://localhost:4317", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="give one such as http://localhost:4318"):
        open_tracer(address)


def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InputError, match="set it so, with the port of the collector's HTTP receiver"):
        open_tracer()


def test_a_missing_extra_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(
        MissingExtraError, match=r'tracing needs the extra "otel": pip install "semroute-router\[otel\]"'
    ):
        open_tracer("http://localhost:4318")


def test_a_collector_that_is_away_delays_the_end_no_longer_than_it_may() -> None:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    released = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            released.wait()
            return SpanExportResult.FAILURE

    tracer = open_tracer(exporter=Hanging())
    with tracer.decision():
        pass
    tracer.close(within_s=0.01)
    released.set()


def test_a_provider_of_the_program_s_own_stays_open() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OpenTelemetryTracer(provider, closes=False)
    tracer.close()
    with tracer.decision():
        pass
    assert [span.name for span in exporter.get_finished_spans()] == ["semroute.decide"]
