"""Background writer of outcomes, so that no query waits for a database.

Outcomes become rows of the tables, which a thread inserts in batches.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from semroute import forks
from semroute.errors import SemrouteError
from semroute.outcomes.log.engine import Database, count_dropped, said, where
from semroute.outcomes.log.postgres import WRITE_S, patience
from semroute.outcomes.log.redaction import RedactionPolicy, storable
from semroute.outcomes.log.schema import WRITTEN, Row, Rows
from semroute.outcomes.log.spool import Spool
from semroute.types import Attempt, CallRole, Completion, Outcome, TierResult, total_cost

# Conversion of an outcome to rows of the tables.

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def rows_of(outcomes: Iterable[Outcome], keep: RedactionPolicy) -> Rows:
    """Convert outcomes to rows of the tables, redacted."""
    rows: Rows = ([], [], [], [])
    for outcome in outcomes:
        tiers = outcome.completion.tiers if outcome.completion is not None else ()
        rows[0].append(_outcome(outcome, tiers, keep))
        rows[1].extend(_calls(outcome, tiers, keep))
        checks = ((result.tier, check) for result in tiers for check in result.checks)
        rows[2].extend(
            (outcome.id, n, tier, check.check, check.accepted, check.score, check.threshold, keep.reason(check.reason))
            for n, (tier, check) in enumerate(checks)
        )
        rows[3].extend(_tier(outcome.id, n, result, keep) for n, result in enumerate(tiers))
    return rows


def _outcome(outcome: Outcome, tiers: tuple[TierResult, ...], keep: RedactionPolicy) -> Row:
    decision, completion = outcome.decision, outcome.completion
    query, query_hash = keep.query(decision.query)
    cost = total_cost((*decision.attempts, *outcome.attempts))
    usage = None if completion is None else completion.usage
    called = sum(_was_called(result) for result in tiers)
    return (
        outcome.id,
        outcome.at.timestamp(),
        query,
        query_hash,
        decision.category,
        decision.strategy,
        decision.is_fallback,
        decision.score,
        decision.threshold,
        decision.confidence,
        keep.reason(decision.reason),
        storable(_dumps(decision.candidates)),
        _details(outcome, keep),
        None if completion is None else completion.model,
        None if completion is None else completion.deployment,
        None if completion is None else completion.tier,
        any(result.accepted for result in tiers) if tiers else None,
        called > 1,
        outcome.latency_ms,
        decision.elapsed_ms,
        outcome.first_token_ms,
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.output_tokens,
        None if cost is None else cost.usd,
        cost is not None and cost.estimated,
        outcome.baseline_model,
        outcome.baseline_usd,
        outcome.error_kind,
        keep.error(outcome.error),
        None if completion is None else keep.answer(completion.text),
        storable(_dumps(dict(outcome.metadata))),
    )


def _details(outcome: Outcome, keep: RedactionPolicy) -> str:
    """Return the unsearched part of an outcome as JSON.

    It holds every category's score and threshold, the steps, the strategy results, and the signals of a conversation
    that has any.
    """
    decision = outcome.decision
    results = [{**result.to_dict(), "reason": keep.reason(result.reason)} for result in decision.opinions]
    categories = [(entry.category, entry.score, entry.threshold) for entry in decision.categories]
    details: dict[str, object] = {
        "categories": categories, "steps_ms": dict(decision.steps_ms), "opinions": results,
    }  # fmt: skip
    if outcome.signals:
        details["signals"] = dict(outcome.signals)
    return storable(_dumps(details))


def _calls(outcome: Outcome, tiers: tuple[TierResult, ...], keep: RedactionPolicy) -> Iterator[Row]:
    for n, (attempt, role, tier) in enumerate(_roles(outcome, tiers)):
        usage, cost = attempt.usage, attempt.cost
        yield (
            outcome.id,
            n,
            role,
            tier,
            attempt.deployment,
            attempt.model,
            attempt.credential,
            attempt.status,
            attempt.error_kind,
            keep.error(attempt.error),
            attempt.latency_ms,
            attempt.first_token_ms,
            None if usage is None else usage.input_tokens,
            None if usage is None else usage.output_tokens,
            None if usage is None else usage.cached_tokens,
            None if usage is None else usage.reasoning_tokens,
            None if cost is None else cost.usd,
            cost is not None and cost.estimated,
            attempt.probability,
            _dumps(dict(attempt.score)),
            attempt.hedge,
            attempt.retry,
            attempt.effort,
        )


def _roles(outcome: Outcome, tiers: tuple[TierResult, ...]) -> Iterator[tuple[Attempt, CallRole, int | None]]:
    """Yield every call with its role and tier.

    A judge's calls come first, then tier by tier; those after a tier's answer are samples.
    """
    yield from ((attempt, "judge", None) for attempt in outcome.decision.attempts)
    if not tiers:
        yield from ((attempt, "answer", None) for attempt in outcome.attempts)
        return
    for result in tiers:
        answered = result.completion.attempts if result.completion is not None else ()
        until = result.attempts.index(answered[-1]) + 1 if answered else len(result.attempts)
        for position, attempt in enumerate(result.attempts):
            yield attempt, "answer" if position < until else "sample", result.tier


def _tier(outcome_id: str, n: int, result: TierResult, keep: RedactionPolicy) -> Row:
    answer = result.completion
    return (
        outcome_id,
        n,
        result.tier,
        result.candidate,
        None if answer is None else answer.model,
        _was_called(result),
        result.accepted,
        keep.reason(result.reason),
        result.latency_ms,
        None if answer is None else keep.answer(answer.text),
        None if answer is None else keep.logprobs([token.logprob for token in answer.logprobs or ()]),
        result.effort,
    )


def _was_called(result: TierResult) -> bool:
    return result.completion is not None or bool(result.attempts)


# Bulk insert of rows, as fast as each database accepts them.
#
# The values go to the driver as they are, without SQLAlchemy's own handling of parameters, which would take longer than
# the database does: ``executemany`` for SQLite, ``COPY`` for PostgreSQL
# (https://www.postgresql.org/docs/current/sql-copy.html). ``scripts/bench_log.py`` measures the throughput.

_TRANSACTION = {
    "lock_timeout": "8s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Settings of a writing transaction on the server's side
(https://www.postgresql.org/docs/current/runtime-config-client.html): it waits for a lock for less time than its client
waits for it, and releases its rows when the client is gone. Set in the transaction and not with the connection:
PgBouncer refuses unknown parameters of a connection."""


