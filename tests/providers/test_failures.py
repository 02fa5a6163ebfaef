from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
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
from semroute.providers.error_codes import MAX_QUOTED, quote_reply
from semroute.providers.failures import failure, failure_in_200
from semroute.providers.target import CallTarget

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
TARGET = CallTarget(Deployment(name="spot", model="small", api_key_env=("TEST_KEY",)), "TEST_KEY", KEY)


def error(message: str = "", code: object = None, type: object = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": type, "code": code, **more}}


def google(code: int, status: str, message: str = "", *details: object) -> dict[str, object]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


GEMINI_QUOTA = "You exceeded your current quota, please check your plan and billing details."
DELAY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}


def violation(quota: str) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, RequestError),
        (400, RequestError),
        (401, AuthenticationError),
        (402, QuotaError),
        (403, AuthenticationError),
        (404, RequestError),
        (408, ProviderTimeoutError),
        (413, RequestError),
        (418, RequestError),
        (422, RequestError),
        (429, RateLimitError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, OverloadedError),
        (504, ProviderTimeoutError),
        (529, OverloadedError),
    ],
)
def test_every_status_has_its_error_with_the_providers_words_and_without_the_key(
    status: int, kind: type[DispatchError]
) -> None:
    found = failure(status, error(f"Incorrect key {KEY} given"), {}, TARGET)
    assert type(found) is kind
    assert (found.status, found.deployment) == (status, "spot")
    assert str(found).startswith(f"spot answered {status}: Incorrect key [key] given")


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        # OpenAI and servers like it
        (400, error("too many", "context_length_exceeded"), ContextLengthError),
        (400, error("This model's maximum context length is 4096 tokens."), ContextLengthError),
        (400, {"object": "error", "message": "maximum context length is 8", "code": 400}, ContextLengthError),
        (400, error("The decoder prompt is longer than the maximum model length of 4096"), ContextLengthError),
        (400, error("the request is too long", type="exceed_context_size_error"), ContextLengthError),
        (413, error("Prompt is too long: 9 tokens"), ContextLengthError),
        (400, error("no", "content_policy_violation"), ContentFilterError),
        (403, error("Your input was flagged", 403), ContentFilterError),
        (429, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), QuotaError),
        (429, error("This account has no credits left"), QuotaError),
        (429, error("limit reached, see https://x.test/account/billing", "rate_limit_exceeded"), RateLimitError),
        (429, error("limit reached, see https://x.test/account/billing"), RateLimitError),
        (429, error("slow down"), RateLimitError),
        (402, error("Insufficient Balance"), QuotaError),
        (400, {"code": "invalid argument", "error": "Content violates usage guidelines."}, ContentFilterError),
        (500, error("busy", type="overloaded_error"), OverloadedError),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, RequestError),
        # Azure
        (400, error("x", "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFilterError),
        (400, error("x", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFilterError),
        (429, error("Requests have exceeded the call rate limit", "429"), RateLimitError),
        (401, {"statusCode": 401, "message": "Access denied due to invalid subscription key"}, AuthenticationError),
        # Anthropic
        (400, {"type": "error", **error("prompt is too long: 9", type="invalid_request_error")}, ContextLengthError),
        (400, error("input length and `max_tokens` exceed context limit: 9 + 8 > 10"), ContextLengthError),
        (400, error("Output blocked by content filtering policy"), ContentFilterError),
        (400, error("Your credit balance is too low to access the Anthropic API."), QuotaError),
        (429, error("would exceed your rate limit, not your billing", type="rate_limit_error"), RateLimitError),
        (529, error("Overloaded", type="overloaded_error"), OverloadedError),
        # Gemini
        (400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), RequestError),
        (400, google(400, "INVALID_ARGUMENT", "x", {"reason": "API_KEY_INVALID"}), AuthenticationError),
        (400, google(400, "INVALID_ARGUMENT", "x exceeds the maximum number of tokens allowed"), ContextLengthError),
        (400, google(400, "INVALID_ARGUMENT", "bad field"), RequestError),
        (403, google(403, "PERMISSION_DENIED", "no"), AuthenticationError),
        (429, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA), RateLimitError),
        (429, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA, violation("RequestsPerDayPerProject")), QuotaError),
        (429, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA, violation("RequestsPerDay"), DELAY), RateLimitError),
        (429, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA, violation("RequestsPerMinute")), RateLimitError),
        (500, google(500, "UNAVAILABLE", "overloaded"), OverloadedError),
        (503, [google(503, "UNAVAILABLE", "overloaded")], OverloadedError),
        (504, google(504, "DEADLINE_EXCEEDED"), ProviderTimeoutError),
    ],
)  # fmt: skip
def test_what_providers_say_has_its_error(status: int, answer: object, kind: type[DispatchError]) -> None:
    assert type(failure(status, answer, {}, TARGET)) is kind


