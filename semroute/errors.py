"""The one error tree of semroute.

Every error that semroute raises on purpose is a :class:`SemrouteError`; the command line prints its message without a
traceback and exits with :attr:`SemrouteError.exit_code`. A message says what is wrong, where, and what to do about it::

    SemrouteError
    ├── InputError            what the caller handed over cannot be used (also a ValueError)
    │   ├── QueryError        an empty query, or something that is not a query
    │   ├── DataError         a category or labelled file, with file and line
    │   └── ConfigError       semroute.yaml, with file, line and key
    ├── ArtifactError         an index artifact that is missing, damaged, foreign, or of another version
    │   └── ArtifactBusyError another process is writing it
    ├── MissingExtraError     an optional dependency; names the pip command (also an ImportError)
    ├── EncoderError          a model that is unknown, cannot be loaded, or answered nonsense
    ├── StateError            state shared through Redis that cannot be reached or read
    └── DispatchError         a call to a model did not give an answer
        ├── NoDeploymentError   nothing can be called: no deployment, no key, or the request's own limits leave none
        ├── AllClosedError      every place that could answer is closed for now; says when to come back
        ├── DeadlineError       the request's deadline passed (also a TimeoutError)
        ├── AuthenticationError 401/403
        ├── RequestError        the provider refused the request itself (400, 404, 413, 422)
        │   ├── ContextLengthError  it is longer than the model takes
        │   ├── ContentFilterError  the provider's filter stopped it
        │   └── CapabilityError     it asks for what the deployment or its wire format cannot do
        ├── RateLimitError      429, with the provider's hint
        │   └── QuotaError          a 429 that no waiting cures: an exhausted quota
        ├── UnavailableError    5xx, or no connection
        │   ├── OverloadedError     503, 529 and their like
        │   └── BrokenStreamError   a stream that ended, or reported an error, before its end
        ├── ProviderTimeoutError  no answer in time
        └── MalformedResponseError  a 200 that is not a completion
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from semroute.types import Attempt, Usage


class SemrouteError(Exception):
    """Base of all errors that semroute raises on purpose. Pickles and copies with all attributes."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message, which is not what its constructor takes.
        return _restored, (type(self), self.args, self.__dict__)


class InputError(SemrouteError, ValueError):
    """What the caller handed over cannot be used."""

    exit_code = 2


class QueryError(InputError):
    """A query that is empty, or is neither text nor chat messages."""


class DataError(InputError):
    """A category file or labelled file that cannot be used.

    Args:
        message: what is wrong, and the fix.
        path: the file.
        line: 1-based line in the file, where one is known.
    """

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        super().__init__(_located(message, self.path, line))


class ConfigError(InputError):
    """A ``semroute.yaml`` that cannot be used.

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


class ArtifactError(SemrouteError):
    """An index artifact that is missing, damaged, foreign, or of another version."""


class ArtifactBusyError(ArtifactError):
    """Another process is writing this artifact."""


class MissingExtraError(SemrouteError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: the feature that needs it.
        extra: the extra of the semroute distribution that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs the extra "{extra}": pip install "semroute[{extra}]"')


class EncoderError(SemrouteError):
    """An encoder that is unknown, cannot be loaded, or did not give usable vectors."""


class StateError(SemrouteError):
    """State shared through Redis that cannot be reached or read; never holds the password."""


class DispatchError(SemrouteError):
    """A call to a model did not give an answer.

    Args:
        message: what happened; never holds a secret.
        deployment: the name of the deployment that was called, if any was.
        status: the HTTP status that the provider answered, if it answered.
        wait_s: seconds until it is worth trying again, as the provider hints; None when it gave no hint.
        usage: tokens that the call took although it failed, where the provider counted them.
        is_charged: whether the provider may charge the call; None takes it that refused calls are not charged, and
            calls without an answer are.

    Attributes:
        attempts: every attempt that was made before this error was raised.
        is_final: whether no other model can mend it, since the request itself is at fault.
    """

    @property
    def is_final(self) -> bool:
        return False

    def __init__(
        self,
        message: str,
        *,
        deployment: str | None = None,
        status: int | None = None,
        wait_s: float | None = None,
        usage: Usage | None = None,
        is_charged: bool | None = None,
    ) -> None:
        self.deployment = deployment
        self.status = status
        self.wait_s = wait_s
        self.usage = usage
        # A refused call is not charged, nor one that was never sent; one that was sent and not answered may be.
        self.is_charged = status is None or 200 <= status < 300 if is_charged is None else is_charged
        self.attempts: tuple[Attempt, ...] = ()
        super().__init__(message)


class NoDeploymentError(DispatchError):
    """No deployment can serve any model of the decision."""


class AllClosedError(DispatchError):
    """Every place that could answer is closed for now; ``wait_s`` is when the first may open, None when none will."""


class DeadlineError(DispatchError, TimeoutError):
    """The deadline of the whole request passed."""


class AuthenticationError(DispatchError):
    """The provider refused the credential (401, 403)."""


class RequestError(DispatchError):
    """The provider refused the request itself (400, 404, 413, 422)."""

    NOT_FOUND: ClassVar[tuple[int, ...]] = (404, 405, 410)
    """Statuses of a deployment whose address or model name is wrong: no request can succeed there."""

    @property
    def is_final(self) -> bool:
        return self.status not in self.NOT_FOUND


class ContextLengthError(RequestError):
    """The request is longer than the model takes."""

    @property
    def is_final(self) -> bool:
        return False


class ContentFilterError(RequestError):
    """The provider's content filter stopped the request or its answer."""

    @property
    def is_final(self) -> bool:
        return True


class CapabilityError(RequestError):
    """The request asks for what the deployment, or its wire format, cannot do."""

    @property
    def is_final(self) -> bool:
        return False


class RateLimitError(DispatchError):
    """The provider limits our rate (429); ``wait_s`` is its hint."""


class QuotaError(RateLimitError):
    """The credential's quota is exhausted: a 429 that no waiting cures."""


class UnavailableError(DispatchError):
    """The provider failed (5xx) or could not be reached."""


class OverloadedError(UnavailableError):
    """The provider is overloaded (503, 529); ``wait_s`` is its hint."""


class BrokenStreamError(UnavailableError):
    """A stream that ended, or reported an error, before its end."""


class ProviderTimeoutError(DispatchError):
    """The provider did not answer in time.

    Attributes:
        is_cut_short: whether the time was up because the request had no more, and not by a limit of the deployment.
    """

    is_cut_short = False


class MalformedResponseError(DispatchError):
    """The provider answered 200 with something that is not a completion."""


def _restored(kind: type[SemrouteError], args: tuple[Any, ...], state: dict[str, Any]) -> SemrouteError:
    """Return an error as it was when it was pickled or copied; its own constructor is not called again."""
    error = kind.__new__(kind, *args)
    super(SemrouteError, error).__init__(*args)  # of the built-in error beside ours: ImportError keeps its message
    error.__dict__.update(state)
    return error


def _located(message: str, path: Path | None, line: int | None) -> str:
    if path is None:
        return message
    return f"{path}:{line}: {message}" if line is not None else f"{path}: {message}"
