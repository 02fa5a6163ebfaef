"""The log of outcomes as its users see it."""

from __future__ import annotations

import atexit
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError

from semroute.config import Log
from semroute.errors import StateError
from semroute.outcomes.log import feedback, reading, retention
from semroute.outcomes.log.opening import database_url, open_engine, prepare, said, setting, where
from semroute.outcomes.log.privacy import Keeping
from semroute.outcomes.log.schema import outcomes
from semroute.outcomes.log.writer import CLOSE_S, Writer, WriterCounts
from semroute.types import LoggedOutcome, Outcome


class OutcomeLog:
    """One database of outcomes, to write and to read. Safe to share between threads.

    Args:
        engine: the database, prepared.
        keep: what is kept of texts.
        keep_days: age at which an outcome is deleted; None keeps all.
    """

    def __init__(self, engine: Engine, keep: Keeping, keep_days: float | None) -> None:
        self._engine = engine
        self._keep_days = keep_days
        tidy: Callable[[], None] = (lambda: None) if keep_days is None else retention.Tidier(engine, keep_days)
        self._writer = Writer(engine, keep, tidy)
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
        try:
            yield from reading.read(self._engine, reading.chosen(since, until, category))
        except DBAPIError as error:
            raise self._unreadable(error) from error

    def newest(self, count: int) -> list[LoggedOutcome]:
        """The last outcomes, oldest first.

        Raises:
            StateError: the database cannot be read.
        """
        try:
            return reading.newest(self._engine, count)
        except DBAPIError as error:
            raise self._unreadable(error) from error

    def count(self) -> tuple[int, float | None, float | None]:
        """How many outcomes there are, and the times of the first and the last, seconds since the epoch."""
        query = select(func.count(), func.min(outcomes.c.at), func.max(outcomes.c.at))
        try:
            with self._engine.connect() as connection:
                count, first, last = connection.execute(query).one()
        except DBAPIError as error:
            raise self._unreadable(error) from error
        return int(count), first, last

    def judge(self, name: str, value: float, comment: str | None = None) -> str:
        """Keep what a user says of an outcome; see :func:`semroute.outcomes.log.feedback.judge`.

        Raises:
            InputError: the value is out of range, or no outcome, or more than one, is meant.
            StateError: the database cannot be written.
        """
        try:
            return feedback.judge(self._engine, name, value, comment)
        except DBAPIError as error:
            raise self._unreadable(error) from error

    def prune(self, keep_days: float | None = None) -> int:
        """Delete outcomes that are older than so many days, by default the configured number; how many."""
        days = self._keep_days if keep_days is None else keep_days
        if days is None:
            return 0
        try:
            return retention.prune(self._engine, time.time() - days * retention.DAY_S)
        except DBAPIError as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Write what waits and let the database go; a second time does nothing."""
        atexit.unregister(self.close)
        self._writer.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unreadable(self, error: DBAPIError) -> StateError:
        return StateError(f"{self.place} cannot be used: {said(error)}")


def open_log(log: Log, env: Mapping[str, str], *, must_exist: bool = False) -> OutcomeLog:
    """Open the database that a section ``log`` names; its tables are made where there are none.

    Args:
        log: the section.
        env: where the password is read.
        must_exist: whether a file that is not there is an error and not a new log.

    Raises:
        MissingExtraError: the extra "postgres" is not installed.
        StateError: it cannot be opened, holds other things, or was written by a newer semroute.
    """
    url = database_url(log, env)
    if must_exist and url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise StateError(f'{url.database}: there is no log yet; "semroute ask" and "semroute route" write it')
    keep_days = None if log.keep_days == "forever" else log.keep_days
    engine = open_engine(log, env)
    try:
        prepare(engine)
        key = setting(engine, "hash_key", secrets.token_hex(32)) if log.text == "hashed" else ""
    except BaseException:
        engine.dispose()
        raise
    return OutcomeLog(engine, Keeping(log.text, log.answers == "full", key.encode()), keep_days)
