"""What a failure means: for the breaker, for the throttle, and for the question whether and where to go on."""

from __future__ import annotations

from dataclasses import dataclass

from semroute.errors import (
    AuthenticationError,
    DispatchError,
    EmptyAnswerError,
    Fault,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
)
from semroute.types import CallResult, EndpointStatus

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
