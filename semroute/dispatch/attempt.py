"""One attempt: call an endpoint, classify its error, account for it.

The permit is released and the attempt logged on every exit path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import httpx

from semroute import catalog
from semroute.config import Config
from semroute.dispatch.plan import ScheduledCall
from semroute.dispatch.silence import SHARE, Patience, SilenceMonitor
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    EmptyAnswerError,
    Fault,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.providers import adapter_of
from semroute.providers.streaming import CallClock
from semroute.resilience.breaker import digest_key
from semroute.resilience.latency import LatencyWindows, seconds_per_token
from semroute.types import (
    AdmissionControl,
    Alternative,
    Attempt,
    CallResult,
    Completion,
    Cost,
    Delta,
    EndpointStatus,
    Request,
    Usage,
)
from semroute.types.protocols import OnDelta
from semroute.types.tracing import AttemptStart, Tracer, current_tier

# Error policy: what a failure means for breaker, rate limit, retry and failover.

UNHINTED_S = 1.0
"""Wait of an endpoint after a 429 without a retry hint, seconds."""
PASSING_S = 60.0
"""Longest wait applied after a failure that may concern one request only (a 409, a 425), seconds."""
STALLED_S = 1.0
"""Stall of this process from which on a failed connection does not count against the provider, seconds."""


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """Policy for one failure: circuit breaker, rate limit, retry and failover.

    Attributes:
        result: call result for the circuit breaker.
        wait_s: wait for the rate limit: how long the endpoint gets no calls, seconds; None for no wait.
        elsewhere: True if another endpoint may succeed.
        again: True if the same endpoint may succeed a moment later.
        is_the_keys: True if the failure concerns the key, so that another key of the deployment may succeed.
    """

    result: CallResult
    wait_s: float | None = None
    elsewhere: bool = True
    again: bool = False
    is_the_keys: bool = False


def classify_error(error: DispatchError, status: EndpointStatus | None = None) -> ErrorPolicy:
    """Return the error policy for a failed attempt.

    Args:
        error: the failure; its ``fault`` decides.
        status: status of the endpoint before the call. If it answered within the breaker's window, a doubtful
            refusal may concern this one request (a firewall that blocks a text), and closes the endpoint to nobody.
    """
    match error:
        case ProviderTimeoutError() if error.is_cut_short:
            return ErrorPolicy(CallResult.NEUTRAL)  # our own deadline is no evidence about the endpoint
        case ProviderTimeoutError():
            return ErrorPolicy(CallResult.FAILURE)  # a second wait of the same length is better spent elsewhere
        case EmptyAnswerError():
            # A prompt can make every model answer nothing: that must not close an endpoint for everybody, and a retry
            # would not help. An endpoint that counts no output token has not run the model.
            return (
                ErrorPolicy(CallResult.NEUTRAL)
                if error.is_the_requests
                else ErrorPolicy(CallResult.FAILURE, again=True)
            )
    is_the_keys = isinstance(error, AuthenticationError | RateLimitError)
    match error.fault:
        case Fault.KEY:
            return ErrorPolicy(CallResult.DISABLE, is_the_keys=is_the_keys)
        case Fault.DOUBT if status is not None and status.calls > 0 and status.failure_share < 1.0:
            return ErrorPolicy(CallResult.NEUTRAL, is_the_keys=is_the_keys)
        case Fault.ACCESS | Fault.DOUBT:
            return ErrorPolicy(CallResult.SUSPEND, is_the_keys=is_the_keys)
        case Fault.LIMIT:
            # For the rate limit alone: a circuit breaker that opened on 429 would outlast the provider's retry hint.
            wait_s = UNHINTED_S if error.wait_s is None else error.wait_s
            return ErrorPolicy(CallResult.NEUTRAL, wait_s, is_the_keys=is_the_keys)
        case Fault.MODEL:
            return ErrorPolicy(CallResult.NEUTRAL, is_the_keys=is_the_keys)
        case Fault.TRANSIENT:
            passing_s = None if error.wait_s is None else min(error.wait_s, PASSING_S)
            return ErrorPolicy(CallResult.NEUTRAL, passing_s, again=passing_s is None)
        case Fault.REQUEST:
            return ErrorPolicy(CallResult.NEUTRAL, elsewhere=False)
        case Fault.ADDRESS:
            return ErrorPolicy(CallResult.FAILURE)
    return ErrorPolicy(CallResult.FAILURE, error.wait_s, again=error.wait_s is None)


def reason_of(error: DispatchError) -> str:
    """Return why an endpoint is closed, for state that other callers see.

    It contains the status, a code of our table and our own words only: a provider's message may quote its caller.
    """
    answered = "the key cannot be sent" if error.status is None else f"it answered {error.status}"
    code = f" ({error.code})" if error.code else ""
    if isinstance(error, QuotaError):
        what = "the quota or credit is used up"
    elif error.fault is Fault.KEY:
        what = "the key is not valid"
    elif error.fault is Fault.ACCESS:
        what = "the key may not use this endpoint"
    else:
        what = "the key was refused, or the way to the provider is blocked"
    return f"{answered}{code}: {what}"


def timed(
    policy: ErrorPolicy, error: DispatchError, clock: CallClock, result: CallResult, idle_s: float
) -> ErrorPolicy:
    """Adjust an error policy by the timing of the call.

    Args:
        policy: error policy by the error alone.
        error: the failure.
        clock: clock of the call.
        result: result by :meth:`SilenceMonitor.result`, used if the request's own limit ended the call.
        idle_s: pause of the reader from which on a provider may break off a stream, seconds.
    """
    if isinstance(error, ProviderTimeoutError) and error.is_cut_short:
        return replace(policy, result=result)
    if isinstance(error, BrokenStreamError) and clock.longest_pause_s >= idle_s:
        return replace(policy, result=CallResult.NEUTRAL)
    is_connection = isinstance(error, UnavailableError) and error.status in (None, 200)
    if is_connection and clock.stalled_s >= STALLED_S:
        return replace(policy, result=CallResult.NEUTRAL)
    return policy


# Accounting of a finished attempt: admission control, latency windows, and the request's log.

CHARACTERS_PER_TOKEN = 4
"""Estimate for output without a token count: OpenAI's rule of thumb for English text
(https://help.openai.com/en/articles/4936856)."""
SLOW_READER = 0.1
"""Share of an answer's time, spent waiting for the reader, above which its latency is not recorded."""


class AttemptLog:
    """Log of the attempts of one request.

    Args:
        listener: list that also receives each attempt, since a cancelled call returns none; None for no listener.

    Attributes:
        attempts: attempts in the order in which they ended.
        policies: error policy of the last failure at each deployment, by deployment name.
        final: a failure without failover, because no other endpoint can succeed.
        cut: deployments whose silent call was cut short so that another could be tried.
        is_heard: True once a piece of an answer, beyond reasoning, was streamed: there is no failover then.
    """

    def __init__(self, listener: list[Attempt] | None = None) -> None:
        self.attempts: list[Attempt] = []
        self.policies: dict[str, ErrorPolicy] = {}
        self.final: DispatchError | None = None
        self.cut: set[str] = set()
        self.is_heard = False
        self._listener = listener

    def append(self, attempt: Attempt) -> None:
        """Append an attempt that has ended."""
        self.attempts.append(attempt)
        if self._listener is not None:
            self._listener.append(attempt)


class AttemptAccounting:
    """Accounting of one attempt, closed once.

    Args:
        call: the call, with its permit.
        config: configuration with the prices.
        input_tokens: estimated input tokens of the request.
        is_hedge: True if the attempt is a hedged request.
        effort: reasoning effort that the call asks for.

    Attributes:
        attempt: the attempt as it was logged; None until it is closed.
    """

    def __init__(
        self, call: ScheduledCall, config: Config, input_tokens: int, *, is_hedge: bool, effort: str | None
    ) -> None:
        self._call = call
        self._effort = effort
        self._config = config
        self._deployment = call.deployment
        self._input_tokens = input_tokens
        self._is_hedge = is_hedge
        self._started = time.perf_counter()
        self._first_token_s: float | None = None
        self._characters = 0
        self.paused_s = 0.0
        """Time in which the reader did not ask for the next chunk, seconds."""
        self.attempt: Attempt | None = None

    @property
    def is_closed(self) -> bool:
        """True once the attempt was logged."""
        return self.attempt is not None

    @property
    def is_heard(self) -> bool:
        """True if a chunk of the answer was counted."""
        return self._first_token_s is not None

    def heard(self, delta: Delta) -> None:
        """Count a chunk of the answer; reasoning is charged, but no first token."""
        if self._first_token_s is None and delta.is_answer:
            self._first_token_s = time.perf_counter() - self._started
        self._characters += len(delta.text) + len(delta.reasoning)
        if delta.tool_calls:
            self._characters += sum(len(call.name or "") + len(call.arguments) for call in delta.tool_calls)

    def cost_of(self, answer: Completion) -> Cost | None:
        """Return the cost from the token counts.

        Without counts by the provider it is estimated, and marked so.
        """
        if answer.usage is not None:
            return catalog.cost_of(self._deployment, self._config, answer.usage)
        return self._estimated(_length(answer))

    def observe(
        self, answer: Completion, windows: Sequence[LatencyWindows], stalled_s: float, *, streaming: bool
    ) -> None:
        """Record the answer's latencies, unless delayed on our side.

        Answers delayed by the reader or by this process are skipped.

        Args:
            answer: the complete answer.
            windows: latency windows to record in.
            stalled_s: seconds of the call in which this process did not run its event loop.
            streaming: True if the answer was streamed.
        """
        total_s = time.perf_counter() - self._started
        if self._first_token_s is None and answer.first_token_ms is not None:  # an answer that only calls tools
            self._first_token_s = answer.first_token_ms / 1000
        if self.paused_s + stalled_s > SLOW_READER * total_s:
            return
        output_tokens = answer.usage.output_tokens if answer.usage else _tokens_in(_length(answer))
        for latencies in windows:
            latencies.observe(
                self._deployment.name,
                streaming=streaming,
                prompt_tokens=self._input_tokens,  # as estimated, because the next selection looks up by the estimate
                first_token_s=self._first_token_s,
                per_token_s=seconds_per_token(total_s, self._first_token_s, output_tokens),
                total_s=total_s,
            )

    async def answered(self, answer: Completion, cost: Cost | None, log: AttemptLog, gates: AdmissionControl) -> None:
        """Close the accounting of an attempt with a complete answer."""
        self._characters = max(self._characters, _length(answer))
        attempt = self._attempt(answer.usage, cost, status=200)
        await self._close(attempt, CallResult.SUCCESS, log, gates)

    async def failed(self, error: DispatchError, policy: ErrorPolicy, log: AttemptLog, gates: AdmissionControl) -> None:
        """Close the accounting of a failed attempt."""
        usage, cost = error.usage, self._cost_so_far(error.usage)
        is_sent = error.status is not None or not isinstance(error, RequestError)
        if not (error.is_charged and is_sent) and usage is None and not self._characters:
            # Without a known price the cost stays unknown, not 0.
            usage, cost = Usage(0, 0), None if cost is None else Cost(0.0)
        attempt = self._attempt(usage, cost, status=error.status, error=str(error), kind=type(error).__name__)
        reason = reason_of(error) if policy.result in (CallResult.SUSPEND, CallResult.DISABLE) else None
        await self._close(attempt, policy.result, log, gates, wait_s=policy.wait_s, reason=reason)

    async def abandoned(
        self, result: CallResult, log: AttemptLog, gates: AdmissionControl, *, is_sent: bool = True
    ) -> None:
        """Close the accounting of an abandoned attempt."""
        usage, cost = None, self._cost_so_far(None)
        # The provider never generates the rest of what was reserved for the longest answer.
        tokens = self._input_tokens + _tokens_in(self._characters)
        if not is_sent:
            usage, cost, tokens = Usage(0, 0), None if cost is None else Cost(0.0), 0
        attempt = self._attempt(usage, cost, error="given up: not needed any more", kind="Abandoned")
        await self._close(attempt, result, log, gates, tokens=tokens)

    async def _close(
        self,
        attempt: Attempt,
        result: CallResult,
        log: AttemptLog,
        gates: AdmissionControl,
        *,
        wait_s: float | None = None,
        tokens: int | None = None,
        reason: str | None = None,
    ) -> None:
        # The log comes first: a cancellation may interrupt the release, and the call is charged all the same.
        self.attempt = attempt
        log.append(attempt)
        key = self._call.candidate.target.key
        refusal = {} if reason is None else {"reason": reason, "refused": digest_key(key)}
        await gates.release(
            self._call.permit,
            result,
            tokens=self._tokens(attempt),
            usd=None if attempt.cost is None else attempt.cost.usd,
            wait_s=wait_s,
            **refusal,
        )

    def _tokens(self, attempt: Attempt) -> int:
        """Return the tokens used, counted or else estimated.

        The rest of the reservation is released.
        """
        said = _tokens_in(self._characters)
        if attempt.usage is None:
            return self._input_tokens + said
        # If the answer broke off, the provider's count did too.
        output = attempt.usage.output_tokens if attempt.error is None else max(attempt.usage.output_tokens, said)
        return attempt.usage.input_tokens + output

    def _attempt(
        self,
        usage: Usage | None,
        cost: Cost | None,
        *,
        status: int | None = None,
        error: str | None = None,
        kind: str | None = None,
    ) -> Attempt:
        return Attempt(
            deployment=self._deployment.name,
            model=self._deployment.model,
            latency_ms=(time.perf_counter() - self._started) * 1000,
            status=status,
            error=error,
            error_kind=kind,
            credential=self._call.candidate.target.credential,
            first_token_ms=None if self._first_token_s is None else self._first_token_s * 1000,
            usage=usage,
            cost=cost,
            probability=self._call.scored.probability,
            score=self._call.scored.parts,
            hedge=self._is_hedge,
            retry=self._call.retry,
            effort=self._effort,
        )

    def _cost_so_far(self, usage: Usage | None) -> Cost | None:
        """Return the cost of an incomplete call: input and output so far."""
        if usage is None:
            return self._estimated(self._characters)
        # Some providers count the output only at the end, which a broken stream did not reach.
        said = _tokens_in(self._characters)
        known = replace(usage, output_tokens=max(usage.output_tokens, said))
        cost = catalog.cost_of(self._deployment, self._config, known)
        return cost if cost is None or said <= usage.output_tokens else replace(cost, estimated=True)

    def _estimated(self, characters: int) -> Cost | None:
        return catalog.estimated_cost(self._deployment, self._config, self._input_tokens, _tokens_in(characters))


def _length(answer: Completion) -> int:
    """Count the characters of all alternatives, tool calls and reasoning."""
    answers: list[Completion | Alternative] = [answer, *answer.alternatives]
    calls = [call for one in answers for call in one.tool_calls]
    return sum(len(one.text) + len(one.reasoning or "") for one in answers) + sum(
        len(call.name) + len(call.arguments) for call in calls
    )


def _tokens_in(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


# The attempt itself.


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
    tracer: Tracer | None = None


async def attempt(
    context: CallContext, call: ScheduledCall, on_delta: OnDelta | None = None, *, is_hedge: bool = False
) -> Completion:
    """Call the endpoint and return its answer, with its cost and all attempts.

    Args:
        context: context shared by all attempts of the request.
        call: the endpoint to call, with its permit.
        on_delta: awaited with each piece of a streamed answer; None does not stream.
        is_hedge: True if the attempt is a hedged request.

    Raises:
        DispatchError: as the adapter raised it; its error policy is in the context's log.
    """
    effort = catalog.carried_effort(call.deployment, context.request)
    accounting = AttemptAccounting(call, context.config, context.input_tokens, is_hedge=is_hedge, effort=effort)
    if context.tracer is None:
        return await _accounted(context, call, accounting, on_delta)
    answer: Completion | None = None
    with context.tracer.attempt(_start(context, call, is_hedge=is_hedge)) as note:
        try:
            answer = await _accounted(context, call, accounting, on_delta)
            return answer
        finally:
            note(accounting.attempt, answer)


def _start(context: CallContext, call: ScheduledCall, *, is_hedge: bool) -> AttemptStart:
    """Return the description of an attempt for a trace."""
    deployment, request = call.deployment, context.request
    return AttemptStart(
        deployment=deployment.name,
        model=deployment.model,
        upstream_model=deployment.upstream_model or deployment.model,
        provider=deployment.provider or deployment.format,
        address=deployment.base_url,
        streaming=context.streaming,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        hedge=is_hedge,
        retry=call.retry,
        tier=current_tier.get(),
    )


async def _accounted(
    context: CallContext, call: ScheduledCall, accounting: AttemptAccounting, on_delta: OnDelta | None
) -> Completion:
    """Make the call of :func:`attempt`, and close its accounting."""
    deployment, silence, log = call.deployment, context.silence, context.log
    clock, patience = _limits(context, call)
    try:
        answer = await _answer(context, call, clock, accounting, on_delta)
        if not accounting.is_heard:
            silence.heard(deployment)
        cost, windows = accounting.cost_of(answer), (context.latencies, silence.usual)
        accounting.observe(answer, windows, clock.stalled_s, streaming=context.streaming)
        await accounting.answered(answer, cost, log, context.gates)
        # A completion has many fields: it is copied once.
        return replace(answer, cost=cost, attempts=tuple(log.attempts), latency_ms=context.deadline.elapsed_s * 1000)
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
    adapter = adapter_of(target.deployment)
    if on_delta is None:
        return await adapter.complete(context.client, target, context.request, within_s=clock)
    async with aclosing(adapter.stream(context.client, target, context.request, within_s=clock)) as events:
        async for event in events:
            if isinstance(event, Completion):
                return event
            if not accounting.is_heard:
                context.silence.heard(target.deployment)
                # Reasoning alone is no answer: another endpoint may still take over.
                context.log.is_heard = context.log.is_heard or event.is_answer
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
