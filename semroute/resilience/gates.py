"""Admission control of endpoints, in this process's memory."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from semroute import forks
from semroute.config import BreakerRules, Config, Selection
from semroute.errors import ConfigError, DataError
from semroute.resilience.breaker import (
    NO_ERA,
    RAMP_START,
    Breaker,
    Clock,
    Disabled,
    Suspension,
    Ticket,
    Wait,
    is_login_of,
    login,
    longest,
    short_reason,
)
from semroute.resilience.limits import (
    WINDOW_S,
    Charge,
    MonthlySpending,
    Reservation,
    Throttle,
    counted_tokens,
    counted_usd,
    heeded_s,
    settled,
)
from semroute.types import BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection

if TYPE_CHECKING:
    from semroute.resilience.redis.failover import FailoverGates
    from semroute.resilience.redis.server import Server


def account(endpoint: Endpoint) -> str:
    """Return the account that pays for an endpoint: its credential or itself."""
    return endpoint.credential if endpoint.credential is not None else endpoint.key


@dataclass(frozen=True, slots=True)
class RunningCall:
    """Running call: its breaker ticket, reservation and charge."""

    since: float
    ticket: Ticket
    reservation: Reservation
    charge: Charge


class EndpointGate:
    """Breaker, suspension, throttle and running calls of one endpoint.

    Args:
        endpoint: the endpoint, with its limits as last seen.
        rules: thresholds of its breaker.
        rng: the breaker's source of jitter.
        lease_s: a call that has not returned after this is dropped, seconds; its reservation counts as spent.
        window_s: the throttle's window.
    """

    def __init__(self, endpoint: Endpoint, rules: BreakerRules, rng: Random, lease_s: float, window_s: float) -> None:
        self.endpoint = endpoint
        self.account = account(endpoint)
        self.login = login(endpoint)
        self.breaker = Breaker(rules, rng)
        self.suspension = Suspension(rules, rng)
        self.throttle = Throttle(endpoint.rpm, endpoint.tpm, endpoint.parallel, window_s=window_s)
        self._lease_s = lease_s
        # In the order in which they began, which is the order in which their leases end; an ordinary dict is slow to
        # find its first key after many were removed there.
        self._held: OrderedDict[str, RunningCall] = OrderedDict()

    def limit(self, endpoint: Endpoint) -> None:
        """Update the limits to those of the endpoint as configured now."""
        self.endpoint, self.login = endpoint, login(endpoint)
        self.throttle.rpm, self.throttle.tpm, self.throttle.parallel = endpoint.rpm, endpoint.tpm, endpoint.parallel

    def wait(self, now: float, tokens: int) -> Wait | None:
        """Return a call's wait, breaker and budget aside; None if it may run."""
        self._forget_lost(now)
        return longest(self.suspension.wait(now), self.throttle.wait(now, tokens))

    def acquire(self, id: str, now: float, tokens: int, charge: Charge, ticket: Ticket) -> bool:
        """Permit a call with a breaker ticket, for which :meth:`wait` is None.

        True if it is a probe of the suspension.
        """
        self._held[id] = RunningCall(now, ticket, self.throttle.admit(now, tokens), charge)
        return self.suspension.acquire(id, now)

    def release(
        self, id: str, result: CallResult, now: float, tokens: int | None, reason: str | None, refused: str | None
    ) -> Charge | None:
        """Release a call and return its charge to settle; None if already done."""
        held = self._held.pop(id, None)
        if held is None:
            return None
        self.breaker.release(held.ticket, result, now)
        self.suspension.release(id, result, now, reason, refused)
        self.throttle.settle(held.reservation, tokens)
        return held.charge

    def lift(self) -> None:
        """Reset breaker, suspension and wait hints; limits stay."""
        self.breaker.lift()
        self.suspension.lift()
        self.throttle.forget_hint()

    def forget_running(self, now: float) -> None:
        """Release all running calls in a forked child, which never ends them."""
        for id in list(self._held):
            self.release(id, CallResult.NEUTRAL, now, None, None, None)

    def _forget_lost(self, now: float) -> None:
        while self._held:
            id = next(iter(self._held))
            held = self._held[id]
            if now < held.since + self._lease_s:
                return
            self.release(id, CallResult.NEUTRAL, now, None, None, None)


