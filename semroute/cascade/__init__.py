"""The cascade: ask the cheapest tier, check its answer, go on to the next where it is not good enough."""

from __future__ import annotations

from semroute.cascade.cascade import Cascade, Tier

__all__ = ["Cascade", "Tier"]
