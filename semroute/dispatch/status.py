"""Status of endpoints: saved state, health probes and reporting.

``semroute providers status`` reads shared state, or the state file of a process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import httpx

from semroute.catalog import model_card, price_of
from semroute.config import Config
from semroute.dispatch.plan import endpoint_of
from semroute.errors import DataError, DispatchError, EmptyAnswerError, InputError, SemrouteError, StateError
from semroute.eventloop import WorkerPool
from semroute.providers import CallTarget, adapter_of
from semroute.providers.connection import shared_client
from semroute.resilience import MemoryGates
from semroute.resilience.gates import open_gates
from semroute.resilience.latency import LatencyWindows
from semroute.storage import atomic_write, read_json
from semroute.text.names import did_you_mean
from semroute.types import AdmissionControl, Endpoint, EndpointStatus, Request

STATE_FILE = Path(".semroute/state.json")
"""State file of the command line, relative to the working folder."""


KEYS = {"at", "places", "latencies"}
ENDPOINT_KEYS = {"deployment", "credential", "breaker", "calls", "failure_share", "in_flight", "headroom", "spent_usd"}
LATENCY_KEYS = {
    "deployment",
    "streaming",
    "prompt_tokens",
    "samples",
    "first_token_p50_s",
    "per_token_p50_s",
    "total_p50_s",
}


def endpoints_of(config: Config) -> list[Endpoint]:
    """Return the endpoints: each deployment with each credential.

    They are in the order of the file.
    """
    return [
        endpoint_of(deployment, credential, config)
        for deployment in config.deployments
        for credential in deployment.api_key_env or (None,)
    ]


async def describe(gates: AdmissionControl, latencies: LatencyWindows, config: Config) -> dict[str, Any]:
    """Return endpoint status and latencies of this process, for JSON."""
    endpoints = endpoints_of(config)
    statuses = await gates.statuses(endpoints)
    rows = [
        {"deployment": endpoint.deployment, "credential": endpoint.credential, **_shown(status)}
        for endpoint, status in zip(endpoints, statuses, strict=True)
    ]
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "places": rows, "latencies": latencies.snapshot()}


def _shown(status: EndpointStatus) -> dict[str, Any]:
    """Return the status without the digest of a refused key, which is private."""
    return {name: value for name, value in status._asdict().items() if name != "refused"}


def save_state(path: Path, gates: MemoryGates, description: Mapping[str, Any]) -> None:
    """Write the state of this process atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**description, "gates": gates.snapshot()}, indent=1)
    with atomic_write(path) as part:
        part.write_text(content, encoding="utf-8")


def restore_state(path: Path, gates: MemoryGates) -> None:
    """Restore the month's spending from the file, if there is one.

    Raises:
        DataError: the file is not one that :func:`save_state` wrote.
    """
    saved = _read(path)
    if saved is not None:
        try:
            gates.restore(saved["gates"])
        except DataError as error:
            raise DataError("not a saved state of semroute; delete it", path=path) from error


async def read_status(config: Config, env: Mapping[str, str], *, file: Path = STATE_FILE) -> dict[str, Any]:
    """Return endpoint status: ``source``, ``places``, ``latencies``.

    Raises:
        DataError: the saved state cannot be read.
    """
    gates = open_gates(config, env)
    if isinstance(gates, MemoryGates):
        saved = _read(file)
        if saved is None:
            source = f"no saved state in {file}: nothing was called from this folder yet"
            return {"source": source, **await describe(gates, LatencyWindows(), config)}
        found = {key: saved[key] for key in ("at", "places", "latencies")}
        return {"source": f"state of one process, saved {saved['at']} in {file}", **found}
    try:
        found = await describe(gates, LatencyWindows(), config)
        published = await gates.read_snapshots()
    finally:
        await gates.close()
    source = f"shared state in {config.state}" if gates.mode == "shared" else f"{config.state} does not answer"
    return {**found, "source": source, "latencies": _of_replicas(published, config.state)}


async def enable(config: Config, env: Mapping[str, str], name: str, *, file: Path = STATE_FILE) -> None:
    """Reopen a deployment, or all endpoints of a key.

    Lifts rate-limit hints, circuit breakers, suspensions and disabled keys. With state in Redis this holds for every
    replica at once. With state in process the request is written next to the state file, where the process that saves
    its state there reads it (:func:`wishes`).

    Args:
        config: deployments and rules.
        env: environment with the password of the Redis.
        name: a deployment, or the environment variable of a key.
        file: state file of a process.

    Raises:
        InputError: there is no such deployment or key, or no process has saved its state.
        DataError: the saved state cannot be read.
        StateError: Redis is away.
    """
    endpoints = [endpoint for endpoint in endpoints_of(config) if name in (endpoint.deployment, endpoint.credential)]
    if not endpoints:
        # The message does not repeat the name: it may be a key pasted by mistake, which must not reach a log.
        keys = sorted({variable for deployment in config.deployments for variable in deployment.api_key_env})
        meant = did_you_mean(name, [*keys, *(deployment.name for deployment in config.deployments)])
        names = ", ".join(deployment.name for deployment in config.deployments) or "none"
        raise InputError(
            "no key and no deployment has that name; "
            f"there are {', '.join(keys) or 'no keys'} and the deployments {names}{meant and '; ' + meant}"
        )
    gates = open_gates(config, env)
    if isinstance(gates, MemoryGates):
        _request_reopening(file, endpoints)
        return
    try:
        await gates.lift(endpoints)
        if any(endpoint.credential == name for endpoint in endpoints):
            await gates.enable(name)  # also at hosts that the configuration no longer names
    finally:
        await gates.close()


