from __future__ import annotations

import pytest

from semroute.dispatch.verdicts import UNHINTED_S, Verdict, judge
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.types import Ending


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AuthenticationError("x"), Verdict(Ending.DISABLE, is_the_keys=True)),
        (QuotaError("x"), Verdict(Ending.DISABLE, is_the_keys=True)),
        (RateLimitError("x", wait_s=7.0), Verdict(Ending.NEUTRAL, 7.0, is_the_keys=True)),
        (RateLimitError("x", wait_s=0.0), Verdict(Ending.NEUTRAL, 0.0, is_the_keys=True)),
        (RateLimitError("x"), Verdict(Ending.NEUTRAL, UNHINTED_S, is_the_keys=True)),
        (ContextLengthError("x"), Verdict(Ending.NEUTRAL)),
        (CapabilityError("x"), Verdict(Ending.NEUTRAL)),
        (ContentFilterError("x"), Verdict(Ending.NEUTRAL, elsewhere=False)),
        (RequestError("x", status=400), Verdict(Ending.NEUTRAL, elsewhere=False)),
        (RequestError("x", status=404), Verdict(Ending.FAILURE)),
        (UnavailableError("x", status=500), Verdict(Ending.FAILURE, again=True)),
        (OverloadedError("x", status=529, wait_s=3.0), Verdict(Ending.FAILURE, 3.0)),
        (BrokenStreamError("x"), Verdict(Ending.FAILURE, again=True)),
        (ProviderTimeoutError("x"), Verdict(Ending.FAILURE)),
        (MalformedResponseError("x"), Verdict(Ending.FAILURE, again=True)),
    ],
)
def test_each_failure_says_what_it_means_for_breaker_throttle_and_going_on(
    error: DispatchError, verdict: Verdict
) -> None:
    assert judge(error) == verdict


def test_a_timeout_that_our_own_deadline_caused_is_not_held_against_the_place() -> None:
    error = ProviderTimeoutError("x")
    error.is_cut_short = True
    assert judge(error) == Verdict(Ending.NEUTRAL)
