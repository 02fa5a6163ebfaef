"""Reading of logged outcomes, and their export to JSON Lines and Parquet."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, func, select

from semroute._optional import require
from semroute.outcomes.log.schema import calls, checks, feedback, outcomes, trials
from semroute.storage import atomic_write, json_line
from semroute.types import PINNED, TRIAL, LoggedCall, LoggedCheck, LoggedOutcome, LoggedTier

PORTION = 2000
"""Outcomes in a row group of Parquet."""


def as_dict(outcome: LoggedOutcome) -> dict[str, Any]:
    """Convert an outcome to JSON-ready values; the time to ISO 8601."""
    return {**_fields(outcome), "at": outcome.at.isoformat(timespec="milliseconds")}


def _fields(outcome: LoggedOutcome) -> dict[str, Any]:
    """Return the fields by the keys that exports of every version have.

    A single turn without tools has no key of signals.
    """
    values = asdict(outcome)
    values["trials"] = values.pop("tiers")
    if not outcome.signals:
        del values["signals"]
    return values


def as_labelled(outcome: LoggedOutcome) -> dict[str, Any] | None:
    """Convert an outcome to a labelled row for training and evaluation.

    None without a query, an answer or feedback. The feedback is the quality of the judged answer. Models with unjudged
    answers are left out: the result of a check is an estimate of quality, not a judgement.

    Its ``probability`` is the logging propensity of the model (:func:`model_probability`). A conversation's signals are
    in its row.
    """
    if outcome.query is None or outcome.model is None or outcome.feedback is None:
        return None
    calls = [call for call in outcome.calls if call.model == outcome.model and call.tier == outcome.tier]
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    values = {
        "quality": outcome.feedback,
        "cost_usd": sum(costs) if costs else None,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "latency_ms": calls[-1].latency_ms if calls else None,
        "response": outcome.answer,
        "probability": model_probability(outcome),
        "logprobs": next((tier.logprobs for tier in outcome.tiers if tier.tier == outcome.tier), None),
        "effort": _effort(outcome, calls),
    }
    cell = {key: value for key, value in values.items() if value is not None}
    task = {} if outcome.category is None else {"task": outcome.category}
    signals = {"signals": dict(outcome.signals)} if outcome.signals else {}
    return {"query": outcome.query, **task, **signals, "outcomes": {outcome.model: cell}}


def _effort(outcome: LoggedOutcome, calls: Sequence[LoggedCall]) -> str | None:
    """Return the reasoning effort of the judged answer; None if unknown."""
    # Logs from before calls had it have that of tiers.
    of_tier = next((tier.effort for tier in outcome.tiers if tier.tier == outcome.tier), None)
    return calls[-1].effort or of_tier if calls else of_tier


def model_probability(outcome: LoggedOutcome) -> float | None:
    """Return the logging propensity of the answer's model; None if unknown.

    1 without a trial, since routing is deterministic; during a trial, the logged probability of the assignment. Unknown
    after a failover, for cascades and model groups, and for models that the caller pinned.
    """
    if outcome.strategy == PINNED or outcome.tier is not None or outcome.candidates[:1] != (outcome.model,):
        return None
    experiment = next((result for result in outcome.opinions if result.get("strategy") == TRIAL), None)
    if experiment is None:
        return 1.0
    assignment = experiment.get("draw")
    propensity = assignment.get("probability") if isinstance(assignment, dict) else None
    return propensity if isinstance(propensity, float) and 0 < propensity <= 1 else None


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows as JSON Lines, atomically; return their number."""
    count = 0
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row) + "\n")
            count += 1
    return count


def write_parquet(outcomes: Iterable[LoggedOutcome], path: Path) -> int:
    """Write outcomes as Parquet, atomically; return their number.

    Nested values are columns of JSON text.

    Raises:
        MissingExtraError: the extra "parquet" is not installed.
    """
    arrow = require("pyarrow", what="writing Parquet", extra="parquet")
    parquet = require("pyarrow.parquet", what="writing Parquet", extra="parquet")
    text, number, count, flag = arrow.string(), arrow.float64(), arrow.int64(), arrow.bool_()
    kinds = {
        "id": text, "at": arrow.timestamp("us", tz="UTC"), "query": text, "query_hash": text, "category": text,
        "strategy": text, "is_fallback": flag, "score": number, "threshold": number, "confidence": number,
        "reason": text, "candidates": text, "model": text, "deployment": text, "tier": count, "accepted": flag,
        "escalated": flag, "latency_ms": number, "decide_ms": number, "first_token_ms": number, "input_tokens": count,
        "output_tokens": count, "cost_usd": number, "cost_estimated": flag, "baseline_model": text,
        "baseline_usd": number, "error_kind": text, "error": text, "answer": text, "feedback": number,
        "metadata": text, "categories": text, "opinions": text, "steps_ms": text, "calls": text, "checks": text,
        "trials": text, "signals": text,
    }  # fmt: skip
    schema = arrow.schema(list(kinds.items()))
    count_written = 0
    with atomic_write(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for portion in _portions(outcomes):
            rows = [_flat(outcome) for outcome in portion]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            count_written += len(rows)
    return count_written


def _flat(outcome: LoggedOutcome) -> dict[str, Any]:
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
        for key, value in _fields(outcome).items()
    }


