"""Runs migrations on the connection that is handed over; started by :mod:`semroute.outcomes.log.engine` alone."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
