"""The log of outcomes as its users see it."""

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

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from semroute.config import Log
from semroute.errors import StateError
from semroute.outcomes.log import feedback, opening, reading, retention
from semroute.outcomes.log.opening import Database, database_url, is_unavailable, open_engine, said, where
from semroute.outcomes.log.privacy import RedactionPolicy
from semroute.outcomes.log.schema import outcomes
from semroute.outcomes.log.writer import CAPACITY, CLOSE_S, Writer, WriterCounts
from semroute.types import LoggedOutcome, Outcome

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
        tidy: Callable[[], None] = (
            (lambda: None) if keep_days is None else retention.RetentionJob(self._engine, keep_days)
        )
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
            yield from reading.read(self._engine, reading.chosen(since, until, category))

    def newest(self, count: int) -> list[LoggedOutcome]:
        """The last outcomes, oldest first.

        Raises:
            StateError: the database cannot be read.
        """
        with self._opened():
            return reading.newest(self._engine, count)

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
            return opening.dropped(self._engine)

    def judge(self, name: str, value: float, comment: str | None = None) -> str:
        """Keep what a user says of an outcome; see :func:`semroute.outcomes.log.feedback.judge`.

        Raises:
            InputError: the value is out of range, or no outcome, or more than one, is meant.
            StateError: the database cannot be written.
        """
        self.flush()  # the outcome may have been recorded a moment ago
        with self._opened():
            return feedback.judge(self._engine, name, value, comment)

    def prune(self, keep_days: float | None = None) -> int:
        """Delete outcomes that are older than so many days, by default the configured number; how many."""
        days = self._keep_days if keep_days is None else keep_days
        if days is None:
            return 0
        with self._opened():
            return retention.prune(self._engine, time.time() - days * retention.DAY_S)

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
