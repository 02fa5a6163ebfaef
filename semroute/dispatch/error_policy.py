"""What a failure means: for the breaker, for the throttle, and for the question whether and where to go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from semroute import catalog
from semroute.config import Config
from semroute.dispatch.selection import ScoredCandidate
from semroute.errors import (
    AuthenticationError,
    DispatchError,
    EmptyAnswerError,
    Fault,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
)
from semroute.resilience.latency import LatencyWindows, seconds_per_token
from semroute.resilience.suspension import digest_key
from semroute.types import (
    AdmissionControl,
    Alternative,
    Attempt,
    CallResult,
    Completion,
    Cost,
    Delta,
    EndpointStatus,
    Permit,
    Usage,
)

UNHINTED_S = 1.0
"""How long a place is left alone after a 429 that says nothing about waiting, seconds."""
PASSING_S = 60.0
"""Longest wait that is heeded after a failure that may be of one request (a 409, a 425), seconds."""


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What one failure means.

    Attributes:
        ending: for the breaker.
        wait_s: for the throttle: how long to leave the place alone, seconds; None not at all.
        elsewhere: whether another place may do better.
        again: whether the same place may do better a moment later.
        is_the_keys: whether it is a matter of the key, so that another key of the deployment may do better.
    """

    ending: CallResult
    wait_s: float | None = None
    elsewhere: bool = True
    again: bool = False
    is_the_keys: bool = False


