"""Outcomes that are too old go, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Engine, delete, select

from semroute.outcomes.log.schema import outcomes

PORTION = 500
"""Outcomes that are deleted in one transaction: no other writer waits for long."""
EVERY_S = 3600.0
"""How often a writer looks for old ones."""
DAY_S = 86_400.0


def prune(engine: Engine, before: float, *, most: int | None = None) -> int:
    """Delete outcomes from before a time (seconds since the epoch), with all that is theirs; how many were deleted."""
    deleted = 0
    while most is None or deleted < most:
        old = select(outcomes.c.id).where(outcomes.c.at < before).order_by(outcomes.c.at).limit(PORTION)
        with engine.begin() as connection:
            ids = list(connection.execute(old).scalars())
            # What belongs to an outcome goes with it (ON DELETE CASCADE).
            connection.execute(delete(outcomes).where(outcomes.c.id.in_(ids)))
        deleted += len(ids)
        if len(ids) < PORTION:
            break
    return deleted


class RetentionJob:
    """Deletes now and then, one portion a call, until nothing old is left; then not before the next hour.

    Args:
        engine: the database.
        keep_days: age of the oldest outcome that stays.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, keep_days: float, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._due = float("-inf")

    def __call__(self) -> None:
        """Delete a portion, if it is time."""
        now = self._clock()
        if now >= self._due and prune(self._engine, now - self._keep_s, most=PORTION) < PORTION:
            self._due = now + EVERY_S
