"""What stands between a choice and a call: breaker, throttle and budget, as one gate with one state behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class BreakerState(StrEnum):
    """Whether a place may be called, as far as its failures go.

    ``SUSPENDED`` is for an endpoint that refused its credential for a reason that may pass, until a probe succeeds;
    ``DISABLED`` is for a credential that cannot work.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    SUSPENDED = "suspended"
    DISABLED = "disabled"


class CallResult(StrEnum):
    """How a call ended, as the breaker sees it.

    ``NEUTRAL`` says nothing of the place (a bad request, a content filter, a client that leaves before it answers; one
    that leaves while it does is a ``SUCCESS``). ``SUSPEND`` closes the endpoint, this deployment with this credential,
    for minutes (a 403, an exhausted quota, a doubtful 401); ``DISABLE`` closes every endpoint of the credential at this
    host, which is for a key that is clearly invalid.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    SUSPEND = "suspend"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One deployment with one credential: what the gates count by.

    Attributes:
        deployment: name of the deployment.
        credential: environment variable of the key; None where none is needed.
        rpm: requests a minute; None is no limit.
        tpm: tokens a minute, input and output together.
        parallel: calls at the same time.
        budget_usd: what the credential may spend in a calendar month (UTC), all its deployments together.
        origin: scheme, host and port at which the credential is used: one variable may hold a key that is right at one
            host and refused at another. Part of what is disabled, not of what is counted.
    """

    deployment: str
    credential: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_usd: float | None = None
    origin: str | None = None

    @property
    def key(self) -> str:
        """What identifies it in shared state."""
        return f"{self.deployment}|{self.credential or ''}"


class EndpointStatus(NamedTuple):
    """A place as the gates see it now; a tuple, because one is made for each place and call.

    Attributes:
        breaker: state of the breaker.
        failure_share: share of failures in the breaker's window, 0 to 1.
        calls: calls in the breaker's window that count.
        ramp: share of its usual traffic that it should get, 0 to 1; below 1 after it was closed again.
        headroom: room left under the tightest of its limits, 0 to 1.
        in_flight: calls that are running.
        spent_usd: what the credential has spent or reserved this month.
        wait_s: seconds until a call may be let through; 0 now, None when no waiting helps.
        reason: why it waits, for a person; None when it does not.
        refused: salted digest of the key for which it is suspended or disabled; None where that is not known, see
            :func:`semroute.resilience.suspension.is_same_key`.
    """

    breaker: BreakerState = BreakerState.CLOSED
    failure_share: float = 0.0
    calls: int = 0
    ramp: float = 1.0
    headroom: float = 1.0
    in_flight: int = 0
    spent_usd: float = 0.0
    wait_s: float | None = 0.0
    reason: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call: a reservation of tokens and money, and a lease where the call is a probe.

    ``is_panic``: it was let through an open breaker, because nothing else could be called.
    """

    place: Endpoint
    id: str
    tokens: int
    usd: float = 0.0
    is_probe: bool = False
    is_panic: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """No leave. ``wait_s``: seconds until it is worth asking again; None when no waiting helps."""

    place: Endpoint
    reason: str
    wait_s: float | None


class AdmissionControl(Protocol):
    """Breaker, throttle and budget of every place. Every method is atomic; none raises for a place it does not know."""

    async def standings(
        self, places: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """How each place stands for a call of ``tokens`` tokens (input and most output).

        ``usd`` is the expected cost: one for all places, or one for each.
        """
        ...

    async def acquire(
        self, place: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Ask for leave and reserve in one step. Each pass must come back through :meth:`leave`.

        Args:
            place: where.
            tokens: input and most output; negative counts as 0.
            usd: expected cost.
            panic: a random number from 0 to 1, where no other place can be called: a breaker that is open lets a
                share of such calls through, as large as the share of its calls that were answered lately allows.
        """
        ...

    async def release(
        self,
        leave: Permit,
        ending: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Give a pass back; a second time does nothing.

        Args:
            leave: what :meth:`enter` gave.
            ending: how the call ended.
            tokens: tokens it really took; None keeps the reservation as spent (they are not known), and so does a
                count that no call can have taken.
            usd: USD it really cost; None, and a cost that no such call can have, keep the reservation as spent.
            wait_s: how long the provider asks to be left alone; never shortens an earlier wish, and counts up to a
                most that depends on the ending.
            reason: why the credential is suspended or disabled, where it is; nothing that a provider or a caller wrote.
            refused: salted digest of the key that was refused, see
                :func:`semroute.resilience.suspension.digest_key`.
        """
        ...

    async def enable(self, credential: str | None) -> None:
        """Let a disabled credential's places be called again; None: the places that need no key."""
        ...

    async def welcome(self, place: Endpoint, refused: str) -> None:
        """Lift what closed a place for the key of this digest, and only that, since there is another key now."""
        ...

    async def lift(self, places: Sequence[Endpoint]) -> None:
        """Lift whatever closes these places: hints, breakers, suspensions, and their disabled credentials."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
