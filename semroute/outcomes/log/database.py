"""What users say of answers, after the fact."""

from __future__ import annotations

import atexit
import logging
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
from semroute.outcomes.log import engine, reader
from semroute.outcomes.log.engine import Database, database_url, is_unavailable, open_engine, said, where
from semroute.outcomes.log.redaction import RedactionPolicy, storable
from semroute.outcomes.log.schema import feedback, outcomes
from semroute.outcomes.log.writer import CAPACITY, CLOSE_S, Writer, WriterCounts
from semroute.types import LoggedOutcome, Outcome

LAST = "last"
"""Stands for the newest outcome."""
_MOST_SHOWN = 5


def judge(engine: Engine, name: str, value: float, comment: str | None = None) -> str:
    """Keep a judgement; earlier ones of the outcome stay, and the latest counts.

    Args:
        engine: the database.
        name: an outcome's id, a beginning of it that only one has, or ``last``.
        value: 0 (bad) to 1 (good).
        comment: words of the user.

    Returns:
        The outcome's id.

    Raises:
        InputError: the value is out of range, or no outcome, or more than one, is meant.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {type(value).__name__}")
    if not isinstance(name, str) or not isinstance(comment, str | None):
        raise InputError("the name of an outcome and a comment on it are text")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"a judgement is good, bad, or a number from 0 to 1, and not {value:g}")
    found = find(engine, name)
    with engine.begin() as connection:
        told = None if comment is None else storable(comment)
        connection.execute(feedback.insert().values(outcome_id=found, at=time.time(), value=value, comment=told))
    return found


def find(engine: Engine, name: str) -> str:
    """The id of the outcome that is meant.

    Raises:
        InputError: none is, or more than one.
    """
    if name == LAST:
        query = select(outcomes.c.id).order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(1)
    else:
        start = name.strip().lower().replace("-", "")
        query = select(outcomes.c.id).where(outcomes.c.id.startswith(start, autoescape=True)).limit(_MOST_SHOWN)
        if not start:
            raise InputError("which outcome? give its id, the beginning of it, or last")
    with engine.connect() as connection:
        found = list(connection.execute(query).scalars())
    if not found:
        raise InputError("the log is empty" if name == LAST else f'no outcome begins with "{name[:40]}"')
    if len(found) > 1:
        raise InputError(f"more than one outcome begins with that: {', '.join(found)}; give more of it")
    return str(found[0])


# Outcomes that are too old go, a few at a time.

PORTION = 500
"""Outcomes that are deleted in one transaction: no other writer waits for long."""
EVERY_S = 3600.0
"""How often a writer looks for old ones."""
DAY_S = 86_400.0


def prune(engine: Engine, before: float, *, most: int | None = None) -> int:
    """Delete outcomes from before a time (seconds since the epoch), with all that is theirs; how many were deleted."""
    deleted = 0
    while most is None or deleted < most:
        old = select(outcomes.c.id).where(outcomes.c.at < before).order_by(outcomes.c.at).limit(PORTION)
        with engine.begin() as connection:
            ids = list(connection.execute(old).scalars())
            # What belongs to an outcome goes with it (ON DELETE CASCADE).
            connection.execute(delete(outcomes).where(outcomes.c.id.in_(ids)))
        deleted += len(ids)
        if len(ids) < PORTION:
            break
    return deleted


class RetentionJob:
    """Deletes now and then, one portion a call, until nothing old is left; then not before the next hour.

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
        """Delete a portion, if it is time."""
        now = self._clock()
        if now >= self._due and prune(self._engine, now - self._keep_s, most=PORTION) < PORTION:
            self._due = now + EVERY_S


# The log of outcomes as its users see it.

_log = logging.getLogger("semroute")


class OutcomeLog:
    """One database of outcomes, to write and to read. Safe to share between threads.

    Args:
        database: opened at first use.
        keep_days: age at which an outcome is deleted; None keeps all.
    """

    def __init__(self, database: Database, keep_days: float | None) -> None:
        self._database, self._engine = database, database.engine
        self._keep_days = keep_days
        tidy: Callable[[], None] = (lambda: None) if keep_days is None else RetentionJob(self._engine, keep_days)
        self._writer = Writer(database, tidy=tidy)
        atexit.register(self.close)

    @property
    def place(self) -> str:
        """The database for a person, without its password."""
        return where(self._engine)

    @property
    def counts(self) -> WriterCounts:
        """What became of the outcomes that were recorded here."""
        return self._writer.counts

    def record(self, outcome: Outcome) -> None:
        """Keep an outcome; returns at once and never raises."""
        self._writer.record(outcome)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until what was recorded can be read; False where that takes too long."""
        return self._writer.flush(timeout_s)

    def outcomes(
        self, since: datetime | None = None, until: datetime | None = None, *, category: str | None = None
    ) -> Iterator[LoggedOutcome]:
        """Outcomes, oldest first, from ``since`` on and before ``until``; memory for a page of them.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            yield from reader.read(self._engine, reader.chosen(since, until, category))

    def newest(self, count: int) -> list[LoggedOutcome]:
        """The last outcomes, oldest first.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return reader.newest(self._engine, count)

    def count(self) -> tuple[int, float | None, float | None]:
        """How many outcomes there are, and the times of the first and the last, seconds since the epoch.

        Raises:
            StateError: the database cannot be read.
        """
        query = select(func.count(), func.min(outcomes.c.at), func.max(outcomes.c.at))
        with self._opened(), self._engine.connect() as connection:
            count, first, last = connection.execute(query).one()
        return int(count), first, last

    def dropped(self) -> int:
        """Return the number of outcomes that this log's writers had to drop, as far as they could note it there.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return engine.dropped(self._engine)

    def judge(self, name: str, value: float, comment: str | None = None) -> str:
        """Keep what a user says of an outcome; see :func:`semroute.outcomes.log.database.judge`.

        Raises:
            InputError: the value is out of range, or no outcome, or more than one, is meant.
            StateError: the database cannot be written.
        """
        self.flush()  # the outcome may have been recorded a moment ago
        with self._opened():
            return judge(self._engine, name, value, comment)

    def prune(self, keep_days: float | None = None) -> int:
        """Delete outcomes that are older than so many days, by default the configured number; how many."""
        days = self._keep_days if keep_days is None else keep_days
        if days is None:
            return 0
        with self._opened():
            return prune(self._engine, time.time() - days * DAY_S)

    def close(self) -> None:
        """Write what waits and let the database go, within :data:`CLOSE_S`; a second time does nothing.

        What the database has not taken by then is lost, and reported with its number.
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
        """Have the database open, and what it raises as an error of ours."""
        self._database.open()
        try:
            yield
        except SQLAlchemyError as error:
            raise StateError(f"{self.place} cannot be used: {said(error)}") from error


def open_log(log: Log, env: Mapping[str, str], *, must_exist: bool = False, may_be_down: bool = False) -> OutcomeLog:
    """Open the database that a section ``log`` names; its tables are made where there are none.

    Args:
        log: the section.
        env: where the password is read.
        must_exist: whether a file that is not there is an error and not a new log.
        may_be_down: whether a database that cannot be reached or written now is a warning and no error; outcomes wait
            until it can, and its tables are made then.

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
    return OutcomeLog(database, keep_days)
