"""Migration that adds the reasoning effort of a tier."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; earlier rows have no value."""
    op.add_column("trials", sa.Column("effort", sa.Text))
