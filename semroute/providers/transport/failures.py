"""What a provider's error is called in our tree.

Providers agree on HTTP statuses only roughly, so the codes and words of the body count too; sources of the codes are in
:mod:`~semroute.providers.transport.reports`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
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
from semroute.providers.target import Target
from semroute.providers.transport import hints
from semroute.providers.transport.reports import Report, details, quote, read

_BAD_KEY_CODES = frozenset({"api_key_invalid"})
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_TOO_LONG_WORDS = (
    "maximum context length",  # OpenAI, vLLM, OpenRouter, Mistral
    "prompt is too long",  # Anthropic, Fireworks
    "exceed context limit",  # Anthropic, counting max_tokens
    "exceeds the maximum number of tokens",  # Gemini
    "longer than the maximum model length",  # vLLM
    "exceeds the available context size",  # llama.cpp
    "maximum prompt length",  # xAI
)
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed"}
)
_FILTER_WORDS = (
    "content filtering policy",  # Anthropic
    "content management policy",  # Azure
    "was flagged",  # OpenAI, OpenRouter
    "violates usage guidelines",  # xAI
)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"})
_QUOTA_WORDS = ("billing", "credit", "exceeded your current quota", "insufficient balance", "spending limit")
# Anthropic says so with a 400 (https://docs.anthropic.com/en/api/errors).
_QUOTA_WORDS_OF_A_400 = ("credit balance is too low", "specified api usage limits")
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "resource_exhausted"})
_OVERLOADED_CODES = frozenset({"overloaded_error", "unavailable"})
_ADDRESS = re.compile(r"https?://\S+")

_STATUS_OF_CODE: Mapping[str, int] = {
    # The particular before the general: an error may have a code of each kind.
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "billing_error": 402,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
    "overloaded_error": 529,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "badrequesterror": 400,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "internal": 500,
}


def failure(
    status: int, answer: object, headers: Mapping[str, str], target: Target, *, url: str | None = None
) -> DispatchError:
    """The error for an HTTP status that is not a success; ``wait_s`` is the provider's hint.

    Args:
        status: HTTP status.
        answer: the body: parsed JSON, or its text where it was not JSON.
        headers: of the answer.
        target: what was called; its key is in no message.
        url: what was asked, for the message of a 404.
    """
    report = read(answer)
    now = time.time()
    asked = hints.wait_s(headers, answer, now) if status == 429 else hints.retry_after(headers, answer, now)
    kind = _kind(status, report, answer, asked)
    wait = asked if kind in _KINDS_THAT_WAIT else None
    name, key = target.deployment.name, target.key
    message = f"{name} answered {status}: {quote(report.message, key) or '(no message)'}"
    message += _advice(kind, status, headers, target, url)
    if wait is not None:
        message += f"; it asks to wait {wait:g} s"
    return kind(message, deployment=name, status=status, wait_s=wait)


def failure_in_200(
    answer: object, headers: Mapping[str, str], target: Target, *, streamed: bool = False
) -> DispatchError:
    """The error for an error object that came with a 200, as a whole answer or as an event of a stream.

    One that names no status we know is a :class:`MalformedResponseError`, in a stream a :class:`BrokenStreamError`; so
    is what would be a plain :class:`UnavailableError` there.
    """
    report = read(answer)
    status = _status(report)
    if status is not None:
        error = failure(status, answer, headers, target)
        error.is_charged = True  # the call was accepted, whatever became of it
        if not (streamed and type(error) is UnavailableError):
            return error
    kind = BrokenStreamError if streamed else MalformedResponseError
    where = "broke its stream off" if streamed else "answered 200"
    message = f"{target.deployment.name} {where} with an error: {quote(report.message, target.key) or '(no message)'}"
    return kind(message, deployment=target.deployment.name, status=status or 200, is_charged=True)


_KINDS_THAT_WAIT = frozenset({RateLimitError, UnavailableError, OverloadedError, ProviderTimeoutError})


def _kind(status: int, report: Report, answer: object, asked: float | None) -> type[DispatchError]:
    if status in (400, 403, 422) and (report.codes & _FILTER_CODES or report.says(*_FILTER_WORDS)):
        return ContentFilterError
    if _is_quota(status, report, answer, asked):
        return QuotaError
    if status in (401, 403) or (status == 400 and _is_bad_key(report)):
        return AuthenticationError
    if status == 429:
        return RateLimitError
    if status in (408, 504):
        return ProviderTimeoutError
    if status >= 500:
        is_overloaded = status in (503, 529) or report.codes & _OVERLOADED_CODES
        return OverloadedError if is_overloaded else UnavailableError
    if status >= 400 and (report.codes & _TOO_LONG_CODES or report.says(*_TOO_LONG_WORDS)):
        return ContextLengthError
    return RequestError


def _is_bad_key(report: Report) -> bool:
    """Gemini's answer to a wrong key is a 400."""
    return bool(report.codes & _BAD_KEY_CODES) or report.says("api key not valid", "api key expired")


def _is_quota(status: int, report: Report, answer: object, asked: float | None) -> bool:
    if status == 402:
        return True
    if status == 400:
        return report.says(*_QUOTA_WORDS_OF_A_400)
    if status != 429:
        return False
    if report.codes & _QUOTA_CODES:
        return True
    if "resource_exhausted" in report.codes:
        # Gemini's words are the same for every limit; a used up day is told by the quota's name. Where it gives a
        # delay all the same, that is taken at its word.
        return asked is None and _is_daily(answer)
    # A plain rate limit may advertise the billing page, or credits that would raise it.
    if report.codes & _RATE_CODES or asked is not None:
        return False
    return Report(_ADDRESS.sub("", report.message), report.codes).says(*_QUOTA_WORDS)


def _is_daily(answer: object) -> bool:
    for detail in details(answer):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, Mapping):
                name = f"{violation.get('quotaId')} {violation.get('quotaMetric')}".lower()
                if "perday" in name or "per_day" in name:
                    return True
    return False


def _status(report: Report) -> int | None:
    """The HTTP status that an error inside a 200 stands for."""
    for code in report.codes:
        if code.isascii() and code.isdigit() and len(code) == 3 and 400 <= int(code) <= 599:
            return int(code)
    return next((status for code, status in _STATUS_OF_CODE.items() if code in report.codes), None)


def _advice(kind: type[DispatchError], status: int, headers: Mapping[str, str], target: Target, url: str | None) -> str:
    if issubclass(kind, AuthenticationError | QuotaError):
        if target.credential:
            return f" (key: {target.credential})"
        return " (no key was sent: name its variable in api_key_env)" if status in (401, 403) else ""
    if 300 <= status < 400 and "location" in headers:
        return f"; it moved to {quote(headers['location'], target.key)}: correct base_url"
    if status == 404:
        return f"; check base_url ({url or target.deployment.base_url}) and upstream_model"
    return ""
