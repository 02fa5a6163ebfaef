"""Cascade: ask the cheapest tier, check its answer, escalate if rejected."""

from __future__ import annotations

from semroute.cascade.cascade import Cascade, Tier

__all__ = ["Cascade", "Tier"]
