"""Outcomes of queries as they happen, and as the log returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from semroute.types.chat import Completion, tier_label
from semroute.types.decision import Attempt, Decision

ComparisonResult: TypeAlias = Literal["won", "tied", "lost"]
"""Result of a blind comparison, as the policy on trial sees it."""

CallRole: TypeAlias = Literal["answer", "sample", "judge"]
"""Role of a call: an answer, one more sample of a tier's answer, or the judge's decision."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one query, from its arrival to its end.

    Attributes:
        id: unique and sortable by time (a version 7 UUID, RFC 9562, in hex).
        at: arrival, UTC.
        decision: the routing decision.
        completion: the answer; None where no model was asked, or none answered.
        attempts: every call that was made for the answer, failed ones among them; the judge's are in ``decision``.
        latency_ms: wall time from arrival to the end, deciding included.
        first_token_ms: wall time from arrival to the first piece that the caller saw; None where it was not streamed.
        error_kind: name of the error's class, where it failed.
        error: the error's message.
        baseline_model: the model that is taken for the strongest.
        baseline_usd: estimated cost of the query at the baseline; None where that is not known.
        metadata: what is known of the caller.
        signals: those of the conversation (:func:`semroute.text.signals.signals_of`); numbers and True alone. Empty for
            a single turn without tools.
    """

    id: str
    at: datetime
    decision: Decision
    completion: Completion | None = None
    attempts: tuple[Attempt, ...] = ()
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    error_kind: str | None = None
    error: str | None = None
    baseline_model: str | None = None
    baseline_usd: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)


class OutcomeSink(Protocol):
    """Sink for outcomes, off the hot path."""

    def record(self, outcome: Outcome) -> None:
        """Record an outcome; return at once and never raise."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """Logged call.

    The fields are those of :class:`~semroute.types.Attempt`, with the tier.
    """

    role: CallRole
    tier: int | None
    deployment: str
    model: str
    credential: str | None
    status: int | None
    error_kind: str | None
    error: str | None
    latency_ms: float
    first_token_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    cost_estimated: bool
    probability: float
    score: Mapping[str, float]
    hedge: bool
    retry: bool
    effort: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedCheck:
    """Logged result of a check."""

    tier: int
    check: str
    accepted: bool
    score: float | None
    threshold: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class LoggedTier:
    """Logged tier of a cascade.

    ``answer``, and ``logprobs`` of its tokens, are present where the log keeps answers; ``effort`` is that of
    :class:`~semroute.types.TierResult`.
    """

    tier: int
    candidate: str
    model: str | None
    called: bool
    accepted: bool
    reason: str
    latency_ms: float
    answer: str | None = None
    logprobs: tuple[float, ...] | None = None
    effort: str | None = None

    @property
    def label(self) -> str:
        """Return what the tier calls, for people."""
        return tier_label(self.candidate, self.effort)


@dataclass(frozen=True, slots=True)
class LoggedOutcome:
    """Logged outcome.

    Attributes:
        id, at, latency_ms, error_kind, error, baseline_model, baseline_usd, metadata: as of :class:`Outcome`.
        query: the routed text; None where the log keeps none.
        query_hash: keyed SHA-256 of it in hex, where the log keeps hashes.
        category, strategy, is_fallback, score, threshold, confidence, reason: as of :class:`~semroute.types.Decision`.
        candidates: models in the order in which they were to be tried.
        model: the logical model whose answer was given; None where none was.
        deployment: where it was called.
        tier: position from 0 of the tier whose answer was given; None where there was no cascade.
        accepted: whether a tier was accepted; None where there was no cascade.
        escalated: whether more than one tier was called.
        decide_ms: wall time of deciding.
        categories: every category with score and threshold, best first.
        opinions: results of the strategies, as of :meth:`~semroute.types.StrategyResult.to_dict`.
        steps_ms: wall time of deciding by step, milliseconds.
        first_token_ms: from arrival to the first piece that the caller saw; None where it was not streamed.
        input_tokens, output_tokens: of the answer that was given.
        cost_usd: of all calls, the judge's among them; None where no price is known.
        cost_estimated: whether tokens of a call were estimated.
        answer: its text, where the log keeps answers.
        feedback: latest judgement, 0 (bad) to 1 (good).
        calls, checks, tiers: in the order in which they were made.
        signals: as of :class:`Outcome`; empty in logs from before there were any.
    """

    id: str
    at: datetime
    query: str | None
    query_hash: str | None
    category: str | None
    strategy: str
    is_fallback: bool
    score: float | None
    threshold: float | None
    confidence: float | None
    reason: str
    candidates: tuple[str, ...]
    model: str | None
    deployment: str | None
    tier: int | None
    accepted: bool | None
    escalated: bool
    latency_ms: float
    decide_ms: float
    first_token_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    cost_estimated: bool
    baseline_model: str | None
    baseline_usd: float | None
    error_kind: str | None
    error: str | None
    answer: str | None = None
    feedback: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[tuple[str, float, float], ...] = ()
    opinions: tuple[Mapping[str, object], ...] = ()
    steps_ms: Mapping[str, float] = field(default_factory=dict)
    calls: tuple[LoggedCall, ...] = ()
    checks: tuple[LoggedCheck, ...] = ()
    tiers: tuple[LoggedTier, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedComparison:
    """Blind comparison of two policies' answers to one request.

    Attributes:
        id: 32 hexadecimal digits.
        at: when it began, UTC.
        policy: the pair of policies, as :attr:`~semroute.types.Assignment.policy` names it.
        outcome_id: outcome of the request.
        serving: model of the serving policy's answer; before there is one, its first candidate.
        trying: the same of the policy on trial.
        judge: model or group that compared.
        cost_usd: of the other answer and of the judge; the estimate until it has ended.
        result: None where there is none.
        error_kind: why there is none; None while it is under way.
    """

    id: str
    at: datetime
    policy: str
    outcome_id: str
    serving: str
    trying: str
    judge: str
    cost_usd: float
    result: ComparisonResult | None = None
    error_kind: str | None = None