@pytest.mark.parametrize(
    ("status", "headers", "answer", "wait_s"),
    [
        (429, {"retry-after": "7"}, error(), 7.0),
        (429, {"x-ratelimit-reset-tokens": "6m0s"}, error(), 360.0),
        (429, {}, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA, DELAY), 34.07),
        (503, {"retry-after": "7"}, error(), 7.0),
        (503, {"x-ratelimit-reset-tokens": "6m0s"}, error(), None),
        (500, {"retry-after": "2"}, error(), 2.0),
        (429, {}, error(), None),
        (429, {"retry-after": "7"}, error(code="insufficient_quota"), None),
        (401, {"retry-after": "7"}, error(), None),
    ],
)
def test_the_hint_is_on_the_errors_that_waiting_may_cure(
    status: int, headers: dict[str, str], answer: object, wait_s: float | None
) -> None:
    found = failure(status, answer, headers, TARGET)
    assert found.wait_s == wait_s
    assert (f"it asks to wait {wait_s:g} s" in str(found)) if wait_s else ("asks to wait" not in str(found))


FREE = "Rate limit exceeded: free-models-per-{}. Add 10 credits to unlock 1000 free model requests per day"


@pytest.mark.parametrize(
    ("status", "answer", "headers", "kind", "fault"),
    [
        # A day's free requests are used up: closed for minutes; with the moment of the next, until then.
        (429, error(FREE.format("day"), 429), {}, QuotaError, Fault.ACCESS),
        (429, error(FREE.format("day"), 429), {"retry-after": "7"}, RateLimitError, Fault.LIMIT),
        (429, error("x", 429, metadata={"limit_source": "openrouter_free_tier_daily"}), {}, QuotaError, Fault.ACCESS),
        (429, error(FREE.format("min"), 429), {}, RateLimitError, Fault.LIMIT),
        # A code is believed before the words.
        (429, error("no credits", "rate_limit_exceeded"), {}, RateLimitError, Fault.LIMIT),
        (429, error("slow down", details={"error_code": "enforced_spend_limit_reached"}), {}, QuotaError, Fault.ACCESS),
        (429, error("x", "billing_not_active"), {"x-ratelimit-reset-tokens": "6m"}, QuotaError, Fault.ACCESS),
        (402, error("in flight", 402), {"retry-after": "7"}, RateLimitError, Fault.LIMIT),
        (402, error("more credits, or fewer max_tokens", "payment_required"), {}, RateLimitError, Fault.MODEL),
        (413, error("too large", "rate_limit_exceeded", "tokens"), {"retry-after": "7"}, RateLimitError, Fault.LIMIT),
        (413, error("too large", "rate_limit_exceeded", "tokens"), {}, RateLimitError, Fault.MODEL),
        (429, error("Request too large", "tokens"), {"x-ratelimit-reset-tokens": "6m"}, RateLimitError, Fault.MODEL),
        (403, error("Input token count must be less than the context length"), {}, ContextLengthError, Fault.MODEL),
        (403, error("x", metadata={"error_type": "content_policy_violation"}), {}, ContentFilterError, Fault.REQUEST),
        (401, google(401, "UNAUTHENTICATED", "x"), {}, AuthenticationError, Fault.DOUBT),
        (401, error("x", details=[{"reason": "ACCESS_TOKEN_EXPIRED"}]), {}, AuthenticationError, Fault.KEY),
        (401, error("x", "PermissionDenied"), {}, AuthenticationError, Fault.DOUBT),
        (403, google(403, "PERMISSION_DENIED", "no such file"), {}, AuthenticationError, Fault.DOUBT),
        (403, error("x", details=[{"reason": "SERVICE_DISABLED"}]), {}, AuthenticationError, Fault.ACCESS),
        # A text is no code, wherever it stands.
        (401, error("x", "my text says invalid_api_key"), {}, AuthenticationError, Fault.DOUBT),
        (401, error("x", "invalid_api_key" * 9), {}, AuthenticationError, Fault.DOUBT),
        (401, {"error": "invalid_api_key"}, {}, AuthenticationError, Fault.DOUBT),
        (401, "invalid_api_key", {}, AuthenticationError, Fault.DOUBT),
        # A status that nobody knows is held against nobody, and tried elsewhere.
        (432, error("x"), {}, RequestError, Fault.MODEL),
        (999, error("x"), {}, UnavailableError, Fault.ENDPOINT),
        (101, error("x"), {}, UnavailableError, Fault.ENDPOINT),
    ],
)  # fmt: skip
def test_a_refusal_has_the_cause_that_its_codes_name(
    status: int, answer: object, headers: dict[str, str], kind: type[DispatchError], fault: Fault
) -> None:
    found = failure(status, answer, headers, TARGET)
    assert (type(found), found.fault) == (kind, fault)


