"""First migration: create the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables.

    Spelt out here, and not taken from the current schema: a migration never changes.
    """
    for create in (_outcomes, _calls, _checks, _trials, _feedback, _settings):
        create()


def _outcomes() -> None:
    """Create the table of routed queries."""
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("query", sa.Text),
        sa.Column("query_hash", sa.String(64)),
        sa.Column("category", sa.Text),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("is_fallback", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("confidence", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("candidates", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("deployment", sa.Text),
        sa.Column("tier", sa.Integer),
        sa.Column("accepted", sa.Boolean),
        sa.Column("escalated", sa.Boolean, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("decide_ms", sa.Double, nullable=False),
        sa.Column("first_token_ms", sa.Double),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cost_usd", sa.Double),
        sa.Column("cost_estimated", sa.Boolean, nullable=False),
        sa.Column("baseline_model", sa.Text),
        sa.Column("baseline_usd", sa.Double),
        sa.Column("error_kind", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
    )
    op.create_index("outcomes_at", "outcomes", ["at"])


def _calls() -> None:
    """Create the table of calls of models, several to an outcome."""
    op.create_table(
        "calls",
        *_of_outcome(),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("tier", sa.Integer),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("credential", sa.Text),
        sa.Column("status", sa.Integer),
        sa.Column("error_kind", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("first_token_ms", sa.Double),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("cost_usd", sa.Double),
        sa.Column("cost_estimated", sa.Boolean, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("score", sa.Text, nullable=False),
        sa.Column("hedge", sa.Boolean, nullable=False),
        sa.Column("retry", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("outcome_id", "n"),
    )


def _checks() -> None:
    """Create the table of checked answers, several to an outcome."""
    op.create_table(
        "checks",
        *_of_outcome(),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.Column("check_name", sa.Text, nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("outcome_id", "n"),
    )


def _trials() -> None:
    """Create the table of cascade tiers, several to an outcome."""
    op.create_table(
        "trials",
        *_of_outcome(),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.Column("candidate", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("called", sa.Boolean, nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("answer", sa.Text),
        sa.PrimaryKeyConstraint("outcome_id", "n"),
    )


def _feedback() -> None:
    """Create the table of users' feedback."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _of_outcome()[0],
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("comment", sa.Text),
    )
    op.create_index("feedback_outcome", "feedback", ["outcome_id"])


def _settings() -> None:
    """Create the table of the log's own settings."""
    op.create_table(
        "settings", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )


def _of_outcome() -> tuple[sa.Column[str], sa.Column[int]]:
    owner = sa.Column("outcome_id", sa.String(32), sa.ForeignKey("outcomes.id", ondelete="CASCADE"), nullable=False)
    return owner, sa.Column("n", sa.Integer, nullable=False)
