"""Logged outcomes, made as short as a test can say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from semroute.types import LoggedCall, LoggedCheck, LoggedOutcome, LoggedTier

START = datetime(2026, 11, 1, tzinfo=UTC)


def call(model: str, usd: float | None, *, tier: int | None = None, role: Any = "answer", **rest: Any) -> LoggedCall:
    facts: dict[str, Any] = {
        "role": role, "tier": tier, "deployment": f"{model}-1", "model": model, "credential": None, "status": 200,
        "error_kind": None, "error": None, "latency_ms": 10.0, "first_token_ms": None, "input_tokens": 100,
        "output_tokens": 10, "cached_tokens": 0, "reasoning_tokens": 0, "cost_usd": usd, "cost_estimated": False,
        "probability": 1.0, "score": {}, "hedge": False, "retry": False,
    }  # fmt: skip
    return LoggedCall(**facts | rest)


def outcome(*calls: LoggedCall, hours: float = 0.0, model: str | None = "small", **rest: Any) -> LoggedOutcome:
    costs = [one.cost_usd for one in calls]
    facts: dict[str, Any] = {
        "id": f"{hours}", "at": START + timedelta(hours=hours), "query": "q", "query_hash": None, "category": "law",
        "strategy": "semantic", "is_fallback": False, "score": 0.5, "threshold": 0.2, "confidence": None, "reason": "",
        "candidates": ("small",), "model": model, "deployment": None, "tier": None, "accepted": None,
        "escalated": False, "latency_ms": 100.0, "decide_ms": 2.0, "first_token_ms": None, "input_tokens": 100,
        "output_tokens": 10, "cost_usd": None if None in costs else sum(cost or 0 for cost in costs),
        "cost_estimated": False, "baseline_model": None, "baseline_usd": None, "error_kind": None, "error": None,
        "calls": calls,
    }  # fmt: skip
    return LoggedOutcome(**facts | rest)


def climbed(*usd: float, latency_ms: float = 100.0, tiers: tuple[str, ...] = ("small", "large"), **rest: Any) -> Any:
    """An outcome that called so many tiers of those, one call each; the last one's answer was accepted."""
    top = len(usd) - 1
    calls = [call(tiers[tier], cost, tier=tier) for tier, cost in enumerate(usd)]
    called = tuple(
        LoggedTier(tier, tiers[tier], tiers[tier], True, tier == top, "", latency_ms / len(usd))
        for tier in range(len(usd))
    )
    checks = tuple(LoggedCheck(tier, "confidence", tier == top, 0.5, 0.85, "") for tier in range(len(usd)))
    facts: dict[str, Any] = {
        "model": tiers[top], "tier": top, "accepted": True, "escalated": top > 0, "latency_ms": latency_ms,
        "tiers": called, "checks": checks,
    }  # fmt: skip
    return outcome(*calls, *rest.pop("more", ()), **facts | rest)
