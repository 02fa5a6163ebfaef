"""One serving process: what it serves, how it reloads, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from semroute.config import Config
from semroute.config.load import DEFAULT_NAME, load_config
from semroute.errors import InputError, SemrouteError
from semroute.index.artifact import MemoryArtifact
from semroute.index.manifest import MANIFEST
from semroute.router import Router
from semroute.router.load import locate_index
from semroute.router.tracing import ENDPOINTS, OpenTelemetryTracer, is_configured, open_tracer
from semroute.server.app import GatewayLimits, create_app
from semroute.server.guards import LOOPBACK
from semroute.server.keys import DEFAULT_FILE
from semroute.server.operation import MAX_CONCURRENCY, Operation
from semroute.server.pools import demo_config, keyed_config
from semroute.server.request_log import LogFormat, RequestLog, log_as_json
from semroute.server.sessions import SESSION_TTL_S
from semroute.types.tracing import Tracer

DRAIN_S = 30.0
"""Longest wait for running answers when the server is told to end, seconds."""
HEAD_S = 20.0
"""Longest time within which the header of a request arrives, seconds."""
KEEP_ALIVE_S = 75
"""Time for which a connection is kept without a request, seconds: longer than clients and load balancers keep it (httpx
5 s, and so the vendors' clients; nginx and AWS 60 s). Where the server closes first, it can meet a request on its way,
whose client then sees a connection that was cut."""
LAST_S = 1
"""Wait after it, within which connections are closed before calls are cancelled, seconds."""
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TICKS_A_SECOND = 10
SPOOL = Path(".semroute/spool")
"""Spool of the outcome log where the configuration names none, beside the file."""
YOUNG_OBJECTS = 20_000
"""Objects that are made, beyond those that have gone, until the garbage collector looks at them. A request makes about
a thousand, and nearly all of them go without it; Python's own 700 had it run with each request."""
log = logging.getLogger("semroute")
HEADER_READ_BYTES = 64 * 1024
"""Header that is read at all: from :data:`semroute.server.guards.MAX_HEADER_BYTES` to here the refusal is ours."""


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server's processes, which can be sent to another one.

    Attributes:
        index: folder of the index; None as for :meth:`Router.load`.
        config: file of the configuration; None takes ``semroute.yaml``, else the keys in the environment.
        demo_url: address of the test double whose models are served instead; None serves those of the configuration.
        keys: file of the virtual keys.
        hosts: names that the Host header may have.
        origins: origins of pages that may call.
        session_ttl_s: time without a request after which a conversation's model is forgotten, seconds.
        log_format: form of the line for each request.
        max_concurrency: requests that one process serves at once.
        drain_s: longest wait for running answers at the end, seconds.
        is_watching: whether the files are checked for changes; SIGHUP reloads in any case.
        traces: address of the collector of traces; None takes OpenTelemetry's variables, and traces nothing without.
        traced_upstream: deployments that get the ``traceparent`` of a call.
    """

    index: Path | None = None
    config: Path | None = None
    demo_url: str | None = None
    keys: Path = DEFAULT_FILE
    hosts: frozenset[str] = LOOPBACK
    origins: tuple[str, ...] = ()
    session_ttl_s: float = SESSION_TTL_S
    log_format: LogFormat = "none"
    max_concurrency: int = MAX_CONCURRENCY
    drain_s: float = DRAIN_S
    is_watching: bool = True
    traces: str | None = None
    traced_upstream: tuple[str, ...] = ()

    def load(self) -> Config:
        """Return the configuration of this moment.

        Raises:
            ConfigError: it cannot be used.
        """
        if self.demo_url is not None:
            return demo_config(self.demo_url)
        config = load_config(self.config)
        return config if config.deployments else keyed_config(os.environ)

    def open(self, old: Router | None = None) -> Router:
        """Open the router of this moment.

        Breakers, limits and budgets in this process are carried over from ``old``, as long as the sections about them
        are the same.

        Raises:
            SemrouteError: as :meth:`Router.load`.
        """
        config, gates = self.load(), None
        if old is not None and config.state == old.config.state == "memory" and config.breaker == old.config.breaker:
            gates = old.dispatcher.gates
        tracer = self._tracer(config) if old is None else old.tracer
        config = with_spool(config)
        return Router.load(self.index, config=config, log=config.log.enabled is not False, gates=gates, tracer=tracer)

    def _tracer(self, config: Config) -> Tracer | None:
        """Open the tracer of this process.

        One that only the environment asks for, and that cannot be opened, is no reason not to serve.

        Raises:
            InputError: the address is none, or a deployment that is to get traces does not exist.
            MissingExtraError: ``traces`` is given, and the extra "otel" is not installed.
        """
        unknown = set(self.traced_upstream) - {one.name for one in config.deployments}
        if unknown:
            raise InputError(f"--trace-upstream {min(unknown)}: there is no such deployment in the configuration")
        if self.traces is not None:
            return open_tracer(self.traces, upstream=self.traced_upstream)
        if not is_configured(os.environ):
            return None
        try:
            return open_tracer(upstream=self.traced_upstream)
        except SemrouteError as error:
            log.warning("no traces are sent, though %s is set: %s", ENDPOINTS[1], error)
            return None

    def stamp(self, router: Router) -> object:
        """Return the identity of a router's files, and of any before them.

        The latter would be found first.
        """
        folder = locate_index(self.index, router.config)
        if folder is None and not isinstance(router.live.artifact, MemoryArtifact):
            folder = router.live.artifact.folder
        config = None if self.demo_url is not None else _stamp(self.config or Path(DEFAULT_NAME))
        policies = (router.config.trial.policy, *router.config.policies.values())
        told = tuple(_stamp(path) for path in policies if path is not None)
        return config, folder, None if folder is None else _stamp(folder / MANIFEST), told


def with_spool(config: Config) -> Config:
    """Return a configuration whose log has a spool, unless it refuses one.

    A worker may be killed.
    """
    if config.log.spool is not None or config.log.enabled is False:
        return config
    section = config.log.model_copy(update={"spool": config.file_folder / SPOOL})
    return config.model_copy(update={"log": section})


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


class DrainingServer(uvicorn.Server):
    """Server that drains: answers end, new requests get a 503.

    The first SIGTERM or SIGINT begins the drain, which ends with the last answer or after ``drain_s``; a second one
    ends at once. SIGHUP reloads.

    Args:
        config: uvicorn's settings.
        operation: the gateway.
        drain_s: longest wait for running answers, seconds.
        on_start: called when requests are taken.
        head_s: longest time within which the header of a request arrives, seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        operation: Operation,
        drain_s: float,
        on_start: Callable[[], object] = lambda: None,
        head_s: float = HEAD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config)
        self._head_s = head_s
        self._without_head: dict[object, float] = {}
        self._operation, self._drain_s = operation, drain_s
        self._on_start, self._clock = on_start, clock
        self._until: float | None = None
        self._reload: asyncio.Task[None] | None = None
        self._is_reload_wanted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain; the second time, end."""
        if sig == signal.SIGINT and multiprocessing.parent_process() is not None:
            return  # Ctrl-C reaches every process of a terminal; the supervisor passes it on as a SIGTERM
        is_first = self._until is None
        super().handle_exit(sig, frame)
        if is_first and self.started:
            self._until = self._clock() + self._drain_s
            self._operation.drain()
            self.should_exit = False  # not yet: that is decided at every tick

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the gateway, then listen to SIGHUP."""
        await super().startup(sockets)
        if _may_reload():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._begin_reload)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end."""
        if self._until is not None and (not self._operation.state.running or self._clock() >= self._until):
            self.should_exit = True
        if counter % TICKS_A_SECOND == 0:
            self._end_slow_heads()
        return await super().on_tick(counter)

    def _end_slow_heads(self) -> None:
        """Close connections that stay without a request or a timer too long.

        The timer is uvicorn's.

        uvicorn bounds the time between two requests, but not that within a header.
        """
        now = self._clock()
        waiting = [
            connection
            for connection in self.server_state.connections
            if getattr(connection, "timeout_keep_alive_task", None) is None and _is_without_request(connection)
        ]
        self._without_head = {one: self._without_head.get(one, now) for one in waiting}
        for connection in waiting:
            if now - self._without_head[connection] >= self._head_s and not connection.transport.is_closing():
                connection.transport.write(TIMED_OUT)
                connection.transport.close()

    def _begin_reload(self) -> None:
        """Reload, or once more after a reload that is under way.

        That one may have read the files before they changed.
        """
        self._is_reload_wanted = True
        if self._reload is None or self._reload.done():
            self._reload = asyncio.get_running_loop().create_task(self._reload_wanted())

    async def _reload_wanted(self) -> None:
        while self._is_reload_wanted:
            self._is_reload_wanted = False
            await self._operation.generations.reload()


def _is_without_request(connection: object) -> bool:
    cycle = getattr(connection, "cycle", None)
    return cycle is None or bool(getattr(cycle, "response_complete", False))


def _may_reload() -> bool:
    """Return True if SIGHUP may be handled here.

    nohup has it ignored, and only the main thread gets signals.
    """
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def server_config(app: Operation) -> uvicorn.Config:
    """Return uvicorn's settings of a serving process."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_S,
        h11_max_incomplete_event_size=HEADER_READ_BYTES,
    )