def classify_error(error: DispatchError, standing: EndpointStatus | None = None) -> ErrorPolicy:
    """Return the verdict on a failed attempt.

    Args:
        error: the failure; its ``fault`` decides.
        standing: the endpoint as it stood before the call. Where it has answered within the breaker's window, a
            doubtful refusal may be of this one request (a firewall that dislikes a text), and closes nothing to others.
    """
    match error:
        case ProviderTimeoutError() if error.is_cut_short:
            return ErrorPolicy(CallResult.NEUTRAL)  # our own deadline says nothing of the place
        case ProviderTimeoutError():
            return ErrorPolicy(CallResult.FAILURE)  # a second wait of the same length is better spent elsewhere
        case EmptyAnswerError():
            # A caller's words can make every model say nothing: that must not close a place for everybody, and saying
            # them again would not help. A place that counts no token of output has not run the model.
            return (
                ErrorPolicy(CallResult.NEUTRAL)
                if error.is_the_requests
                else ErrorPolicy(CallResult.FAILURE, again=True)
            )
    is_the_keys = isinstance(error, AuthenticationError | RateLimitError)
    match error.fault:
        case Fault.KEY:
            return ErrorPolicy(CallResult.DISABLE, is_the_keys=is_the_keys)
        case Fault.DOUBT if standing is not None and standing.calls > 0 and standing.failure_share < 1.0:
            return ErrorPolicy(CallResult.NEUTRAL, is_the_keys=is_the_keys)
        case Fault.ACCESS | Fault.DOUBT:
            return ErrorPolicy(CallResult.SUSPEND, is_the_keys=is_the_keys)
        case Fault.LIMIT:
            # The throttle's business alone: a breaker that opened on 429 would outlast the provider's own hint.
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
    """Return why an endpoint is closed, for the shared state that other callers see.

    It holds the status, a code of our table and our own words: a provider's message may quote its caller.
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


# What the end of an attempt has to tell: to the gates, to the latency windows, to the request's record.

CHARACTERS_PER_TOKEN = 4
"""For what was said and not counted: OpenAI's rule of thumb for English text
(https://help.openai.com/en/articles/4936856)."""
SLOW_READER = 0.1
"""Share of an answer's time above which the reader, and not the place, may have set the pace."""


class AttemptAccounting:
    """The account of one attempt, closed once.

    Args:
        scored: the place and how it was chosen.
        leave: what the gates gave.
        config: for prices.
        input_tokens: estimated input of the request.
        hedge: whether the attempt runs beside another.
        retry: whether it repeats one at the same deployment.
    """

    def __init__(
        self, scored: ScoredCandidate, leave: Permit, config: Config, input_tokens: int, *, hedge: bool, retry: bool
    ) -> None:
        self._scored = scored
        self._leave = leave
        self._config = config
        self._deployment = scored.ready.option.deployment
        self._input_tokens = input_tokens
        self._flags = {"hedge": hedge, "retry": retry}
        self._started = time.perf_counter()
        self._first_token_s: float | None = None
        self._characters = 0
        self.paused_s = 0.0
        """Time in which the reader held what it was given, seconds."""
        self.is_closed = False

    @property
    def is_heard(self) -> bool:
        """Whether a piece of the answer was counted."""
        return self._first_token_s is not None

    def heard(self, delta: Delta) -> None:
        """Count a piece of the answer."""
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._started
        self._characters += len(delta.text)

    def cost_of(self, answer: Completion) -> Cost | None:
        """Cost from the counted tokens; estimated, and marked so, where the provider did not count."""
        if answer.usage is not None:
            return catalog.cost_of(self._deployment, self._config, answer.usage)
        return self._estimated(_length(answer))

    def observe(
        self, answer: Completion, windows: Sequence[LatencyWindows], stalled_s: float, *, streaming: bool
    ) -> None:
        """Take the answer's times into the windows, unless its reader or this process held it up.

        Args:
            answer: the whole of it.
            windows: which take the times in.
            stalled_s: seconds of the call in which this process did not run its event loop.
            streaming: whether it was streamed.
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
                prompt_tokens=self._input_tokens,  # as estimated, because that is what the next choice will look up by
                first_token_s=self._first_token_s,
                per_token_s=seconds_per_token(total_s, self._first_token_s, output_tokens),
                total_s=total_s,
            )

    async def answered(self, answer: Completion, attempts: list[Attempt], gates: AdmissionControl) -> None:
        """Close the account of an attempt that gave the whole answer."""
        self._characters = max(self._characters, _length(answer))
        told = self._attempt(answer.usage, answer.cost, status=200)
        await self._close(told, CallResult.SUCCESS, attempts, gates)

    async def failed(
        self, error: DispatchError, verdict: ErrorPolicy, attempts: list[Attempt], gates: AdmissionControl
    ) -> None:
        """Close the account of an attempt that failed."""
        usage, cost = error.usage, self._cost_so_far(error.usage)
        is_sent = error.status is not None or not isinstance(error, RequestError)
        if not (error.is_charged and is_sent) and usage is None and not self._characters:
            # Where no price is known, neither is this call's.
            usage, cost = Usage(0, 0), None if cost is None else Cost(0.0)
        told = self._attempt(usage, cost, status=error.status, error=str(error), kind=type(error).__name__)
        reason = reason_of(error) if verdict.ending in (CallResult.SUSPEND, CallResult.DISABLE) else None
        await self._close(told, verdict.ending, attempts, gates, wait_s=verdict.wait_s, reason=reason)

    async def abandoned(
        self, ending: CallResult, attempts: list[Attempt], gates: AdmissionControl, *, is_sent: bool = True
    ) -> None:
        """Close the account of an attempt that nobody waits for any more."""
        usage, cost = None, self._cost_so_far(None)
        # Of what was reserved for the longest answer, the provider never gets to count the rest.
        tokens = self._input_tokens + _tokens_in(self._characters)
        if not is_sent:
            usage, cost, tokens = Usage(0, 0), None if cost is None else Cost(0.0), 0
        told = self._attempt(usage, cost, error="given up: not needed any more", kind="Abandoned")
        await self._close(told, ending, attempts, gates, tokens=tokens)

    async def _close(
        self,
        told: Attempt,
        ending: CallResult,
        attempts: list[Attempt],
        gates: AdmissionControl,
        *,
        wait_s: float | None = None,
        tokens: int | None = None,
        reason: str | None = None,
    ) -> None:
        # First the record: a cancellation may strike while the gates are told, and the call is charged all the same.
        self.is_closed = True
        attempts.append(told)
        key = self._scored.ready.option.target.key
        refusal = {} if reason is None else {"reason": reason, "refused": digest_key(key)}
        await gates.release(
            self._leave,
            ending,
            tokens=self._tokens(told),
            usd=None if told.cost is None else told.cost.usd,
            wait_s=wait_s,
            **refusal,
        )

    def _tokens(self, told: Attempt) -> int:
        """Tokens that an attempt used, as counted or else as estimated: the rest of its reservation goes back."""
        said = _tokens_in(self._characters)
        if told.usage is None:
            return self._input_tokens + said
        # Where the answer broke off, so did the count.
        output = told.usage.output_tokens if told.error is None else max(told.usage.output_tokens, said)
        return told.usage.input_tokens + output

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
            credential=self._leave.place.credential,
            first_token_ms=None if self._first_token_s is None else self._first_token_s * 1000,
            usage=usage,
            cost=cost,
            probability=self._scored.probability,
            score=self._scored.parts,
            **self._flags,
        )

    def _cost_so_far(self, usage: Usage | None) -> Cost | None:
        """What a call that did not end well will be charged: its input, and what it had said."""
        if usage is None:
            return self._estimated(self._characters)
        # Some providers count the output only at the end, and a stream that broke did not come to it.
        said = _tokens_in(self._characters)
        known = replace(usage, output_tokens=max(usage.output_tokens, said))
        cost = catalog.cost_of(self._deployment, self._config, known)
        return cost if cost is None or said <= usage.output_tokens else replace(cost, estimated=True)

    def _estimated(self, characters: int) -> Cost | None:
        return catalog.estimated_cost(self._deployment, self._config, self._input_tokens, _tokens_in(characters))


def _length(answer: Completion) -> int:
    """Characters of an answer and its alternatives, with what they ask of tools."""
    said: list[Completion | Alternative] = [answer, *answer.alternatives]
    calls = [call for one in said for call in one.tool_calls]
    return sum(len(one.text) for one in said) + sum(len(call.name) + len(call.arguments) for call in calls)


def _tokens_in(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)