def wish_file(file: Path) -> Path:
    """Return the path of the reopening requests next to a state file.

    ``semroute providers enable`` writes it.
    """
    return file.with_suffix(".enable.json")


def wishes(file: Path) -> dict[str, float]:
    """Read the reopening requests: endpoint key to time of the request.

    Times are seconds since 1970.

    Raises:
        DataError: the file is not one that :func:`enable` wrote.
    """
    path = wish_file(file)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read ({type(error).__name__}); delete it", path=path) from error
    if not isinstance(found, dict) or not all(isinstance(at, int | float) for at in found.values()):
        raise DataError("not a list of what shall be enabled; delete it", path=path)
    return found


def _request_reopening(file: Path, endpoints: Sequence[Endpoint]) -> None:
    saved = _read(file)
    if saved is None:
        raise InputError(
            f"the state is in process (state: memory), and none has saved its state in {file}: restart the process"
        )
    with atomic_write(wish_file(file)) as part:
        part.write_text(
            json.dumps({**wishes(file), **dict.fromkeys((endpoint.key for endpoint in endpoints), time.time())})
        )
    lifted = {(endpoint.deployment, endpoint.credential) for endpoint in endpoints}
    for row in saved["places"]:
        if (row["deployment"], row["credential"]) in lifted:
            row.update(breaker="closed", failure_share=0.0, calls=0, ramp=1.0, wait_s=0.0, reason=None)
    with atomic_write(file) as part:
        part.write_text(json.dumps(saved, indent=1), encoding="utf-8")


def _of_replicas(published: Mapping[str, Mapping[str, Any]], where: str) -> Sequence[Mapping[str, Any]]:
    """Return the latencies of all replicas.

    Raises:
        StateError: a snapshot holds something else.
    """
    rows = []
    for replica, snapshot in published.items():
        found = snapshot.get("latencies", [])
        if not _are_rows(found, LATENCY_KEYS):
            raise StateError(f"{where} holds a snapshot of {replica} that semroute did not write; delete it")
        rows += [{**row, "replica": replica} for row in found]
    return rows


def _are_rows(found: object, keys: set[str]) -> bool:
    return isinstance(found, list) and all(isinstance(row, dict) and row.keys() >= keys for row in found)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        saved: Any = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the saved state cannot be read ({type(error).__name__}); delete it", path=path) from error
    if not isinstance(saved, dict) or not isinstance(saved.get("gates"), dict) or not saved.keys() >= KEYS:
        raise DataError("not a saved state of semroute; delete it", path=path)
    if not (_are_rows(saved["places"], ENDPOINT_KEYS) and _are_rows(saved["latencies"], LATENCY_KEYS)):
        raise DataError("not a saved state of semroute; delete it", path=path)
    return saved


# Health probes: one small call of every configured endpoint, without admission control.