class Inserter:
    """Bulk inserter of a log's rows, for one thread at a time.

    Args:
        engine: the database, prepared.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unheard: tuple[int, datetime] | None = None

    def insert(self, rows: Rows, *, is_retry: bool = False) -> None:
        """Write all rows or none.

        Args:
            rows: rows of the written tables.
            is_retry: True if some of them may be there already, since an earlier try ended without a reply.

        Raises:
            Exception: any error of the driver; nothing was written then, unless the connection broke at the very end.
        """
        with patience(WRITE_S), self._engine.begin() as connection:
            is_postgres = connection.dialect.name == "postgresql"
            if is_postgres:
                self._begin(_cursor(connection))
            for table, values in zip(WRITTEN, rows, strict=True):
                if not values:
                    continue
                if is_postgres and not is_retry:
                    _copy(connection, table, values)
                else:
                    _execute(connection, table, values)
        self._unheard = None

    def _begin(self, cursor: Any) -> None:
        """Set time limits on the server, and end a transaction left without reply.

        That one may still lock the rows that are written again: the server does not know that its client has gone. It
        is identified by process and start; no other transaction has both.
        """
        if self._unheard is not None:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = %s AND xact_start = %s AND usename = current_user",
                self._unheard,
                prepare=False,
            )
        bounds = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _TRANSACTION.items())
        self._unheard = cursor.execute(f"SELECT pg_backend_pid(), now(), {bounds}").fetchone()[:2]


def _execute(connection: Connection, table: Table, values: Sequence[Row]) -> None:
    placeholder = "%s" if connection.dialect.name == "postgresql" else "?"
    placeholders = ", ".join([placeholder] * len(table.columns))
    statement = f"INSERT INTO {table.name} ({_names(table)}) VALUES ({placeholders}) ON CONFLICT DO NOTHING"  # noqa: S608
    _cursor(connection).executemany(statement, values)


def _copy(connection: Connection, table: Table, values: Sequence[Row]) -> None:
    with _cursor(connection).copy(f"COPY {table.name} ({_names(table)}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


BATCH = 1000
"""Largest number of outcomes in one transaction."""
BATCH_BYTES = 8_000_000
"""Largest estimated size of a transaction that holds more than one outcome: a slow database gets short ones."""
FLUSH_S = 0.5
"""Longest time that an outcome waits for others, seconds. A killed process loses the outcomes of this time and the
duration of one transaction, so at a thousand outcomes a second some five hundred."""
CAPACITY = 50_000
"""Most outcomes that wait while the database is unavailable; later ones are dropped, and counted."""
CAPACITY_BYTES = 200_000_000
"""Largest estimated size of the outcomes that wait: long answers fill the memory before their number does."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
"""Pause between tries while the database is unavailable, seconds; doubles from the first to the second."""
CLOSE_S = 10.0
"""Longest wait of a normal stop for an unavailable database, in all, seconds."""
REPORT_S = 60.0
"""Interval of reports of a lasting fault, seconds."""

