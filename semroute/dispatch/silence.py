"""Failure detection by silence: unusually long waits.

They count whoever ended the wait. A call to a hanging deployment seldom lasts until its own ``timeout_s``: the
request's deadline, the share of it that leaves time for another endpoint, or a client that disconnects ends it first.
The length of the silence is evidence all the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from semroute import forks
from semroute.config import Deployment
from semroute.providers.streaming import CallClock
from semroute.resilience import LatencyWindows
from semroute.resilience.breaker import Clock
from semroute.types import CallResult

USUAL = 0.99
"""Quantile of the measured latency taken as a deployment's usual latency."""
REMEMBERED_S = 3600.0
"""Window of the usual latency, seconds: longer than a circuit breaker stays open, so that a probe is compared with
latencies from before the failure."""
QUICK = 0.1
"""Quantile of the measured latency below which a wait is no evidence: most answers take longer."""
OWN = 3.0
"""Threshold of silence as a multiple of the deployment's usual latency."""
SIBLINGS = 5.0
"""Threshold of silence without a latency of its own: this multiple of the median of its siblings'."""
UNMEASURED_S = 10.0
"""Threshold of silence without any measured latency, seconds; at most half of the deployment's ``timeout_s``."""
FLOOR_S = 0.25
"""Least silence that counts, seconds: a lost packet alone takes that long
(https://datatracker.ietf.org/doc/html/rfc6298: a retransmission time-out of 0.2 to 1 s)."""
MARGIN = 1.5
"""Multiple of its usual latency that a deployment may be silent although another endpoint could be tried."""
SHARE = 0.5
"""Share of a request's remaining time that a silent attempt may take while another endpoint can be tried."""


class Patience(NamedTuple):
    """Thresholds of silence for one call.

    Attributes:
        allowed_s: longest silence that does not count against the deployment, seconds.
        least_s: wait too short to be evidence, even added to others, seconds: a caller who asks a model that thinks for
            ten seconds to answer in one must not close it for everybody.
    """

    allowed_s: float
    least_s: float = 0.0


@dataclass(slots=True)
class _Waited:
    """Total wait for a deployment since its last sign of life.

    Overlapping waits count once.
    """

    until: float = float("-inf")
    seconds: float = 0.0


class SilenceMonitor:
    """Detector of unusual silence by each deployment's usual latency.

    Thread-safe.

    Args:
        clock: monotonic clock, seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.usual = LatencyWindows(REMEMBERED_S, least=3, clock=clock)
        self._clock = clock
        self._lock = forks.lock()
        self._waited: dict[str, _Waited] = {}

    def usual_s(self, deployment: Deployment, *, streaming: bool, prompt_tokens: int) -> float | None:
        """Return the usual latency to first output, seconds.

        None if not measured.
        """
        return self._quantile_s(deployment, USUAL, streaming=streaming, prompt_tokens=prompt_tokens)

    def _quantile_s(self, deployment: Deployment, q: float, *, streaming: bool, prompt_tokens: int) -> float | None:
        estimate = self.usual.estimate(deployment.name, streaming=streaming, prompt_tokens=prompt_tokens)
        if estimate is None:
            return None
        first = estimate.quantile(q) if streaming else None
        return estimate.total_quantile(q) if first is None else first

    def allowed_s(
        self, deployment: Deployment, siblings: Sequence[Deployment], *, streaming: bool, prompt_tokens: int
    ) -> float:
        """Return the longest silence allowed to a deployment, seconds.

        Args:
            deployment: the deployment that was called.
            siblings: deployments that may be sampled instead, with or without itself.
            streaming: True if the answer is streamed.
            prompt_tokens: length of the prompt, tokens.
        """
        own = self.usual_s(deployment, streaming=streaming, prompt_tokens=prompt_tokens)
        if own is not None:
            return max(OWN * own, FLOOR_S)
        others = (self.usual_s(one, streaming=streaming, prompt_tokens=prompt_tokens) for one in siblings)
        known = [seconds for seconds in others if seconds is not None]
        if known:
            return max(SIBLINGS * median(known), FLOOR_S)
        most = min(deployment.timeout_s / 2, UNMEASURED_S)
        return min(most, deployment.timeouts.first_token_s) if streaming else most

    def patience(
        self, deployment: Deployment, siblings: Sequence[Deployment], *, streaming: bool, prompt_tokens: int
    ) -> Patience:
        """Return the thresholds of silence for a call.

        Arguments as for :meth:`allowed_s`.
        """
        allowed_s = self.allowed_s(deployment, siblings, streaming=streaming, prompt_tokens=prompt_tokens)
        quick_s = self._quantile_s(deployment, QUICK, streaming=streaming, prompt_tokens=prompt_tokens)
        return Patience(allowed_s, quick_s or 0.0)

    def share_s(
        self, deployment: Deployment, share_s: float, at_most_s: float, *, streaming: bool, prompt_tokens: int
    ) -> float:
        """Return the allowed silence of an attempt before failover, seconds.

        Args:
            deployment: the deployment to call.
            share_s: its share of the request's remaining time, seconds.
            at_most_s: the request's remaining time, seconds; bounds a deployment whose usual latency exceeds its share.
            streaming: True if the answer is streamed.
            prompt_tokens: length of the prompt, tokens.
        """
        usual = self.usual_s(deployment, streaming=streaming, prompt_tokens=prompt_tokens)
        return min(max(share_s, MARGIN * (usual or 0.0)), at_most_s)

    def heard(self, deployment: Deployment) -> None:
        """Record a sign of life."""
        with self._lock:
            self._waited[deployment.name] = _Waited(self._clock())

    def result(self, deployment: Deployment, clock: CallClock, patience: Patience) -> CallResult:
        """Return the result of an abandoned call: failure if silent too long.

        A stream that stops in the middle has the same threshold as one that never begins, which is longer than the time
        between tokens; at most half of ``idle_s``.

        Args:
            deployment: the deployment that was called.
            clock: clock of the call.
            patience: thresholds of silence, see :meth:`patience`.
        """
        if clock.has_begun:
            is_silent = clock.quiet_s > min(patience.allowed_s, deployment.timeouts.idle_s / 2)
        elif clock.waited_s < patience.least_s:
            is_silent = False
        else:
            together_s = self._wait(deployment, clock.waited_s)
            is_silent = clock.waited_s >= FLOOR_S and max(clock.waited_s, together_s) > patience.allowed_s
        return CallResult.FAILURE if is_silent else CallResult.NEUTRAL

    def _wait(self, deployment: Deployment, seconds: float) -> float:
        """Add a wait that ends now, and return the total wait, seconds.

        The total starts at the last sign of life.
        """
        now = self._clock()
        with self._lock:
            waited = self._waited.setdefault(deployment.name, _Waited())
            waited.seconds += max(now - max(now - seconds, waited.until), 0.0)
            waited.until = max(waited.until, now)
            return waited.seconds
