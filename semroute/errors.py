"""Error tree of semroute.

Every error that semroute raises on purpose is a :class:`SemrouteError`; the command line prints its message without a
traceback and exits with :attr:`SemrouteError.exit_code`. A message has the problem, its location and the remedy::

    SemrouteError
    ├── InputError            what the caller handed over cannot be used (also a ValueError)
    │   ├── QueryError        an empty query, or something that is not a query
    │   ├── DataError         a category or labelled file, with file and line
    │   └── ConfigError       semroute.yaml, with file, line and key
    ├── ArtifactError         an index artifact that is missing, damaged, foreign, or of another version
    │   └── ArtifactBusyError another process is writing it
    ├── MissingExtraError     an optional dependency; names the pip command (also an ImportError)
    ├── PluginError           a plugin of another package that cannot be imported, or is none
    ├── EncoderError          a model that is unknown, cannot be loaded, or answered nonsense
    ├── StateError            state shared through Redis that cannot be reached or read
    └── DispatchError         a call to a model did not give an answer
        ├── NoDeploymentError   nothing can be called: no deployment, no key, or the request's own limits leave none
        ├── AllClosedError      every endpoint that could answer is closed for now; ``wait_s`` hints when to retry
        ├── DeadlineError       the request's deadline passed (also a TimeoutError)
        ├── AuthenticationError the provider refused the credential (401, 403)
        ├── RequestError        the provider refused the request itself (400, 404, 413, 422)
        │   ├── ContextLengthError  it is longer than the model takes
        │   ├── ContentFilterError  the provider's filter stopped it
        │   └── CapabilityError     it asks for what the deployment or its wire format cannot do
        ├── RateLimitError      429, with the provider's hint
        │   └── QuotaError          an exhausted quota or credit, which waiting alone does not refill
        ├── UnavailableError    5xx, or no connection
        │   ├── OverloadedError     503, 529 and their like
        │   └── BrokenStreamError   a stream that ended, or reported an error, before its end
        ├── ProviderTimeoutError  no answer in time
        └── MalformedResponseError  a 200 that is not a completion
            └── EmptyAnswerError    a completion without text, tool call or refusal
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from semroute.types import Attempt, Usage


class SemrouteError(Exception):
    """Base of all errors raised on purpose; pickles and copies whole."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message, which is not what its constructor takes.
        return _restored, (type(self), self.args, self.__dict__)

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready values.

        ``error`` is the name of its class, ``message`` its text.
        """
        return {"error": type(self).__name__, "message": str(self)}


class InputError(SemrouteError, ValueError):
    """Unusable input from the caller."""

    exit_code = 2


class QueryError(InputError):
    """Empty query, or one that is neither text nor chat messages."""


class DataError(InputError):
    """Unusable category file or labelled file.

    Args:
        message: what is wrong, and the fix.
        path: the file.
        line: 1-based line in the file, where one is known.
    """

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        super().__init__(_located(message, self.path, line))

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready values, with path and line."""
        return {**super().to_dict(), "path": None if self.path is None else str(self.path), "line": self.line}


