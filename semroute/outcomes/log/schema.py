"""Tables of the outcome log.

A change here is a new migration, and :data:`HEAD` is its name. Times are seconds since the epoch (UTC) as double
precision: the same in both databases, and compared without a zone. Values that are never searched are JSON text.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

HEAD = "0005"
"""Newest migration."""

metadata = MetaData()

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("at", Double, nullable=False),
    Column("query", Text),
    Column("query_hash", String(64)),
    Column("category", Text),
    Column("strategy", Text, nullable=False),
    Column("is_fallback", Boolean, nullable=False),
    Column("score", Double),
    Column("threshold", Double),
    Column("confidence", Double),
    Column("reason", Text, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("model", Text),
    Column("deployment", Text),
    Column("tier", Integer),
    Column("accepted", Boolean),
    Column("escalated", Boolean, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("decide_ms", Double, nullable=False),
    Column("first_token_ms", Double),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_usd", Double),
    Column("cost_estimated", Boolean, nullable=False),
    Column("baseline_model", Text),
    Column("baseline_usd", Double),
    Column("error_kind", Text),
    Column("error", Text),
    Column("answer", Text),
    Column("metadata", Text, nullable=False),
    Index("outcomes_at", "at"),
)


def _of_outcome() -> Column[str]:
    return Column("outcome_id", String(32), ForeignKey("outcomes.id", ondelete="CASCADE"), nullable=False)


calls = Table(
    "calls",
    metadata,
    _of_outcome(),
    Column("n", Integer, nullable=False),
    Column("role", String(8), nullable=False),
    Column("tier", Integer),
    Column("deployment", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("credential", Text),
    Column("status", Integer),
    Column("error_kind", Text),
    Column("error", Text),
    Column("latency_ms", Double, nullable=False),
    Column("first_token_ms", Double),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_usd", Double),
    Column("cost_estimated", Boolean, nullable=False),
    Column("probability", Double, nullable=False),
    Column("score", Text, nullable=False),
    Column("hedge", Boolean, nullable=False),
    Column("retry", Boolean, nullable=False),
    Column("effort", Text),
    PrimaryKeyConstraint("outcome_id", "n"),
)

checks = Table(
    "checks",
    metadata,
    _of_outcome(),
    Column("n", Integer, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("check_name", Text, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("score", Double),
    Column("threshold", Double),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("outcome_id", "n"),
)

trials = Table(
    "trials",
    metadata,
    _of_outcome(),
    Column("n", Integer, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("model", Text),
    Column("called", Boolean, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("answer", Text),
    Column("logprobs", Text),
    Column("effort", Text),
    PrimaryKeyConstraint("outcome_id", "n"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _of_outcome(),
    Column("at", Double, nullable=False),
    Column("value", Double, nullable=False),
    Column("comment", Text),
    Index("feedback_outcome", "outcome_id"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("at", Double, nullable=False),
    Column("policy", String(12), nullable=False),
    Column("outcome_id", String(32), nullable=False),
    Column("serving", Text, nullable=False),
    Column("trying", Text, nullable=False),
    Column("judge", Text, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("result", String(4)),
    Column("error_kind", Text),
    Index("comparisons_policy", "policy"),
)
"""Blind comparisons of a trial's answers. No foreign key: they outlive their outcomes, as what a budget has spent."""

settings = Table("settings", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
"""Settings of the database as a whole, such as the key of the hashes."""

WRITTEN = (outcomes, calls, checks, trials)
"""Tables that the writer fills, parents first."""

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = tuple[list[Row], list[Row], list[Row], list[Row]]
"""Rows of :data:`WRITTEN`, in its order; each row in the order of the table's columns."""
