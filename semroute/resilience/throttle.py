"""The throttle of one place: keeps *our* calls within what the provider allows, and heeds its hints."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semroute.config import BreakerRules
from semroute.resilience.clock import ASK_AGAIN_S, Wait, longest, until
from semroute.resilience.sliding_log import Entry, SlidingLog
from semroute.types import CallResult

WINDOW_S = 60.0
"""The minute of requests and tokens a minute."""


def heeded_s(rules: BreakerRules, ending: CallResult, wait_s: float | None) -> float | None:
    """How long a provider's wish to be left alone is heeded, seconds; None where it has none."""
    if wait_s is None or math.isnan(wait_s):
        return None
    most_s = rules.most_failure_hint_s if ending is CallResult.FAILURE else rules.most_hint_s
    return min(max(wait_s, 0.0), most_s)


@dataclass(slots=True)
class Reservation:
    """One call that was let through; ``entry`` is its line in the log, None where the place has no rate limit."""

    entry: Entry | None
    running: bool = True


class Throttle:
    """Requests and tokens a minute as exact sliding windows, parallel calls, and the provider's hints.

    Tokens are reserved before the call (input and most output) and settled to what it took, at the moment of the
    reservation. So the sum of reservations never exceeds ``tpm`` in any window; where a call took more than was
    reserved, the excess counts from then on and holds the next calls back.

    Args:
        rpm: requests a minute; None is no limit.
        tpm: tokens a minute; None is no limit.
        parallel: calls at the same time; None is no limit.
        window_s: length of the minute. A little more than 60 makes up for calls that overtake each other on their way
            to a provider that counts as exactly.
    """

    def __init__(
        self,
        rpm: int | None = None,
        tpm: int | None = None,
        parallel: int | None = None,
        *,
        window_s: float = WINDOW_S,
    ) -> None:
        self.rpm = rpm
        self.tpm = tpm
        self.parallel = parallel
        self.in_flight = 0
        self._closed_until = -math.inf
        self._log = SlidingLog(window_s)

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens in the window that ends now."""
        self._log.forget(now)
        return len(self._log), self._log.tokens

    def wait(self, now: float, tokens: int) -> Wait | None:
        """Why a call of ``tokens`` tokens may not be let through now; None when it may.

        ``wait_s`` is exact for rates and hints: the earliest time at which the call is let through if nothing else
        comes. For parallel calls it is :data:`~semroute.resilience.clock.ASK_AGAIN_S`.
        """
        found = None
        if now < self._closed_until:
            found = Wait(until(self._closed_until, now), "the provider asked to wait")
        if self.parallel is not None and self.in_flight >= self.parallel:
            found = longest(found, Wait(ASK_AGAIN_S, f"{self.in_flight} of {self.parallel} parallel calls are running"))
        if self.rpm is None and self.tpm is None:
            return found
        self._log.forget(now)
        if self.rpm is not None:
            moment = self._log.room_for_request_at(self.rpm)
            if moment is not None:
                found = longest(found, Wait(until(moment, now), f"{self.rpm} requests a minute are used up"))
        if self.tpm is not None:
            found = longest(found, self._wait_for_tokens(now, tokens, self.tpm))
        return found

    def reserve(self, now: float, tokens: int) -> Reservation | Wait:
        """Let a call through and count it, or say how long to wait."""
        return self.wait(now, tokens) or self.admit(now, tokens)

    def admit(self, now: float, tokens: int) -> Reservation:
        """Count a call for which :meth:`wait` has just found nothing."""
        self.in_flight += 1
        if self.rpm is None and self.tpm is None:
            return Reservation(None)
        return Reservation(self._log.add(now, tokens))

    def settle(self, reservation: Reservation, tokens: int | None = None) -> None:
        """Give a reservation back; a second time does nothing.

        Args:
            reservation: what :meth:`reserve` gave.
            tokens: what the call took, 0 when it never took any; None keeps what was reserved. The request itself stays
                counted: it was made.
        """
        if not reservation.running:
            return
        reservation.running = False
        self.in_flight -= 1
        if tokens is not None and reservation.entry is not None:
            self._log.change(reservation.entry, max(tokens, 0))

    def hint(self, now: float, wait_s: float) -> None:
        """The provider asks to be left alone for ``wait_s`` seconds; what it asked for before is never shortened."""
        if math.isfinite(wait_s):
            self._closed_until = max(self._closed_until, now + wait_s)

    def forget_hint(self) -> None:
        """Let calls through whatever the provider asked for."""
        self._closed_until = -math.inf

    def headroom(self, now: float, tokens: int) -> float:
        """Room left under the tightest limit after a call of ``tokens`` tokens, 0 to 1."""
        room = 1.0
        if self.parallel is not None:
            room = min(room, 1.0 - (self.in_flight + 1) / self.parallel)
        if self.rpm is not None or self.tpm is not None:
            self._log.forget(now)
            if self.rpm is not None:
                room = min(room, 1.0 - (len(self._log) + 1) / self.rpm)
            if self.tpm is not None:
                room = min(room, 1.0 - (self._log.tokens + tokens) / self.tpm)
        return max(room, 0.0)

    def _wait_for_tokens(self, now: float, tokens: int, tpm: int) -> Wait | None:
        if tokens > tpm:
            return Wait(None, f"a call of {tokens} tokens is larger than the limit of {tpm} tokens a minute")
        moment = self._log.room_for_tokens_at(tokens, tpm)
        if moment is None:
            return None
        left = max(tpm - self._log.tokens, 0)
        return Wait(until(moment, now), f"{left} of {tpm} tokens a minute are left, the call needs {tokens}")
