"""Retry hints, and the errors raised for provider failures.

Sources: Retry-After, RFC 9110 section 10.2.3; ``retry-after-ms``, Azure OpenAI; ``x-ratelimit-*``,
https://platform.openai.com/docs/guides/rate-limits, https://console.groq.com/docs/rate-limits and, as a moment in
milliseconds, https://openrouter.ai/docs/api/reference/limits; ``RateLimit-Reset``,
https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers; ``anthropic-ratelimit-*``,
https://docs.anthropic.com/en/api/rate-limits; ``RetryInfo``, https://cloud.google.com/apis/design/errors.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    Fault,
    MalformedResponseError,
    QuotaError,
    UnavailableError,
)
from semroute.providers.error_codes import ErrorClass, classify, details, metadata_headers, quote_reply, read, status_of
from semroute.providers.target import CallTarget

MAX_WAIT_S = 86_400.0
"""Longest accepted wait, seconds: a day, the longest period of providers' limits."""

MAX_WORDED_S = 600.0
"""Longest accepted wait from a message's text, seconds: a message may quote its caller."""

MAX_READ = 2_000
"""Most characters of a message searched for a wait."""

_LIMIT = re.compile(r"(?:x-)?ratelimit-(reset|remaining)(?:-([a-z-]+))?")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-([a-z-]+)-(reset|remaining)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*", re.ASCII | re.IGNORECASE)
# "Please try again in 6m0s", OpenAI and Groq; "Please retry after 8 seconds", Azure; "Please retry in 34.07s", Gemini.
_ASKED = re.compile(r"\b(?:try(?:ing)? again|retry(?:ing)?|wait)(?: (?:in|after|for|at least|about))* (?=\d)", re.ASCII)
_WORDED_PART = re.compile(
    r"[ ,]{0,2}(?:and )?(\d{1,9}(?:\.\d{1,9})?) ?"
    r"(milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])",
    re.ASCII,
)

_EPOCH_S = 1e9
"""Threshold above which a reset time is a time stamp in seconds since 1970 instead of a duration."""
_EPOCH_MS = 1e11
"""Threshold above which it is a time stamp in milliseconds."""


def wait_s(headers: Mapping[str, str], body: object, now: float) -> float | None:
    """Return the wait after a rate limit (429), seconds; None without a hint.

    The wait is from 0 to :data:`MAX_WAIT_S`. Explicit hints take precedence, then the reset times of exhausted limits,
    then the text of the message, and last, if it is unknown which limits are exhausted, the latest of their reset
    times.

    Args:
        headers: headers of the response; repeated ones are joined by commas, and the longest wait counts.
        body: the response's JSON.
        now: wall clock, seconds since 1970; dates are relative to the server's clock, if it is sent.
    """
    asked = retry_after(headers, body, now)
    if asked is not None:
        return asked
    resets, used_up = _limits({**metadata_headers(body), **headers}, now)
    if counting := resets.keys() & used_up:
        return max(resets[limit] for limit in counting)
    worded = _worded(read(body).message)
    return worded if worded is not None else max(resets.values(), default=None)


def retry_after(headers: Mapping[str, str], body: object, now: float) -> float | None:
    """Return the explicit retry hint, seconds; None without one.

    On a failure other than a rate limit only this hint counts, not :func:`wait_s`: the reset times of the limits are no
    evidence of when the failure will end.
    """
    lower = {**_lower(metadata_headers(body)), **_lower(headers)}
    clock = _server_clock(lower, now)
    readings: tuple[tuple[str | None, Callable[[str], float | None]], ...] = (
        (lower.get("retry-after-ms"), lambda text: _scaled(_number(text), 1e-3)),
        (lower.get("x-ms-retry-after-ms"), lambda text: _scaled(_number(text), 1e-3)),
        (lower.get("retry-after"), lambda text: _seconds_or_date(text, clock)),
        (_retry_delay(body), _duration),
    )
    for text, read_one in readings:
        found = [] if text is None else [read_one(item) for item in _items(text)]
        if given := [seconds for seconds in found if seconds is not None]:
            return _bounded(max(given))
    return None


def _limits(headers: Mapping[str, str], now: float) -> tuple[dict[str, float], set[str]]:
    """Return limits with their reset times, and the exhausted ones.

    Times are seconds from now.
    """
    lower = _lower(headers)
    clock = _server_clock(lower, now)
    resets: dict[str, float] = {}
    used_up: set[str] = set()
    for name, text in lower.items():
        if found := _LIMIT.fullmatch(name):
            what, limit = found[1], found[2] or ""
        elif found := _ANTHROPIC.fullmatch(name):
            what, limit = found[2], found[1]
        else:
            continue
        if what == "remaining" and any(_number(item) == 0 for item in _items(text)):
            used_up.add(limit)
        elif what == "reset":
            read_all = [_reset_s(item, clock) for item in _items(text)]
            if given := [seconds for seconds in read_all if seconds is not None]:
                resets[limit] = _bounded(max(given))
    return resets, used_up


def _reset_s(text: str, now: float) -> float | None:
    number = _number(text)
    if number is None:
        seconds = _duration(text)
        return seconds if seconds is not None else _until(_rfc3339(text), now)
    if number >= _EPOCH_MS:
        return number / 1000 - now
    return number - now if number >= _EPOCH_S else number


