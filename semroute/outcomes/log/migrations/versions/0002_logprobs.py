"""Migration that adds the log probabilities of a tier's answer.

Checks are trained on them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; earlier rows have no value."""
    op.add_column("trials", sa.Column("logprobs", sa.Text))
