"""Rows into tables, as fast as each database takes them.

The values go to the driver as they are, past SQLAlchemy's own handling of parameters, which would take longer than the
database does: ``executemany`` for SQLite, ``COPY`` for PostgreSQL
(https://www.postgresql.org/docs/current/sql-copy.html). How many that makes is measured by ``scripts/bench_log.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table

from semroute.outcomes.log.rows import Row, Rows
from semroute.outcomes.log.schema import WRITTEN


def insert(engine: Engine, rows: Rows, *, again: bool = False) -> None:
    """Write all rows or none.

    Args:
        engine: the database.
        rows: of the written tables.
        again: whether some of them may be there already, since the end of an earlier try was not heard.

    Raises:
        Exception: whatever the driver raises; nothing was written then, unless the connection broke at the very end.
    """
    with engine.begin() as connection:
        for table, values in zip(WRITTEN, rows, strict=True):
            if not values:
                continue
            if engine.dialect.name == "postgresql" and not again:
                _copy(connection, table, values)
            else:
                _execute(connection, table, values)


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
