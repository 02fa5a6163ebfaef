"""The error of our tree that a provider's error becomes, with its message for a person.

Which status and code is which error is the table in :mod:`~semroute.providers.transport.error_codes`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    Fault,
    MalformedResponseError,
    QuotaError,
    UnavailableError,
)
from semroute.providers.target import CallTarget
from semroute.providers.transport import hints
from semroute.providers.transport.error_codes import ErrorClass, classify, status_of
from semroute.providers.transport.reports import quote, read

_LIMITS = frozenset({420, 429, 498})
"""Statuses that speak of a rate, for which the reset times of the limits say when it is over."""

_FAULTS_THAT_PASS = frozenset({Fault.LIMIT, Fault.ENDPOINT, Fault.TRANSIENT})
"""Causes that waiting may cure, so that the provider's hint counts."""


def failure(
    status: int, answer: object, headers: Mapping[str, str], target: CallTarget, *, url: str | None = None
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
    asked = (hints.wait_s if status in _LIMITS else hints.retry_after)(headers, answer, now)
    found = classify(status, report, is_json=not isinstance(answer, str), has_hint=asked is not None)
    wait = asked if found.fault in _FAULTS_THAT_PASS else None
    name, key = target.deployment.name, target.key
    message = f"{name} answered {status}: {quote(report.message, key) or '(no message)'}"
    message += _advice(found, status, headers, target, url)
    if wait is not None:
        message += f"; it asks to wait {wait:g} s"
    return found.kind(message, deployment=name, status=status, wait_s=wait, fault=found.fault, code=found.code)


def failure_in_200(
    answer: object, headers: Mapping[str, str], target: CallTarget, *, streamed: bool = False
) -> DispatchError:
    """The error for an error object that came with a 200, as a whole answer or as an event of a stream.

    One that names no status we know is a :class:`MalformedResponseError`, in a stream a :class:`BrokenStreamError`; so
    is what would be a plain :class:`UnavailableError` there.
    """
    report = read(answer)
    status = status_of(report)
    if status is not None:
        error = failure(status, answer, headers, target)
        error.is_charged = True  # the call was accepted, whatever became of it
        if not (streamed and type(error) is UnavailableError):
            return error
    kind = BrokenStreamError if streamed else MalformedResponseError
    where = "broke its stream off" if streamed else "answered 200"
    message = f"{target.deployment.name} {where} with an error: {quote(report.message, target.key) or '(no message)'}"
    return kind(message, deployment=target.deployment.name, status=status or 200, is_charged=True)


def _advice(found: ErrorClass, status: int, headers: Mapping[str, str], target: CallTarget, url: str | None) -> str:
    if issubclass(found.kind, AuthenticationError | QuotaError):
        if target.credential:
            return f" (key: {target.credential})"
        return " (no key was sent: name its variable in api_key_env)" if status in (401, 403) else ""
    if 300 <= status < 400 and "location" in headers:
        return f"; it moved to {quote(headers['location'], target.key)}: correct base_url"
    if status == 404:
        return f"; check base_url ({url or target.deployment.base_url}) and upstream_model"
    if status == 407:
        return "; a proxy on the way asks for a password: correct HTTPS_PROXY or NO_PROXY"
    return ""
