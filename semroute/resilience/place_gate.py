"""Breaker, throttle and running calls of one place."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from random import Random

from semroute.config import BreakerRules
from semroute.resilience.breaker import Breaker, Ticket
from semroute.resilience.budget import Charge
from semroute.resilience.clock import Wait, longest
from semroute.resilience.suspension import Suspension, login
from semroute.resilience.throttle import Reservation, Throttle
from semroute.types import CallResult, Endpoint


def account(place: Endpoint) -> str:
    """Who pays for a place and is disabled with it: its credential; a place that needs none stands for itself."""
    return place.credential if place.credential is not None else place.key


@dataclass(frozen=True, slots=True)
class RunningCall:
    """What one running call holds."""

    since: float
    ticket: Ticket
    reservation: Reservation
    charge: Charge


class EndpointGate:
    """One place: what it allows as it was last asked for, and what runs there.

    Args:
        place: the place.
        rules: of its breaker.
        rng: the breaker's source of jitter.
        lease_s: a call that has not come back after this is forgotten, seconds; what it reserved counts as spent.
        window_s: the throttle's minute.
    """

    def __init__(self, place: Endpoint, rules: BreakerRules, rng: Random, lease_s: float, window_s: float) -> None:
        self.place = place
        self.account = account(place)
        self.login = login(place)
        self.breaker = Breaker(rules, rng)
        self.suspension = Suspension(rules, rng)
        self.throttle = Throttle(place.rpm, place.tpm, place.parallel, window_s=window_s)
        self._lease_s = lease_s
        # In the order in which they began, which is the order in which their leases end; an ordinary dict is slow to
        # find its first key after many were removed there.
        self._held: OrderedDict[str, RunningCall] = OrderedDict()

    def limit(self, place: Endpoint) -> None:
        """Take over the limits of the place as it is configured now."""
        self.place, self.login = place, login(place)
        self.throttle.rpm, self.throttle.tpm, self.throttle.parallel = place.rpm, place.tpm, place.parallel

    def wait(self, now: float, tokens: int) -> Wait | None:
        """Why a call may not be let through now, breaker and budget aside; None when it may."""
        self._forget_lost(now)
        return longest(self.suspension.wait(now), self.throttle.wait(now, tokens))

    def enter(self, id: str, now: float, tokens: int, charge: Charge, ticket: Ticket) -> bool:
        """Let a call through with a ticket of its breaker, for which :meth:`wait` has just found nothing.

        True where it is a probe of the suspension.
        """
        self._held[id] = RunningCall(now, ticket, self.throttle.admit(now, tokens), charge)
        return self.suspension.enter(id, now)

    def leave(
        self, id: str, ending: CallResult, now: float, tokens: int | None, reason: str | None, refused: str | None
    ) -> Charge | None:
        """Give back what a call held, and its charge to settle; None when it was given back or forgotten before."""
        held = self._held.pop(id, None)
        if held is None:
            return None
        self.breaker.leave(held.ticket, ending, now)
        self.suspension.leave(id, ending, now, reason, refused)
        self.throttle.settle(held.reservation, tokens)
        return held.charge

    def lift(self) -> None:
        """Lift what its failures, refusals and hints have closed; limits stay."""
        self.breaker.lift()
        self.suspension.lift()
        self.throttle.forget_hint()

    def forget_running(self, now: float) -> None:
        """Give back what runs here, in a process that has been forked off: it will never hear of these calls."""
        for id in list(self._held):
            self.leave(id, CallResult.NEUTRAL, now, None, None, None)

    def _forget_lost(self, now: float) -> None:
        while self._held:
            id = next(iter(self._held))
            held = self._held[id]
            if now < held.since + self._lease_s:
                return
            self.leave(id, CallResult.NEUTRAL, now, None, None, None)
