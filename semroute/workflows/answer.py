"""Answer of one query: routed, or of a pinned model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from semroute import _sync
from semroute.errors import QueryError
from semroute.types import Attempt, Completion, Delta, Request
from semroute.types.protocols import OnDelta, Progress, silent
from semroute.workflows.workspace import Warn, Workspace, unheard

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.dispatch import Constraints
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router

OnText: TypeAlias = Callable[[str], None]
"""Receiver of the pieces of an answer."""


def answer_query(
    text: str,
    workspace: Workspace,
    constraints: Constraints,
    *,
    stream: bool = False,
    on_delta: OnText | None = None,
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
    if constraints.is_pinned:
        with workspace.new_outcomes(warn, is_logged=is_logged) as log:
            return _sync.run(_pinned(text, workspace.config, constraints, log, stream, on_delta))
    opened = workspace.logging_router(warn, state_file=STATE_FILE, is_logged=is_logged, progress=progress)
    with opened as router:
        return _sync.run(_routed(text, router, constraints, stream, on_delta))


async def _routed(
    text: str, router: Router, constraints: Constraints, stream: bool, on_text: OnText | None
) -> Completion:
    try:
        if not stream:
            return await router.acomplete(text, constraints=constraints)
        completion: Completion | None = None
        async for event in router.astream(text, constraints=constraints):
            if isinstance(event, Completion):
                completion = event
            elif on_text is not None:
                on_text(event.text)
        assert completion is not None  # a stream ends with a completion or raises
        return completion
    finally:
        await router.dispatcher.close()


async def _pinned(
    text: str,
    config: Config,
    constraints: Constraints,
    log: OutcomeLog | None,
    stream: bool,
    on_text: OnText | None,
) -> Completion:
    """Call the pinned model."""
    from semroute.dispatch import Dispatcher
    from semroute.dispatch.status import STATE_FILE
    from semroute.router.complete import Recorder, pinned_decision

    started = time.perf_counter()
    dispatcher, request = Dispatcher(config, state_file=STATE_FILE), Request(({"role": "user", "content": text},))
    decision, attempts = pinned_decision(text, constraints, config), list[Attempt]()

    async def show(delta: Delta) -> None:
        if on_text is not None:
            on_text(delta.text)

    async def call(on_delta: OnDelta | None) -> Completion:
        names = decision.candidates
        return await dispatcher.complete(request, names, constraints, attempts=attempts, on_delta=on_delta)

    shown = show if stream else None
    try:
        if log is None:
            return replace(await call(shown), decision=decision)
        recorder = Recorder(log, config)
        return await recorder.answered(call, decision, started, made=attempts, on_delta=shown)
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
