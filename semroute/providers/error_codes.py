"""Parse error bodies and classify errors by HTTP status and error code.

Sources:

- RFC 9110 section 15 and https://www.iana.org/assignments/http-status-codes: statuses;
- https://platform.openai.com/docs/guides/error-codes: OpenAI, and most servers of its format;
- https://learn.microsoft.com/azure/foundry/openai/how-to/troubleshoot-errors and .../concepts/content-filter: Azure;
- https://docs.anthropic.com/en/api/errors and .../api/rate-limits: Anthropic;
- https://ai.google.dev/gemini-api/docs/troubleshooting, https://cloud.google.com/apis/design/errors and the reasons of
  google/api/error_reason.proto: Gemini;
- https://openrouter.ai/docs/api/reference/errors-and-debugging and .../components/apierrortype: OpenRouter;
- https://console.groq.com/docs/errors and .../docs/flex-processing (498): Groq;
- https://docs.together.ai/docs/error-codes: Together, whose 403 is a request that is too long;
- https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors (520 to 530) and
  https://nginx.org/en/docs/http/ngx_http_ssl_module.html (494 to 499): what stands in front of them.

A message may quote its caller, so it must not affect others: only structured codes disable a key, and message texts are
matched for two purposes only: failover without counting against an endpoint, and a longer wait for a rate limit whose
status agrees and which has no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from semroute.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    Fault,
    OverloadedError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    RequestError,
    UnavailableError,
)

# Parsing of error bodies of all shapes.
#
# Sources of the shapes: https://platform.openai.com/docs/guides/error-codes (OpenAI, vLLM, most servers),
# https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (Azure),
# https://docs.anthropic.com/en/api/errors, https://cloud.google.com/apis/design/errors (Gemini),
# https://openrouter.ai/docs/api-reference/errors.

MAX_QUOTED = 300
"""Most characters of a provider's own message that an error repeats."""

_MAX_LOOKED_AT = 20 * MAX_QUOTED

_Json: TypeAlias = Mapping[str, Any]

_CODE = re.compile(r"[\w.:-]{1,64}", re.ASCII)
"""Pattern of a structured code; anything longer, or with a space, is text and may quote a caller."""

PER_DAY = "quota_per_day"
"""Code that :func:`read` adds if Google names a daily quota, since its message is the same for every quota."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Parsed error body.

    Attributes:
        message: the provider's message, unquoted; empty if there is none.
        codes: every type, code, status and reason in it, in lower case, each once, the error's own first.
    """

    message: str
    codes: tuple[str, ...]

    def says(self, *words: str) -> bool:
        """Return True if the message contains any of ``words`` (lower case)."""
        message = self.message.lower()
        return any(word in message for word in words)


def read(answer: object) -> ErrorReport:
    """Read an error body: parsed JSON, or the text itself if it was not JSON."""
    if isinstance(answer, str):
        return ErrorReport(answer, ())
    outer = _outer(answer)
    inner = _mapping(outer.get("error"))
    found = (str(code) for code in _codes(outer, inner) if isinstance(code, str | int))
    codes = dict.fromkeys(code.lower() for code in found if _CODE.fullmatch(code))
    return ErrorReport(_message(answer, outer, inner), tuple(codes))


def metadata_headers(answer: object) -> dict[str, str]:
    """Return upstream headers that OpenRouter repeats in ``metadata``."""
    found = _mapping(_mapping(_mapping(_outer(answer).get("error")).get("metadata")).get("headers"))
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int)}


def has_error(answer: object) -> bool:
    """Return True if a body sent with a 200 is an error."""
    outer = _outer(answer)
    # Anthropic and older vLLM mark the object itself as an error.
    return bool(outer.get("error")) or "error" in (outer.get("object"), outer.get("type"))


def details(answer: object) -> list[_Json]:
    """Return the ``details`` of a Google error.

    Source: https://cloud.google.com/apis/design/errors#error_details.
    """
    found = _mapping(_outer(answer).get("error")).get("details")
    return [detail for detail in found if isinstance(detail, Mapping)] if isinstance(found, list) else []


def quote_reply(text: str, key: str | None) -> str:
    """Make a provider's message safe to print.

    The result is one short line without control characters and without the key.
    """
    # The key is removed first: after truncation, a part of it would not be found.
    start = (text.replace(key, "[key]") if key else text)[:_MAX_LOOKED_AT]
    printable = "".join(character if character.isprintable() else " " for character in start)
    words = " ".join(printable.split())
    return words if len(words) <= MAX_QUOTED else words[: MAX_QUOTED - 1] + "…"


