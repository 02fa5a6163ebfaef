"""How many extra calls are allowed: a share of the requests."""

from __future__ import annotations

import threading
import time

from semroute.resilience.clock import Clock
from semroute.resilience.fork import after_fork
from semroute.resilience.rolling import RollingCount


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
        self._lock = threading.Lock()
        self._requests = RollingCount(window_s)
        self._taken = RollingCount(window_s)
        after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

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
