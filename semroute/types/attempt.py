"""One call of a model: what it took and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


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
