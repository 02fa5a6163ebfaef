"""What a strategy decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """How well a query fits one category, and the score at which it counts as fitting."""

    category: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Which category and models a query goes to, and why.

    Attributes:
        query: the routed text.
        category: the category, or None when nothing clears its threshold.
        model: the first of ``candidates``.
        score: score of the best category, whether or not it cleared its threshold.
        threshold: threshold of the best category.
        confidence: calibrated probability that the best category is the right one, given that the query is in scope.
        is_fallback: True when the general fallback models are used.
        categories: every category with score and threshold, best first; equal scores in alphabetical order.
        candidates: models in the order in which they are to be tried.
        strategy: name of the strategy that decided.
        reason: one sentence for a person.
        elapsed_ms: wall time of the decision, milliseconds.
        steps_ms: the same split by step, milliseconds.
    """

    query: str
    category: str | None
    model: str
    score: float
    threshold: float
    confidence: float
    is_fallback: bool
    categories: Sequence[CategoryScore]
    candidates: tuple[str, ...]
    strategy: str
    reason: str
    elapsed_ms: float
    steps_ms: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The decision as JSON-ready values."""
        return {
            "query": self.query,
            "category": self.category,
            "model": self.model,
            "score": self.score,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "is_fallback": self.is_fallback,
            "categories": [
                {"category": c.category, "score": c.score, "threshold": c.threshold} for c in self.categories
            ],
            "candidates": list(self.candidates),
            "strategy": self.strategy,
            "reason": self.reason,
            "elapsed_ms": self.elapsed_ms,
            "steps_ms": dict(self.steps_ms),
        }
