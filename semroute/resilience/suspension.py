"""Suspension of endpoints, and disabling of keys that a provider refused.

A provider refuses a key for many reasons, and few of them mean that it cannot work: a firewall, a region, a model that
is not enabled, an empty quota. So an endpoint that refuses is *suspended* for minutes and then probed with one call;
only a key that is clearly invalid is *disabled*, and probed once in a long while.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from random import Random

from semroute.config import BreakerRules
from semroute.resilience.breaker import ASK_AGAIN_S, Wait, until
from semroute.types import CallResult, Endpoint

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
    text = "".join(sign if sign.isprintable() else " " for sign in (reason or REFUSED)[:MOST_REASON]).strip()
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
