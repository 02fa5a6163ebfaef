"""Routing decisions, results of strategies, and attempts with their cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from semroute.types.serialization import json_fields, json_object

# One model call: its attempt, usage and cost.


@dataclass(frozen=True, slots=True)
class Usage:
    """Token usage of one call as the provider counted it.

    ``cached_tokens`` (read from a cache) and ``cache_write_tokens`` are parts of ``input_tokens``;
    ``reasoning_tokens`` is a part of ``output_tokens``.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the token counts as JSON-ready values."""
        return json_fields(self)


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a call, USD.

    ``estimated`` is true where the provider did not count the tokens.
    """

    usd: float
    estimated: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the cost as JSON-ready values."""
        return json_fields(self)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Attempt: one call of one deployment, answered or not.

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
        probability: propensity with which the deployment was drawn among the candidates.
        score: components of the deployment's score, by signal.
        hedge: whether it is a hedged request, started while another attempt was running.
        retry: whether it retries the previous attempt at the same deployment.
        effort: reasoning effort that it asked for; None where it asked for none, or the deployment takes none.
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
    effort: str | None = None

    def __post_init__(self) -> None:
        """Keep the score as a dict: other mappings may not copy or pickle."""
        if type(self.score) is not dict:
            object.__setattr__(self, "score", dict(self.score))

    def to_dict(self) -> dict[str, object]:
        """Return the attempt as JSON-ready values."""
        return json_fields(self)


def total_cost(attempts: Iterable[Attempt]) -> Cost | None:
    """Return the cost of the attempts together; None where no cost is known."""
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    if not costs:
        return None
    return Cost(sum(cost.usd for cost in costs), any(cost.estimated for cost in costs))


StrategyResultKind: TypeAlias = Literal["decided", "narrowed", "passed"]
"""Kind of a strategy's result: selected models, filtered the candidates, or abstained."""


TRIAL = "trial"
"""Strategy name of an experiment's policy, in decisions and strategy results."""
PINNED = "pinned"
"""Strategy name of a decision that the caller, and no strategy, has made."""


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """Score of a query for one category, and the category's threshold."""

    category: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """A/B assignment of a query: the serving policy or an experiment's.

    Attributes:
        policy: identifier of this pair of policies.
        share: share of the queries that the experiment's policy decides.
        probability: propensity of the decision's model, whichever policy chose it; None where that is not
            known.
    """

    policy: str
    share: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """Result of one strategy on a query.

    Attributes:
        strategy: its name.
        kind: selected, filtered or abstained.
        reason: one sentence for a person.
        candidates: models that it selected or kept; empty where it abstained.
        category: the category that it found, if any.
        elapsed_ms: wall time, milliseconds.
        attempts: the calls that it made (a judge's); they are part of what the query costs.
        draw: the A/B assignment, where there is an experiment.
        other: whole decision of the policy that is not followed, where there is an experiment; in no log.
        unlike_training: True where a learned strategy says that the query is unlike what it was trained on.
    """

    strategy: str
    kind: StrategyResultKind
    reason: str
    candidates: tuple[str, ...] = ()
    category: str | None = None
    elapsed_ms: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    draw: Assignment | None = None
    other: Decision | None = field(default=None, repr=False, compare=False)
    unlike_training: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON-ready values, with only the cost of its calls."""
        cost = total_cost(self.attempts)
        found: dict[str, object] = {
            "strategy": self.strategy,
            "kind": self.kind,
            "reason": self.reason,
            "candidates": self.candidates,
            "category": self.category,
            "elapsed_ms": self.elapsed_ms,
            "cost_usd": None if cost is None else cost.usd,
            **({} if self.draw is None else {"draw": self.draw}),
            **({"unlike_training": True} if self.unlike_training else {}),
        }
        return json_object(found)


class _TupleOnRead:
    """Slot of a sequence that becomes a tuple when it is first read.

    A lazy ranking costs nothing until someone looks at it; from then on ``asdict``, ``deepcopy`` and ``pickle`` see a
    tuple of entries.
    """

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        value = self._slot.__get__(owner, kind)
        if type(value) is not tuple:
            value = tuple(value)
            self._slot.__set__(owner, value)
        return value

    def __set__(self, owner: Any, value: Any) -> None:
        self._slot.__set__(owner, value)


@dataclass(frozen=True, slots=True)
class Decision:
    """Routing decision: category and models of a query, and the reason.

    Attributes:
        query: the routed text.
        category: the category, or None when no score reaches its threshold.
        model: the first of ``candidates``.
        score: score of the best category, whether or not it reached its threshold; None where no strategy scored
            categories, because an earlier one had decided.
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
        opinions: results of the strategies that were asked, in order.
        cascade: models and groups of each tier of the cascade, cheapest first; empty where ``candidates``
            are called in their order.
        efforts: reasoning effort of each tier of the cascade; where there is none, at most one, that of the calls.
            Empty where no effort is configured.
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
    efforts: tuple[str | None, ...] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Return the calls that deciding took."""
        return tuple(attempt for opinion in self.opinions for attempt in opinion.attempts)

    @property
    def unlike_training(self) -> bool:
        """True if a learned strategy that decided finds the query novel.

        It is then unlike what the strategy was trained on.
        """
        return any(opinion.unlike_training for opinion in self.opinions)

    @property
    def cost(self) -> Cost | None:
        """Return the cost of deciding; None without a call of known price."""
        return total_cost(self.attempts)

    def to_dict(self) -> dict[str, object]:
        """Return the decision as JSON-ready values."""
        found: dict[str, object] = {
            "query": self.query,
            "category": self.category,
            "model": self.model,
            "score": self.score,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "is_fallback": self.is_fallback,
            "categories": self.categories,
            "candidates": self.candidates,
            "cascade": self.cascade,
            **({"efforts": self.efforts} if self.efforts else {}),
            "strategy": self.strategy,
            "reason": self.reason,
            **({"unlike_training": True} if self.unlike_training else {}),
            "elapsed_ms": self.elapsed_ms,
            "steps_ms": self.steps_ms,
            "opinions": self.opinions,
        }
        return json_object(found)


Decision.categories = _TupleOnRead(vars(Decision)["categories"])  # type: ignore[misc, assignment]
