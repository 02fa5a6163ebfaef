"""Admission control of endpoints, latency estimates, and the retry budget."""

from __future__ import annotations

from semroute.resilience.breaker import RetryBudget
from semroute.resilience.gates import MemoryGates
from semroute.resilience.latency import LatencyEstimate, LatencyWindows, seconds_per_token

__all__ = ["LatencyEstimate", "LatencyWindows", "MemoryGates", "RetryBudget", "seconds_per_token"]
