"""Outcome log: record, read, judge and prune the outcomes of a database."""

from __future__ import annotations

import atexit
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from semroute.config import Log
from semroute.errors import InputError, StateError
from semroute.outcomes.log import comparisons, engine, reader
from semroute.outcomes.log.engine import Database, database_url, is_unavailable, open_engine, said, where
from semroute.outcomes.log.redaction import RedactionPolicy, storable
from semroute.outcomes.log.schema import feedback, outcomes
from semroute.outcomes.log.spool import Spool, replay
from semroute.outcomes.log.writer import CAPACITY, CLOSE_S, Inserter, Writer, WriterCounts
from semroute.types import LoggedComparison, LoggedOutcome, Outcome

LAST = "last"
"""Name of the newest outcome."""
_MAX_SHOWN = 5
_ID = re.compile("[0-9a-f]{32}")


def judge(
    engine: Engine, name: str, value: float, comment: str | None = None, *, owner: tuple[str, str] | None = None
) -> str:
    """Store feedback on an outcome; earlier feedback stays, the latest counts.

    Args:
        engine: the database.
        name: an outcome's id, a unique prefix of it, or ``last``.
        value: 0 (bad) to 1 (good).
        comment: words of the user.
        owner: name and value of the metadata that the outcome must have, as a stranger's must not be told from one
            that does not exist; then only its whole id names it. None knows every outcome.

    Returns:
        The outcome's id.

    Raises:
        InputError: the value is out of range, or no outcome or more than one matches.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {type(value).__name__}")
    if not isinstance(name, str) or not isinstance(comment, str | None):
        raise InputError("the name of an outcome and a comment on it are text")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {value:g}")
    outcome_id = find(engine, name) if owner is None else _find_own(engine, name, owner)
    with engine.begin() as connection:
        text = None if comment is None else storable(comment)
        connection.execute(feedback.insert().values(outcome_id=outcome_id, at=time.time(), value=value, comment=text))
    return outcome_id


def find(engine: Engine, name: str) -> str:
    """Find an outcome's id by id, unique prefix or ``last``.

    Raises:
        InputError: no outcome or more than one matches.
    """
    if name == LAST:
        query = select(outcomes.c.id).order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(1)
    else:
        start = name.strip().lower().replace("-", "")
        query = select(outcomes.c.id).where(outcomes.c.id.startswith(start, autoescape=True)).limit(_MAX_SHOWN)
        if not start:
            raise InputError('no outcome is named; give its id, the beginning of it, or "last"')
    with engine.connect() as connection:
        matches = list(connection.execute(query).scalars())
    if not matches:
        raise InputError("the log is empty" if name == LAST else f'no outcome begins with "{name[:40]}"')
    if len(matches) > 1:
        raise InputError(f"more than one outcome begins with that: {', '.join(matches)}; give more of it")
    return str(matches[0])


def _find_own(engine: Engine, name: str, owner: tuple[str, str]) -> str:
    """Return the id of an outcome if it is its owner's.

    Raises:
        InputError: it is not, or there is none; the message is the same.
    """
    whole = name.strip().lower().replace("-", "")
    query = select(outcomes.c.id, outcomes.c.metadata).where(outcomes.c.id == whole)
    with engine.connect() as connection:
        found = connection.execute(query).one_or_none() if _ID.fullmatch(whole) else None
    if found is None or json.loads(found.metadata).get(owner[0]) != owner[1]:
        raise InputError(f'no answer to this key has the id "{name[:40]}"')
    return str(found.id)


# Retention: outcomes that are too old are deleted, a few at a time.

PORTION = 500
"""Outcomes deleted in one transaction: no other writer waits for long."""
EVERY_S = 3600.0
"""Interval at which a writer looks for old outcomes, seconds."""
DAY_S = 86_400.0


def prune(engine: Engine, before: float, *, limit: int | None = None) -> int:
    """Delete outcomes from before a time, with all their rows.

    ``before`` is in seconds since the epoch. Returns the number of deleted outcomes.
    """
    deleted = 0
    while limit is None or deleted < limit:
        expired = select(outcomes.c.id).where(outcomes.c.at < before).order_by(outcomes.c.at).limit(PORTION)
        with engine.begin() as connection:
            ids = list(connection.execute(expired).scalars())
            # Rows of an outcome are deleted with it (ON DELETE CASCADE).
            connection.execute(delete(outcomes).where(outcomes.c.id.in_(ids)))
        deleted += len(ids)
        if len(ids) < PORTION:
            break
    return deleted


class RetentionJob:
    """Retention job: delete old outcomes, one portion a call.

    Once none is left, it pauses for an hour.

    Args:
        engine: the database.
        keep_days: age of the oldest outcome that stays.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, keep_days: float, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._due = float("-inf")

    def __call__(self) -> None:
        """Delete a portion if it is due."""
        now = self._clock()
        if now >= self._due and prune(self._engine, now - self._keep_s, limit=PORTION) < PORTION:
            self._due = now + EVERY_S


# The outcome log.

_log = logging.getLogger("semroute")