def _worded(message: str) -> float | None:
    """Return the wait in a message's text, up to :data:`MAX_WORDED_S`."""
    text = message[:MAX_READ].lower()
    if (asked := _ASKED.search(text)) is None:
        return None
    seconds, position = None, asked.end()
    while part := _WORDED_PART.match(text, position):
        unit = "ms" if part[2].startswith(("ms", "milli")) else part[2][0]
        seconds = (seconds or 0.0) + float(part[1]) * _SECONDS[unit]
        position = part.end()
    return None if seconds is None else min(seconds, MAX_WORDED_S)


def _server_clock(lower: Mapping[str, str], now: float) -> float:
    """Return the server's clock, or ours if it is off by more than any wait.

    The server's dates refer to its own clock.
    """
    date = _http_date(lower["date"]) if "date" in lower else None
    ahead = _until(date, now)
    return now if ahead is None or abs(ahead) > MAX_WAIT_S else now + ahead


def _items(text: str) -> Iterator[str]:
    """Split the values of a repeated header, but not within a date."""
    weekday = ""
    for part in text.split(","):
        item = part.strip()
        if _WEEKDAY.fullmatch(item):
            weekday = f"{item}, "
            continue
        yield weekday + item
        weekday = ""


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _retry_delay(body: object) -> str | None:
    for detail in details(body):
        delay = detail.get("retryDelay", detail.get("retry_delay"))
        if isinstance(delay, Mapping):  # the message itself, as some clients and proxies write it
            seconds = delay.get("seconds")
            delay = f"{seconds}s" if isinstance(seconds, str | int) else None
        if isinstance(delay, str):
            return delay
    return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _scaled(number: float | None, factor: float) -> float | None:
    return None if number is None else number * factor


def _duration(text: str) -> float | None:
    """Parse a duration in Go's notation ("6m0s", "1.5s", "20ms") to seconds."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def _seconds_or_date(text: str, now: float) -> float | None:
    number = _number(text)
    if number is not None:
        # Some gateways send a time stamp instead of a number of seconds.
        return number - now if 0 <= number - now <= MAX_WAIT_S and number >= _EPOCH_S else number
    seconds = _duration(text)
    return seconds if seconds is not None else _until(_http_date(text), now)


def _until(moment: datetime | None, now: float) -> float | None:
    if moment is None:
        return None
    try:
        return moment.timestamp() - now
    except (OverflowError, ValueError):  # a year out of range
        return None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _rfc3339(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


# Conversion of a provider's failure to our exception, with a readable message.
#
# The table of statuses and codes is in :mod:`~semroute.providers.error_codes`.

_LIMITS = frozenset({420, 429, 498})
"""Statuses of a rate limit, whose end the reset times give."""

_FAULTS_THAT_PASS = frozenset({Fault.LIMIT, Fault.ENDPOINT, Fault.TRANSIENT})
"""Causes that waiting may resolve, so that the provider's retry hint applies."""


def failure(
    status: int, answer: object, headers: Mapping[str, str], target: CallTarget, *, url: str | None = None
) -> DispatchError:
    """Return the error for a failed HTTP status, with the retry hint.

    Args:
        status: HTTP status.
        answer: the body: parsed JSON, or its text if it was not JSON.
        headers: headers of the response.
        target: call target; its key is never in a message.
        url: URL of the call, for the message of a 404.
    """
    report = read(answer)
    now = time.time()
    asked = (wait_s if status in _LIMITS else retry_after)(headers, answer, now)
    found = classify(status, report, is_json=not isinstance(answer, str), has_hint=asked is not None)
    wait = asked if found.fault in _FAULTS_THAT_PASS else None
    name, key = target.deployment.name, target.key
    message = f"{name} answered {status}: {quote_reply(report.message, key) or '(no message)'}"
    message += _advice(found, status, headers, target, url)
    if wait is not None:
        message += f"; it asks to wait {wait:g} s"
    return found.kind(message, deployment=name, status=status, wait_s=wait, fault=found.fault, code=found.code)


def failure_in_200(
    answer: object, headers: Mapping[str, str], target: CallTarget, *, streamed: bool = False
) -> DispatchError:
    """Return the error for an error object in a 200 response or stream.

    Without a known status it is a :class:`MalformedResponseError`, in a stream a :class:`BrokenStreamError`; in a
    stream the latter also replaces a plain :class:`UnavailableError`.
    """
    report = read(answer)
    status = status_of(report)
    if status is not None:
        error = failure(status, answer, headers, target)
        error.is_charged = True  # the call was accepted, however it ended
        if not (streamed and type(error) is UnavailableError):
            return error
    kind = BrokenStreamError if streamed else MalformedResponseError
    where = "broke its stream off" if streamed else "answered 200"
    message = (
        f"{target.deployment.name} {where} with an error: {quote_reply(report.message, target.key) or '(no message)'}"
    )
    return kind(message, deployment=target.deployment.name, status=status or 200, is_charged=True)


def _advice(found: ErrorClass, status: int, headers: Mapping[str, str], target: CallTarget, url: str | None) -> str:
    if issubclass(found.kind, AuthenticationError | QuotaError):
        if target.credential:
            return f" (key: {target.credential})"
        return " (no key was sent: name its variable in api_key_env)" if status in (401, 403) else ""
    if 300 <= status < 400 and "location" in headers:
        return f"; it moved to {quote_reply(headers['location'], target.key)}: correct base_url"
    if status == 404:
        return f"; check base_url ({url or target.deployment.base_url}) and upstream_model"
    if status == 407:
        return "; a proxy on the way asks for a password: correct HTTPS_PROXY or NO_PROXY"
    return ""