def settle_memory() -> None:
    """Leave all that is loaded out of later garbage collections.

    Without it each full one walks over index and modules, which stay. What an earlier call left out, such as a replaced
    router, is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _tell_supervisor() -> None:
    """Have the supervisor pass a SIGHUP on to every worker."""
    os.kill(os.getppid(), signal.SIGHUP)


def serve_on(
    listening: socket.socket,
    settings: ServeSettings,
    router: Router,
    on_start: Callable[[], object] = lambda: None,
) -> None:
    """Serve until a signal; close the router and flush its log at the end.

    A signal that ended it is raised again afterwards, as by uvicorn.
    """
    tracer = router.tracer if isinstance(router.tracer, OpenTelemetryTracer) else None
    if settings.log_format == "json":
        log_as_json("semroute", "uvicorn.error")
    app = create_app(
        router,
        keys=settings.keys,
        hosts=settings.hosts,
        origins=settings.origins,
        session_ttl_s=settings.session_ttl_s,
        limits=GatewayLimits(settings.max_concurrency),
        log=RequestLog(settings.log_format),
        reopen=settings.open,
        stamp=settings.stamp if settings.is_watching else None,
        tracer=tracer,
        tell=_tell_supervisor if multiprocessing.parent_process() is not None and _may_reload() else None,
        settle=settle_memory,
    )

    def start() -> None:
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        settle_memory()
        on_start()

    try:
        DrainingServer(server_config(app), app, settings.drain_s, start).run(sockets=[listening])
    finally:
        router.close()  # where the gateway could not even start; else it is closed already
        if tracer is not None:
            tracer.close()