class OutcomeLog:
    """Outcome log in one database, to write and to read.

    Safe to share between threads.

    Args:
        database: opened at first use.
        keep_days: age at which an outcome is deleted; None keeps all.
        spool: see :class:`~semroute.outcomes.log.writer.Writer`.
    """

    def __init__(self, database: Database, keep_days: float | None, spool: Spool | None = None) -> None:
        self._database, self._engine = database, database.engine
        self._keep_days = keep_days
        retention: Callable[[], None] = (lambda: None) if keep_days is None else RetentionJob(self._engine, keep_days)
        self._writer = Writer(database, retention=retention, spool=spool)
        atexit.register(self.close)

    @property
    def place(self) -> str:
        """Address of the database for a person, without its password."""
        return where(self._engine)

    @property
    def counts(self) -> WriterCounts:
        """Counts of written, waiting and dropped outcomes."""
        return self._writer.counts

    def record(self, outcome: Outcome) -> None:
        """Queue an outcome for writing; return at once and never raise."""
        self._writer.record(outcome)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until recorded outcomes can be read; False after the timeout."""
        return self._writer.flush(timeout_s)

    def outcomes(
        self, since: datetime | None = None, until: datetime | None = None, *, category: str | None = None
    ) -> Iterator[LoggedOutcome]:
        """Read outcomes from ``since`` on and before ``until``, oldest first.

        Memory holds one page of them.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            yield from reader.read(self._engine, reader.select_outcomes(since, until, category))

    def newest(self, count: int) -> list[LoggedOutcome]:
        """Read the last ``count`` outcomes, oldest first.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return reader.newest(self._engine, count)

    def count(self) -> tuple[int, float | None, float | None]:
        """Count the outcomes; return also the times of the first and the last.

        Times are seconds since the epoch.

        Raises:
            StateError: the database cannot be read.
        """
        query = select(func.count(), func.min(outcomes.c.at), func.max(outcomes.c.at))
        with self._opened(), self._engine.connect() as connection:
            count, first, last = connection.execute(query).one()
        return int(count), first, last

    def dropped(self) -> int:
        """Return the number of dropped outcomes, as far as writers recorded it.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return engine.dropped(self._engine)

    def judge(
        self, name: str, value: float, comment: str | None = None, *, owner: tuple[str, str] | None = None
    ) -> str:
        """Store a user's feedback on an outcome, as :func:`judge` does.

        Raises:
            InputError: the value is out of range, or no outcome or more than one matches.
            StateError: the database cannot be written.
        """
        self.flush()  # the outcome may have been recorded a moment ago
        with self._opened():
            return judge(self._engine, name, value, comment, owner=owner)

    def reserve_comparison(self, comparison: LoggedComparison, max_usd: float) -> bool:
        """Write a blind comparison if its budget allows it.

        See :func:`comparisons.reserve`.

        Raises:
            StateError: the database cannot be written.
        """
        with self._opened():
            return comparisons.reserve(self._engine, comparison, max_usd)

    def settle_comparison(self, comparison: LoggedComparison) -> None:
        """Write how a reserved comparison ended.

        Raises:
            StateError: the database cannot be written.
        """
        with self._opened():
            comparisons.settle(self._engine, comparison)

    def comparisons(self, policy: str, since: datetime | None = None) -> list[LoggedComparison]:
        """Return the comparisons of a trial, oldest first.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return list(comparisons.read_comparisons(self._engine, policy, since))

    def prune(self, keep_days: float | None = None) -> int:
        """Delete outcomes older than ``keep_days``; return their number.

        None takes the configured number of days.
        """
        days = self._keep_days if keep_days is None else keep_days
        if days is None:
            return 0
        with self._opened():
            return prune(self._engine, time.time() - days * DAY_S)

    def close(self) -> None:
        """Flush and close the log within :data:`CLOSE_S`; idempotent.

        Outcomes that the database has not accepted by then are lost, and their number is reported.
        """
        atexit.unregister(self.close)
        self._writer.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Open the database, and turn its errors into :class:`StateError`."""
        self._database.open()
        try:
            yield
        except SQLAlchemyError as error:
            raise StateError(f"{self.place} cannot be used: {said(error)}") from error


def open_log(log: Log, env: Mapping[str, str], *, must_exist: bool = False, may_be_down: bool = False) -> OutcomeLog:
    """Open the database of a section ``log``; create missing tables.

    Args:
        log: the section.
        env: environment that holds the password.
        must_exist: True makes a missing file an error and not a new log.
        may_be_down: True makes an unreachable or unwritable database a warning and no error; outcomes wait until it is
            available, and its tables are created then.

    Raises:
        MissingExtraError: the extra "postgres" is not installed.
        StateError: it cannot be opened, holds other things, or was written by a newer semroute.
    """
    url = database_url(log, env)
    if must_exist and url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise StateError(f'{url.database}: there is no log yet; "semroute ask" and "semroute route" write it')
    keep_days = None if log.keep_days == "forever" else log.keep_days
    database = Database(open_engine(log, env), RedactionPolicy(log.text, log.answers == "full"))
    try:
        database.open()
    except BaseException as error:
        if not (may_be_down and isinstance(error, StateError) and is_unavailable(error.__cause__)):
            database.engine.dispose()
            raise
        _log.warning("%s; outcomes wait until it can be used, %d at most", error, CAPACITY)
    else:
        _replay(log, database)
    return OutcomeLog(database, keep_days, _spool_of(log) if may_be_down else None)


def _replay(log: Log, database: Database) -> None:
    """Write the outcomes that killed processes have spooled.

    What fails waits for the next process that opens the log.
    """
    if not log.spool:
        return
    inserter = Inserter(database.engine)
    try:
        replay(log.spool, lambda rows: inserter.insert(rows, is_retry=True))
    except Exception as error:  # the log itself is open, and works
        _log.warning("%s: its outcomes cannot be written (%s)", log.spool, said(error))


def _spool_of(log: Log) -> Spool | None:
    """Open the spool of a log; one that cannot be opened is a warning."""
    if not log.spool:
        return None
    try:
        return Spool(log.spool)
    except StateError as error:
        _log.warning("%s; outcomes wait in memory alone", error)
        return None
