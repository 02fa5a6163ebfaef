"""What a failure means: for the breaker, for the throttle, and for the question whether and where to go on."""

from __future__ import annotations

from dataclasses import dataclass

from semroute.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    MalformedResponseError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.types import Ending

UNHINTED_S = 1.0
"""How long a place is left alone after a 429 that says nothing about waiting, seconds."""
NOT_FOUND = (404, 405, 410)
"""Statuses of a deployment whose address or model name is wrong: no request can succeed there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one failure means.

    Attributes:
        ending: for the breaker.
        wait_s: for the throttle: how long to leave the place alone, seconds; None not at all.
        elsewhere: whether another place may do better.
        again: whether the same place may do better a moment later.
    """

    ending: Ending
    wait_s: float | None = None
    elsewhere: bool = True
    again: bool = False


def judge(error: DispatchError, *, cut_short: bool) -> Verdict:
    """The verdict on a failed attempt.

    Args:
        error: how it failed.
        cut_short: whether the request's own deadline, and not the deployment's timeout, ended the wait; then a timeout
            says nothing of the place.
    """
    match error:
        case AuthenticationError() | QuotaError():
            return Verdict(Ending.DISABLE)
        case RateLimitError():
            # The throttle's business alone: a breaker that opened on 429 would outlast the provider's own hint.
            return Verdict(Ending.NEUTRAL, UNHINTED_S if error.wait_s is None else error.wait_s)
        case ContextLengthError() | CapabilityError():
            return Verdict(Ending.NEUTRAL)
        case ContentFilterError():
            return Verdict(Ending.NEUTRAL, elsewhere=False)
        case RequestError() if error.status in NOT_FOUND:
            return Verdict(Ending.FAILURE)
        case RequestError():
            return Verdict(Ending.NEUTRAL, elsewhere=False)
        case ProviderTimeoutError() if cut_short:
            return Verdict(Ending.NEUTRAL)
        case UnavailableError() | ProviderTimeoutError() | MalformedResponseError():
            return Verdict(Ending.FAILURE, error.wait_s, again=error.wait_s is None)
    return Verdict(Ending.FAILURE)
