"""The circuit breaker of one place: closes it to calls for *its* failures, and finds out when it is well again.

The pattern is Nygard's (Release It!, 2nd edition, "Circuit Breaker"); the states are those of
https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker, with leases so that a probe that never comes
back cannot keep it half-open, and with a slow start after it closes.

Where no other place can be called, an open breaker turns random failures into an outage: with 40% of them it answers a
tenth of the calls of which 60% would be answered without it. So it then lets a share through ("panic", as Envoy's panic
threshold does, https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold),
in proportion to what is answered, as the adaptive throttling of https://sre.google/sre-book/handling-overload/ does.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from semroute import forks
from semroute.config import BreakerRules
from semroute.types import BreakerState, CallResult

# Time as the gates see it: a clock that is handed in, and how long to wait.

Clock: TypeAlias = Callable[[], float]
"""Seconds since some fixed moment; never runs backwards."""

ASK_AGAIN_S = 0.25
"""The wait for what ends when a running call ends: nobody knows when, so ask again soon."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. ``wait_s``: seconds until it is worth asking again; None when no waiting helps."""

    wait_s: float | None
    reason: str


def longest(one: Wait | None, other: Wait | None) -> Wait | None:
    """The wait that decides when both have to be over; None is no wait."""
    if one is None or other is None:
        return other if one is None else one
    if one.wait_s is None or other.wait_s is None:
        return one if one.wait_s is None else other
    return one if one.wait_s >= other.wait_s else other


def until(moment: float, now: float) -> float:
    """Seconds from ``now`` to ``moment``, 0 where it has passed.

    Never a rounding error short: ``now + until(moment, now) >= moment`` in floating point too, so that who waits
    exactly this long is not sent away again.
    """
    wait = max(moment - now, 0.0)
    while now + wait < moment:
        wait = math.nextafter(wait, math.inf)
    return wait


# How many events there were lately, in memory that does not grow with them.


