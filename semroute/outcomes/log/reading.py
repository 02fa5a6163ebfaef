"""From the tables back to outcomes, page by page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, func, select

from semroute.outcomes.log.schema import calls, checks, feedback, outcomes, trials
from semroute.types import LoggedCall, LoggedCheck, LoggedOutcome, LoggedTier

PAGE = 500
"""Outcomes that are read together."""

T = TypeVar("T")


def chosen(since: datetime | None, until: datetime | None, category: str | None = None) -> Select[Any]:
    """The outcomes of a time, from ``since`` on and before ``until``, oldest first."""
    query = select(outcomes).order_by(outcomes.c.at, outcomes.c.id)
    if since is not None:
        query = query.where(outcomes.c.at >= since.timestamp())
    if until is not None:
        query = query.where(outcomes.c.at < until.timestamp())
    return query if category is None else query.where(outcomes.c.category == category)


def read(engine: Engine, query: Select[Any]) -> Iterator[LoggedOutcome]:
    """The outcomes of a query by :func:`chosen`; memory for one page, whatever their number.

    Each page begins where the last one ended, so that what is written or deleted meanwhile moves nothing.
    """
    last: tuple[float, str] | None = None
    while True:
        page = query if last is None else query.where(
            (outcomes.c.at > last[0]) | ((outcomes.c.at == last[0]) & (outcomes.c.id > last[1]))
        )  # fmt: skip
        with engine.connect() as connection:
            rows = connection.execute(page.limit(PAGE)).mappings().all()
            yield from logged(connection, rows)
        if len(rows) < PAGE:
            return
        last = (rows[-1]["at"], rows[-1]["id"])


def newest(engine: Engine, count: int) -> list[LoggedOutcome]:
    """The last ``count`` outcomes, oldest first."""
    query = select(outcomes).order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(count)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
        return list(logged(connection, rows[::-1]))


def logged(connection: Connection, rows: Sequence[RowMapping]) -> Iterator[LoggedOutcome]:
    """Rows of outcomes with all that belongs to them."""
    ids = [row["id"] for row in rows]
    of_calls = _children(connection, calls, ids)
    of_checks = _children(connection, checks, ids)
    of_trials = _children(connection, trials, ids)
    judged = _judged(connection, ids)
    for row in rows:
        yield _outcome(row, of_calls[row["id"]], of_checks[row["id"]], of_trials[row["id"]], judged.get(row["id"]))


def _children(connection: Connection, table: Table, ids: Sequence[str]) -> Mapping[str, list[RowMapping]]:
    found: dict[str, list[RowMapping]] = defaultdict(list)
    query = select(table).where(table.c.outcome_id.in_(ids)).order_by(table.c.outcome_id, table.c.n)
    for row in connection.execute(query).mappings():
        found[row["outcome_id"]].append(row)
    return found


def _judged(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """The latest judgement of each outcome that has one."""
    newest_of = select(func.max(feedback.c.id)).where(feedback.c.outcome_id.in_(ids)).group_by(feedback.c.outcome_id)
    query = select(feedback.c.outcome_id, feedback.c.value).where(feedback.c.id.in_(newest_of))
    return {row.outcome_id: row.value for row in connection.execute(query)}


def _outcome(
    row: RowMapping,
    of_calls: Sequence[RowMapping],
    of_checks: Sequence[RowMapping],
    of_trials: Sequence[RowMapping],
    judged: float | None,
) -> LoggedOutcome:
    details: dict[str, Any] = json.loads(row["details"])
    plain = _plain(LoggedOutcome, row)
    plain |= {
        "at": datetime.fromtimestamp(row["at"], UTC),
        "candidates": tuple(json.loads(row["candidates"])),
        "metadata": json.loads(row["metadata"]),
        "categories": tuple(map(tuple, details.get("categories", ()))),
        "opinions": tuple(details.get("opinions", ())),
        "steps_ms": details.get("steps_ms", {}),
        "feedback": judged,
        "calls": tuple(
            LoggedCall(**_plain(LoggedCall, call) | {"score": json.loads(call["score"])}) for call in of_calls
        ),
        "checks": tuple(
            LoggedCheck(**_plain(LoggedCheck, check) | {"check": check["check_name"]}) for check in of_checks
        ),
        "trials": tuple(_trial(trial) for trial in of_trials),
    }
    return LoggedOutcome(**plain)


def _trial(row: RowMapping) -> LoggedTier:
    logprobs = None if row["logprobs"] is None else tuple(json.loads(row["logprobs"]))
    return LoggedTier(**_plain(LoggedTier, row) | {"logprobs": logprobs})


def _plain(kind: type[Any], row: RowMapping) -> dict[str, Any]:
    """What a row and a record call alike."""
    return {field.name: row[field.name] for field in fields(kind) if field.name in row}
