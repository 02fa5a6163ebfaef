"""Open the database, and bring it to the form that this version writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from semroute.config import Log
from semroute.errors import MissingExtraError, StateError
from semroute.outcomes.log.schema import HEAD, metadata, settings

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_S = 10.0
"""How long a writer of SQLite waits for another one."""
CONNECT_S = 5
"""How long a connection to PostgreSQL may take to come up, seconds."""
_LOCK = 7361903
"""Advisory lock of PostgreSQL, under which one of several openers migrates; any number that nobody else uses."""


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
        StateError: the folder of the database cannot be made, or the address is unusable.
    """
    url = database_url(log, env)
    is_postgres = url.get_backend_name() == "postgresql"
    try:
        if is_postgres:
            return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_S})
        engine = create_engine(url, connect_args={"timeout": BUSY_S})
    except (ImportError, NoSuchModuleError) as error:
        raise MissingExtraError("a log in PostgreSQL", "postgres") from error
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{url.database}: its folder cannot be made: {error.strerror}") from error
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


def prepare(engine: Engine) -> None:
    """Make the tables, or bring them to today's form; several may do so at once.

    Raises:
        StateError: the database cannot be reached or written, holds other things, or was written by a newer semroute.
    """
    try:
        with engine.connect() as connection:
            found = revision(connection)
        if found == HEAD:
            return
        with _alone(engine), engine.begin() as connection:
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
    except DBAPIError as error:
        raise StateError(f"{where(engine)} cannot be opened: {said(error)}") from error


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


def where(engine: Engine) -> str:
    """The database for a person; never with its password."""
    return engine.url.database or "" if engine.dialect.name == "sqlite" else engine.url.render_as_string()


def said(error: Exception) -> str:
    """What a database error says, on one line; without the statement and its values, which may be a query's text."""
    words = str(getattr(error, "orig", None) or error)
    return words.strip().partition("\n")[0]


def _alone(engine: Engine) -> AbstractContextManager[object]:
    """SQLite: no other process opens it for the first time meanwhile. PostgreSQL has a lock of its own for that."""
    name = engine.url.database
    is_file = engine.dialect.name == "sqlite" and name and name != ":memory:"
    return FileLock(f"{name}.lock", timeout=60) if is_file else nullcontext()


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
