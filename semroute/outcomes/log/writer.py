"""The thread that writes outcomes, so that nobody who answers a query waits for a database."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from semroute import forks
from semroute.outcomes.log.inserting import insert
from semroute.outcomes.log.opening import said, where
from semroute.outcomes.log.privacy import Keeping
from semroute.outcomes.log.rows import rows_of
from semroute.types import Outcome

BATCH = 1000
"""Most outcomes that are written in one transaction."""
FLUSH_S = 0.5
"""Longest time that an outcome waits for others, seconds. What a killed process loses is what came within this time and
the duration of one transaction, so at a thousand outcomes a second some five hundred."""
CAPACITY = 50_000
"""Most outcomes that wait while the database is away; those after them are dropped, and counted."""
LEAST_PAUSE_S, MOST_PAUSE_S = 0.5, 30.0
"""Between tries while it is away; doubles from the first to the second."""
CLOSE_S = 10.0
"""How long a normal stop waits for a database that is away."""
REPORT_S = 60.0
"""A fault that lasts is reported so often."""

log = logging.getLogger("semroute")


@dataclass(frozen=True, slots=True)
class WriterCounts:
    """What became of outcomes: ``waiting`` are not in the database yet, ``dropped`` never will be."""

    written: int
    waiting: int
    dropped: int


class Writer:
    """Takes outcomes at once and writes them in batches. Safe to share between threads.

    The thread starts with the first outcome, and again in a forked child, which leaves what waited to its parent.

    Args:
        engine: the database, prepared.
        keep: what is kept of texts.
        tidy: called between batches; deletes what is too old.
        capacity: see :data:`CAPACITY`.
    """

    def __init__(
        self, engine: Engine, keep: Keeping, tidy: Callable[[], None] = lambda: None, *, capacity: int = CAPACITY
    ) -> None:
        self._engine = engine
        self._keep = keep
        self._tidy = tidy
        self._capacity = capacity
        self._starting = forks.lock()
        self._in_database = forks.waited_lock()
        self._reset()
        _reset_in_children(self)

    def _reset(self) -> None:
        self._waiting: deque[Outcome] = deque()
        self._batch: list[Outcome] = []
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._written = self._dropped = 0
        self._reported_at: dict[str, float] = {}
        self._failed_tries = 0

    def record(self, outcome: Outcome) -> None:
        """Keep an outcome; returns at once and never raises. One too many is dropped, and counted."""
        if len(self._waiting) >= self._capacity or self._is_closing:
            self._dropped += 1
            return
        self._waiting.append(outcome)
        if self._thread is None:
            self._start()
        if len(self._waiting) >= BATCH:
            self._wake.set()

    @property
    def counts(self) -> WriterCounts:
        """What became of outcomes so far."""
        return WriterCounts(self._written, len(self._waiting) + len(self._batch), self._dropped)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until everything that was recorded before is in the database; False where that takes too long."""
        deadline, tries = time.monotonic() + timeout_s, self._failed_tries
        self._wake.set()
        while self.counts.waiting and self._thread is not None:
            # One more failure is answer enough: a database that is away must not hold up the end of a program.
            if time.monotonic() > deadline or self._failed_tries > tries:
                return False
            self._idle.wait(0.01)
        return not self.counts.waiting

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits and end the thread; what a dead database does not take is reported as lost."""
        self.flush(timeout_s)
        self._is_closing = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)
        lost = self.counts.waiting
        if lost:
            log.error("%d outcomes are lost: %s did not take them in time", lost, where(self._engine))

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="semroute-log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not (self._is_closing and not self._batch and not self._waiting):
            self._wake.wait(FLUSH_S if not self._failed_tries else self._pause_s())
            self._wake.clear()
            before = self._written
            while self._take() and self._write():
                pass
            if self._failed_tries and self._is_closing:
                return
            if self._written > before:  # the database is there, and grows
                self._tidy_up()

    def _take(self) -> bool:
        """Fill the batch; False where there is nothing to write."""
        self._idle.clear()
        while self._waiting and len(self._batch) < BATCH:
            self._batch.append(self._waiting.popleft())
        if not self._batch:
            self._idle.set()
        return bool(self._batch)

    def _write(self) -> bool:
        try:
            with self._in_database:
                insert(self._engine, rows_of(self._batch, self._keep), again=bool(self._failed_tries))
        except Exception as error:  # a thread that ends is a log that ends: whatever it is, it is reported
            return self._failed(error)
        self._written += len(self._batch)
        self._batch = []
        if self._failed_tries:
            log.warning("%s takes outcomes again", where(self._engine))
        self._failed_tries = 0
        self._idle.set()
        return True

    def _failed(self, error: Exception) -> bool:
        """Whether to go on at once: where single outcomes were at fault, and not the database."""
        api = self._engine.dialect.loaded_dbapi
        away = (api.OperationalError, api.InterfaceError, OSError, MemoryError)
        if not isinstance(error, away) and not isinstance(getattr(error, "orig", None), away):
            self._write_one_by_one()
            return True
        self._failed_tries += 1
        self._report("%s does not take outcomes (%s); they wait, and %d were dropped", where(self._engine), said(error),
                     self._dropped)  # fmt: skip
        return False

    def _write_one_by_one(self) -> None:
        for outcome in self._batch:
            try:
                with self._in_database:
                    insert(self._engine, rows_of([outcome], self._keep), again=True)
                self._written += 1
            except Exception as error:  # see above
                self._dropped += 1
                self._report("an outcome cannot be logged (%s)", said(error))
        self._batch = []

    def _report(self, message: str, *values: object) -> None:
        if time.monotonic() - self._reported_at.get(message, float("-inf")) >= REPORT_S:
            self._reported_at[message] = time.monotonic()
            log.warning(message, *values)

    def _tidy_up(self) -> None:
        try:
            with self._in_database:
                self._tidy()
        except Exception as error:  # see above
            self._report("old outcomes cannot be deleted from %s (%s)", where(self._engine), said(error))

    def _pause_s(self) -> float:
        return float(min(LEAST_PAUSE_S * 2 ** (self._failed_tries - 1), MOST_PAUSE_S))


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _reset_in_children(writer: Writer) -> None:
    _writers.add(writer)


def _after_fork() -> None:
    for writer in _writers:
        # The parent's connections must be neither used nor closed here.
        writer._engine.dispose(close=False)
        writer._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
