"""What a failure means: for the breaker, for the throttle, and for the question whether and where to go on."""

from __future__ import annotations

from dataclasses import dataclass

from semroute.errors import (
    AuthenticationError,
    DispatchError,
    EmptyAnswerError,
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one failure means.

    Attributes:
        ending: for the breaker.
        wait_s: for the throttle: how long to leave the place alone, seconds; None not at all.
        elsewhere: whether another place may do better.
        again: whether the same place may do better a moment later.
        is_the_keys: whether it is a matter of the key, so that another key of the deployment may do better.
    """

    ending: Ending
    wait_s: float | None = None
    elsewhere: bool = True
    again: bool = False
    is_the_keys: bool = False


def judge(error: DispatchError) -> Verdict:
    """The verdict on a failed attempt."""
    match error:
        case AuthenticationError() | QuotaError():
            return Verdict(Ending.DISABLE, is_the_keys=True)
        case RateLimitError():
            # The throttle's business alone: a breaker that opened on 429 would outlast the provider's own hint.
            return Verdict(Ending.NEUTRAL, UNHINTED_S if error.wait_s is None else error.wait_s, is_the_keys=True)
        case RequestError() if error.status in RequestError.NOT_FOUND and type(error) is RequestError:
            return Verdict(Ending.FAILURE)
        case RequestError():
            return Verdict(Ending.NEUTRAL, elsewhere=not error.is_final)
        case ProviderTimeoutError() if error.is_cut_short:
            return Verdict(Ending.NEUTRAL)  # our own deadline says nothing of the place
        case ProviderTimeoutError():
            return Verdict(Ending.FAILURE)  # a second wait of the same length is better spent elsewhere
        case EmptyAnswerError():
            # A caller's words can make every model say nothing: that must not close a place for everybody, and saying
            # them again would not help. A place that counts no token of output has not run the model.
            return Verdict(Ending.NEUTRAL) if error.is_the_requests else Verdict(Ending.FAILURE, again=True)
        case UnavailableError() | MalformedResponseError():
            return Verdict(Ending.FAILURE, error.wait_s, again=error.wait_s is None)
    return Verdict(Ending.FAILURE)