class ConfigError(InputError):
    """Unusable ``semroute.yaml``.

    Args:
        message: what is wrong, and the fix.
        path: the file.
        line: 1-based line in the file, where one is known.
        key: dotted path of the key, such as ``deployments.0.base_url``.
    """

    def __init__(
        self, message: str, *, path: Path | str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        self.key = key
        super().__init__(_located(f"{key}: {message}" if key else message, self.path, line))

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready values, with path, line and key."""
        path = None if self.path is None else str(self.path)
        return {**super().to_dict(), "path": path, "line": self.line, "key": self.key}


class ArtifactError(SemrouteError):
    """Missing, damaged or foreign index artifact, or one of another version."""


class ArtifactBusyError(ArtifactError):
    """Artifact that another process is writing."""


class MissingExtraError(SemrouteError, ImportError):
    """Optional dependency that is not installed.

    Args:
        what: the feature that needs it.
        extra: the extra of the semroute distribution that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs the extra "{extra}": pip install "semroute-router[{extra}]"')


class PluginError(SemrouteError):
    """Plugin that fails to import, is of a wrong kind, or has a taken name.

    Args:
        message: what is wrong, with distribution and entry point, and the fix.
        kind: kind of the plugin, such as ``strategies``.
        name: name of the plugin.
        package: distribution that offers it; None where it was handed in by argument.
    """

    def __init__(self, message: str, *, kind: str, name: str, package: str | None = None) -> None:
        self.kind = kind
        self.name = name
        self.package = package
        super().__init__(message)


class EncoderError(SemrouteError):
    """Encoder that is unknown, cannot be loaded, or gave unusable vectors."""


class StateError(SemrouteError):
    """State shared through Redis that cannot be reached or read.

    The message never holds the password.
    """


class Fault(StrEnum):
    """Cause of a failed call.

    It decides what the failure counts against, and whether another endpoint may do better. An endpoint is a deployment
    with one of its credentials. Status and code are mapped to a cause by the table in
    :mod:`semroute.providers.error_codes`.
    """

    ENDPOINT = "endpoint"
    """The endpoint failed: its breaker counts it, and the same endpoint may do better a moment later."""
    ADDRESS = "address"
    """The endpoint's address or model name is wrong: its breaker counts it, and no repetition helps there."""
    LIMIT = "limit"
    """A rate limit of the endpoint: its throttle waits."""
    ACCESS = "access"
    """The credential may not use this endpoint, or not now: the endpoint is closed for minutes."""
    DOUBT = "doubt"
    """A refusal that may be the credential's or this one request's: as ``ACCESS``, unless others are answered there."""
    KEY = "key"
    """The key itself is invalid by the provider's code: every endpoint of the account is closed."""
    MODEL = "model"
    """This endpoint cannot take this request, another may: counts against nobody."""
    TRANSIENT = "transient"
    """A conflict of the moment: counts against nobody, and the same endpoint may do better a moment later."""
    REQUEST = "request"
    """The request is wrong wherever it goes: counts against nobody, and no other endpoint is tried."""


class DispatchError(SemrouteError):
    """Call to a model that did not give an answer.

    Args:
        message: what happened; never holds a secret.
        deployment: the name of the deployment that was called, if any was.
        status: the HTTP status that the provider answered, if it answered.
        wait_s: seconds until it is worth trying again, as the provider hints; None when it gave no hint.
        usage: tokens that the call took although it failed, where the provider counted them.
        is_charged: whether the provider may charge the call; None takes it that refused calls are not charged, and
            calls without an answer are.
        fault: cause of the failure; None takes the usual one of the class.
        code: the provider's structured code, where it is one that semroute knows; never free text.

    Attributes:
        attempts: every attempt that was made before this error was raised.
        is_final: whether no other model can mend it, since the request itself is at fault.
    """

    usual_fault: ClassVar[Fault] = Fault.ENDPOINT

    @property
    def is_final(self) -> bool:
        return self.fault is Fault.REQUEST

    def __init__(
        self,
        message: str,
        *,
        deployment: str | None = None,
        status: int | None = None,
        wait_s: float | None = None,
        usage: Usage | None = None,
        is_charged: bool | None = None,
        fault: Fault | None = None,
        code: str | None = None,
    ) -> None:
        self.deployment = deployment
        self.status = status
        self.wait_s = wait_s
        self.usage = usage
        # A refused call is not charged, nor one that was never sent; one that was sent and not answered may be.
        self.is_charged = status is None or 200 <= status < 300 if is_charged is None else is_charged
        self.fault = self.usual_fault if fault is None else fault
        self.code = code
        self.attempts: tuple[Attempt, ...] = ()
        super().__init__(message)

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready values, with every attempt.

        A key is never among them, only its variable's name.
        """
        return {
            **super().to_dict(),
            "deployment": self.deployment,
            "status": self.status,
            "code": self.code,
            "fault": self.fault.value,
            "is_final": self.is_final,
            "is_charged": self.is_charged,
            "wait_s": self.wait_s if self.wait_s is not None and isfinite(self.wait_s) else None,
            "usage": None if self.usage is None else self.usage.to_dict(),
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }


class NoDeploymentError(DispatchError):
    """No deployment serves any model of the decision."""


class AllClosedError(DispatchError):
    """Every endpoint that could answer is closed for now.

    ``wait_s`` is the time until the first may open, None when none will.
    """


class DeadlineError(DispatchError, TimeoutError):
    """Deadline of the whole request exceeded."""


class AuthenticationError(DispatchError):
    """Credential refused by the provider (401, 403).

    ``fault`` distinguishes an invalid key from one that is only closed here.
    """

    usual_fault = Fault.ACCESS


class RequestError(DispatchError):
    """Request refused by the provider (400, 404, 413, 422)."""

    usual_fault = Fault.REQUEST


class ContextLengthError(RequestError):
    """Request longer than the model's context window."""

    usual_fault = Fault.MODEL


class ContentFilterError(RequestError):
    """Request or answer stopped by the provider's content filter."""


class CapabilityError(RequestError):
    """Request for what the deployment, or its wire format, cannot do."""

    usual_fault = Fault.MODEL


class RateLimitError(DispatchError):
    """Rate limit of the provider (429); ``wait_s`` is its hint."""

    usual_fault = Fault.LIMIT


class QuotaError(RateLimitError):
    """Exhausted quota or credit: waiting alone does not refill it."""

    usual_fault = Fault.ACCESS


class UnavailableError(DispatchError):
    """Failure of the provider (5xx), or no connection."""


class OverloadedError(UnavailableError):
    """Overload of the provider (503, 529); ``wait_s`` is its hint."""


class BrokenStreamError(UnavailableError):
    """Stream that ended, or reported an error, before its end."""


class ProviderTimeoutError(DispatchError):
    """No answer from the provider in time.

    Attributes:
        is_cut_short: whether the request's deadline cut the call short, and not a limit of the deployment.
    """

    is_cut_short = False


class MalformedResponseError(DispatchError):
    """Response with status 200 that is not a completion."""


class EmptyAnswerError(MalformedResponseError):
    """Completion without text, tool call or refusal; white space is no text.

    Attributes:
        finish_reason: why the model stopped, in semroute's vocabulary; ``length`` where reasoning used up
            ``max_tokens``.
        is_the_requests: whether the request itself may have made the model say nothing: it set ``max_tokens`` or a stop
            text, or the model did write tokens, none of them visible. Then the endpoint is not at fault.
    """

    finish_reason: str | None = None
    is_the_requests: bool = False


def unquoted(error: SemrouteError) -> str:
    """Return an error's text, or its kind alone if it may quote a provider.

    A provider's words may repeat the query: they are for the caller whose call it was, and not for a log of all.
    """
    if not isinstance(error, DispatchError) or (error.deployment is None and error.status is None):
        return str(error)
    status = "" if error.status is None else f", status {error.status}"
    return f"{type(error).__name__} at {error.deployment or 'a provider'}{status}"


def _restored(kind: type[SemrouteError], args: tuple[Any, ...], state: dict[str, Any]) -> SemrouteError:
    """Return an error as it was pickled or copied.

    Its constructor is not called again.
    """
    error = kind.__new__(kind, *args)
    super(SemrouteError, error).__init__(*args)  # of the built-in error beside ours: ImportError keeps its message
    error.__dict__.update(state)
    return error


def _located(message: str, path: Path | None, line: int | None) -> str:
    if path is None:
        return message
    return f"{path}:{line}: {message}" if line is not None else f"{path}: {message}"
