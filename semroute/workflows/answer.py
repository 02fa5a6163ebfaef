"""Answer of one query: routed, or of a pinned model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

from semroute import _sync
from semroute.errors import QueryError
from semroute.types import Attempt, Completion, Delta, Request, TierResult, total_cost
from semroute.types.protocols import Progress
from semroute.workflows.workspace import Warn, Workspace, silent, unheard

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.dispatch import Constraints
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router

OnDelta: TypeAlias = Callable[[str], None]
"""Receiver of the pieces of an answer."""


def answer_query(
    text: str,
    workspace: Workspace,
    constraints: Constraints,
    *,
    stream: bool = False,
    on_delta: OnDelta | None = None,
    is_logged: bool = True,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> Completion:
    """Return the answer of the pinned model, or of the routed one.

    With a pinned model or deployment no index is opened, and no decision is made.

    Args:
        text: the query.
        workspace: index and configuration.
        constraints: pinned model, regions, price and deadline.
        stream: whether the answer is streamed.
        on_delta: receives the pieces of a streamed answer; None takes only the completion.
        is_logged: False keeps the outcome out of the log, whatever is configured.
        progress: called while the shipped index is built.
        warn: receives the reason if the log cannot be opened.

    Raises:
        QueryError: the query is empty.
        DispatchError: no model answered.
    """
    from semroute.dispatch.status import STATE_FILE

    if not text.strip():
        raise QueryError("the query is empty")
    if constraints.model is not None or constraints.deployment is not None:
        with workspace.new_outcomes(warn, is_logged=is_logged) as log:
            return _sync.run(_completion(_pinned(text, workspace.config, constraints, stream, log), on_delta))
    opened = workspace.logging_router(warn, state_file=STATE_FILE, is_logged=is_logged, progress=progress)
    with opened as router:
        return _sync.run(_completion(_routed(text, router, constraints, stream), on_delta))


async def _completion(events: AsyncIterator[Delta | Completion], on_delta: OnDelta | None) -> Completion:
    """Read a stream to its end, passing on the answer's pieces as they come."""
    completion: Completion | None = None
    async for event in events:
        if not isinstance(event, Delta):
            completion = event
        elif on_delta is not None:
            on_delta(event.text)
    assert completion is not None  # dispatch ends with a completion or raises
    return completion


async def _routed(
    text: str, router: Router, constraints: Constraints, stream: bool
) -> AsyncIterator[Delta | Completion]:
    try:
        if not stream:
            yield await router.acomplete(text, constraints=constraints)
            return
        async for event in router.astream(text, constraints=constraints):
            yield event
    finally:
        await router.dispatcher.close()


async def _pinned(
    text: str, config: Config, constraints: Constraints, stream: bool, log: OutcomeLog | None
) -> AsyncIterator[Delta | Completion]:
    """Call the pinned model."""
    from semroute.dispatch import Dispatcher
    from semroute.dispatch.status import STATE_FILE
    from semroute.router.complete import Recorder, dispatched, pinned_decision

    started = time.perf_counter()
    dispatcher, request = Dispatcher(config, state_file=STATE_FILE), Request(({"role": "user", "content": text},))
    decision, attempts = pinned_decision(text, constraints, config), list[Attempt]()
    try:
        events = dispatched(request, decision, dispatcher, constraints, stream, attempts)
        if log is not None:
            events = Recorder(log, config).answered(events, decision, started, made=attempts)
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        await dispatcher.close()


def tier_count(config: Config, completion: Completion) -> int | None:
    """Return the number of tiers of a completion's cascade; None without one."""
    if not completion.tiers:
        return None
    category = None if completion.decision is None else completion.decision.category
    own = config.categories.get(category or "")
    cascade = config.cascade if own is None or own.cascade is None else own.cascade
    highest = max(result.tier for result in completion.tiers) + 1
    return max(len(cascade.tiers), highest)  # a policy under test may have more


def completion_dict(completion: Completion) -> dict[str, object]:
    """Return a completion as JSON-ready values."""
    return {
        "text": completion.text,
        "model": completion.model,
        "deployment": completion.deployment,
        "upstream_model": completion.upstream_model,
        "finish_reason": completion.finish_reason,
        "usage": None if completion.usage is None else asdict(completion.usage),
        "latency_ms": completion.latency_ms,
        "tool_calls": [asdict(call) for call in completion.tool_calls],
        "refusal": completion.refusal,
        "cost_usd": None if completion.total_cost is None else completion.total_cost.usd,
        "cost_is_estimated": completion.total_cost is not None and completion.total_cost.estimated,
        "tier": completion.tier,
        "trials": [_tier_dict(result) for result in completion.tiers],
        "outcome_id": completion.outcome_id,
        "attempts": [asdict(attempt) for attempt in completion.attempts],
        "decision": None if completion.decision is None else completion.decision.to_dict(),
    }


def _tier_dict(result: TierResult) -> dict[str, object]:
    cost = total_cost(result.attempts)
    return {
        "tier": result.tier,
        "candidate": result.candidate,
        "called": result.completion is not None or bool(result.attempts),
        "accepted": result.accepted,
        "reason": result.reason,
        "checks": [asdict(check) for check in result.checks],
        "latency_ms": result.latency_ms,
        "cost_usd": None if cost is None else cost.usd,
    }
