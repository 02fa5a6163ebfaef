"""Synthetic outcome of a cascade with one tier."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from semroute.router.complete import new_id
from semroute.types import (
    Attempt,
    CategoryScore,
    CheckResult,
    Completion,
    Cost,
    Decision,
    Outcome,
    StrategyResult,
    TierResult,
    Usage,
)


def outcome(like: Outcome | None = None) -> Outcome:
    """Return a new outcome of this moment.

    ``like`` supplies everything but name and time.
    """
    now = time.time()
    at, name = datetime.fromtimestamp(now, UTC), new_id(now)
    return replace(like or _made(at), id=name, at=at)


def _made(at: datetime) -> Outcome:
    attempt = Attempt(
        "openai-small",
        "small",
        412.0,
        status=200,
        credential="OPENAI_API_KEY",
        usage=Usage(412, 96),
        cost=Cost(0.0001),
        probability=0.5,
        score={"cost": 1.0, "latency": 0.8, "availability": 1.0, "capability": 0.5, "total": 0.83},
    )
    answer = Completion("It takes eight minutes.", "small", "openai-small", "gpt", "stop", attempt.usage, 412.0)
    check = CheckResult("confidence", True, "confidence 0.912 reaches 0.85", 0.912, 0.85)
    trial = TierResult(0, "small", answer, (attempt,), (check,), True, "accepted: confidence 0.912 reaches 0.85", 413.0)
    scores = tuple(CategoryScore(f"category {number}", 0.9 - number / 20, 0.3) for number in range(12))
    reason = "closest to category 0: 0.900 reaches its threshold 0.300"
    decision = Decision(
        "how long do I have to boil an egg until it is hard?", "category 0", "small", 0.9, 0.3, 0.97, False, scores,
        ("small", "large"), "semantic", reason, 1.1, {"encode": 0.9, "score": 0.2},
        (StrategyResult("semantic", "decided", reason, ("small", "large"), "category 0", 1.1),),
    )  # fmt: skip
    completion = replace(answer, attempts=(attempt,), tiers=(trial,), tier=0)
    return Outcome(
        "", at, decision, completion, (attempt,), 414.0, None, None, None, "large", 0.004, {"tenant": "acme"}
    )