def test_the_code_of_an_error_is_one_that_we_know_or_none() -> None:
    assert failure(401, error("x", "invalid_api_key"), {}, TARGET).code == "invalid_api_key"
    assert failure(403, error("x", type="permission_error"), {}, TARGET).code == "permission_error"
    assert failure(403, error("x", "hunter2"), {}, TARGET).code is None


def test_a_long_text_inside_a_200_is_not_held_against_the_endpoint() -> None:
    found = failure_in_200(error("This model's maximum context length is 4096 tokens."), {}, TARGET, streamed=True)
    assert (type(found), found.fault) == (ContextLengthError, Fault.MODEL)


@pytest.mark.parametrize("status", [401, 403, 402])
def test_a_refused_key_names_its_variable(status: int) -> None:
    assert "(key: TEST_KEY)" in str(failure(status, error(), {}, TARGET))


def test_without_a_key_the_message_says_where_to_name_one() -> None:
    keyless = CallTarget(TARGET.deployment)
    assert "api_key_env" in str(failure(401, error(), {}, keyless))


def test_a_wrong_path_points_at_the_address_and_the_models_name() -> None:
    message = str(failure(404, error("no such model"), {}, TARGET, url="http://x/v1/chat"))
    assert "http://x/v1/chat" in message
    assert "upstream_model" in message


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (error("inside", 401), AuthenticationError, 401),
        (error("inside", "429"), RateLimitError, 429),
        (error("inside", 502), UnavailableError, 502),
        (error("inside", type="server_error"), UnavailableError, 500),
        (error("inside", type="overloaded_error"), OverloadedError, 529),
        (error("inside", "context_length_exceeded", "invalid_request_error"), ContextLengthError, 400),
        (error("inside", "rate_limit_exceeded", "server_error"), RateLimitError, 429),
        (google(503, "UNAVAILABLE", "inside"), OverloadedError, 503),
        (error("inside", "too_long"), MalformedResponseError, 200),
        ({"error": "inside"}, MalformedResponseError, 200),
    ],
)
def test_an_error_inside_a_200_is_the_error_that_it_names(
    answer: object, kind: type[DispatchError], status: int
) -> None:
    found = failure_in_200(answer, {}, TARGET)
    assert type(found) is kind
    assert found.status == status
    assert "inside" in str(found)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error("inside", 502), BrokenStreamError),
        (error("inside", "what"), BrokenStreamError),
        ("inside", BrokenStreamError),
        (error("inside", 429), RateLimitError),
        (error("inside", type="overloaded_error"), OverloadedError),
    ],
)
def test_in_a_stream_an_error_of_the_server_breaks_the_stream(answer: object, kind: type[DispatchError]) -> None:
    found = failure_in_200(answer, {}, TARGET, streamed=True)
    assert type(found) is kind
    assert "inside" in str(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "details", "status", "innererror", "violations", "detail"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@pytest.mark.slow
@given(st.integers(300, 599), JSON, st.booleans())
def test_a_body_of_any_shape_gives_an_error_that_can_be_printed(status: int, answer: object, streamed: bool) -> None:
    for found in (failure(status, answer, {}, TARGET), failure_in_200(answer, {}, TARGET, streamed=streamed)):
        assert isinstance(found, DispatchError)
        assert str(found).isprintable()
        assert len(str(found)) < MAX_QUOTED + 200


@pytest.mark.slow
@given(st.text(max_size=400), st.text("abc", min_size=8, max_size=12))
def test_a_quotation_is_one_short_printable_line_without_the_key(text: str, key: str) -> None:
    shown = quote_reply(f"{text}{key}{text}", key)
    assert key not in shown
    assert len(shown) <= MAX_QUOTED
    assert shown.isprintable()


def test_a_key_that_a_long_message_would_cut_in_two_does_not_leak_in_part() -> None:
    found = failure(500, "x" * (MAX_QUOTED - 8) + KEY + "y" * 9000, {}, TARGET)
    assert KEY[:6] not in str(found)