def _portions(outcomes: Iterable[LoggedOutcome]) -> Iterator[list[LoggedOutcome]]:
    portion: list[LoggedOutcome] = []
    for outcome in outcomes:
        portion.append(outcome)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


# Reading of outcomes from the tables, page by page.

PAGE = 500
"""Outcomes that are read at once."""

T = TypeVar("T")


def select_outcomes(since: datetime | None, until: datetime | None, category: str | None = None) -> Select[Any]:
    """Select the outcomes from ``since`` to before ``until``, oldest first."""
    query = select(outcomes).order_by(outcomes.c.at, outcomes.c.id)
    if since is not None:
        query = query.where(outcomes.c.at >= since.timestamp())
    if until is not None:
        query = query.where(outcomes.c.at < until.timestamp())
    return query if category is None else query.where(outcomes.c.category == category)


def read(engine: Engine, query: Select[Any]) -> Iterator[LoggedOutcome]:
    """Read the outcomes of a query by :func:`select_outcomes`, page by page.

    Memory holds one page. Each page begins after the last row of the one before (keyset pagination), so that concurrent
    writes and deletions do not shift the pages.
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
    """Read the last ``count`` outcomes, oldest first."""
    query = select(outcomes).order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(count)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
        return list(logged(connection, rows[::-1]))


def logged(connection: Connection, rows: Sequence[RowMapping]) -> Iterator[LoggedOutcome]:
    """Yield the outcomes of rows with their calls, checks, tiers and feedback."""
    ids = [row["id"] for row in rows]
    of_calls = _rows_by_outcome(connection, calls, ids)
    of_checks = _rows_by_outcome(connection, checks, ids)
    of_tiers = _rows_by_outcome(connection, trials, ids)
    judged = _judged(connection, ids)
    for row in rows:
        yield _outcome(row, of_calls[row["id"]], of_checks[row["id"]], of_tiers[row["id"]], judged.get(row["id"]))


def _rows_by_outcome(connection: Connection, table: Table, ids: Sequence[str]) -> Mapping[str, list[RowMapping]]:
    rows_of: dict[str, list[RowMapping]] = defaultdict(list)
    query = select(table).where(table.c.outcome_id.in_(ids)).order_by(table.c.outcome_id, table.c.n)
    for row in connection.execute(query).mappings():
        rows_of[row["outcome_id"]].append(row)
    return rows_of


def _judged(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """Return the latest feedback of each outcome that has any."""
    newest_of = select(func.max(feedback.c.id)).where(feedback.c.outcome_id.in_(ids)).group_by(feedback.c.outcome_id)
    query = select(feedback.c.outcome_id, feedback.c.value).where(feedback.c.id.in_(newest_of))
    return {row.outcome_id: row.value for row in connection.execute(query)}


def _outcome(
    row: RowMapping,
    of_calls: Sequence[RowMapping],
    of_checks: Sequence[RowMapping],
    of_tiers: Sequence[RowMapping],
    judged: float | None,
) -> LoggedOutcome:
    details: dict[str, Any] = json.loads(row["details"])
    values = _plain(LoggedOutcome, row)
    values |= {
        "at": datetime.fromtimestamp(row["at"], UTC),
        "candidates": tuple(json.loads(row["candidates"])),
        "metadata": json.loads(row["metadata"]),
        "categories": tuple(map(tuple, details.get("categories", ()))),
        "opinions": tuple(details.get("opinions", ())),
        "steps_ms": details.get("steps_ms", {}),
        "signals": details.get("signals", {}),
        "feedback": judged,
        "calls": tuple(
            LoggedCall(**_plain(LoggedCall, call) | {"score": json.loads(call["score"])}) for call in of_calls
        ),
        "checks": tuple(
            LoggedCheck(**_plain(LoggedCheck, check) | {"check": check["check_name"]}) for check in of_checks
        ),
        "tiers": tuple(_tier(row) for row in of_tiers),
    }
    return LoggedOutcome(**values)


def _tier(row: RowMapping) -> LoggedTier:
    logprobs = None if row["logprobs"] is None else tuple(json.loads(row["logprobs"]))
    return LoggedTier(**_plain(LoggedTier, row) | {"logprobs": logprobs})


def _plain(kind: type[Any], row: RowMapping) -> dict[str, Any]:
    """Return the values of a row that are fields of a record class."""
    return {field.name: row[field.name] for field in fields(kind) if field.name in row}
