"""Database of the outcome log: open it and migrate it to this version."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import filelock
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from semroute.config import Log
from semroute.errors import MissingExtraError, StateError
from semroute.outcomes.log.postgres import CONNECTING, MIGRATE_S, WRITE_S, bound_waiting, patience
from semroute.outcomes.log.redaction import RedactionPolicy
from semroute.outcomes.log.schema import HEAD, metadata, settings

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_S = 10.0
"""Time for which a writer of SQLite waits for another one, seconds."""
DROPPED = "dropped"
"""Name of the setting that counts the outcomes dropped by writers."""
_LOCK = 7361903
"""Advisory lock of PostgreSQL, held while migrating; an arbitrary number that is unlikely to be in use."""

_log = logging.getLogger("semroute")


class Database:
    """Database of a log, prepared on first use.

    It is prepared again after its file was lost. Safe to share between threads.

    Args:
        engine: its connections.
        keep: redaction policy; if texts are hashed, the database provides the key.
    """

    def __init__(self, engine: Engine, keep: RedactionPolicy) -> None:
        self.engine = engine
        self._keep = keep
        self._file = _file_of(engine)
        self._reset()

    def _reset(self) -> None:
        self._opening = threading.Lock()
        self._is_open = False
        self._identity: tuple[int, int] | None = None

    def open(self) -> RedactionPolicy:
        """Prepare the database if necessary; return its redaction policy.

        Raises:
            StateError: as :func:`prepare`.
        """
        with self._opening:
            if self._is_open and self.is_replaced():
                _log.warning("%s was deleted or replaced while in use; starting a new log there", where(self.engine))
                # Connections hold the old, unlinked file open.
                self.engine.dispose()
                self._is_open = False
            if not self._is_open:
                self._prepare()
        return self._keep

    @property
    def known_policy(self) -> RedactionPolicy | None:
        """Redaction policy; None until the key of its hashes is known.

        That key is in the database.
        """
        return self._keep if self._keep.text != "hashed" or self._keep.key else None

    def _prepare(self) -> None:
        with patience(WRITE_S):
            prepare(self.engine, self._file)
            if self._keep.text == "hashed":
                key = self._keep.key.decode() or secrets.token_hex(32)
                try:
                    self._keep = replace(self._keep, key=setting(self.engine, "hash_key", key).encode())
                except DBAPIError as error:
                    raise StateError(f"{where(self.engine)} cannot be opened: {said(error)}") from error
        self._identity = self._identity_now()
        self._is_open = True

    def is_replaced(self) -> bool:
        """Return True if the file of the opened database was replaced."""
        return self._identity is not None and self._identity_now() != self._identity

    def forget(self) -> None:
        """Prepare the database again at the next use: its tables may be gone."""
        self._is_open = False

    def reset_after_fork(self) -> None:
        """Abandon the parent's locks and connections, without closing these."""
        self.engine.dispose(close=False)
        self._reset()

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            status = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)


def _file_of(engine: Engine) -> Path | None:
    """Return the absolute path of a database in a file.

    The working folder may change later.
    """
    name = engine.url.database if engine.dialect.name == "sqlite" else None
    return None if not name or name == ":memory:" else Path(name).absolute()


