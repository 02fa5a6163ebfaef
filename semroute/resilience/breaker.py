"""Circuit breaker and suspension of one endpoint, and the retry budget.

The breaker rejects calls after failures of *its* endpoint, and probes until the endpoint is healthy again.
The pattern is Nygard's (Release It!, 2nd edition, "Circuit Breaker"); the states are those of
https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker, with leases so that a probe that never comes
back cannot keep it half-open, and with a slow start after it closes.

If no other endpoint can be called, an open breaker turns random failures into an outage: with 40% of them it lets a
tenth of the calls be answered, of which 60% would be without it. So it then permits a share of calls ("panic", as
Envoy's panic threshold does,
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold), in proportion
to the answered ones, as the adaptive throttling of https://sre.google/sre-book/handling-overload/ does.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from semroute import forks
from semroute.config import BreakerRules
from semroute.types import BreakerState, CallResult, Endpoint

# Time in admission control: an injected clock, and waits.

Clock: TypeAlias = Callable[[], float]
"""Seconds since some fixed moment; never runs backwards."""

ASK_AGAIN_S = 0.25
"""Wait for the end of a running call, whose time is unknown: ask again soon, seconds."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Rejection of a call for now.

    ``wait_s``: seconds until it is worth asking again; None if no waiting helps.
    """

    wait_s: float | None
    reason: str


def longest(one: Wait | None, other: Wait | None) -> Wait | None:
    """Return the longer of two waits; None is no wait."""
    if one is None or other is None:
        return other if one is None else one
    if one.wait_s is None or other.wait_s is None:
        return one if one.wait_s is None else other
    return one if one.wait_s >= other.wait_s else other


def until(moment: float, now: float) -> float:
    """Return the seconds from ``now`` to ``moment``, 0 if it is over.

    Never a rounding error short: ``now + until(moment, now) >= moment`` in floating point too, so that a caller who
    waits exactly this long is not rejected again.
    """
    wait = max(moment - now, 0.0)
    while now + wait < moment:
        wait = math.nextafter(wait, math.inf)
    return wait


# Rolling count of events in constant memory.


class RollingCount:
    """Rolling count of events of the last ``window_s`` seconds, in buckets.

    Never counts an event older than the window, and may forget one up to a bucket's width early: a health estimate does
    not need more, and at most ``buckets`` small pairs are stored at any rate. Adding and reading are O(1) amortised.
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
        """Return the number of events in the window that ends now."""
        self._forget(now)
        return self._total

    def clear(self) -> None:
        """Forget all events."""
        self._buckets.clear()
        self._total = 0

    def _forget(self, now: float) -> int:
        index = int(now // self._width_s)
        while self._buckets and self._buckets[0][0] <= index - self._kept:
            self._total -= self._buckets.popleft()[1]
        return index


RAMP_START = 0.1
"""Share of its usual traffic for an endpoint whose breaker has just closed; as Envoy's slow start begins."""

PANIC_FACTOR = 4.0
"""Calls permitted in panic for each one answered lately; K of the SRE book, which is 2 where a rejected call costs
little. With 4 an endpoint gets all calls as long as it answers a quarter of them."""

NO_ERA = -1
"""Era of a call whose result does not count for the state."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Permitted call: its era, and the number of its lease if it is a probe."""

    era: int
    lease: int | None = None
    is_panic: bool = False


class Breaker:
    """Circuit breaker as pure state: methods get the time, none waits.

    An era lasts from one opening or closing to the next. A call counts only in the era in which it began: a late
    success does not close an open breaker, a late failure neither opens it again nor doubles the time, and failures
    from before it closed do not count against it. Leases outlast eras: a probe that is still running when another one
    fails is a call to an unhealthy endpoint like any other, so it counts towards the next probes.

    While closed it counts the calls of the last ``window_s`` seconds and the failures in a row; the row has no time
    limit, because an endpoint that is called once a minute and fails each time is no healthier for it.

    Half-open it decides by a ratio, not by one call: it closes after ``successes`` good probes and opens again once
    ``failed_probes`` of them have failed, whichever comes first.

    Calls permitted in panic count for no era. Their share follows from all calls of the window, whatever their era; as
    many good ones in a row as close a half-open breaker end the time open.

    Args:
        rules: thresholds at which it opens and closes.
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
        """Return the state: closed, open, or half-open."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def calls(self, now: float) -> int:
        """Return the number of counted calls in the window."""
        return self._calls.total(now)

    def failure_share(self, now: float) -> float:
        """Return the share of failures among :meth:`calls`, 0 to 1; 0 without any."""
        calls = self._calls.total(now)
        return self._failures.total(now) / calls if calls else 0.0

    def ramp(self, now: float) -> float:
        """Return the share of usual traffic for the endpoint, 0 to 1.

        A weight for the choice among endpoints (slow start): no call is rejected for it. It grows linearly from
        :data:`RAMP_START` to 1 over ``ramp_s`` after the breaker closed; half-open it is :data:`RAMP_START`, open it
        is 0.
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
        """Return the wait until a call may be permitted; None if one may now."""
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
        """Estimate the share of calls to permit in panic, 0 to 1.

        0 if nothing was called lately. The estimate has a prior of one more call, just good enough to permit all, so
        that five bad calls weigh less than fifty. A call in panic counts when it begins, and as bad until it was good:
        hanging calls must not permit ever more.
        """
        calls = self._all_calls.total(now)
        return min((PANIC_FACTOR * self._all_good.total(now) + 1.0) / (calls + 1), 1.0) if calls else 0.0

    def lets_panic(self, now: float, sample: float) -> bool:
        """Return True if a call that :meth:`wait` rejects is permitted in panic.

        ``sample`` is a random number from 0 to 1.
        """
        if self._rules.panic_per_s <= 0.0:
            return False
        return now >= self._panicked_at + 1.0 / self._rules.panic_per_s or sample < self.panic_share(now)

    def panic(self, now: float) -> Ticket:
        """Permit a call for which :meth:`lets_panic` has just returned True."""
        self._panicked_at = now
        self._all_calls.add(now)
        return Ticket(NO_ERA, is_panic=True)

    def acquire(self, now: float) -> Ticket | None:
        """Permit a call, as a probe if half-open; None if :meth:`wait` rejects it."""
        if self._open_until is None:
            return Ticket(self._era)
        if self.wait(now) is not None:
            return None
        self._last_lease += 1
        self._leases[self._last_lease] = now + self._rules.probe_lease_s
        return Ticket(self._era, self._last_lease)

    def release(self, ticket: Ticket, result: CallResult, now: float) -> None:
        """Record a call result.

        A probe's lease is released whatever the result; the result of an expired lease does not count.
        """
        has_lease = False
        if ticket.lease is not None:
            self._forget_lost_probes(now)
            has_lease = self._leases.pop(ticket.lease, None) is not None
        if result is CallResult.SUCCESS or result is CallResult.FAILURE:
            if result is CallResult.SUCCESS:
                self._all_good.add(now)
            if ticket.is_panic:
                self._judge_panic(result, now)
            else:
                self._all_calls.add(now)
        if ticket.era != self._era:
            return
        if self._open_until is None:
            self._count(result, now)
        elif has_lease:
            self._judge_probe(result, now)

    def lift(self) -> None:
        """Reset it as if it had never failed; running calls no longer count."""
        self.heal()
        self._leases.clear()
        self._all_calls.clear()
        self._all_good.clear()
        self._panicked_at = -math.inf

    def heal(self) -> None:
        """Close it, since others know that the endpoint is healthy."""
        self._begin_era()
        self._open_until = None
        self._failed_rounds = 0

    def _judge_probe(self, result: CallResult, now: float) -> None:
        if result is CallResult.FAILURE:
            self._bad_probes += 1
            if self._bad_probes >= self._rules.failed_probes:
                self._failed_rounds += 1
                probes = self._bad_probes + self._good_probes
                self._open(now, f"{self._bad_probes} of {probes} probes failed")
        elif result is CallResult.SUCCESS:
            self._good_probes += 1
            if self._good_probes >= self._rules.successes:
                self._close(now)

    def _judge_panic(self, result: CallResult, now: float) -> None:
        if self._open_until is None or now >= self._open_until:
            return
        self._good_in_panic = self._good_in_panic + 1 if result is CallResult.SUCCESS else 0
        if self._good_in_panic >= self._rules.successes:
            self._open_until = now

    def _count(self, result: CallResult, now: float) -> None:
        if result is not CallResult.SUCCESS and result is not CallResult.FAILURE:
            return
        self._calls.add(now)
        if result is CallResult.FAILURE:
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


# Budget of extra calls: a share of the requests.


class RetryBudget:
    """Budget of retries or hedged requests, as a share of recent requests.

    Requests count for ``window_s`` seconds. A limit on the attempts of each request alone multiplies the load on a
    provider that fails for everyone; a share of all requests does not (https://sre.google/sre-book/handling-overload/,
    "Deciding to Retry"). As in Finagle's ``RetryBudget`` each request puts ``share`` of a call into a bucket, each
    extra call takes one out, what was put in expires with the window, and a few calls are free in each window so that
    little traffic can retry at all.

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
        """Count a request, once with all its attempts."""
        with self._lock:
            self._requests.add(self._clock())

    def take(self) -> bool:
        """Take one extra call if the budget allows it; it is never given back."""
        with self._lock:
            now = self._clock()
            # The hair makes up for rounding: a share of 0.29 allows 29 calls for 100 requests.
            allowed = self.least + self.share * self._requests.total(now) + 1e-9
            if self._taken.total(now) + 1 > allowed:
                return False
            self._taken.add(now)
            return True


# Suspension of endpoints, and disabling of keys that a provider refused.
#
# A provider refuses a key for many reasons, and few of them mean that it cannot work: a firewall, a region, a model
# that is not enabled, an empty quota. So an endpoint that refuses is suspended for minutes and then probed with one
# call; only a key that is clearly invalid is disabled, and probed once in a long while.

REFUSED = "the provider refused the credential"
MOST_REASON = 300
"""Longest stored reason, characters."""


def login(endpoint: Endpoint) -> str:
    """Return the name of a credential at one host, disabled as one.

    An endpoint that needs no credential has its own key as name.
    """
    if endpoint.credential is None:
        return endpoint.key
    return endpoint.credential if endpoint.origin is None else f"{endpoint.credential}@{endpoint.origin}"


def is_login_of(name: str, credential: str | None) -> bool:
    """Return True if a name of :func:`login` is of a credential at any host.

    ``credential`` None: of an endpoint that needs none.
    """
    if "|" in name:  # the key of an endpoint; neither variables nor origins have a bar
        return credential is None
    return credential is not None and (name == credential or name.startswith(f"{credential}@"))


def digest_key(key: str | None) -> str | None:
    """Return a salted digest to recognise a refused key; None without a key.

    Keyed BLAKE2 (RFC 7693): equal keys have unequal digests, and the salt is stored with the state of admission control
    only.
    """
    if not key:
        return None
    salt = secrets.token_hex(16)
    return f"{salt}:{_digest(salt, key)}"


def is_same_key(refused: str, key: str | None) -> bool:
    """Return True if a digest is of this key, or cannot be read."""
    salt, colon, digest = refused.partition(":")
    if not colon or not 0 < len(salt.encode()) <= hashlib.blake2b.MAX_KEY_SIZE:
        return True
    return hmac.compare_digest(_digest(salt, key or "").encode(), digest.encode())


def _digest(salt: str, key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=salt.encode(), digest_size=16).hexdigest()


def short_reason(reason: str | None) -> str:
    """Return a reason as it is stored: one printable line."""
    if reason is None:
        return REFUSED
    text = "".join(sign if sign.isprintable() else " " for sign in reason[:MOST_REASON]).strip()
    return text or REFUSED


class Suspension:
    """Suspension of one endpoint that refused its key.

    It is closed for ``suspend_s``, then probed by one call at a time until one succeeds. Pure state, like the breaker.
    The time doubles each time a probe is refused as well. Results of calls that began before do not count. A probe that
    ends in another way permits the next one; one that never returns does so after ``probe_lease_s``.

    Args:
        rules: durations.
        rng: the source of jitter, which only shortens.
    """

    def __init__(self, rules: BreakerRules, rng: Random) -> None:
        self._rules = rules
        self._rng = rng
        self._until: float | None = None
        self._times = 0
        self._probe: str | None = None
        self._why = ""
        self.refused: str | None = None
        """Digest of the key that was refused."""

    @property
    def holds(self) -> bool:
        """True until a probe has succeeded."""
        return self._until is not None

    def wait(self, now: float) -> Wait | None:
        """Return the wait until a call may be permitted; None if one may now."""
        if self._until is None or now >= self._until:
            return None
        wait_s = until(self._until, now)
        if self._probe is None:
            return Wait(wait_s, f"suspended: {self._why}")
        return Wait(min(ASK_AGAIN_S, wait_s), f"suspended, a probe is under way: {self._why}")

    def acquire(self, id: str, now: float) -> bool:
        """Permit a call for which :meth:`wait` is None; True if it is a probe."""
        if self._until is None:
            return False
        self._probe, self._until = id, now + self._rules.probe_lease_s
        return True

    def release(self, id: str, result: CallResult, now: float, reason: str | None, refused: str | None) -> None:
        """Record a call result."""
        is_probe = self._until is not None and id == self._probe
        if is_probe:
            self._probe, self._until = None, now
        if result is CallResult.SUSPEND and (is_probe or self._until is None):
            longest_s = min(self._rules.suspend_s * 2.0 ** min(self._times, 64), self._rules.most_suspend_s)
            self._until = now + longest_s * (1.0 - self._rules.jitter * self._rng.random())
            self._times += 1
            self._why, self.refused = short_reason(reason), refused
        elif result is CallResult.SUCCESS and is_probe:
            self.lift()

    def lift(self) -> None:
        """End the suspension."""
        self._until, self._times, self._probe, self.refused = None, 0, None, None


@dataclass(slots=True)
class Disabled:
    """Disabled key at one host, which cannot work.

    Attributes:
        reason: reason for a person.
        refused: digest of the key.
        probe_at: time from which one call may probe it.
        probe: id of that call.
    """

    reason: str
    refused: str | None
    probe_at: float
    probe: str | None = None
