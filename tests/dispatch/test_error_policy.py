from __future__ import annotations

import pytest

from semroute.dispatch.attempt import PASSING_S, UNHINTED_S, ErrorPolicy, classify_error, reason_of
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    Fault,
    MalformedResponseError,
    OverloadedError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.types import CallResult, EndpointStatus


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (AuthenticationError("x"), ErrorPolicy(CallResult.SUSPEND, is_the_keys=True)),
        (AuthenticationError("x", fault=Fault.DOUBT), ErrorPolicy(CallResult.SUSPEND, is_the_keys=True)),
        (AuthenticationError("x", fault=Fault.KEY), ErrorPolicy(CallResult.DISABLE, is_the_keys=True)),
        (QuotaError("x"), ErrorPolicy(CallResult.SUSPEND, is_the_keys=True)),
        (RateLimitError("x", wait_s=7.0), ErrorPolicy(CallResult.NEUTRAL, 7.0, is_the_keys=True)),
        (RateLimitError("x", wait_s=0.0), ErrorPolicy(CallResult.NEUTRAL, 0.0, is_the_keys=True)),
        (RateLimitError("x"), ErrorPolicy(CallResult.NEUTRAL, UNHINTED_S, is_the_keys=True)),
        (ContextLengthError("x"), ErrorPolicy(CallResult.NEUTRAL)),
        (CapabilityError("x"), ErrorPolicy(CallResult.NEUTRAL)),
        (ContentFilterError("x"), ErrorPolicy(CallResult.NEUTRAL, elsewhere=False)),
        (RequestError("x", status=400), ErrorPolicy(CallResult.NEUTRAL, elsewhere=False)),
        (RequestError("x", status=404, fault=Fault.ADDRESS), ErrorPolicy(CallResult.FAILURE)),
        (RequestError("x", status=409, fault=Fault.TRANSIENT), ErrorPolicy(CallResult.NEUTRAL, again=True)),
        (RequestError("x", status=409, fault=Fault.TRANSIENT, wait_s=5.0), ErrorPolicy(CallResult.NEUTRAL, 5.0)),
        (RequestError("x", status=409, fault=Fault.TRANSIENT, wait_s=1e7), ErrorPolicy(CallResult.NEUTRAL, PASSING_S)),
        (RateLimitError("x", status=413, fault=Fault.MODEL), ErrorPolicy(CallResult.NEUTRAL, is_the_keys=True)),
        (UnavailableError("x", status=500), ErrorPolicy(CallResult.FAILURE, again=True)),
        (OverloadedError("x", status=529, wait_s=3.0), ErrorPolicy(CallResult.FAILURE, 3.0)),
        (BrokenStreamError("x"), ErrorPolicy(CallResult.FAILURE, again=True)),
        (ProviderTimeoutError("x"), ErrorPolicy(CallResult.FAILURE)),
        (MalformedResponseError("x"), ErrorPolicy(CallResult.FAILURE, again=True)),
    ],
)
def test_each_failure_says_what_it_means_for_breaker_throttle_and_going_on(
    error: DispatchError, policy: ErrorPolicy
) -> None:
    assert classify_error(error) == policy


def test_a_timeout_that_our_own_deadline_caused_is_not_held_against_the_place() -> None:
    error = ProviderTimeoutError("x")
    error.is_cut_short = True
    assert classify_error(error) == ErrorPolicy(CallResult.NEUTRAL)


def test_a_doubtful_refusal_does_not_close_an_endpoint_that_answers_others() -> None:
    doubtful = AuthenticationError("x", status=403, fault=Fault.DOUBT)
    of_the_request = ErrorPolicy(CallResult.NEUTRAL, is_the_keys=True)
    assert classify_error(doubtful, EndpointStatus(calls=2, failure_share=0.5)) == of_the_request
    assert classify_error(doubtful, EndpointStatus(calls=2, failure_share=1.0)).result is CallResult.SUSPEND
    assert classify_error(doubtful, EndpointStatus()).result is CallResult.SUSPEND
    certain = AuthenticationError("x", status=403, fault=Fault.ACCESS)
    assert classify_error(certain, EndpointStatus(calls=2)).result is CallResult.SUSPEND


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("secret words", status=401, fault=Fault.KEY, code="invalid_api_key"),
        AuthenticationError("secret words", status=403, fault=Fault.DOUBT),
        AuthenticationError("secret words", fault=Fault.KEY),
        QuotaError("secret words", status=429, code="insufficient_quota"),
    ],
)
def test_the_reason_that_others_see_has_status_and_code_and_no_word_of_the_provider(error: DispatchError) -> None:
    reason = reason_of(error)
    assert "secret" not in reason
    assert str(error.status or "") in reason
    assert error.code is None or error.code in reason
