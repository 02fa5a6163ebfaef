"""From a decision's candidate models to a completion."""

from __future__ import annotations

from semroute.dispatch.constraints import Constraints
from semroute.dispatch.dispatcher import Dispatcher

__all__ = ["Constraints", "Dispatcher"]
