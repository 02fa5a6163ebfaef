"""Open the database, and bring it to the form that this version writes."""

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
"""How long a writer of SQLite waits for another one."""
DROPPED = "dropped"
"""Setting of a database that counts the outcomes that its writers had to drop."""
_LOCK = 7361903
"""Advisory lock of PostgreSQL, under which one of several openers migrates; any number that nobody else uses."""

_log = logging.getLogger("semroute")


class Database:
    """The database of a log, prepared on first use and again after its file was lost. Safe to share between threads.

    Args:
        engine: its connections.
        keep: redaction of texts; where texts are hashed, the database provides the key.
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
        """Prepare the database where that is still to be done, and return the redaction of what is written to it.

        Raises:
            StateError: as :func:`prepare`.
        """
        with self._opening:
            if self._is_open and self.is_replaced():
                _log.warning("%s was deleted or replaced under way; a new log is begun there", where(self.engine))
                # Connections hold the old file open, which nobody finds any more.
                self.engine.dispose()
                self._is_open = False
            if not self._is_open:
                self._prepare()
        return self._keep

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
        """True if the file of the opened database is no longer the one that lies in its place."""
        return self._identity is not None and self._identity_now() != self._identity

    def forget(self) -> None:
        """Prepare the database again at the next use: after a failure its tables may be gone."""
        self._is_open = False

    def reset_after_fork(self) -> None:
        """Leave the parent's connections, which must be neither used nor closed here, and its locks."""
        self.engine.dispose(close=False)
        self._reset()

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            status = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)


def _file_of(engine: Engine) -> Path | None:
    """The absolute path of a database in a file: the working folder may change under way."""
    name = engine.url.database if engine.dialect.name == "sqlite" else None
    return None if not name or name == ":memory:" else Path(name).absolute()


def is_unavailable(error: BaseException | None) -> bool:
    """True if an error says that the database cannot be used now, and may be later without anybody's correction.

    Args:
        error: what a database or the operating system raised.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, OSError | filelock.Timeout | SQLAlchemyError)
    # The names of PEP 249; a file that is no database, or foreign tables, are other errors.
    return type(error).__name__ in ("OperationalError", "InterfaceError", "InternalError")


def database_url(log: Log, env: Mapping[str, str]) -> URL:
    """The address with the driver and the password in place.

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
    """An engine that has not connected yet.

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
    """SQLite: readers beside the writer, one sync a checkpoint (what a crash of the machine may take is the last
    transactions, never the database: https://sqlite.org/wal.html), deletion of an outcome with all that is its own."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch to the write-ahead log. SQLite does not wait for a lock here, as it does elsewhere: another process that
    opens the database for the first time at the same moment makes it fail at once.
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
    """Make the folder and the tables, or bring them to today's form; several may do so at once.

    Args:
        engine: the database.
        file: absolute path of a database in a file; None takes it from the engine and the working folder of now.

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
            found = revision(connection)
        if found == HEAD:
            return
        with patience(MIGRATE_S), _alone(file), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            found = revision(connection)
            if found is not None and found > HEAD:
                raise StateError(
                    f"{where(engine)} was written by a newer semroute (form {found}, this one knows {HEAD}); "
                    f"upgrade semroute, or name another log.url"
                )
            if found is None and _has_others(connection):
                raise StateError(f"{where(engine)} holds tables of something else; name another log.url")
            if found != HEAD:
                _migrate(connection)
    except (SQLAlchemyError, OSError, filelock.Timeout) as error:
        raise StateError(f"{where(engine)} cannot be opened: {said(error)}") from error


def _begin_file(engine: Engine, file: Path) -> None:
    """Create the file of a database where there is none, without what is left of one that was deleted.

    A process that has the deleted one open shares its ``-shm`` with whoever finds it by name, and two databases that
    share one are both damaged (https://www.sqlite.org/howtocorrupt.html, 2.4).
    """
    if file.exists():
        return
    with _alone(file):
        if not file.exists():
            for ending in ("-wal", "-shm"):
                Path(f"{file}{ending}").unlink(missing_ok=True)
            with engine.connect():
                pass


def revision(connection: Connection) -> str | None:
    """The last migration that the database has seen."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def setting(engine: Engine, name: str, default: str) -> str:
    """A setting of the database as a whole; the first who asks gives it its value."""
    first = text("INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")
    with engine.begin() as connection:
        connection.execute(first, {"name": name, "value": default})
    with engine.connect() as connection:
        return str(connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar_one())


def count_dropped(engine: Engine, more: int) -> None:
    """Add to the number of outcomes that writers of this database had to drop."""
    add = text(
        "INSERT INTO settings (name, value) VALUES (:name, :more) ON CONFLICT (name) DO UPDATE "
        "SET value = CAST(CAST(settings.value AS BIGINT) + CAST(:more AS BIGINT) AS TEXT)"
    )
    with engine.begin() as connection:
        connection.execute(add, {"name": DROPPED, "more": str(more)})


def dropped(engine: Engine) -> int:
    """Return the number of outcomes that writers of this database had to drop, as far as they could note it."""
    with engine.connect() as connection:
        found = connection.execute(select(settings.c.value).where(settings.c.name == DROPPED)).scalar()
    return 0 if found is None else int(found)


def where(engine: Engine) -> str:
    """The database for a person; never with its password."""
    return engine.url.database or "" if engine.dialect.name == "sqlite" else engine.url.render_as_string()


def said(error: Exception) -> str:
    """What a database error says, on one line; without the statement and its values, which may be a query's text."""
    words = str(getattr(error, "orig", None) or error)
    return words.strip().partition("\n")[0]


def _alone(file: Path | None) -> AbstractContextManager[object]:
    """SQLite: no other process opens it for the first time meanwhile. PostgreSQL has a lock of its own for that."""
    return nullcontext() if file is None else filelock.FileLock(f"{file}.lock", timeout=60)


def _has_others(connection: Connection) -> bool:
    return not set(inspect(connection).get_table_names()).isdisjoint(metadata.tables)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
