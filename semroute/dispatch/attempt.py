"""One attempt: call an endpoint, release its permit, log the result.

Release and log happen on every exit path.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, replace

import httpx

from semroute.config import Config
from semroute.dispatch.error_policy import AttemptAccounting, AttemptLog, ErrorPolicy, classify_error
from semroute.dispatch.selection import ScheduledCall
from semroute.dispatch.silence import SHARE, Patience, SilenceMonitor, timed
from semroute.errors import BrokenStreamError, DispatchError, ProviderTimeoutError
from semroute.providers import ADAPTERS
from semroute.providers.streaming import CallClock
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, CallResult, Completion, Request
from semroute.types.protocols import OnDelta


class Deadline:
    """Deadline of a request, with time reserved from silent attempts.

    Args:
        started: start of the request on the clock of :func:`time.monotonic`.
        limit_s: time for the request, seconds.
        reserve_s: see :meth:`semroute.dispatch.Dispatcher.complete`.
    """

    def __init__(self, started: float, limit_s: float, reserve_s: float) -> None:
        self._started, self._at = started, started + limit_s
        self.reserve_s = reserve_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the request."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Seconds left; 0 once the deadline has passed."""
        return max(self._at - time.monotonic(), 0.0)

    @property
    def for_silence_s(self) -> float:
        """Seconds left without the reserved part; 0 or less once they are used up."""
        return self._at - self.reserve_s - time.monotonic()


@dataclass(frozen=True, slots=True)
class CallContext:
    """Context shared by all attempts of one request."""

    request: Request
    config: Config
    gates: AdmissionControl
    latencies: LatencyWindows
    silence: SilenceMonitor
    client: httpx.AsyncClient
    input_tokens: int
    streaming: bool
    deadline: Deadline
    log: AttemptLog


async def attempt(
    context: CallContext, call: ScheduledCall, on_delta: OnDelta | None = None, *, is_hedge: bool = False
) -> Completion:
    """Call the endpoint and return its answer, with its cost.

    Args:
        context: context shared by all attempts of the request.
        call: the endpoint to call, with its permit.
        on_delta: awaited with each piece of a streamed answer; None does not stream.
        is_hedge: True if the attempt is a hedged request.

    Raises:
        DispatchError: as the adapter raised it; its error policy is in the context's log.
    """
    deployment, silence, log = call.deployment, context.silence, context.log
    clock, patience = _limits(context, call)
    accounting = AttemptAccounting(call, context.config, context.input_tokens, is_hedge=is_hedge)
    try:
        answer = await _answer(context, call, clock, accounting, on_delta)
        if not accounting.is_heard:
            silence.heard(deployment)
        answer = replace(answer, cost=accounting.cost_of(answer))
        windows = (context.latencies, silence.usual)
        accounting.observe(answer, windows, clock.stalled_s, streaming=context.streaming)
        await accounting.answered(answer, log, context.gates)
        return answer
    except DispatchError as error:
        policy = _policy(error, context, call, clock, patience)
        log.policies[deployment.name] = policy
        if not policy.elsewhere:
            log.final = error
        if clock.silent_s is not None and _is_cut_short(error):
            log.cut.add(deployment.name)
        await accounting.failed(error, policy, log, context.gates)
        raise
    finally:
        # Cancelled, left by the reader, or an error of our own: only the silence is evidence about the endpoint.
        if not accounting.is_closed:
            result = silence.result(deployment, clock, patience)
            if result is CallResult.NEUTRAL and clock.is_answering:
                result = CallResult.SUCCESS  # else, with readers leaving early, failures days apart would be in a row
            await accounting.abandoned(result, log, context.gates, is_sent=not clock.is_connecting)


def _limits(context: CallContext, call: ScheduledCall) -> tuple[CallClock, Patience]:
    """Start the call's clock, and return the silence that counts against it."""
    deadline, silence, deployment = context.deadline, context.silence, call.deployment
    streaming, tokens = context.streaming, context.input_tokens
    left_s, silent_s = deadline.left_s, None
    if call.has_others or deadline.reserve_s:
        share_s = (SHARE if call.has_others else 1.0) * deadline.for_silence_s
        silent_s = silence.share_s(deployment, share_s, left_s, streaming=streaming, prompt_tokens=tokens)
    patience = silence.patience(deployment, call.siblings, streaming=streaming, prompt_tokens=tokens)
    return CallClock(left_s, silent_s), patience


async def _answer(
    context: CallContext,
    call: ScheduledCall,
    clock: CallClock,
    accounting: AttemptAccounting,
    on_delta: OnDelta | None,
) -> Completion:
    """Call the adapter; count what is streamed, and the reader's pauses."""
    target = call.candidate.target
    adapter = ADAPTERS[target.deployment.format]
    if on_delta is None:
        return await adapter.complete(context.client, target, context.request, within_s=clock)
    async with aclosing(adapter.stream(context.client, target, context.request, within_s=clock)) as events:
        async for event in events:
            if isinstance(event, Completion):
                return event
            if not accounting.is_heard:
                context.silence.heard(target.deployment)
                context.log.is_heard = True  # of two hedged calls, the one that sends something is the one that counts
            accounting.heard(event)
            passed_on = time.perf_counter()
            await on_delta(event)
            accounting.paused_s += time.perf_counter() - passed_on
    name = target.deployment.name
    raise BrokenStreamError(f"{name}: the adapter's stream ended without a completion", deployment=name)


def _is_cut_short(error: DispatchError) -> bool:
    """Return True if the request's own deadline ended the call."""
    return isinstance(error, ProviderTimeoutError) and error.is_cut_short


def _policy(
    error: DispatchError, context: CallContext, call: ScheduledCall, clock: CallClock, patience: Patience
) -> ErrorPolicy:
    deployment, result = call.deployment, CallResult.NEUTRAL
    if _is_cut_short(error):
        result = context.silence.result(deployment, clock, patience)
        if call.permit.is_probe and result is CallResult.NEUTRAL and clock.is_answering:
            result = CallResult.SUCCESS  # it was answering, which is all that the probe tests
    elif error.status is not None:
        context.silence.heard(deployment)
    policy = classify_error(error, call.candidate.status)
    return timed(policy, error, clock, result, deployment.timeouts.idle_s)
