"""What a strategy decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

# One call of a model: what it took and what it cost.


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them.

    ``cached_tokens`` (read from a cache) and ``cache_write_tokens`` are parts of ``input_tokens``;
    ``reasoning_tokens`` is a part of ``output_tokens``.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, USD; ``estimated`` where tokens were not counted by the provider."""

    usd: float
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one deployment, answered or not.

    Attributes:
        deployment: its name.
        model: the logical model.
        latency_ms: wall time to the complete answer or to the error.
        status: HTTP status, where one was received.
        error: the error's message; None when it answered.
        error_kind: name of the error's class.
        credential: environment variable of the key that was used; never the key.
        first_token_ms: wall time to the first token of a stream.
        usage: tokens, where the provider counted them.
        cost: USD, None where no price is known.
        probability: with which the deployment was drawn among the candidates.
        score: parts of the choice's score, by signal.
        hedge: whether it was started beside another attempt.
        retry: whether it repeats the attempt before at the same deployment.
    """

    deployment: str
    model: str
    latency_ms: float
    status: int | None = None
    error: str | None = None
    error_kind: str | None = None
    credential: str | None = None
    first_token_ms: float | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    probability: float = 1.0
    score: Mapping[str, float] = field(default_factory=dict)
    hedge: bool = False
    retry: bool = False


def total_cost(attempts: Iterable[Attempt]) -> Cost | None:
    """Cost of the attempts together; None where no attempt's cost is known."""
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    if not costs:
        return None
    return Cost(sum(cost.usd for cost in costs), any(cost.estimated for cost in costs))


StrategyResultKind: TypeAlias = Literal["decided", "narrowed", "passed"]
"""Whether a strategy settled the matter, left fewer candidates to the strategies after it, or had nothing to say."""


TRIAL = "trial"
"""Named as the strategy where the other policy of a trial has its say."""


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """How well a query fits one category, and the score at which it counts as fitting."""

    category: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """How a trial drew between the policy that serves and its own.

    Attributes:
        policy: tells this pair of policies from others.
        share: of the queries that the policy on trial decides.
        probability: with which the model that the decision names was chosen, by whichever policy; None where that is
            not known.
    """

    policy: str
    share: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """What one strategy said of a query.

    Attributes:
        strategy: its name.
        kind: what came of it.
        reason: one sentence for a person.
        candidates: what it decided on, or what it left; empty where it passed.
        category: the category that it found, where it found one.
        elapsed_ms: wall time, milliseconds.
        attempts: the calls that it made (a judge's); they are part of what the query costs.
        draw: of a trial: what was drawn between, and how.
    """

    strategy: str
    kind: StrategyResultKind
    reason: str
    candidates: tuple[str, ...] = ()
    category: str | None = None
    elapsed_ms: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    draw: Assignment | None = None

    def to_dict(self) -> dict[str, object]:
        """The opinion as JSON-ready values; of its calls only what they cost."""
        cost = total_cost(self.attempts)
        return {
            "strategy": self.strategy,
            "kind": self.kind,
            "reason": self.reason,
            "candidates": list(self.candidates),
            "category": self.category,
            "elapsed_ms": self.elapsed_ms,
            "cost_usd": None if cost is None else cost.usd,
            **({} if self.draw is None else {"draw": asdict(self.draw)}),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """Which category and models a query goes to, and why.

    Attributes:
        query: the routed text.
        category: the category, or None when nothing clears its threshold.
        model: the first of ``candidates``.
        score: score of the best category, whether or not it cleared its threshold; None where no strategy scored
            categories, since one before had decided.
        threshold: threshold of the best category; None like ``score``.
        confidence: calibrated probability that the best category is the right one, given that the query is in scope;
            None like ``score``.
        is_fallback: True when the general fallback models are used.
        categories: every category with score and threshold, best first; equal scores in alphabetical order.
        candidates: models in the order in which they are to be tried.
        strategy: name of the strategy that decided.
        reason: one sentence for a person.
        elapsed_ms: wall time of the decision, milliseconds.
        steps_ms: the same split by step, milliseconds.
        opinions: what each strategy that was asked said, in the order in which they were asked.
        cascade: models and groups of each tier that an answer would climb, cheapest first; empty where ``candidates``
            are called in their order.
    """

    query: str
    category: str | None
    model: str
    score: float | None
    threshold: float | None
    confidence: float | None
    is_fallback: bool
    categories: Sequence[CategoryScore]
    candidates: tuple[str, ...]
    strategy: str
    reason: str
    elapsed_ms: float
    steps_ms: Mapping[str, float] = field(default_factory=dict)
    opinions: tuple[StrategyResult, ...] = ()
    cascade: tuple[tuple[str, ...], ...] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The calls that deciding took."""
        return tuple(attempt for opinion in self.opinions for attempt in opinion.attempts)

    @property
    def cost(self) -> Cost | None:
        """What deciding cost; None where no call was made, or none with a known price."""
        return total_cost(self.attempts)

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
            "cascade": [list(tier) for tier in self.cascade],
            "strategy": self.strategy,
            "reason": self.reason,
            "elapsed_ms": self.elapsed_ms,
            "steps_ms": dict(self.steps_ms),
            "opinions": [opinion.to_dict() for opinion in self.opinions],
        }