def _outer(answer: object) -> _Json:
    # Gemini wraps errors of its streams in a list.
    return _mapping(answer[0] if isinstance(answer, list) and answer else answer)


def _mapping(value: object) -> _Json:
    return value if isinstance(value, Mapping) else {}


def _codes(outer: _Json, inner: _Json) -> Iterator[object]:
    nested = (_mapping(inner.get(name)) for name in ("innererror", "metadata", "details"))
    for level in (inner, outer, *nested):
        for name in ("code", "type", "status", "error_type", "error_code", "limit_source"):
            yield level.get(name)
    for detail in details(outer):
        yield detail.get("reason")
        violations = detail.get("violations")
        if any(_is_daily(violation) for violation in (violations if isinstance(violations, list) else ())):
            yield PER_DAY


def _is_daily(violation: object) -> bool:
    limit = _mapping(violation)
    name = f"{limit.get('quotaId')} {limit.get('quotaMetric')}".lower()
    return "perday" in name or "per_day" in name


def _message(answer: object, outer: _Json, inner: _Json) -> str:
    error = outer.get("error")
    for words in (inner.get("message"), error, outer.get("message"), outer.get("detail"), *_codes({}, inner)):
        if isinstance(words, str | int) and words:
            return str(words)
    return json.dumps(answer, default=str, ensure_ascii=False) if answer else ""


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Exception class of an error, and its cause."""

    kind: type[DispatchError]
    fault: Fault
    code: str | None = None


@dataclass(frozen=True, slots=True)
class _Codes:
    """Table row: structured codes with one meaning at any of these statuses.

    Lower case, as in :class:`ErrorReport`.
    """

    kind: type[DispatchError]
    fault: Fault
    statuses: frozenset[int]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Words:
    """Table row: phrases of a message, lower case.

    ``is_codeless``: applies only if the provider sent no code of its own.
    """

    kind: type[DispatchError]
    fault: Fault
    statuses: frozenset[int]
    words: tuple[str, ...]
    is_codeless: bool = False


_REFUSED = frozenset({400, 403, 413, 422})
_SERVER = frozenset(range(500, 600))
_USED_UP = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_disabled",  # Google
    "enforced_spend_limit_reached",  # Anthropic
    "insufficient_balance",
    "insufficient_user_quota",  # new-api
    "openrouter_key_limit",
    "openrouter_workspace_budget",
    "openrouter_guardrail_budget",
)
"""Codes of an exhausted quota or credit that waiting does not refill, whatever reset times are sent with them."""

CODES: tuple[_Codes, ...] = (
    # The particular before the general: an error may have a code of each kind.
    _Codes(
        ContentFilterError,
        Fault.REQUEST,
        _REFUSED | {451} | _SERVER,
        (
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "data_inspection_failed",  # Alibaba
            "content_filtered",
        ),
    ),
    _Codes(
        ContextLengthError,
        Fault.MODEL,
        _REFUSED | _SERVER,
        (
            "context_length_exceeded",
            "exceed_context_size_error",  # llama.cpp
            "string_above_max_length",
            "string_too_long",  # OpenRouter
            "max_tokens_exceeded",  # OpenRouter
            "context_window_exceeded",
        ),
    ),
    # Unambiguous: the code means that the key itself is invalid. Google answers a wrong key with a 400.
    _Codes(
        AuthenticationError,
        Fault.KEY,
        frozenset({400, 401, 403}),
        ("api_key_invalid", "api_key_expired", "account_deactivated"),
    ),
    _Codes(
        AuthenticationError,
        Fault.KEY,
        frozenset({401}),
        (
            "invalid_api_key",
            "invalidapikey",  # Alibaba
            "authentication_error",  # Anthropic
            "invalid_authentication_error",  # Moonshot
            "access_token_expired",  # Vertex
        ),
    ),
    _Codes(
        QuotaError,
        Fault.ACCESS,
        frozenset({400, 403, 429}),  # a 402 may concern one request's size, whatever its code
        _USED_UP,
    ),
    _Codes(
        QuotaError,
        Fault.ACCESS,
        frozenset({429}),
        # The first is ours, for an exhausted daily quota of Google's: its message is the same for every limit.
        ("quota_per_day", "openrouter_free_tier_daily"),
    ),
    # Larger than a minute's tokens: waiting does not help this request, and smaller ones must not wait.
    _Codes(
        RateLimitError,
        Fault.MODEL,
        frozenset({413}),
        ("rate_limit_exceeded", "rate_limit_error", "tokens"),
    ),
    _Codes(
        CapabilityError,
        Fault.MODEL,
        frozenset({400, 403, 422, 501}),
        ("unsupported_parameter", "unsupported_value", "unknown_parameter", "unimplemented", "operationnotsupported"),
    ),
    _Codes(
        RequestError,
        Fault.MODEL,
        frozenset({400, 422}),
        (
            "model_not_found",
            "model_decommissioned",  # Groq
            "model_not_available",
            "model_terms_required",  # Groq
            "model_not_supported",
            "unsupported_model",
            "invalid_model",
            "deploymentnotfound",  # Azure
            "tool_use_failed",  # Groq: the model wrote no parsable call
            "json_validate_failed",  # Groq: nor JSON valid by the schema
            "unsupported_country_region_territory",
            "failed_precondition",  # Gemini, for a region or for billing that is not set up
            "precondition_failed",
        ),
    ),
    _Codes(
        AuthenticationError,
        Fault.ACCESS,
        frozenset({400, 401, 403}),
        (
            "organization_restricted",  # Groq
            "consumer_suspended",
            "consumer_invalid",
            "service_disabled",
            "api_key_service_blocked",
            "api_key_http_referrer_blocked",
            "api_key_ip_address_blocked",
            "api_key_android_app_blocked",
            "api_key_ios_app_blocked",
            "access_token_scope_insufficient",
            "location_policy_violated",
            "ip_not_authorized",
            "mismatched_organization",
            "invalid_organization",
            "authenticationtypedisabled",  # Azure
        ),
    ),
    _Codes(
        AuthenticationError,
        Fault.ACCESS,
        frozenset({401, 403}),
        (
            "model_not_found",
            "model_not_available",
            "unsupported_country_region_territory",
            "access_terminated_error",  # Moonshot
        ),
    ),
    # Concerns the key, or a resource of this one request: Gemini sends it for a file, too.
    _Codes(
        AuthenticationError,
        Fault.DOUBT,
        frozenset({401, 403}),
        ("permission_error", "permission_denied", "permissiondenied"),
    ),
    _Codes(
        OverloadedError,
        Fault.ENDPOINT,
        _SERVER,
        (
            "overloaded_error",
            "unavailable",
            "server_is_overloaded",
            "engine_overloaded",
            "engine_overloaded_error",
            "provider_overloaded",
            "provider_unavailable",
            "slow_down",
        ),
    ),
)
"""Rows by structured code; the first match decides."""

WORDS: tuple[_Words, ...] = (
    _Words(
        ContentFilterError,
        Fault.REQUEST,
        frozenset({400, 403, 422}),
        (
            "content filtering policy",  # Anthropic
            "content management policy",  # Azure
            "was flagged",  # OpenAI, OpenRouter
            "violates usage guidelines",  # xAI
        ),
    ),
    _Words(
        ContextLengthError,
        Fault.MODEL,
        _REFUSED,
        (
            "maximum context length",  # OpenAI, vLLM, OpenRouter, Mistral
            "prompt is too long",  # Anthropic, Fireworks
            "exceed context limit",  # Anthropic, counting max_tokens
            "exceeds the maximum number of tokens",  # Gemini
            "longer than the maximum model length",  # vLLM
            "exceeds the available context size",  # llama.cpp
            "maximum prompt length",  # xAI
            "less than the context length",  # Together
        ),
    ),
    # Anthropic sends this as a 400 without a code of its own: failover, but no phrase closes the endpoint.
    _Words(
        QuotaError,
        Fault.MODEL,
        frozenset({400}),
        ("credit balance is too low", "specified api usage limits", "specified workspace api usage limits"),
    ),
    # OpenRouter: there is credit, but not for as long an answer; a smaller request is still served.
    _Words(RateLimitError, Fault.MODEL, frozenset({402}), ("fewer max_tokens", "can only afford")),
    # OpenAI: larger than a minute's tokens, as Groq's 413.
    _Words(
        RateLimitError,
        Fault.MODEL,
        frozenset({429}),
        ("request too large", "tokens must be reduced in order to run"),
    ),
    # A limit of a minute may advertise the credits that would raise it.
    _Words(
        RateLimitError,
        Fault.LIMIT,
        frozenset({429}),
        ("per-min", "per min", "per-second", "per second", "per hour", "per-hour"),
        is_codeless=True,
    ),
    _Words(
        QuotaError,
        Fault.ACCESS,
        frozenset({429}),
        (
            "billing",
            "credit",
            "exceeded your current quota",
            "insufficient balance",
            "spending limit",
            "per-day",
            "per day",
        ),
        is_codeless=True,
    ),
    _Words(
        RequestError,
        Fault.MODEL,
        frozenset({400, 422}),
        (
            "not support",
            "unsupported",
            "unrecognized request argument",
            "unknown parameter",
            "unknown name",  # Gemini
            "extra inputs are not permitted",  # Anthropic, vLLM
            "extra fields not permitted",
            "decommissioned",
            "api key",  # xAI and older Gemini refuse a key with a 400: failover, but no phrase disables it
        ),
    ),
)
"""Rows by phrase, used if no code has decided."""

STATUSES: Mapping[int, ErrorClass] = {
    400: ErrorClass(RequestError, Fault.REQUEST),
    401: ErrorClass(AuthenticationError, Fault.DOUBT),
    402: ErrorClass(QuotaError, Fault.DOUBT),  # no credit, or not enough for as long an answer as this one
    403: ErrorClass(AuthenticationError, Fault.DOUBT),
    404: ErrorClass(RequestError, Fault.ADDRESS),
    405: ErrorClass(RequestError, Fault.ADDRESS),
    407: ErrorClass(UnavailableError, Fault.ADDRESS),  # a proxy on the way requires a password
    408: ErrorClass(ProviderTimeoutError, Fault.ENDPOINT),
    409: ErrorClass(RequestError, Fault.TRANSIENT),
    410: ErrorClass(RequestError, Fault.ADDRESS),
    413: ErrorClass(RequestError, Fault.MODEL),
    420: ErrorClass(RateLimitError, Fault.LIMIT),  # predecessor of 429
    421: ErrorClass(UnavailableError, Fault.ENDPOINT),
    422: ErrorClass(RequestError, Fault.REQUEST),
    423: ErrorClass(RequestError, Fault.TRANSIENT),
    424: ErrorClass(RequestError, Fault.TRANSIENT),
    425: ErrorClass(RequestError, Fault.TRANSIENT),
    426: ErrorClass(RequestError, Fault.ADDRESS),
    429: ErrorClass(RateLimitError, Fault.LIMIT),
    444: ErrorClass(UnavailableError, Fault.ENDPOINT),  # nginx: no answer from behind it
    451: ErrorClass(AuthenticationError, Fault.DOUBT),  # a region, or this text there
    495: ErrorClass(RequestError, Fault.ADDRESS),  # nginx: certificates, and http where https is spoken
    496: ErrorClass(RequestError, Fault.ADDRESS),
    497: ErrorClass(RequestError, Fault.ADDRESS),
    498: ErrorClass(RateLimitError, Fault.LIMIT),  # Groq: the flex tier is full
    499: ErrorClass(RequestError, Fault.TRANSIENT),  # nginx: something on the way hung up
    503: ErrorClass(OverloadedError, Fault.ENDPOINT),
    504: ErrorClass(ProviderTimeoutError, Fault.ENDPOINT),
    524: ErrorClass(ProviderTimeoutError, Fault.ENDPOINT),
    529: ErrorClass(OverloadedError, Fault.ENDPOINT),
    598: ErrorClass(ProviderTimeoutError, Fault.ENDPOINT),
    599: ErrorClass(ProviderTimeoutError, Fault.ENDPOINT),
}
"""Classes by status alone; :func:`classify` handles the other statuses by range."""

STATUS_OF_CODE: Mapping[str, int] = {
    # The particular before the general: an error may have a code of each kind.
    "insufficient_quota": 429,
    "quota_per_day": 429,
    "openrouter_free_tier_daily": 429,
    "enforced_spend_limit_reached": 429,
    "credit_balance_exhausted": 429,
    "billing_hard_limit_reached": 429,
    "billing_not_active": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "billing_error": 402,
    "payment_required": 402,
    "insufficient_balance": 402,
    "capacity_exceeded": 498,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "string_above_max_length": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "responsibleaipolicyviolation": 400,
    "data_inspection_failed": 400,
    "api_key_invalid": 400,
    "invalid_api_key": 401,
    "account_deactivated": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "consumer_suspended": 403,
    "unsupported_country_region_territory": 403,
    "unsupported_parameter": 400,
    "unsupported_value": 400,
    "unknown_parameter": 400,
    "model_decommissioned": 400,
    "tool_use_failed": 400,
    "json_validate_failed": 400,
    "permission_error": 403,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "not_found": 404,
    "conflict_error": 409,
    "aborted": 409,
    "request_too_large": 413,
    "payload_too_large": 413,
    "overloaded_error": 529,
    "provider_overloaded": 529,
    "server_is_overloaded": 503,
    "engine_overloaded": 503,
    "provider_unavailable": 503,
    "slow_down": 503,
    "unavailable": 503,
    "timeout_error": 504,
    "timeout": 504,
    "deadline_exceeded": 504,
    "invalid_encrypted_content": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "invalid_request": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "badrequesterror": 400,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "internal": 500,
}
"""HTTP status by code, for an error sent with a 200."""

KNOWN: frozenset[str] = frozenset(STATUS_OF_CODE).union(*(row.codes for row in CODES))
"""Every code of the tables: safe to store in state that other callers see."""

_ADDRESS = re.compile(r"https?://\S+")
_ELSEWHERE = ErrorClass(RequestError, Fault.MODEL)


def classify(status: int, report: ErrorReport, *, is_json: bool = True, has_hint: bool = False) -> ErrorClass:
    """Return the class and cause of an error by status, code and phrase.

    Phrases are matched last.

    Args:
        status: HTTP status, not a success.
        report: the parsed body.
        is_json: False for a page of a firewall or proxy, whose text is not the provider's.
        has_hint: True if the provider sent a retry hint; a limit that will be lifted is not an exhausted quota.
    """
    for row in CODES:
        if status in row.statuses and (code := next((c for c in report.codes if c in row.codes), None)):
            return _hinted(ErrorClass(row.kind, row.fault, code), status, has_hint)
    code = next((code for code in report.codes if code in KNOWN), None)
    found = _by_words(status, report) if is_json else None
    if found is None:
        found = _ELSEWHERE if status in (400, 422) and not is_json else _by_status(status)
    return _hinted(ErrorClass(found.kind, found.fault, code), status, has_hint)


def status_of(report: ErrorReport) -> int | None:
    """Return the HTTP status of an error inside a 200; None if it names none."""
    for code in report.codes:
        if code.isascii() and code.isdigit() and len(code) == 3 and 300 <= int(code) <= 599:
            return int(code)
    known = next((status for code, status in STATUS_OF_CODE.items() if code in report.codes), None)
    if known is None and any(400 in row.statuses and report.says(*row.words) for row in WORDS[:2]):
        return 400  # too long, or filtered: not to be counted against the endpoint
    return known


def _by_words(status: int, report: ErrorReport) -> ErrorClass | None:
    is_codeless = not any(code != str(status) for code in report.codes)
    for row in WORDS:
        if status not in row.statuses or (row.is_codeless and not is_codeless):
            continue
        # A limit's message may advertise the page that sells a higher one.
        said = ErrorReport(_ADDRESS.sub("", report.message), report.codes) if row.is_codeless else report
        if said.says(*row.words):
            return ErrorClass(row.kind, row.fault)
    return None


def _by_status(status: int) -> ErrorClass:
    if (found := STATUSES.get(status)) is not None:
        return found
    if 300 <= status < 400:
        return ErrorClass(RequestError, Fault.ADDRESS)
    # A status that does not blame the request permits failover; RFC 9110 would treat an unknown 4xx as a 400.
    return _ELSEWHERE if 400 <= status < 500 else ErrorClass(UnavailableError, Fault.ENDPOINT)


def _hinted(found: ErrorClass, status: int, has_hint: bool) -> ErrorClass:
    """Turn an exhausted quota with a retry hint into a rate limit."""
    if not has_hint or status not in (402, 413, 429) or not issubclass(found.kind, RateLimitError):
        return found
    is_too_large = status == 429 and found.fault is Fault.MODEL  # the reset times come with every answer
    if found.code not in _USED_UP and not is_too_large:
        return ErrorClass(RateLimitError, Fault.LIMIT, found.code)
    return found
