"""Silence as evidence: a wait longer than a deployment usually needs counts against it, whoever ended the wait.

A deployment that hangs is seldom waited for until its own ``timeout_s``: the request's deadline, the share of it that
leaves time for another place, or a client that goes away ends the wait first. How long it was silent says as much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from semroute import forks
from semroute.config import Deployment
from semroute.dispatch.error_policy import ErrorPolicy
from semroute.errors import BrokenStreamError, DispatchError, ProviderTimeoutError, UnavailableError
from semroute.providers.streaming import CallClock
from semroute.resilience import LatencyWindows
from semroute.resilience.breaker import Clock
from semroute.types import CallResult

USUAL = 0.99
"""Quantile of the measured latency that a deployment usually needs."""
REMEMBERED_S = 3600.0
"""How far back latencies tell what is usual, seconds: longer than a breaker stays open, so that a probe is compared
with what was before the failure."""
QUICK = 0.1
"""Quantile of the measured latency below which a wait says nothing: most answers would not have come by then."""
OWN = 3.0
"""Silence counts from so many times the deployment's usual latency on,"""
SIBLINGS = 5.0
"""or, where it has none, so many times the median of its siblings',"""
UNMEASURED_S = 10.0
"""or, where they have none either, from so many seconds on, at most half of its ``timeout_s``."""
FLOOR_S = 0.25
"""No shorter silence counts, seconds: a lost packet alone takes that long
(https://datatracker.ietf.org/doc/html/rfc6298: a retransmission time-out of 0.2 to 1 s)."""
MARGIN = 1.5
"""Times its usual latency that a deployment is waited for although another place could be tried."""
SHARE = 0.5
"""Share of what a request has left that one silent attempt may take while another place can be tried."""
STALLED_S = 1.0
"""Stall of this process from which on a connection that fails is not held against the provider, seconds."""


class Patience(NamedTuple):
    """From which silence on a call says something of its deployment.

    Attributes:
        allowed_s: silence that does not yet count against it, seconds.
        least_s: wait that is too short to say anything, even added to others, seconds: who asks a model that thinks for
            ten seconds to answer in one must not close it for everybody.
    """

    allowed_s: float
    least_s: float = 0.0


@dataclass(slots=True)
class _Waited:
    """How long a deployment was waited for since its last sign of life; waits at the same time count once."""

    until: float = float("-inf")
    seconds: float = 0.0


class SilenceMonitor:
    """Keeps what is usual for each deployment, and judges silence against it. Safe to share between threads.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.usual = LatencyWindows(REMEMBERED_S, least=3, clock=clock)
        self._clock = clock
        self._lock = forks.lock()
        self._waited: dict[str, _Waited] = {}

    def usual_s(self, deployment: Deployment, *, streaming: bool, prompt_tokens: int) -> float | None:
        """Seconds to the first sign of an answer that the deployment seldom exceeds; None where it was not measured."""
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
        """Seconds of silence that do not yet count against a deployment.

        Args:
            deployment: which is waited for.
            siblings: deployments that may be drawn in its place, itself among them or not.
            streaming: whether the answer is streamed.
            prompt_tokens: length of the prompt.
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
        """From which silence on a call says something. The arguments are those of :meth:`allowed_s`."""
        allowed_s = self.allowed_s(deployment, siblings, streaming=streaming, prompt_tokens=prompt_tokens)
        quick_s = self._quantile_s(deployment, QUICK, streaming=streaming, prompt_tokens=prompt_tokens)
        return Patience(allowed_s, quick_s or 0.0)

    def share_s(
        self, deployment: Deployment, share_s: float, at_most_s: float, *, streaming: bool, prompt_tokens: int
    ) -> float:
        """Seconds that an attempt may be silent where something else can be tried after it.

        Args:
            deployment: which is called.
            share_s: its share of what the request has left.
            at_most_s: what the request has left in all; a deployment that usually takes longer than its share is
                waited for so long.
            streaming: whether the answer is streamed.
            prompt_tokens: length of the prompt.
        """
        usual = self.usual_s(deployment, streaming=streaming, prompt_tokens=prompt_tokens)
        return min(max(share_s, MARGIN * (usual or 0.0)), at_most_s)

    def heard(self, deployment: Deployment) -> None:
        """Take note of a sign of life."""
        with self._lock:
            self._waited[deployment.name] = _Waited(self._clock())

    def ending(self, deployment: Deployment, clock: CallClock, patience: Patience) -> CallResult:
        """How a call ended that nobody waited for to its end: a failure where it was silent for too long.

        A stream that stops in the middle is silent from the same time on as one that never begins, which takes longer
        than from one token to the next; at the latest from half of ``idle_s`` on.

        Args:
            deployment: which was called.
            clock: of the call.
            patience: see :meth:`patience`.
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
        """Add a wait that ends now; seconds in all since the last sign of life."""
        now = self._clock()
        with self._lock:
            waited = self._waited.setdefault(deployment.name, _Waited())
            waited.seconds += max(now - max(now - seconds, waited.until), 0.0)
            waited.until = max(waited.until, now)
            return waited.seconds


def timed(
    verdict: ErrorPolicy, error: DispatchError, clock: CallClock, ending: CallResult, idle_s: float
) -> ErrorPolicy:
    """The verdict on a failure, with regard to whose time passed.

    Args:
        verdict: by the error alone.
        error: the failure.
        clock: of the call.
        ending: by :meth:`SilenceMonitor.ending`, where the request's own limit ended the call.
        idle_s: pause of the reader from which on a provider may break a stream off.
    """
    if isinstance(error, ProviderTimeoutError) and error.is_cut_short:
        return replace(verdict, ending=ending)
    if isinstance(error, BrokenStreamError) and clock.longest_pause_s >= idle_s:
        return replace(verdict, ending=CallResult.NEUTRAL)
    is_connection = isinstance(error, UnavailableError) and error.status in (None, 200)
    if is_connection and clock.stalled_s >= STALLED_S:
        return replace(verdict, ending=CallResult.NEUTRAL)
    return verdict
