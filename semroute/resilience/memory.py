"""The gates in this process's memory: the default, which needs nothing."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from random import Random

from semroute import forks
from semroute.config import BreakerRules
from semroute.errors import DataError
from semroute.resilience.budget import MonthlySpending
from semroute.resilience.clock import Clock, Wait, longest
from semroute.resilience.place_gate import PlaceGate
from semroute.resilience.throttle import WINDOW_S
from semroute.types import BreakerState, Ending, Pass, Place, Refusal, Standing

LEASE_S = 3600.0
"""A call that has not come back after this is forgotten, seconds."""


class MemoryGates:
    """Breaker, throttle and budget of every place, in process: an implementation of ``semroute.types.Gates``.

    No method suspends, so each is atomic on its event loop; a lock makes it so for several loops in several threads.
    ``wait_s`` is the earliest time at which a call is let through if nothing else comes; where it depends on a running
    call (parallel calls, probes) it is a short time after which to ask again. ``headroom`` counts the budget as a limit
    like the others; it is 0 also for a call that just fits, and ``wait_s`` tells the two apart.

    A request stays counted against ``rpm`` although its call was cancelled; tokens, money and the parallel call are
    given back. What a forgotten call had reserved counts as spent.

    Args:
        rules: of the breakers.
        clock: seconds, monotonic.
        wall: seconds since 1970, for the month of the budgets.
        rng: source of the breakers' jitter; None seeds one from the system.
        lease_s: a call that has not come back after this is forgotten, seconds; longer than any deadline.
        window_s: the throttle's minute, see :class:`~semroute.resilience.throttle.Throttle`.
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
        self._places: dict[str, PlaceGate] = {}
        self._disabled: dict[str, str] = {}
        self._spending = MonthlySpending(wall())
        # A pass of other gates must not be taken for one of ours.
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count()

    async def standings(
        self, places: Sequence[Place], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[Standing]:
        """How each place stands. The arguments are those of ``Gates.standings``."""
        with self._lock:
            now, wall = self._clock(), self._wall()
            return [self._standing(self._gate(place), tokens, cost, now, wall) for place, cost in each(places, usd)]

    async def enter(self, place: Place, tokens: int, usd: float = 0.0) -> Pass | Refusal:
        """Ask for leave and reserve in one step. Each pass must come back through :meth:`leave`."""
        with self._lock:
            now, wall = self._clock(), self._wall()
            gate = self._gate(place)
            wait = self._wait(gate, tokens, usd, now, wall)
            if wait is not None:
                return Refusal(place, wait.reason, wait.wait_s)
            id = f"{self._prefix}-{next(self._numbers)}"
            is_probe = gate.enter(id, now, tokens, self._spending.reserve(gate.account, usd, wall))
            return Pass(place, id, tokens, usd, is_probe)

    async def leave(
        self,
        leave: Pass,
        ending: Ending,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Give a pass back; a second time does nothing. The arguments are those of ``Gates.leave``."""
        with self._lock:
            now = self._clock()
            gate = self._gate(leave.place)
            charge = gate.leave(leave.id, ending, now, tokens)
            if charge is None:
                return
            if usd is not None:
                self._spending.settle(charge, usd, self._wall())
            if wait_s is not None:
                gate.throttle.hint(now, wait_s)
            if ending is Ending.DISABLE:
                self._disabled.setdefault(gate.account, reason or "the provider refused the credential")

    async def enable(self, credential: str | None) -> None:
        """Let the credential's places be called again; None: the places that need no key."""
        with self._lock:
            if credential is not None:
                self._disabled.pop(credential, None)
                return
            for gate in self._places.values():
                if gate.place.credential is None:
                    self._disabled.pop(gate.account, None)

    async def close(self) -> None:
        """Nothing to release."""

    def snapshot(self) -> dict[str, object]:
        """Everything there is to see, ready for JSON.

        ``at`` (seconds since 1970), ``month``, ``spent_usd`` and ``disabled`` (the reason) by credential (a place that
        needs no key stands for itself), and ``places``: each with its name, credential and limits, its
        :class:`~semroute.types.Standing` for a call of no tokens, and ``requests`` and ``tokens`` of the last minute.
        """
        with self._lock:
            now, wall = self._clock(), self._wall()
            return {
                "at": wall,
                "month": self._spending.month(wall),
                "spent_usd": self._spending.spent(wall),
                "disabled": dict(self._disabled),
                "places": [self._described(gate, now, wall) for gate in self._places.values()],
            }

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """Go on from the spending of a snapshot, where it is of the running month; the rest starts afresh.

        Twice is as good as once, and what has been spent since is never lowered.

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

    def _gate(self, place: Place) -> PlaceGate:
        key = place.key
        gate = self._places.get(key)
        if gate is None:
            gate = PlaceGate(place, self._rules, self._rng, self._lease_s, self._window_s)
            self._places[key] = gate
        elif place is not gate.place and place != gate.place:
            gate.limit(place)
        return gate

    def _wait(self, gate: PlaceGate, tokens: int, usd: float, now: float, wall: float) -> Wait | None:
        if gate.account in self._disabled:
            return Wait(None, f"{account_name(gate.place)} is disabled: {self._disabled[gate.account]}")
        wait = gate.wait(now, tokens)
        if gate.place.budget_usd is None:
            return wait
        return longest(wait, self._spending.wait(gate.account, usd, gate.place.budget_usd, wall))

    def _standing(self, gate: PlaceGate, tokens: int, usd: float, now: float, wall: float) -> Standing:
        wait = self._wait(gate, tokens, usd, now, wall)
        breaker, is_disabled = gate.breaker, gate.account in self._disabled
        spent = self._spending.spent_by(gate.account, wall)
        return Standing(
            breaker=BreakerState.DISABLED if is_disabled else breaker.state(now),
            failure_share=breaker.failure_share(now),
            calls=breaker.calls(now),
            ramp=0.0 if is_disabled else breaker.ramp(now),
            headroom=min(gate.throttle.headroom(now, tokens), _money_left(gate.place, spent + usd)),
            in_flight=gate.throttle.in_flight,
            spent_usd=spent,
            wait_s=0.0 if wait is None else wait.wait_s,
            reason=None if wait is None else wait.reason,
        )

    def _described(self, gate: PlaceGate, now: float, wall: float) -> dict[str, object]:
        requests, tokens = gate.throttle.used(now)
        standing = self._standing(gate, 0, 0.0, now, wall)._asdict()
        return {**asdict(gate.place), **standing, "requests": requests, "tokens": tokens}


def each(places: Sequence[Place], usd: float | Sequence[float]) -> Iterator[tuple[Place, float]]:
    """Each place with the cost expected there: one for all, or one for each."""
    return zip(places, itertools.repeat(usd) if isinstance(usd, int | float) else usd, strict=False)


def account_name(place: Place) -> str:
    """The account of a place, for a person."""
    return place.deployment if place.credential is None else place.credential


def _money_left(place: Place, spent_usd: float) -> float:
    if place.budget_usd is None:
        return 1.0
    return max(1.0 - spent_usd / place.budget_usd, 0.0) if place.budget_usd > 0 else 0.0
