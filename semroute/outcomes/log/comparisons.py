"""Blind comparisons in the outcome log, and the ledger of their budget.

A comparison is written with its estimated cost before any call is made for it, and with its real cost afterwards. So
what was spent is known to every process and replica that shares the log, and after a restart; a process that dies on
the way leaves the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import Engine, func, insert, literal, select, text, update

from semroute.outcomes.log.schema import comparisons
from semroute.types import ComparisonResult, LoggedComparison

_LOCK = 7361904
"""Advisory lock of PostgreSQL, held while a comparison is admitted: two could both take the last of a budget."""


def reserve(engine: Engine, comparison: LoggedComparison, max_usd: float) -> bool:
    """Write a comparison with its estimated cost, if its budget allows it.

    Args:
        engine: the database.
        comparison: without a result.
        max_usd: budget of all comparisons of this trial together, of every process.
    """
    c, row = comparisons.c, comparison
    spent = select(func.coalesce(func.sum(c.cost_usd), 0.0)).where(c.policy == row.policy).scalar_subquery()
    values = {
        "id": row.id, "at": row.at.timestamp(), "policy": row.policy, "outcome_id": row.outcome_id,
        "serving": row.serving, "trying": row.trying, "judge": row.judge, "cost_usd": row.cost_usd,
    }  # fmt: skip
    # One statement: it reads the sum and writes the row under one lock of SQLite.
    chosen = select(*(literal(value, c[name].type) for name, value in values.items()))
    statement = insert(comparisons).from_select(list(values), chosen.where(spent + row.cost_usd <= max_usd))
    statement = statement.execution_options(preserve_rowcount=True)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        return connection.execute(statement).rowcount == 1


def settle(engine: Engine, comparison: LoggedComparison) -> None:
    """Write how a reserved comparison ended, and what it really cost."""
    values = {
        "serving": comparison.serving, "trying": comparison.trying, "cost_usd": comparison.cost_usd,
        "result": comparison.result, "error_kind": comparison.error_kind,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(update(comparisons).where(comparisons.c.id == comparison.id).values(values))


def read_comparisons(engine: Engine, policy: str, since: datetime | None = None) -> Iterator[LoggedComparison]:
    """Yield the comparisons of a trial, oldest first."""
    query = select(comparisons).where(comparisons.c.policy == policy).order_by(comparisons.c.at)
    if since is not None:
        query = query.where(comparisons.c.at >= since.timestamp())
    with engine.connect() as connection:
        for row in connection.execute(query):
            yield LoggedComparison(
                id=row.id,
                at=datetime.fromtimestamp(row.at, UTC),
                policy=row.policy,
                outcome_id=row.outcome_id,
                serving=row.serving,
                trying=row.trying,
                judge=row.judge,
                cost_usd=row.cost_usd,
                result=cast("ComparisonResult | None", row.result),
                error_kind=row.error_kind,
            )
