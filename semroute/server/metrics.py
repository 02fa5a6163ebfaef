"""Metrics of the gateway in Prometheus' text format.

Every label is of a closed set: routes, formats, status classes, reasons, and names of the configuration. A name that a
client made up is ``other``. Several workers share their counts in files (prometheus_client's multiprocess mode), whose
folder is named by ``PROMETHEUS_MULTIPROC_DIR`` before this module is imported; any worker then shows all of them.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from semroute.config import Config
from semroute.server.records import NONE, OTHER, ServedRecord
from semroute.types.gates import BreakerState, EndpointStatus

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms' buckets, seconds: from a refusal to a long answer."""
STATES: Mapping[BreakerState, int] = {
    BreakerState.CLOSED: 0,
    BreakerState.HALF_OPEN: 1,
    BreakerState.OPEN: 2,
    BreakerState.SUSPENDED: 3,
    BreakerState.DISABLED: 4,
}
"""Number of each breaker state, the worst last."""


Labelled = TypeVar("Labelled", Counter, Histogram)


class Metrics:
    """Counters of one process; :meth:`render` shows those of all workers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of its own for each one, which nobody asks for
        self._registry = CollectorRegistry()
        self._models: frozenset[str] = frozenset()
        self._children: dict[tuple[object, ...], Counter | Histogram] = {}
        self._requests = self._counter("requests", "Requests", "route", "format", "model", "status")
        self._seconds = self._histogram("request_seconds", "Time to the last byte", "route", "format")
        self._first_token = self._histogram("first_token_seconds", "Time to the first piece", "format", "model")
        self._tokens = self._counter("tokens", "Tokens", "model", "kind")
        self._usd = self._counter("cost_usd", "USD", "model")
        self._decisions = self._counter("decisions", "Decisions", "strategy")
        self._rejections = self._counter("rejections", "Requests that the gateway refused", "reason")
        self._reloads = self._counter("reloads", "Reloads of configuration and index", "result")
        self._running = self._gauge("requests_in_progress", "Requests under way", "livesum")
        self._streams = self._gauge("open_streams", "Streams under way", "livesum")
        text = ", ".join(f"{number} {state.value}" for state, number in STATES.items())
        self._breakers = self._gauge(
            "breaker_state", f"Breaker: {text}; of several workers the worst", "livemax", "deployment"
        )
        # Both are there at 0, so that a rate is known from the first request on.
        for result in ("ok", "failed"):
            self._reloads.labels(result)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"semroute_{name}", help, labels, registry=self._registry)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(f"semroute_{name}", help, labels, buckets=SECONDS, registry=self._registry)

    def _gauge(self, name: str, help: str, mode: str, *labels: str) -> Gauge:
        return Gauge(f"semroute_{name}", help, labels, multiprocess_mode=mode, registry=self._registry)  # type: ignore[arg-type]

    def _child(self, metric: Labelled, *labels: str) -> Labelled:
        """Return a metric with labels, cached.

        prometheus_client would look it up behind a lock for each request.
        """
        found = self._children.get((metric, *labels))
        if found is None:
            found = self._children[metric, *labels] = metric.labels(*labels)
        return found  # type: ignore[return-value]  # of the metric's own class

    def know(self, config: Config) -> None:
        """Take the models that a label may name."""
        self._models = frozenset(one.model for one in config.deployments)

    def run(self, change: int) -> None:
        """Count a request that begins (1) or has ended (-1)."""
        self._running.inc(change)

    def end(self, record: ServedRecord, elapsed_s: float) -> None:
        """Count what a request was, at its end."""
        model, usage = self._model(record.model), record.usage
        self._child(self._requests, record.route, record.format, model, f"{record.status // 100}xx").inc()
        self._child(self._seconds, record.route, record.format).observe(elapsed_s)
        if record.first_token_s is not None:
            self._child(self._first_token, record.format, model).observe(record.first_token_s)
        if usage is not None:
            self._child(self._tokens, model, "input").inc(max(usage.input_tokens, 0))
            self._child(self._tokens, model, "cached").inc(max(usage.cached_tokens, 0))
            self._child(self._tokens, model, "output").inc(max(usage.output_tokens, 0))
        if record.usd is not None:
            self._child(self._usd, model).inc(max(record.usd, 0.0))
        if record.decision is not None:
            self._child(self._decisions, record.decision.strategy).inc()
        if record.rejection is not None:
            self._child(self._rejections, record.rejection).inc()

    def stream(self, change: int) -> None:
        """Count a stream that opens (1) or ends (-1)."""
        self._streams.inc(change)

    def reloaded(self, result: str) -> None:
        """Count a reload, ``ok`` or ``failed``."""
        self._reloads.labels(result).inc()

    def show_breakers(self, statuses: Iterable[tuple[str, EndpointStatus]]) -> None:
        """Set the breaker state of each deployment: the worst among its keys."""
        worst: dict[str, int] = {}
        for deployment, status in statuses:
            worst[deployment] = max(worst.get(deployment, 0), STATES[status.breaker])
        if MULTIPROCESS not in os.environ:  # there, the collector drops what a dead worker left
            self._breakers.clear()  # deployments of an older configuration
        for deployment, number in worst.items():
            self._breakers.labels(deployment).set(number)

    def render(self) -> bytes:
        """Return the text of all metrics."""
        if MULTIPROCESS in os.environ:
            shared = CollectorRegistry()
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            return generate_latest(shared)
        return generate_latest(self._registry)

    def _model(self, name: str | None) -> str:
        if name is None:
            return NONE
        return name if name in self._models else OTHER