QUESTION = Request(({"role": "user", "content": "Answer with the word OK."},), max_tokens=16)


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of one health probe.

    Attributes:
        deployment: name of the deployment.
        model: the logical model.
        credential: environment variable of the key that was used.
        latency_ms: time to the complete answer, or to the error.
        upstream_model: model name in the answer; None if there was no answer.
        capabilities: known capabilities; None if the configuration names none.
        has_price: True if its cost can be computed.
        error, error_kind: reason of the failure.
    """

    deployment: str
    model: str
    credential: str | None
    latency_ms: float
    upstream_model: str | None
    capabilities: tuple[str, ...] | None
    has_price: bool
    error: str | None = None
    error_kind: str | None = None


async def probe_all(
    config: Config, *, env: Mapping[str, str] = os.environ, client: httpx.AsyncClient | None = None
) -> list[Probe]:
    """Probe every deployment with each of its keys, concurrently.

    Results are in the order of the file.
    """
    client = client or await shared_client()
    calls = [
        _probe(CallTarget(deployment, variable, env.get(variable or "", "").strip() or None), config, client)
        for deployment in config.deployments
        for variable in deployment.api_key_env or (None,)
    ]
    return await asyncio.gather(*calls)


async def _probe(target: CallTarget, config: Config, client: httpx.AsyncClient) -> Probe:
    deployment = target.deployment
    started = time.perf_counter()
    if target.credential is not None and target.key is None:
        return _result(
            target, config, 0.0, error=f"{target.credential} is not set: export it", kind="NoDeploymentError"
        )
    try:
        answer = await adapter_of(deployment).complete(client, target, QUESTION, within_s=deployment.timeout_s)
    except EmptyAnswerError as error:
        # A reasoning model may spend the probe's few tokens on reasoning: it is available.
        elapsed_ms = (time.perf_counter() - started) * 1000
        if error.finish_reason == "length":
            return _result(target, config, elapsed_ms, upstream_model=deployment.upstream)
        return _result(target, config, elapsed_ms, error=str(error), kind=type(error).__name__)
    except DispatchError as error:
        elapsed_ms = (time.perf_counter() - started) * 1000
        return _result(target, config, elapsed_ms, error=str(error), kind=type(error).__name__)
    elapsed_ms = (time.perf_counter() - started) * 1000
    return _result(target, config, elapsed_ms, upstream_model=answer.upstream_model)


def _result(
    target: CallTarget,
    config: Config,
    latency_ms: float,
    *,
    upstream_model: str | None = None,
    error: str | None = None,
    kind: str | None = None,
) -> Probe:
    deployment = target.deployment
    capabilities = model_card(deployment.model, config).capabilities
    return Probe(
        deployment=deployment.name,
        model=deployment.model,
        credential=target.credential,
        latency_ms=latency_ms,
        upstream_model=upstream_model,
        capabilities=None if capabilities is None else tuple(sorted(capabilities)),
        has_price=price_of(deployment, config) is not None,
        error=error,
        error_kind=kind,
    )


# Reporting of the status: to replicas through Redis, to ``semroute providers status`` through a file.

EVERY_S = 1.0
"""Least interval between reports, seconds."""

log = logging.getLogger("semroute")


@runtime_checkable
class Publishing(Protocol):
    """Admission control that can publish this process's status to others."""

    async def publish(self, snapshot: Mapping[str, Any]) -> None: ...


class Reporter:
    """Background reporter of the status.

    No request waits for a report; a failed one is only logged.

    Args:
        gates: admission control to report on; state in memory is written to ``file``, shared state is published.
        latencies: latencies measured by this process.
        config: deployments and rules.
        file: state file; None writes none.
        workers: threads that write the file; None makes a pool.
        clock: monotonic clock, seconds.
    """

    def __init__(
        self,
        gates: AdmissionControl,
        latencies: LatencyWindows,
        config: Config,
        file: Path | None,
        workers: WorkerPool | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._gates = gates
        # Once, since every call asks whether a report is due: isinstance() of a protocol takes some 10 µs.
        self._publishing = gates if isinstance(gates, Publishing) else None
        self._latencies = latencies
        self._config = config
        self._file = file
        self._workers = workers or WorkerPool("semroute-report")
        self._last = self._looked = float("-inf")
        self._heeded_to = time.time()
        self._running: asyncio.Task[None] | None = None

    def due(self) -> None:
        """Start a report if the last one is old enough."""
        if not self._reports or self._clock() - self._last < EVERY_S:
            return
        if self._running is not None and not self._running.done():  # a disk that hangs is not asked again and again
            return
        self._last = self._clock()
        self._running = asyncio.get_running_loop().create_task(self.report())

    async def finish(self) -> None:
        """Wait for the running loop's report, :data:`EVERY_S` at most."""
        running = self._running
        if running is None or running.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait({running}, timeout=EVERY_S)
        running.cancel()

    async def heed(self) -> None:
        """Apply the reopening requests next to this process's state file."""
        if self._file is None or not isinstance(self._gates, MemoryGates):
            return
        if self._clock() - self._looked < EVERY_S or not wish_file(self._file).exists():
            return
        self._looked = self._clock()
        try:
            found = wishes(self._file)
        except DataError as error:
            log.warning("what shall be enabled could not be read: %s", error)
            return
        wanted = {key for key, at in found.items() if at > self._heeded_to}
        self._heeded_to = max([self._heeded_to, *found.values()])
        await self._gates.lift([endpoint for endpoint in endpoints_of(self._config) if endpoint.key in wanted])

    async def report(self) -> None:
        """Report the status now."""
        if not self._reports:
            return
        try:
            description = await describe(self._gates, self._latencies, self._config)
            if self._publishing is not None:
                await self._publishing.publish(description)
            elif isinstance(self._gates, MemoryGates) and self._file is not None:
                await self._workers.run(save_state, self._file, self._gates, description)
        except (OSError, SemrouteError) as error:
            log.warning("the state of the deployments could not be reported: %s", error)

    @property
    def _reports(self) -> bool:
        return self._file is not None or self._publishing is not None
