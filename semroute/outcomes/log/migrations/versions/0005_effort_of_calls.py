"""Migration that adds the reasoning effort of a call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; earlier rows have no value."""
    op.add_column("calls", sa.Column("effort", sa.Text))
