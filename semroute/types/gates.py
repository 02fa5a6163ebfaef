"""Admission control of endpoints: circuit breaker, rate limit, budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class BreakerState(StrEnum):
    """State of an endpoint's circuit breaker.

    ``SUSPENDED`` is for an endpoint that refused its credential for a reason that may pass, until a probe succeeds;
    ``DISABLED`` is for a credential that cannot work.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    SUSPENDED = "suspended"
    DISABLED = "disabled"


class CallResult(StrEnum):
    """Result of a call, as the circuit breaker counts it.

    ``NEUTRAL`` is no evidence about the endpoint (a bad request, a content filter, a client that leaves before it
    answers; one that leaves while it does is a ``SUCCESS``). ``SUSPEND`` closes the endpoint, this deployment with this
    credential, for minutes (a 403, an exhausted quota, a doubtful 401); ``DISABLE`` closes every endpoint of the
    credential at this host, which is for a key that is clearly invalid.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    SUSPEND = "suspend"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Endpoint: one deployment with one credential.

    It is the unit of admission control.

    Attributes:
        deployment: name of the deployment.
        credential: environment variable of the key; None where none is needed.
        rpm: requests a minute; None is no limit.
        tpm: tokens a minute, input and output together.
        parallel: calls at the same time.
        budget_usd: limit of the credential's spending in a calendar month (UTC), all its deployments together.
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
        """Key of the endpoint in shared state."""
        return f"{self.deployment}|{self.credential or ''}"


class EndpointStatus(NamedTuple):
    """Status of an endpoint now.

    A tuple, because one is created for each endpoint and call.

    Attributes:
        breaker: state of the breaker.
        failure_share: share of failures in the breaker's window, 0 to 1.
        calls: calls in the breaker's window.
        ramp: share of its usual traffic that it should get, 0 to 1; below 1 after the breaker closed again.
        headroom: room left under the tightest of its limits, 0 to 1.
        in_flight: calls that are running.
        spent_usd: what the credential has spent or reserved this month.
        wait_s: seconds until a call may be permitted; 0 now, None when no waiting helps.
        reason: why it waits, for a person; None when it does not.
        refused: salted digest of the key for which it is suspended or disabled; None where that is not known, see
            :func:`semroute.resilience.breaker.is_same_key`.
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
    """Permit for one call.

    It reserves tokens and money, and holds a lease where the call is a probe. ``is_panic``: an open breaker permitted
    it, because no other endpoint could be called.
    """

    endpoint: Endpoint
    id: str
    tokens: int
    usd: float = 0.0
    is_probe: bool = False
    is_panic: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Rejection of a call.

    ``wait_s``: seconds until a retry is useful; None when no waiting helps.
    """

    endpoint: Endpoint
    reason: str
    wait_s: float | None


class AdmissionControl(Protocol):
    """Circuit breaker, rate limit and budget of every endpoint.

    Every method is atomic; none raises for an unknown endpoint.
    """

    async def statuses(
        self, endpoints: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """Return the status of each endpoint for a call.

        ``tokens`` is input and most output.

        ``usd`` is the expected cost: one for all endpoints, or one for each.
        """
        ...

    async def acquire(
        self, endpoint: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Return a permit with its reservation, or a rejection, in one step.

        Every permit must be returned by :meth:`release`.

        Args:
            endpoint: the endpoint.
            tokens: input and most output; negative counts as 0.
            usd: expected cost.
            panic: a random number from 0 to 1, where no other endpoint can be called: an open breaker permits a share
                of such calls, as large as the share of its calls that were answered lately allows.
        """
        ...

    async def release(
        self,
        permit: Permit,
        result: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Return a permit; a second time does nothing.

        Args:
            permit: the permit from :meth:`acquire`.
            result: result of the call.
            tokens: tokens it really took; None keeps the reservation as spent (they are not known), and so does a
                count that no call can have taken.
            usd: USD it really cost; None, and a cost that no such call can have, keep the reservation as spent.
            wait_s: the provider's hint how long to wait; never shortens an earlier hint, and counts up to a
                maximum that depends on the result.
            reason: why the credential is suspended or disabled, where it is; nothing that a provider or a caller wrote.
            refused: salted digest of the key that was refused, see
                :func:`semroute.resilience.breaker.digest_key`.
        """
        ...

    async def enable(self, credential: str | None) -> None:
        """Enable a disabled credential's endpoints again.

        None stands for the endpoints that need no key.
        """
        ...

    async def welcome(self, endpoint: Endpoint, refused: str) -> None:
        """Lift what closed an endpoint for the key of this digest, and only that.

        It is called when there is another key.
        """
        ...

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        """Lift whatever closes these endpoints.

        That is hints, breakers, suspensions and disabled credentials.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
