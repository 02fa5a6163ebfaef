"""Migration that adds the blind comparisons of a trial.

They are kept when outcomes are deleted: their costs are what the budget of the trial has spent.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("policy", sa.String(12), nullable=False),
        sa.Column("outcome_id", sa.String(32), nullable=False),
        sa.Column("serving", sa.Text, nullable=False),
        sa.Column("trying", sa.Text, nullable=False),
        sa.Column("judge", sa.Text, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("result", sa.String(4)),
        sa.Column("error_kind", sa.Text),
    )
    op.create_index("comparisons_policy", "comparisons", ["policy"])