class RollingCount:
    """Events of the last ``window_s`` seconds, counted in buckets.

    Never counts an event older than the window, and may forget one up to a bucket's width early: a health estimate does
    not need more, and at most ``buckets`` small pairs are kept whatever the rate. Adding and asking are O(1) amortised.
    Buckets begin at multiples of their width, so that two counts with the same window forget at the same moments.
    """

    __slots__ = ("_buckets", "_kept", "_total", "_width_s")

    def __init__(self, window_s: float, buckets: int = 30) -> None:
        self._width_s = window_s / buckets
        self._kept = buckets
        self._buckets: deque[list[int]] = deque()
        self._total = 0

    def add(self, now: float) -> None:
        """Count one event."""
        index = self._forget(now)
        if self._buckets and self._buckets[-1][0] == index:
            self._buckets[-1][1] += 1
        else:
            self._buckets.append([index, 1])
        self._total += 1

    def total(self, now: float) -> int:
        """Events in the window that ends now."""
        self._forget(now)
        return self._total

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()
        self._total = 0

    def _forget(self, now: float) -> int:
        index = int(now // self._width_s)
        while self._buckets and self._buckets[0][0] <= index - self._kept:
            self._total -= self._buckets.popleft()[1]
        return index


RAMP_START = 0.1
"""Share of its usual traffic that a place should get at the moment it closes; as Envoy's slow start begins."""

PANIC_FACTOR = 4.0
"""Calls let through in panic for each that was answered lately; the book's K, which is 2 where a refused call is cheap
to lose. With 4 an endpoint gets all calls as long as it answers a quarter of them."""

NO_ERA = -1
"""Era of a call whose ending does not count for the state."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that was let through: ``era`` as it began, and the number of its lease where it is a probe."""

    era: int
    lease: int | None = None
    is_panic: bool = False


class Breaker:
    """Pure state: every method is handed the time, none waits.

    An era lasts from one opening or closing to the next. A call counts only in the era in which it began: a success
    that comes late does not close an open breaker, a failure that comes late neither opens it again nor doubles the
    time, and what was wrong before it closed is not held against it. Leases outlast eras: a probe that is still running
    when another one fails is a call to a sick place like any other, so it counts towards the next probes.

    While closed it counts the calls of the last ``window_s`` seconds and the failures in a row; the row has no time
    limit, because a place that is called once a minute and fails each time is no better for it.

    Half-open it is judged by a ratio, not by one call: it closes after ``successes`` good probes and opens again once
    ``failed_probes`` of them have failed, whichever comes first.

    Calls that are let through in panic count for no era. Their share follows from all calls of the window, whatever
    their era; as many good ones in a row as close a half-open breaker end the time open.

    Args:
        rules: when it opens and closes.
        rng: the source of jitter. Jitter only shortens, so that ``most_open_s`` holds and replicas that have reached it
            still do not probe together.
    """

    def __init__(self, rules: BreakerRules, rng: Random) -> None:
        self._rules = rules
        self._rng = rng
        self._calls = RollingCount(rules.window_s)
        self._failures = RollingCount(rules.window_s)
        self._in_a_row = 0
        self._era = 0
        self._open_until: float | None = None
        self._why = ""
        self._failed_rounds = 0
        self._good_probes = 0
        self._bad_probes = 0
        self._all_calls = RollingCount(rules.window_s)
        self._all_good = RollingCount(rules.window_s)
        self._panicked_at = -math.inf
        self._good_in_panic = 0
        self._leases: dict[int, float] = {}
        self._last_lease = 0
        self._ramp_from: float | None = None

    def state(self, now: float) -> BreakerState:
        """Closed, open, or half-open."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def calls(self, now: float) -> int:
        """Calls in the window that count."""
        return self._calls.total(now)

    def failure_share(self, now: float) -> float:
        """Share of failures among them, 0 to 1; 0 when there are none."""
        calls = self._calls.total(now)
        return self._failures.total(now) / calls if calls else 0.0

    def ramp(self, now: float) -> float:
        """Share of its usual traffic that the place should get, 0 to 1.

        A weight for whoever chooses among places: a call to a place that grows back is never refused for this. It
        grows evenly from :data:`RAMP_START` to 1 over ``ramp_s`` after the breaker closed; half-open it is
        :data:`RAMP_START`, open it is 0.
        """
        if self._open_until is not None:
            return 0.0 if now < self._open_until else RAMP_START
        if self._ramp_from is None:
            return 1.0
        passed_s = now - self._ramp_from
        if passed_s >= self._rules.ramp_s:
            self._ramp_from = None
            return 1.0
        return RAMP_START + (1.0 - RAMP_START) * passed_s / self._rules.ramp_s

    def wait(self, now: float) -> Wait | None:
        """Why no call may be let through now; None when one may."""
        if self._open_until is None:
            return None
        if now < self._open_until:
            return Wait(until(self._open_until, now), f"breaker open: {self._why}")
        self._forget_lost_probes(now)
        if len(self._leases) < self._rules.probes:
            return None
        first_lost_s = until(min(self._leases.values()), now)
        return Wait(min(ASK_AGAIN_S, first_lost_s), f"breaker half-open: {len(self._leases)} probes are under way")

    def panic_share(self, now: float) -> float:
        """Estimate the share of calls to let through in panic, 0 to 1; 0 where nothing was called lately.

        One call more is taken to be known, as good as would just let all through, so that five bad ones say less than
        fifty. A call in panic counts as it begins, and as bad until it was good: those that hang must not let ever more
        through.
        """
        calls = self._all_calls.total(now)
        return min((PANIC_FACTOR * self._all_good.total(now) + 1.0) / (calls + 1), 1.0) if calls else 0.0

    def lets_panic(self, now: float, draw: float) -> bool:
        """Whether a call may pass in panic although :meth:`wait` has a reason against it; ``draw`` is from 0 to 1."""
        if self._rules.panic_per_s <= 0.0:
            return False
        return now >= self._panicked_at + 1.0 / self._rules.panic_per_s or draw < self.panic_share(now)

    def panic(self, now: float) -> Ticket:
        """Let a call through for which :meth:`lets_panic` has just said yes."""
        self._panicked_at = now
        self._all_calls.add(now)
        return Ticket(NO_ERA, is_panic=True)

    def enter(self, now: float) -> Ticket | None:
        """Let a call through, as a probe where it is half-open; None where :meth:`wait` has a reason against it."""
        if self._open_until is None:
            return Ticket(self._era)
        if self.wait(now) is not None:
            return None
        self._last_lease += 1
        self._leases[self._last_lease] = now + self._rules.probe_lease_s
        return Ticket(self._era, self._last_lease)

    def leave(self, ticket: Ticket, ending: CallResult, now: float) -> None:
        """Take a call's ending. A probe's lease is released whatever the ending; one that has run out says nothing."""
        has_lease = False
        if ticket.lease is not None:
            self._forget_lost_probes(now)
            has_lease = self._leases.pop(ticket.lease, None) is not None
        if ending is CallResult.SUCCESS or ending is CallResult.FAILURE:
            if ending is CallResult.SUCCESS:
                self._all_good.add(now)
            if ticket.is_panic:
                self._judge_panic(ending, now)
            else:
                self._all_calls.add(now)
        if ticket.era != self._era:
            return
        if self._open_until is None:
            self._count(ending, now)
        elif has_lease:
            self._judge_probe(ending, now)

    def lift(self) -> None:
        """Close it as if it had never failed; calls that run count no more."""
        self.heal()
        self._leases.clear()
        self._all_calls.clear()
        self._all_good.clear()
        self._panicked_at = -math.inf

    def heal(self) -> None:
        """Close it, since others know that the place is well."""
        self._begin_era()
        self._open_until = None
        self._failed_rounds = 0

    def _judge_probe(self, ending: CallResult, now: float) -> None:
        if ending is CallResult.FAILURE:
            self._bad_probes += 1
            if self._bad_probes >= self._rules.failed_probes:
                self._failed_rounds += 1
                probes = self._bad_probes + self._good_probes
                self._open(now, f"{self._bad_probes} of {probes} probes failed")
        elif ending is CallResult.SUCCESS:
            self._good_probes += 1
            if self._good_probes >= self._rules.successes:
                self._close(now)

    def _judge_panic(self, ending: CallResult, now: float) -> None:
        if self._open_until is None or now >= self._open_until:
            return
        self._good_in_panic = self._good_in_panic + 1 if ending is CallResult.SUCCESS else 0
        if self._good_in_panic >= self._rules.successes:
            self._open_until = now

    def _count(self, ending: CallResult, now: float) -> None:
        if ending is not CallResult.SUCCESS and ending is not CallResult.FAILURE:
            return
        self._calls.add(now)
        if ending is CallResult.FAILURE:
            self._failures.add(now)
            self._in_a_row += 1
        else:
            self._in_a_row = 0
        calls, failures = self._calls.total(now), self._failures.total(now)
        if self._in_a_row >= self._rules.in_a_row:
            self._open(now, f"{self._in_a_row} failures in a row")
        elif calls >= self._rules.least_calls and failures >= self._rules.failure_share * calls:
            self._open(now, f"{failures} of {calls} calls failed within {self._rules.window_s:g} s")

    def _open(self, now: float, why: str) -> None:
        # Doubling stops counting long before a float overflows.
        longest_s = min(self._rules.open_s * 2.0 ** min(self._failed_rounds, 64), self._rules.most_open_s)
        self._begin_era()
        self._open_until = now + longest_s * (1.0 - self._rules.jitter * self._rng.random())
        self._why = why

    def _close(self, now: float) -> None:
        self.heal()
        self._ramp_from = now

    def _begin_era(self) -> None:
        self._era += 1
        self._calls.clear()
        self._failures.clear()
        self._in_a_row = 0
        self._good_probes = 0
        self._bad_probes = 0
        self._good_in_panic = 0
        self._ramp_from = None

    def _forget_lost_probes(self, now: float) -> None:
        for lease in [lease for lease, lost_at in self._leases.items() if lost_at <= now]:
            del self._leases[lease]


# How many extra calls are allowed: a share of the requests.


class RetryBudget:
    """Extra calls as a share of the requests of the last ``window_s`` seconds; for retries, and for hedging too.

    A limit on the attempts of each request alone multiplies the load on a provider that fails for everyone; a share of
    all requests does not (https://sre.google/sre-book/handling-overload/, "Deciding to Retry"). As in Finagle's
    ``RetryBudget`` each request puts ``share`` of a call into a bucket, each extra call takes one out, what was put in
    expires with the window, and a few calls are free in each window so that little traffic can retry at all.

    At the moment of each :meth:`take` that is allowed, the extra calls of the window, this one included, are at most
    ``least + share * requests``. With ``least=0`` the share therefore holds over any longer time as well.

    Args:
        share: extra calls per request, 0 to 1.
        clock: seconds, monotonic.
        least: extra calls that are free in each window; 0 where the share is a hard cap, as for hedging.
        window_s: how long a request counts, seconds. With ``least=0`` it should hold well over ``1 / share`` requests.
    """

    def __init__(self, share: float, clock: Clock = time.monotonic, *, least: int = 5, window_s: float = 10.0) -> None:
        self.share = share
        self.least = least
        self._clock = clock
        self._lock = forks.lock()
        self._requests = RollingCount(window_s)
        self._taken = RollingCount(window_s)

    def request(self) -> None:
        """Count a request, once for all its attempts."""
        with self._lock:
            self._requests.add(self._clock())

    def take(self) -> bool:
        """Ask for one extra call; True takes it, and nothing gives it back."""
        with self._lock:
            now = self._clock()
            # The hair makes up for rounding: a share of 0.29 allows 29 calls for 100 requests.
            allowed = self.least + self.share * self._requests.total(now) + 1e-9
            if self._taken.total(now) + 1 > allowed:
                return False
            self._taken.add(now)
            return True
