"""Rows into tables, as fast as each database takes them.

The values go to the driver as they are, past SQLAlchemy's own handling of parameters, which would take longer than the
database does: ``executemany`` for SQLite, ``COPY`` for PostgreSQL
(https://www.postgresql.org/docs/current/sql-copy.html). How many that makes is measured by ``scripts/bench_log.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table

from semroute.outcomes.log.postgres import WRITE_S, patience
from semroute.outcomes.log.rows import Row, Rows
from semroute.outcomes.log.schema import WRITTEN

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
waits for it, and lets go of its rows when the client is gone. Set in the transaction and not with the connection:
PgBouncer refuses unknown parameters of a connection."""


class Inserter:
    """Writes rows of a log's tables. Used by one thread at a time.

    Args:
        engine: the database, prepared.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unheard: tuple[int, datetime] | None = None

    def insert(self, rows: Rows, *, again: bool = False) -> None:
        """Write all rows or none.

        Args:
            rows: of the written tables.
            again: whether some of them may be there already, since the end of an earlier try was not heard.

        Raises:
            Exception: whatever the driver raises; nothing was written then, unless the connection broke at the very
                end.
        """
        with patience(WRITE_S), self._engine.begin() as connection:
            is_postgres = connection.dialect.name == "postgresql"
            if is_postgres:
                self._begin(_cursor(connection))
            for table, values in zip(WRITTEN, rows, strict=True):
                if not values:
                    continue
                if is_postgres and not again:
                    _copy(connection, table, values)
                else:
                    _execute(connection, table, values)
        self._unheard = None

    def _begin(self, cursor: Any) -> None:
        """Bound the transaction on the server's side, and end the one before whose end was not heard.

        That one may still hold the rows that are written again, and would be waited for: the server does not know that
        its client has gone. It is ours by process and start; no other transaction has both.
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
    mark = "%s" if connection.dialect.name == "postgresql" else "?"
    marks = ", ".join([mark] * len(table.columns))
    statement = f"INSERT INTO {table.name} ({_names(table)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
    _cursor(connection).executemany(statement, values)


def _copy(connection: Connection, table: Table, values: Sequence[Row]) -> None:
    with _cursor(connection).copy(f"COPY {table.name} ({_names(table)}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()
