"""Outcome log: a database written in the background, read for reports."""

from __future__ import annotations

from semroute.outcomes.log.database import OutcomeLog, open_log
from semroute.outcomes.log.writer import WriterCounts

__all__ = ["OutcomeLog", "WriterCounts", "open_log"]