log = logging.getLogger("semroute")


@dataclass(frozen=True, slots=True)
class WriterCounts:
    """Counts of outcomes: written, waiting to be written, and dropped."""

    written: int
    waiting: int
    dropped: int


class _Waiting(NamedTuple):
    """Outcome that waits: estimated bytes, and its rows if spooled."""

    outcome: Outcome
    size: int
    rows: Rows | None = None


class Writer:
    """Writer thread that queues outcomes and writes them in batches.

    Safe to share between threads. The thread starts with the first outcome, and again in a forked child, which leaves
    waiting outcomes to its parent.

    Args:
        database: opened by the thread if it is not open yet; or an engine.
        keep: redaction policy, if ``database`` is an engine.
        tidy: retention job, called between batches.
        spool: takes each outcome before :meth:`record` returns, for the case that this process is killed; None keeps
            outcomes in memory alone.
        capacity: see :data:`CAPACITY`.
        capacity_bytes: see :data:`CAPACITY_BYTES`.
    """

    def __init__(
        self,
        database: Database | Engine,
        keep: RedactionPolicy | None = None,
        retention: Callable[[], None] = lambda: None,
        *,
        spool: Spool | None = None,
        capacity: int = CAPACITY,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        self._database = database if isinstance(database, Database) else Database(database, keep or RedactionPolicy())
        self._engine = self._database.engine
        self._tidy, self._spool = retention, spool
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        # Only SQLite works within this process; a server that hangs must not hold up a fork.
        is_within = self._engine.dialect.name == "sqlite"
        self._in_database: AbstractContextManager[object] = forks.WaitedLock() if is_within else nullcontext()
        self._reset()
        _reset_in_children(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._bytes = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._inserter = Inserter(self._engine)
        self._written = self._dropped = self._noted = 0
        self._accepted = self._settled = 0
        self._reported_at: dict[str, float] = {}
        self._failed_tries = 0

    def record(self, outcome: Outcome) -> None:
        """Queue an outcome; return at once and never raise.

        If the queue is full, the outcome is dropped, counted and reported.
        """
        size, rows = _size(outcome), self._spooled(outcome)
        with self._lock:
            is_full = len(self._waiting) >= self._capacity or self._bytes + size > self._capacity_bytes
            is_dropped = is_full or self._is_closing
            if is_dropped:
                self._dropped += 1
            else:
                if self._spool is not None and rows is not None:
                    self._spool.append(rows)
                self._waiting.append(_Waiting(outcome, size, rows))
                self._bytes += size
                self._accepted += 1
                if self._thread is None:
                    self._start()
        if is_dropped:
            reason = "its log was closed" if self._is_closing else f"{len(self._waiting)} are waiting"
            self._report("%s does not take outcomes, and %s: the newest are dropped, %d so far", where(self._engine),
                         reason, self._dropped)  # fmt: skip
        elif len(self._waiting) >= BATCH:
            self._wake.set()

    def _spooled(self, outcome: Outcome) -> Rows | None:
        """Return the rows of an outcome for the spool; None without one.

        None too where queries are hashed and the database, which has the key, was not opened yet.
        """
        keep = None if self._spool is None else self._database.known_policy
        try:
            return None if keep is None else rows_of([outcome], keep)
        except Exception:  # a value that is no row's: the thread reports it, and drops the outcome
            return None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="semroute-log", daemon=True)
        # At the very end of a program no thread starts any more; closing reports waiting outcomes as lost.
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    @property
    def counts(self) -> WriterCounts:
        """Counts of written, waiting and dropped outcomes so far."""
        return WriterCounts(self._written, self._accepted - self._settled, self._dropped)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until all outcomes so far are written; False after the timeout."""
        deadline, tries, recorded = time.monotonic() + timeout_s, self._failed_tries, self._accepted
        self._wake.set()
        while self._settled < recorded:
            # One more failure is enough: an unavailable database must not hold up the end of a program.
            if self._thread is None or time.monotonic() > deadline or self._failed_tries > tries:
                return False
            time.sleep(0.005)
        return True

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush and end the thread within ``timeout_s``; report lost outcomes."""
        deadline = time.monotonic() + timeout_s
        self.flush(timeout_s)
        self._is_closing = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        dropped_before, given_up = self._dropped, self._give_up()
        if self._spool is not None:
            with self._lock:
                self._spool.close(is_settled=not given_up)
        if given_up:
            fate = "are lost" if self._spool is None else "wait in the spool"
            log.error("%d outcomes %s: %s did not take them in time", given_up, fate, where(self._engine))
        if dropped_before and thread is not None:
            log.warning("%d outcomes were dropped before and are missing in %s", dropped_before, where(self._engine))

    def _give_up(self) -> int:
        """Drop waiting outcomes and return their number.

        A thread that is still blocked by the database finds nothing more to do.
        """
        with self._lock:
            count = self._accepted - self._settled
            self._waiting.clear()
            self._batch = []
            self._bytes = 0
            self._settled = self._accepted
            self._dropped += count
        return count

    def _run(self) -> None:
        while not (self._is_closing and not self._batch and not self._waiting):
            self._wake.wait(FLUSH_S if not self._failed_tries else self._pause_s())
            self._wake.clear()
            written_before = self._written
            while self._take() and self._write():
                pass
            if self._failed_tries and self._is_closing:
                return
            if self._written > written_before and not self._is_closing:  # the database is there, and grows
                self._run_retention()

    def _take(self) -> bool:
        """Fill the batch; return False if there is nothing to write."""
        with self._lock:
            size = sum(one.size for one in self._batch)
            while self._waiting and len(self._batch) < BATCH and (not self._batch or size < BATCH_BYTES):
                size += self._waiting[0].size
                self._batch.append(self._waiting.popleft())
            if self._spool is not None and not self._waiting:
                self._spool.flip()
            return bool(self._batch)

    def _write(self) -> bool:
        """Write the batch; return True to continue at once."""
        batch = self._batch
        try:
            with self._in_database:
                keep = self._database.open()
        except Exception as error:  # the end of the thread would be the end of the log: any error is reported
            return self._failed(error)
        try:
            with self._in_database:
                self._inserter.insert(_merged(batch, keep), is_retry=bool(self._failed_tries))
        except Exception as error:  # see above
            if not self._is_of_an_outcome(error):
                return self._failed(error)
            if not self._write_one_by_one(keep):
                return False
        else:
            if self._database.is_replaced():
                return True  # they are in an unlinked file: they are written again, to the new one
            self._settle(len(batch), is_written=True)
        if self._failed_tries:
            log.warning("%s takes outcomes again", where(self._engine))
        self._failed_tries = 0
        self._note_drops()
        return True

    def _write_one_by_one(self, keep: RedactionPolicy) -> bool:
        """Write the batch one by one, dropping outcomes that are refused.

        False if the database fails meanwhile.
        """
        while self._batch:
            try:
                with self._in_database:
                    self._inserter.insert(rows_of([self._batch[0].outcome], keep), is_retry=True)
            except Exception as error:  # see above
                if not self._is_of_an_outcome(error):
                    return self._failed(error)
                self._settle(1, is_written=False)
                self._report("an outcome cannot be logged (%s); %d were dropped so far", said(error), self._dropped)
            else:
                self._settle(1, is_written=True)
        return True

    def _settle(self, count: int, *, is_written: bool) -> None:
        """Remove the first outcomes of the batch, as written or dropped."""
        with self._lock:
            settled, self._batch = self._batch[:count], self._batch[count:]
            self._bytes -= sum(one.size for one in settled)
            if self._spool is not None and not self._batch:
                self._spool.settle()
            self._settled += len(settled)
            if is_written:
                self._written += len(settled)
            else:
                self._dropped += len(settled)

    def _failed(self, error: Exception) -> bool:
        """Keep the outcomes waiting after a failure of the database."""
        self._failed_tries += 1
        self._database.forget()
        self._report("%s does not take outcomes (%s); they wait, and %d were dropped", where(self._engine), said(error),
                     self._dropped)  # fmt: skip
        return False

    def _is_of_an_outcome(self, error: Exception) -> bool:
        """Return True if an outcome's values are at fault, not the database."""
        cause = getattr(error, "orig", None) or error
        if isinstance(error, SQLAlchemyError) and not isinstance(error, DBAPIError):
            return False
        api = self._engine.dialect.loaded_dbapi
        if not isinstance(cause, api.Error):
            return not isinstance(cause, OSError | MemoryError | SemrouteError)
        # A driver that cannot encode a value raises an error without an SQLSTATE. All else, such as a missing table or
        # privilege, is for somebody to repair, and the outcomes wait.
        is_refused = isinstance(cause, api.ProgrammingError) and getattr(cause, "sqlstate", None) is None
        return is_refused or isinstance(cause, api.DataError | api.IntegrityError)

    def _note_drops(self) -> None:
        """Store the number of dropped outcomes in the database, for readers."""
        dropped = self._dropped
        if dropped == self._noted:
            return
        try:
            with self._in_database, patience(WRITE_S):
                count_dropped(self._engine, dropped - self._noted)
            self._noted = dropped
        except Exception as error:  # see above
            self._report("%s does not take the number of dropped outcomes (%s)", where(self._engine), said(error))

    def _report(self, message: str, *values: object) -> None:
        if time.monotonic() - self._reported_at.get(message, float("-inf")) >= REPORT_S:
            self._reported_at[message] = time.monotonic()
            log.warning(message, *values)

    def _run_retention(self) -> None:
        try:
            with self._in_database, patience(WRITE_S):
                self._tidy()
        except Exception as error:  # see above
            self._report("old outcomes cannot be deleted from %s (%s)", where(self._engine), said(error))

    def _pause_s(self) -> float:
        return float(min(MIN_PAUSE_S * 2 ** (self._failed_tries - 1), MAX_PAUSE_S))


def _merged(batch: Sequence[_Waiting], keep: RedactionPolicy) -> Rows:
    """Return the rows of a batch, those that were spooled as they are."""
    if not any(one.rows for one in batch):
        return rows_of([one.outcome for one in batch], keep)
    merged: Rows = ([], [], [], [])
    for one in batch:
        for table, more in zip(merged, one.rows or rows_of([one.outcome], keep), strict=True):
            table.extend(more)
    return merged


def _size(outcome: Outcome) -> int:
    """Estimate the bytes that an outcome takes while it waits."""
    completion = outcome.completion
    texts = [len(outcome.decision.query), len(outcome.error or ""), _text_size(completion)]
    tiers = () if completion is None else completion.tiers
    return 4_000 + sum(texts) + sum(_text_size(result.completion) for result in tiers)


def _text_size(completion: Completion | None) -> int:
    return 0 if completion is None else len(completion.text) + 100 * len(completion.logprobs or ())


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _reset_in_children(writer: Writer) -> None:
    _writers.add(writer)


def _after_fork() -> None:
    for writer in _writers:
        writer._database.reset_after_fork()
        if writer._spool is not None:
            writer._spool.reset_after_fork()
        writer._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
