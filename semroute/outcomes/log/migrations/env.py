"""Alembic environment: run migrations on a given connection.

Only :mod:`semroute.outcomes.log.engine` starts it.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
