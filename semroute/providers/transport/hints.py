"""How long a provider asks to be left alone.

Sources: Retry-After, RFC 9110 section 10.2.3; ``retry-after-ms``, Azure OpenAI; ``x-ratelimit-*``,
https://platform.openai.com/docs/guides/rate-limits and https://console.groq.com/docs/rate-limits;
``anthropic-ratelimit-*``, https://docs.anthropic.com/en/api/rate-limits; ``RetryInfo``,
https://cloud.google.com/apis/design/errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from semroute.providers.transport.reports import details

MAX_WAIT_S = 86_400.0
"""The longest wait that is believed: a day, which is the longest period that providers count by."""

_OPENAI = re.compile(r"x-ratelimit-(reset|remaining)-([a-z-]+)")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-([a-z-]+)-(reset|remaining)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def wait_s(headers: Mapping[str, str], body: object, now: float) -> float | None:
    """Seconds until a rate limit (429) lets calls through again, from 0 to :data:`MAX_WAIT_S`; None without a hint.

    What the provider asks for outright goes first; then the reset times of its limits: of those that are used up, or
    of all where it does not say which are, the latest.

    Args:
        headers: of the answer.
        body: the answer's JSON.
        now: wall clock, seconds since 1970; hints that are dates count from it.
    """
    asked = retry_after(headers, body, now)
    return asked if asked is not None else _reset(headers, now)


def retry_after(headers: Mapping[str, str], body: object, now: float) -> float | None:
    """As :func:`wait_s`, but only what the provider asks for outright: on any other failure than a rate limit, the
    reset times of the limits say nothing of when it will be over."""
    lower = _lower(headers)
    readings: tuple[tuple[str | None, Callable[[str], float | None]], ...] = (
        (lower.get("retry-after-ms"), lambda text: _scaled(_number(text), 1e-3)),
        (lower.get("retry-after"), lambda text: _seconds_or_date(text, now)),
        (_retry_delay(body), _duration),
    )
    for text, read in readings:
        seconds = None if text is None else read(text.strip())
        if seconds is not None:
            return _bounded(seconds)
    return None


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    resets: dict[str, float] = {}
    used_up: set[str] = set()
    for name, text in _lower(headers).items():
        if found := _OPENAI.fullmatch(name):
            what, limit, seconds = found[1], found[2], _seconds_or_duration(text.strip())
        elif found := _ANTHROPIC.fullmatch(name):
            what, limit, seconds = found[2], found[1], _until(_rfc3339(text.strip()), now)
        else:
            continue
        if what == "remaining" and _number(text.strip()) == 0:
            used_up.add(limit)
        elif what == "reset" and seconds is not None:
            resets[limit] = _bounded(seconds)
    counting = resets.keys() & used_up or resets.keys()
    return max((resets[limit] for limit in counting), default=None)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _retry_delay(body: object) -> str | None:
    for detail in details(body):
        delay = detail.get("retryDelay")
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
    """Seconds of Go's notation: "6m0s", "1.5s", "20ms"."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def _seconds_or_duration(text: str) -> float | None:
    number = _number(text)
    return number if number is not None else _duration(text)


def _seconds_or_date(text: str, now: float) -> float | None:
    seconds = _seconds_or_duration(text)
    return seconds if seconds is not None else _until(_http_date(text), now)


def _until(moment: datetime | None, now: float) -> float | None:
    if moment is None:
        return None
    try:
        return moment.timestamp() - now
    except (OverflowError, ValueError):  # a year that no clock shows
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
