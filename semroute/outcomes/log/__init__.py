"""The log of outcomes: a database that a thread of its own writes, and that reports and learning read."""

from __future__ import annotations

from semroute.outcomes.log.database import OutcomeLog, open_log
from semroute.outcomes.log.writer import WriterCounts

__all__ = ["OutcomeLog", "WriterCounts", "open_log"]
