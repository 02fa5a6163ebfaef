"""One attempt: call an endpoint, release its permit, log the result.

Release and log happen on every exit path.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import httpx

from semroute.config import Config
from semroute.dispatch.error_policy import AttemptAccounting, ErrorPolicy, classify_error
from semroute.dispatch.selection import ScoredCandidate
from semroute.dispatch.silence import Patience, SilenceMonitor, timed
from semroute.errors import DispatchError, ProviderTimeoutError
from semroute.providers import adapter_of
from semroute.providers.streaming import CallClock
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, Attempt, CallResult, Completion, Delta, Permit, Request


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


class AttemptList(list[Attempt]):
    """List of attempts that forwards each to a listener.

    A cancelled call returns no attempts; the listener has them all the same.

    Args:
        listener: list that also receives each attempt; None for no listener.
    """

    def __init__(self, listener: list[Attempt] | None = None) -> None:
        super().__init__()
        self._listener = listener

    def append(self, attempt: Attempt) -> None:
        """Append an attempt to this list and to the listener."""
        super().append(attempt)
        if self._listener is not None:
            self._listener.append(attempt)


@dataclass(slots=True)
class AttemptLog:
    """Log of the attempts of one request.

    Attributes:
        attempts: attempts in the order in which they ended.
        verdicts: error policy of the last failure at each deployment, by deployment name.
        final: a failure without failover, because no other endpoint can succeed.
        cut: deployments whose silent call was cut short so that another could be tried.
    """

    attempts: list[Attempt] = field(default_factory=list)
    verdicts: dict[str, ErrorPolicy] = field(default_factory=dict)
    final: DispatchError | None = None
    cut: set[str] = field(default_factory=set)


async def attempt(
    scene: CallContext,
    scored: ScoredCandidate,
    leave: Permit,
    record: AttemptLog,
    *,
    clock: CallClock,
    patience: Patience,
    hedge: bool = False,
    retry: bool,
) -> AsyncGenerator[Delta | Completion]:
    """Call the endpoint and yield its answer.

    Args:
        scene: context shared by all attempts of the request.
        scored: the candidate to call.
        leave: permit of the call.
        record: log of the request.
        clock: clock of the call, started with it.
        patience: silence from which on the call counts against the endpoint.
        hedge: True if the attempt is a hedged request.
        retry: True if it repeats an attempt at the same deployment.

    Raises:
        DispatchError: as the adapter raised it; its error policy is in ``record``.
    """
    deployment, silence = scored.ready.option.deployment, scene.silence
    ledger = AttemptAccounting(scored, leave, scene.config, scene.input_tokens, hedge=hedge, retry=retry)
    try:
        async with aclosing(_events(scene, scored, clock)) as events:
            async for event in events:
                if not ledger.is_heard:
                    silence.heard(deployment)
                if isinstance(event, Completion):
                    event = replace(event, cost=ledger.cost_of(event))
                    ledger.observe(event, (scene.latencies, silence.usual), clock.stalled_s, streaming=scene.streaming)
                    await ledger.answered(event, record.attempts, scene.gates)
                else:
                    ledger.heard(event)
                given_out = time.perf_counter()
                yield event
                ledger.paused_s += time.perf_counter() - given_out
    except DispatchError as error:
        verdict = _verdict(error, scene, scored, clock, patience, is_probe=leave.is_probe)
        record.verdicts[deployment.name] = verdict
        if not verdict.elsewhere:
            record.final = error
        if clock.silent_s is not None and _is_cut_short(error):
            record.cut.add(deployment.name)
        await ledger.failed(error, verdict, record.attempts, scene.gates)
        raise
    finally:
        # Cancelled, closed by the reader, or an error of our own: only the silence is evidence about the endpoint.
        if not ledger.is_closed:
            ending = silence.ending(deployment, clock, patience)
            if ending is CallResult.NEUTRAL and clock.is_answering:
                ending = CallResult.SUCCESS  # else, with readers leaving early, failures days apart would be in a row
            await ledger.abandoned(ending, record.attempts, scene.gates, is_sent=not clock.is_connecting)


def _is_cut_short(error: DispatchError) -> bool:
    """Return True if the request's own deadline ended the call."""
    return isinstance(error, ProviderTimeoutError) and error.is_cut_short


def _verdict(
    error: DispatchError,
    scene: CallContext,
    scored: ScoredCandidate,
    clock: CallClock,
    patience: Patience,
    *,
    is_probe: bool,
) -> ErrorPolicy:
    deployment, ending = scored.ready.option.deployment, CallResult.NEUTRAL
    if _is_cut_short(error):
        ending = scene.silence.ending(deployment, clock, patience)
        if is_probe and ending is CallResult.NEUTRAL and clock.is_answering:
            ending = CallResult.SUCCESS  # it was answering, which is all that the probe tests
    elif error.status is not None:
        scene.silence.heard(deployment)
    return timed(classify_error(error, scored.ready.standing), error, clock, ending, deployment.timeouts.idle_s)


def _events(scene: CallContext, scored: ScoredCandidate, clock: CallClock) -> AsyncGenerator[Delta | Completion]:
    target = scored.ready.option.target
    adapter = adapter_of(target.deployment)
    if scene.streaming:
        return adapter.stream(scene.client, target, scene.request, within_s=clock)

    async def whole() -> AsyncGenerator[Delta | Completion]:
        yield await adapter.complete(scene.client, target, scene.request, within_s=clock)

    return whole()