def is_unavailable(error: BaseException | None) -> bool:
    """Return True if the database is only temporarily unavailable.

    A temporary error may end without any correction by the user.

    Args:
        error: error of a database or the operating system.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, OSError | filelock.Timeout | SQLAlchemyError)
    # The names of PEP 249; a file that is no database, or foreign tables, are other errors.
    return type(error).__name__ in ("OperationalError", "InterfaceError", "InternalError")


def database_url(log: Log, env: Mapping[str, str]) -> URL:
    """Return the address with the driver and the password filled in.

    Raises:
        StateError: it is not the address of a database that semroute writes.
    """
    try:
        url = make_url(log.url)
    except ArgumentError:
        raise StateError("log.url is not the address of a database; write it like sqlite:///.semroute/log.db") from None
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
        password = env.get(log.password_env, "") if log.password_env else ""
        return url.set(password=password) if password else url
    return url


def open_engine(log: Log, env: Mapping[str, str]) -> Engine:
    """Create an engine that has not connected yet.

    Raises:
        MissingExtraError: the extra "postgres" is not installed.
        StateError: the address is unusable.
    """
    url = database_url(log, env)
    try:
        if url.get_backend_name() == "postgresql":
            connecting = {name: value for name, value in CONNECTING.items() if name not in url.query}
            engine = create_engine(url, pool_pre_ping=True, connect_args=connecting)
            bound_waiting(engine)
            return engine
        engine = create_engine(url, connect_args={"timeout": BUSY_S})
    except (ImportError, NoSuchModuleError) as error:
        raise MissingExtraError("a log in PostgreSQL", "postgres") from error
    event.listen(engine, "connect", _tune)
    return engine


def _tune(connection: object, _: object) -> None:
    """Configure SQLite: write-ahead log, one sync a checkpoint, foreign keys.

    Readers and the writer do not block each other. A crash of the machine may lose the last transactions, never the
    database (https://sqlite.org/wal.html). Rows of an outcome are deleted with it.
    """
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch SQLite to the write-ahead log, retrying while it is busy.

    SQLite does not wait for a lock here, as it does elsewhere: another process that opens the database for the first
    time at the same moment makes it fail at once.
    """
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def prepare(engine: Engine, file: Path | None = None) -> None:
    """Create the folder and the tables, or migrate them; safe concurrently.

    Args:
        engine: the database.
        file: absolute path of a database in a file; None takes it from the engine and the current working folder.

    Raises:
        StateError: the database cannot be reached or written, holds other things, or was written by a newer semroute.
    """
    file = _file_of(engine) if file is None else file
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{where(engine)}: its folder cannot be made: {error.strerror}") from error
    try:
        if file is not None:
            _begin_file(engine, file)
        with engine.connect() as connection:
            found_revision = revision(connection)
        if found_revision == HEAD:
            return
        with patience(MIGRATE_S), _exclusive_file(file), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            found_revision = revision(connection)
            if found_revision is not None and found_revision > HEAD:
                raise StateError(
                    f"{where(engine)} was written by a newer semroute (schema {found_revision}, this version has "
                    f"{HEAD}); upgrade semroute, or set another log.url"
                )
            if found_revision is None and _has_foreign_tables(connection):
                raise StateError(f"{where(engine)} holds tables of another program; set another log.url")
            if found_revision != HEAD:
                _migrate(connection)
    except (SQLAlchemyError, OSError, filelock.Timeout) as error:
        raise StateError(f"{where(engine)} cannot be opened: {said(error)}") from error


def _begin_file(engine: Engine, file: Path) -> None:
    """Create a missing database file, without leftovers of a deleted one.

    A process that has the deleted one open shares its ``-shm`` with any process that finds it by name, and two
    databases that share one are both damaged (https://www.sqlite.org/howtocorrupt.html, 2.4).
    """
    if file.exists():
        return
    with _exclusive_file(file):
        if not file.exists():
            for suffix in ("-wal", "-shm"):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            with engine.connect():
                pass


def revision(connection: Connection) -> str | None:
    """Return the last migration of the database; None without any."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    name = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if name is None else str(name)


def setting(engine: Engine, name: str, default: str) -> str:
    """Return a setting of the database; the first caller sets its value."""
    first = text("INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")
    with engine.begin() as connection:
        connection.execute(first, {"name": name, "value": default})
    with engine.connect() as connection:
        return str(connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar_one())


def count_dropped(engine: Engine, more: int) -> None:
    """Add to the number of outcomes that writers had to drop."""
    add = text(
        "INSERT INTO settings (name, value) VALUES (:name, :more) ON CONFLICT (name) DO UPDATE "
        "SET value = CAST(CAST(settings.value AS BIGINT) + CAST(:more AS BIGINT) AS TEXT)"
    )
    with engine.begin() as connection:
        connection.execute(add, {"name": DROPPED, "more": str(more)})


def dropped(engine: Engine) -> int:
    """Return the number of dropped outcomes, as far as writers recorded it."""
    with engine.connect() as connection:
        value = connection.execute(select(settings.c.value).where(settings.c.name == DROPPED)).scalar()
    return 0 if value is None else int(value)


def where(engine: Engine) -> str:
    """Return the database's address for a person, without its password."""
    return engine.url.database or "" if engine.dialect.name == "sqlite" else engine.url.render_as_string()


def said(error: Exception) -> str:
    """Return a database error's message on one line.

    The statement and its values are left out, since they may hold a query's text.
    """
    words = str(getattr(error, "orig", None) or error)
    return words.strip().partition("\n")[0]


def _exclusive_file(file: Path | None) -> AbstractContextManager[object]:
    """Lock a SQLite file against other processes that open it first.

    PostgreSQL has a lock of its own for that.
    """
    return nullcontext() if file is None else filelock.FileLock(f"{file}.lock", timeout=60)


def _has_foreign_tables(connection: Connection) -> bool:
    return not set(inspect(connection).get_table_names()).isdisjoint(metadata.tables)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
