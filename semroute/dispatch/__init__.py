"""From a decision's candidate models to a completion."""

from __future__ import annotations

from semroute.dispatch.loop import complete

__all__ = ["complete"]