# Admission control in this process's memory: the default, which needs no server.

LEASE_S = 3600.0
"""Time after which a call that has not returned is dropped, seconds."""


class MemoryGates:
    """In-process admission control: breaker, throttle and budget of endpoints.

    No method suspends, so each is atomic on its event loop; a lock makes it so for several loops in several threads.
    ``wait_s`` is the earliest time at which a call is permitted if nothing else comes; if it depends on a running call
    (parallel calls, probes) it is a short time after which to ask again. ``headroom`` includes the budget; it is 0 also
    for a call that just fits, and ``wait_s`` distinguishes the two.

    A request stays counted against ``rpm`` although its call was cancelled; tokens, money and the parallel slot are
    given back. The reservation of a dropped call counts as spent.

    Args:
        rules: thresholds of the breakers.
        clock: seconds, monotonic.
        wall: seconds since 1970, for the month of the budgets.
        rng: source of the breakers' jitter; None seeds one from the system.
        lease_s: a call that has not returned after this is dropped, seconds; longer than any deadline.
        window_s: the throttle's window, see :class:`~semroute.resilience.limits.Throttle`.
    """

    def __init__(
        self,
        rules: BreakerRules,
        *,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        rng: Random | None = None,
        lease_s: float = LEASE_S,
        window_s: float = WINDOW_S,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._wall = wall
        self._rng = rng if rng is not None else Random()
        self._lease_s = lease_s
        self._window_s = window_s
        self._lock = forks.lock()
        self._endpoints: dict[str, EndpointGate] = {}
        self._disabled: dict[str, Disabled] = {}
        self._spending = MonthlySpending(wall())
        # A permit of another admission control must not be mistaken for one of ours.
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count()
        forks.in_child(self, MemoryGates._after_fork)

    async def statuses(
        self, endpoints: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """Return each endpoint's status; see ``AdmissionControl.statuses``."""
        with self._lock:
            now, wall = self._clock(), self._wall()
            taken = counted_tokens(tokens)
            return [
                self._status(self._gate(endpoint), taken, counted_usd(cost), now, wall)
                for endpoint, cost in each(endpoints, usd)
            ]

    async def acquire(
        self, endpoint: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Acquire a permit and reserve in one step; see ``AdmissionControl``."""
        taken, cost = counted_tokens(tokens), counted_usd(usd)
        with self._lock:
            now, wall = self._clock(), self._wall()
            gate = self._gate(endpoint)
            closed, other = gate.breaker.wait(now), self._other_wait(gate, taken, cost, now, wall)
            panics = closed is not None and panic is not None and gate.breaker.lets_panic(now, panic)
            wait = other if panics else longest(closed, other)
            if wait is not None:
                return Rejection(endpoint, wait.reason, wait.wait_s)
            ticket = gate.breaker.panic(now) if panics else gate.breaker.acquire(now)
            if ticket is None:
                raise AssertionError("a breaker whose wait() found nothing lets a call through")
            charge = self._spending.reserve(gate.account, cost, wall)
            id, is_probe = self._admit(gate, taken, charge, ticket, now)
            return Permit(endpoint, id, tokens, usd, is_probe, panics)

    def import_permit(self, endpoint: Endpoint, tokens: int, *, is_closed: bool) -> Permit | None:
        """Import a permit of a shared admission control, without its cost.

        None if a limit is used up here.

        Args:
            endpoint: the endpoint.
            tokens: input and most output.
            is_closed: True if the endpoint's shared breaker is closed: then nothing may reject calls to it here.
        """
        with self._lock:
            now = self._clock()
            gate = self._gate(endpoint)
            if is_closed:
                self._disabled.pop(gate.login, None)
                gate.suspension.lift()
                if gate.breaker.state(now) is not BreakerState.CLOSED:
                    gate.breaker.heal()
            taken = counted_tokens(tokens)
            if gate.throttle.wait(now, taken) is not None:
                return None
            ticket = gate.breaker.acquire(now) if is_closed else Ticket(NO_ERA)
            if ticket is None:
                raise AssertionError("a closed breaker lets every call through")
            charge = self._spending.reserve(gate.account, 0.0, self._wall())
            id, is_probe = self._admit(gate, taken, charge, ticket, now)
            return Permit(endpoint, id, tokens, 0.0, is_probe)

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
        """Release a permit, once; see ``AdmissionControl.release``."""
        tokens, usd = settled(permit, tokens, usd)
        heeded = heeded_s(self._rules, result, wait_s)
        with self._lock:
            now = self._clock()
            gate = self._gate(permit.endpoint)
            charge = gate.release(permit.id, result, now, tokens, reason, refused)
            if charge is None:
                return
            if usd is not None:
                self._spending.settle(charge, usd, self._wall())
            if heeded is not None:
                gate.throttle.hint(now, heeded)
            self._judge_login(gate, permit.id, result, now, short_reason(reason), refused)

    async def enable(self, credential: str | None) -> None:
        """Enable a credential's endpoints; None: those that need no key."""
        with self._lock:
            for name in [name for name in self._disabled if is_login_of(name, credential)]:
                del self._disabled[name]

    async def welcome(self, endpoint: Endpoint, refused: str) -> None:
        """Enable an endpoint that refused the key of this digest before."""
        with self._lock:
            gate = self._gate(endpoint)
            disabled = self._disabled.get(gate.login)
            if disabled is not None and disabled.refused == refused:
                del self._disabled[gate.login]
            if gate.suspension.refused == refused:
                gate.suspension.lift()

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        """Reset hints, breakers, suspensions and disabled keys of endpoints."""
        with self._lock:
            for endpoint in endpoints:
                self._gate(endpoint).lift()
                self._disabled.pop(login(endpoint), None)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def snapshot(self) -> dict[str, object]:
        """Return the whole state, ready for JSON.

        ``at`` (seconds since 1970), ``month``, ``spent_usd`` by credential (an endpoint without one is its own
        account), ``disabled`` (the reason) by credential and host, and ``places``: each endpoint with its name,
        credential and limits, its :class:`~semroute.types.EndpointStatus` for a call of no tokens, and ``requests`` and
        ``tokens`` of the last minute.
        """
        with self._lock:
            now, wall = self._clock(), self._wall()
            return {
                "at": wall,
                "month": self._spending.month(wall),
                "spent_usd": self._spending.spent(wall),
                "disabled": {name: disabled.reason for name, disabled in self._disabled.items()},
                "places": [self._described(gate, now, wall) for gate in self._endpoints.values()],
            }

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """Restore the spending of a snapshot of the current month.

        All else starts afresh. Restoring is idempotent, and never lowers what has been spent since.

        Raises:
            DataError: it is not a snapshot.
        """
        month, spent = snapshot.get("month"), snapshot.get("spent_usd")
        if not isinstance(month, str) or not isinstance(spent, Mapping):
            raise DataError("not a snapshot of the gates (month and spent_usd are wanted): delete the file")
        if not all(isinstance(usd, (int, float)) and 0 <= usd < float("inf") for usd in spent.values()):
            raise DataError("a snapshot of the gates whose spent_usd are not all amounts of USD: delete the file")
        with self._lock:
            self._spending.restore(month, spent, self._wall())

    def _gate(self, endpoint: Endpoint) -> EndpointGate:
        key = endpoint.key
        gate = self._endpoints.get(key)
        if gate is None:
            gate = EndpointGate(endpoint, self._rules, self._rng, self._lease_s, self._window_s)
            self._endpoints[key] = gate
        elif endpoint is not gate.endpoint and endpoint != gate.endpoint:
            gate.limit(endpoint)
        return gate

    def _other_wait(self, gate: EndpointGate, tokens: int, usd: float, now: float, wall: float) -> Wait | None:
        """Return a call's wait, the breaker aside; None if it may run."""
        disabled = self._disabled.get(gate.login)
        if disabled is not None and now < disabled.probe_at:
            return Wait(None, f"{account_name(gate.endpoint)} is disabled: {disabled.reason}")
        wait = gate.wait(now, tokens)
        if gate.endpoint.budget_usd is None:
            return wait
        return longest(wait, self._spending.wait(gate.account, usd, gate.endpoint.budget_usd, wall))

    def _admit(self, gate: EndpointGate, tokens: int, charge: Charge, ticket: Ticket, now: float) -> tuple[str, bool]:
        """Count a permitted call; return its id, and True if it is a probe."""
        id = f"{self._prefix}-{next(self._numbers)}"
        is_probe = gate.acquire(id, now, tokens, charge, ticket) or ticket.lease is not None
        disabled = self._disabled.get(gate.login)
        if disabled is not None:
            disabled.probe, disabled.probe_at, is_probe = id, now + self._rules.disabled_probe_s, True
        return id, is_probe

    def _judge_login(
        self, gate: EndpointGate, id: str, result: CallResult, now: float, reason: str, refused: str | None
    ) -> None:
        disabled = self._disabled.get(gate.login)
        if disabled is None:
            if result is CallResult.DISABLE:
                self._disabled[gate.login] = Disabled(reason, refused, now + self._rules.disabled_probe_s)
        elif disabled.probe == id:
            disabled.probe = None
            if result is CallResult.SUCCESS:
                del self._disabled[gate.login]
            elif result is CallResult.DISABLE:
                disabled.reason, disabled.refused = reason, refused

    def _after_fork(self) -> None:
        """Drop the parent's calls, and never reuse its ids."""
        self._prefix = secrets.token_hex(4)
        self._rng.seed()
        for gate in self._endpoints.values():
            gate.forget_running(self._clock())

    def _status(self, gate: EndpointGate, tokens: int, usd: float, now: float, wall: float) -> EndpointStatus:
        wait = longest(gate.breaker.wait(now), self._other_wait(gate, tokens, usd, now, wall))
        breaker, disabled = gate.breaker, self._disabled.get(gate.login)
        state, ramp, refused = breaker.state(now), breaker.ramp(now), gate.suspension.refused
        if gate.suspension.holds:
            state, ramp = BreakerState.SUSPENDED, RAMP_START if gate.suspension.wait(now) is None else 0.0
        if disabled is not None:
            state, ramp = BreakerState.DISABLED, RAMP_START if now >= disabled.probe_at else 0.0
            refused = disabled.refused
        spent = self._spending.spent_by(gate.account, wall)
        return EndpointStatus(
            breaker=state,
            failure_share=breaker.failure_share(now),
            calls=breaker.calls(now),
            ramp=ramp,
            headroom=min(gate.throttle.headroom(now, tokens), _money_left(gate.endpoint, spent + usd)),
            in_flight=gate.throttle.in_flight,
            spent_usd=spent,
            wait_s=0.0 if wait is None else wait.wait_s,
            reason=None if wait is None else wait.reason,
            refused=refused,
        )

    def _described(self, gate: EndpointGate, now: float, wall: float) -> dict[str, object]:
        requests, tokens = gate.throttle.used(now)
        status = self._status(gate, 0, 0.0, now, wall)._asdict()
        del status["refused"]
        return {**asdict(gate.endpoint), **status, "requests": requests, "tokens": tokens}


def each(endpoints: Sequence[Endpoint], usd: float | Sequence[float]) -> Iterator[tuple[Endpoint, float]]:
    """Pair each endpoint with its expected cost: one for all, or one each."""
    return zip(endpoints, itertools.repeat(usd) if isinstance(usd, int | float) else usd, strict=False)


def account_name(endpoint: Endpoint) -> str:
    """Return the account of an endpoint, for a person."""
    return endpoint.deployment if endpoint.credential is None else endpoint.credential


def _money_left(endpoint: Endpoint, spent_usd: float) -> float:
    if endpoint.budget_usd is None:
        return 1.0
    return max(1.0 - spent_usd / endpoint.budget_usd, 0.0) if endpoint.budget_usd > 0 else 0.0


# Admission control that can sample: for a shared one, status and permit of an endpoint are one round trip then.


class SamplingSignals(NamedTuple):
    """Signals of an endpoint that its caller knows, for sampling.

    Attributes:
        usd: expected cost; None if no price is known.
        expected_s: expected time of the answer, seconds; None if not measured yet.
        strength: how well the model does what the request needs, 0 to 1.
    """

    usd: float | None
    expected_s: float | None
    strength: float


class SampledPermit(NamedTuple):
    """Result of :meth:`SamplingGates.acquire_sampled`.

    Attributes:
        statuses: status of each endpoint, as it was before.
        sampled: index of the endpoint with the permit; None if nothing was sampled.
        permit: the permit; None if nothing was sampled. The caller then samples by the statuses.
    """

    statuses: list[EndpointStatus]
    sampled: int | None = None
    permit: Permit | None = None


@runtime_checkable
class SamplingGates(Protocol):
    """Admission control that samples one of several open endpoints itself."""

    async def acquire_sampled(
        self,
        endpoints: Sequence[Endpoint],
        tokens: int,
        signals: Sequence[SamplingSignals],
        usd: Sequence[float],
        selection: Selection,
        number: float,
    ) -> SampledPermit:
        """Sample an open endpoint by signals and status, and acquire its permit.

        Args:
            endpoints: those to sample from, then others whose status is wanted.
            tokens: input and most output.
            signals: signals of the endpoints to sample from, in their order.
            usd: cost that is reserved at each endpoint.
            selection: weights of the signals.
            number: random number from 0 to 1.

        Returns:
            The permit, and every status. Nothing is sampled if no endpoint is open, if one refused a key, which the
            caller may have replaced, or while there is nothing shared to ask.
        """
        ...


# Admission control as configured.


def open_gates(config: Config, env: Mapping[str, str], clock: Clock | None = None) -> MemoryGates | FailoverGates:
    """Open admission control in this process, or in a shared Redis.

    The Redis is that of ``config.state``. Connects to nothing yet.

    Args:
        config: a valid configuration.
        env: holds the password of the Redis, under the configured name.
        clock: seconds since 1970, which never goes back, for the gates in this process; None takes the machine's. The
            Redis has its own.

    Raises:
        ConfigError: the password's variable is not set.
        MissingExtraError: the state is in Redis, and the extra "redis" is not installed.
    """

    def in_process() -> MemoryGates:
        return MemoryGates(config.breaker, clock=clock or time.monotonic, wall=clock or time.time)

    server = open_redis(config, env)
    if server is None:
        return in_process()
    from semroute.resilience.redis.failover import FailoverGates, Replicas
    from semroute.resilience.redis.gates import RedisGates

    return FailoverGates(RedisGates(server, config.breaker), Replicas(server), in_process)


def open_redis(config: Config, env: Mapping[str, str]) -> Server | None:
    """Open a client of the shared Redis.

    None where the state is in this process. Connects to nothing yet. Arguments and errors are those of
    :func:`open_gates`.
    """
    if config.state == "memory":
        return None
    from semroute.resilience.redis.server import Server

    password, variable = None, config.state_password_env
    if variable is not None:
        password = env.get(variable, "").strip()
        if not password:
            raise ConfigError(f"{variable} is not set; export {variable}", key="state_password_env")
    return Server(config.state, password=password, timeout_s=config.state_timeout_s)
