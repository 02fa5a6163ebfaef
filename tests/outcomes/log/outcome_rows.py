"""Outcomes to log."""

from __future__ import annotations

import time
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

JUDGED = Attempt("judge-1", "judge", 3.0, status=200, credential="JUDGE_KEY", usage=Usage(5, 1), cost=Cost(0.001))
SMALL = Attempt(
    "small-1", "small", 12.0, status=200, credential="KEY", usage=Usage(10, 5, cached_tokens=4), cost=Cost(0.01),
    probability=0.5, score={"cost": 1.0, "total": 0.9},
)  # fmt: skip
AGAIN = Attempt("small-1", "small", 11.0, status=200, credential="KEY", usage=Usage(10, 6), cost=Cost(0.02, True))
LARGE = Attempt("large-1", "large", 90.0, first_token_ms=20.0, usage=Usage(10, 50), cost=Cost(0.3), hedge=True)
FAILED = Attempt(
    "large-2", "large", 5.0, status=500, error="large-2: HTTP 500", error_kind="UnavailableError", retry=True
)


def decision(query: str = "how do I boil an egg?") -> Decision:
    return Decision(
        query=query,
        category="cooking",
        model="small",
        score=0.8,
        threshold=0.2,
        confidence=0.9,
        is_fallback=False,
        categories=(CategoryScore("cooking", 0.8, 0.2), CategoryScore("law", 0.1, 0.3)),
        candidates=("small", "large"),
        strategy="judge",
        reason="judge chose small",
        elapsed_ms=4.0,
        steps_ms={"encode": 1.0, "judge": 3.0},
        opinions=(StrategyResult("judge", "decided", "judge chose small", ("small",), None, 3.0, (JUDGED,)),),
    )


def answer(text: str, model: str, *attempts: Attempt) -> Completion:
    usage = attempts[-1].usage
    return Completion(text, model, f"{model}-1", model, "stop", usage, 12.0, attempts=attempts, cost=attempts[-1].cost)


def outcome(query: str = "how do I boil an egg?", *, at: float | None = None, text: str = "eight minutes") -> Outcome:
    """A query that went up two tiers: judged, sampled twice, rejected, and answered after a failed attempt."""
    now = time.time() if at is None else at
    cheap = answer("perhaps", "small", SMALL)
    dear = answer(text, "large", FAILED, LARGE)
    trials = (
        TierResult(
            0,
            "small",
            cheap,
            (SMALL, AGAIN),
            (CheckResult("consistency", False, "no", 0.2, 0.7),),
            False,
            "rejected",
            23.0,
            "low",
        ),
        TierResult(
            1,
            "frontier",
            dear,
            (FAILED, LARGE),
            (CheckResult("format", True, "its form is right"),),
            True,
            "accepted",
            95.0,
        ),
    )
    attempts = (SMALL, AGAIN, FAILED, LARGE)
    completion = Completion(
        text, "large", "large-1", "large", "stop", LARGE.usage, 120.0, attempts=attempts, tiers=trials, tier=1
    )
    return Outcome(
        new_id(now),
        datetime.fromtimestamp(now, UTC),
        decision(query),
        completion,
        attempts,
        124.0,
        first_token_ms=60.0,
        baseline_model="large",
        baseline_usd=0.25,
        metadata={"tenant": "acme"},
    )
