"""Supervisor of workers that share a socket; dead ones are replaced.

A worker is a new process, not a fork: it opens its own router, and inherits no thread, lock or connection.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from semroute.errors import SemrouteError

if TYPE_CHECKING:  # prometheus_client looks for the shared folder when it is imported
    from semroute.server.worker import ServeSettings

TICK_S = 0.2
"""Interval of the looks at signals and workers, seconds."""
AGAIN_S = 1.0
"""Wait before a worker that died before it was ready is started again, seconds."""
KILL_S = 10.0
"""Wait beyond the drain limit before a worker is killed, seconds."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"

log = logging.getLogger("semroute")


@dataclass
class _Worker:
    """One worker: its process, and the pipe that shows when it is ready."""

    process: SpawnProcess
    ready: Connection
    is_ready: bool = False

    def look(self) -> bool:
        """Return whether it is ready, or ever was."""
        if not self.is_ready and self.ready.poll():
            with suppress(EOFError):  # it died before
                self.is_ready = bool(self.ready.recv())
        return self.is_ready


class Supervisor:
    """Supervisor of ``count`` workers on one socket.

    Args:
        listening: the socket, bound and listening.
        settings: what each worker serves.
        count: number of workers.
        on_start: called once, when all are ready for the first time.
    """

    def __init__(
        self, listening: socket.socket, settings: ServeSettings, count: int, on_start: Callable[[], object]
    ) -> None:
        self._listening, self._settings, self._count = listening, settings, count
        self._on_start = on_start
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._signals: list[int] = []
        self._has_started = False

    def run(self) -> None:
        """Run the workers until a signal ends them; SIGHUP reloads each.

        Raises:
            SemrouteError: a worker could not start at the beginning; it has written why.
        """
        with self._handlers():
            try:
                self._workers = [self._started() for _ in range(self._count)]
                ending = self._supervise()
            finally:
                self._end()
        signal.raise_signal(ending)

    def _supervise(self) -> int:
        """Replace dead workers, and return the signal that ends all."""
        while True:
            wait([worker.process.sentinel for worker in self._workers], TICK_S)
            while self._signals:
                number = self._signals.pop(0)
                if number != getattr(signal, "SIGHUP", None):
                    return number
                self._send(number)
            self._workers = [self._replaced(worker) for worker in self._workers]
            if not self._has_started and all(worker.look() for worker in self._workers):
                self._has_started = True
                self._on_start()

    def _replaced(self, worker: _Worker) -> _Worker:
        was_ready = worker.look()
        if worker.process.is_alive():
            return worker
        code = worker.process.exitcode
        if not was_ready and not self._has_started:
            raise SemrouteError(f"a worker could not start (exit code {code}); its own message is above")
        log.warning("worker %s has died (exit code %s); another one starts", worker.process.pid, code)
        self._forget(worker)
        if not was_ready:
            time.sleep(AGAIN_S)
        return self._started()

    def _started(self) -> _Worker:
        ready, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=run_worker, args=(self._listening, self._settings, theirs), name="semroute-worker"
        )
        process.start()
        theirs.close()
        return _Worker(process, ready)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.look() and worker.process.is_alive() and worker.process.pid:
                os.kill(worker.process.pid, number)

    def _end(self) -> None:
        """Drain all workers; a second signal ends them at once."""
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + self._settings.drain_s + KILL_S
        while alive := [worker for worker in self._workers if worker.process.is_alive()]:
            wait([worker.process.sentinel for worker in alive], TICK_S)
            if self._signals:
                self._signals.clear()
                for worker in alive:
                    worker.process.terminate()
            if time.monotonic() >= end:
                for worker in alive:
                    worker.process.kill()
        for worker in self._workers:
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        worker.process.join()
        worker.ready.close()
        for name in ("gauge_livesum", "gauge_livemax"):
            # What is under way in a process that has ended is nothing.
            (Path(os.environ[SHARED]) / f"{name}_{worker.process.pid}.db").unlink(missing_ok=True)

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        """Note signals instead of ending; those before us come back at the end."""
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: self._signals.append(number))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Give the workers a folder for their counts, for as long as they run."""
    given = os.environ.get(SHARED)
    with tempfile.TemporaryDirectory(prefix="semroute-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            if given is None:
                del os.environ[SHARED]
            else:
                os.environ[SHARED] = given


def run_worker(listening: socket.socket, settings: ServeSettings, ready: Connection) -> None:
    """Serve in a process of its own until its supervisor ends it, or is gone."""
    from semroute.server.worker import serve_on

    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor passes it on
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # until there is something to reload
    threading.Thread(target=_end_with_supervisor, name="semroute-orphan", daemon=True).start()
    try:
        serve_on(listening, settings, settings.open(), on_start=lambda: ready.send(True))
    except SemrouteError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _end_with_supervisor() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
