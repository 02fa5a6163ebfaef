"""An outcome as rows of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from semroute.outcomes.log.privacy import RedactionPolicy, storable
from semroute.types import Attempt, CallRole, Decision, Outcome, TierResult, total_cost

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = tuple[list[Row], list[Row], list[Row], list[Row]]
"""Of :data:`semroute.outcomes.log.schema.WRITTEN`, in its order; each row in the order of the table's columns."""

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def rows_of(outcomes: Iterable[Outcome], keep: RedactionPolicy) -> Rows:
    """The rows of many outcomes."""
    rows: Rows = ([], [], [], [])
    for outcome in outcomes:
        trials = outcome.completion.tiers if outcome.completion is not None else ()
        rows[0].append(_outcome(outcome, trials, keep))
        rows[1].extend(_calls(outcome, trials, keep))
        checks = ((trial.tier, check) for trial in trials for check in trial.checks)
        rows[2].extend(
            (outcome.id, n, tier, check.check, check.accepted, check.score, check.threshold, keep.reason(check.reason))
            for n, (tier, check) in enumerate(checks)
        )
        rows[3].extend(_trial(outcome.id, n, trial, keep) for n, trial in enumerate(trials))
    return rows


def _outcome(outcome: Outcome, trials: tuple[TierResult, ...], keep: RedactionPolicy) -> Row:
    decision, completion = outcome.decision, outcome.completion
    query, query_hash = keep.query(decision.query)
    cost = total_cost((*decision.attempts, *outcome.attempts))
    usage = None if completion is None else completion.usage
    called = sum(_was_called(trial) for trial in trials)
    return (
        outcome.id,
        outcome.at.timestamp(),
        query,
        query_hash,
        decision.category,
        decision.strategy,
        decision.is_fallback,
        decision.score,
        decision.threshold,
        decision.confidence,
        keep.reason(decision.reason),
        storable(_dumps(decision.candidates)),
        _details(decision, keep),
        None if completion is None else completion.model,
        None if completion is None else completion.deployment,
        None if completion is None else completion.tier,
        any(trial.accepted for trial in trials) if trials else None,
        called > 1,
        outcome.latency_ms,
        decision.elapsed_ms,
        outcome.first_token_ms,
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.output_tokens,
        None if cost is None else cost.usd,
        cost is not None and cost.estimated,
        outcome.baseline_model,
        outcome.baseline_usd,
        outcome.error_kind,
        keep.error(outcome.error),
        None if completion is None else keep.answer(completion.text),
        storable(_dumps(dict(outcome.metadata))),
    )


def _details(decision: Decision, keep: RedactionPolicy) -> str:
    """What of a decision is looked at and never searched: every category's score and bar, the steps, the opinions."""
    opinions = [{**opinion.to_dict(), "reason": keep.reason(opinion.reason)} for opinion in decision.opinions]
    categories = [(entry.category, entry.score, entry.threshold) for entry in decision.categories]
    return storable(_dumps({"categories": categories, "steps_ms": dict(decision.steps_ms), "opinions": opinions}))


def _calls(outcome: Outcome, trials: tuple[TierResult, ...], keep: RedactionPolicy) -> Iterator[Row]:
    for n, (attempt, role, tier) in enumerate(_roles(outcome, trials)):
        usage, cost = attempt.usage, attempt.cost
        yield (
            outcome.id,
            n,
            role,
            tier,
            attempt.deployment,
            attempt.model,
            attempt.credential,
            attempt.status,
            attempt.error_kind,
            keep.error(attempt.error),
            attempt.latency_ms,
            attempt.first_token_ms,
            None if usage is None else usage.input_tokens,
            None if usage is None else usage.output_tokens,
            None if usage is None else usage.cached_tokens,
            None if usage is None else usage.reasoning_tokens,
            None if cost is None else cost.usd,
            cost is not None and cost.estimated,
            attempt.probability,
            _dumps(dict(attempt.score)),
            attempt.hedge,
            attempt.retry,
        )


def _roles(outcome: Outcome, trials: tuple[TierResult, ...]) -> Iterator[tuple[Attempt, CallRole, int | None]]:
    """Every call with what it was for: a judge's first, then tier by tier; those after a tier's answer are samples."""
    yield from ((attempt, "judge", None) for attempt in outcome.decision.attempts)
    if not trials:
        yield from ((attempt, "answer", None) for attempt in outcome.attempts)
        return
    for trial in trials:
        answered = trial.completion.attempts if trial.completion is not None else ()
        until = trial.attempts.index(answered[-1]) + 1 if answered else len(trial.attempts)
        for place, attempt in enumerate(trial.attempts):
            yield attempt, "answer" if place < until else "sample", trial.tier


def _trial(outcome_id: str, n: int, trial: TierResult, keep: RedactionPolicy) -> Row:
    answer = trial.completion
    return (
        outcome_id,
        n,
        trial.tier,
        trial.candidate,
        None if answer is None else answer.model,
        _was_called(trial),
        trial.accepted,
        keep.reason(trial.reason),
        trial.latency_ms,
        None if answer is None else keep.answer(answer.text),
        None if answer is None else keep.logprobs([token.logprob for token in answer.logprobs or ()]),
    )


def _was_called(trial: TierResult) -> bool:
    return trial.completion is not None or bool(trial.attempts)
