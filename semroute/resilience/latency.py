"""Latency of each deployment, as exact quantiles over a sliding window."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from semroute import forks
from semroute.resilience.breaker import Clock

# Exact quantiles of the latest values, kept sorted as they come and go.


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the ``q`` quantile of a non-empty ascending sequence.

    Neighbours are interpolated linearly: type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996);
    numpy's default.

    Raises:
        ValueError: ``q`` is not within 0 to 1.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile is from 0 to 1, not {q}")
    rank = q * (len(ordered) - 1)
    below = int(rank)
    if below + 1 >= len(ordered):
        return ordered[below]
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (rank - below)


class SortedValues:
    """Sorted list of a few hundred values.

    Adding and removing take a binary search and a memory move, about a microsecond; sorting anew after each call would
    cost a hundred times as much.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """Add a value."""
        insort(self._values, value)

    def remove(self, value: float) -> None:
        """Remove a value that was added."""
        del self._values[bisect_left(self._values, value)]

    def ordered(self) -> tuple[float, ...]:
        """Return the current values, ascending."""
        return tuple(self._values)


PROMPT_BOUNDS = (256, 1024, 4096, 16384, 65536)
"""Largest prompts of the size buckets, tokens; the last bucket has no bound.

Each is four times the one before: time to first token grows with the prompt, so that calls of a bucket are
comparable."""


def seconds_per_token(total_s: float, first_token_s: float | None, output_tokens: int | None) -> float | None:
    """Return the time per output token after the first; None if unknown.

    It is ``(total - first token) / (tokens - 1)`` and not ``total / tokens``: most of a short answer's time passes
    before its first token, and does not repeat with each token of a longer one.
    """
    if first_token_s is None or output_tokens is None or output_tokens < 2:
        return None
    return max(total_s - first_token_s, 0.0) / (output_tokens - 1)


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """Expected latency of a call, seconds.

    A time is None if too few calls of the window had it.

    Attributes:
        first_token_p50_s: median time to the first token.
        first_token_p95_s: 95th percentile of it.
        per_token_p50_s: median time per output token after the first.
        total_p50_s: median time to the complete answer.
        samples: number of calls behind the estimate.
    """

    first_token_p50_s: float | None
    first_token_p95_s: float | None
    per_token_p50_s: float | None
    total_p50_s: float | None
    samples: int
    _first_tokens: tuple[float, ...] = field(default=(), repr=False)
    _totals: tuple[float, ...] = field(default=(), repr=False)

    def quantile(self, q: float) -> float | None:
        """Return a quantile (0 to 1) of the time to first token, seconds.

        Raises:
            ValueError: ``q`` is not within 0 to 1.
        """
        return quantile(self._first_tokens, q) if self._first_tokens else None

    def total_quantile(self, q: float) -> float | None:
        """Return a quantile (0 to 1) of the time to the complete answer, seconds.

        Raises:
            ValueError: ``q`` is not within 0 to 1.
        """
        return quantile(self._totals, q) if self._totals else None


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    first_token_s: float | None
    per_token_s: float | None
    total_s: float


class _Window:
    """Sliding window of the latest calls of one kind, at most ``most``."""

    def __init__(self, window_s: float, most: int, least: int) -> None:
        self._window_s = window_s
        self._most = most
        self._least = least
        self._samples: deque[_Sample] = deque()
        self._first_token = SortedValues()
        self._per_token = SortedValues()
        self._total = SortedValues()
        self._estimate: LatencyEstimate | None = None

    def add(self, sample: _Sample) -> None:
        self.forget(sample.at)
        if len(self._samples) >= self._most:
            self._drop_oldest()
        self._samples.append(sample)
        self._total.add(sample.total_s)
        if sample.first_token_s is not None:
            self._first_token.add(sample.first_token_s)
        if sample.per_token_s is not None:
            self._per_token.add(sample.per_token_s)
        self._estimate = None

    def forget(self, now: float) -> None:
        while self._samples and self._samples[0].at + self._window_s <= now:
            self._drop_oldest()

    def estimate(self, now: float) -> LatencyEstimate | None:
        """Return the cached estimate; None with fewer than ``least`` samples."""
        self.forget(now)
        if len(self._samples) < self._least:
            return None
        if self._estimate is None:
            first_tokens = self._enough(self._first_token)
            per_token, total = self._enough(self._per_token), self._enough(self._total)
            self._estimate = LatencyEstimate(
                first_token_p50_s=quantile(first_tokens, 0.5) if first_tokens else None,
                first_token_p95_s=quantile(first_tokens, 0.95) if first_tokens else None,
                per_token_p50_s=quantile(per_token, 0.5) if per_token else None,
                total_p50_s=quantile(total, 0.5) if total else None,
                samples=len(self._samples),
                _first_tokens=first_tokens,
                _totals=total,
            )
        return self._estimate

    def _enough(self, values: SortedValues) -> tuple[float, ...]:
        return values.ordered() if len(values) >= self._least else ()

    def _drop_oldest(self) -> None:
        sample = self._samples.popleft()
        self._total.remove(sample.total_s)
        if sample.first_token_s is not None:
            self._first_token.remove(sample.first_token_s)
        if sample.per_token_s is not None:
            self._per_token.remove(sample.per_token_s)
        self._estimate = None


# Calls of a window: deployment, streaming or not, index of the size bucket; None stands for all.
_Scope = tuple[str, bool | None, int | None]


class LatencyWindows:
    """Latency windows by deployment, streaming and prompt size.

    Prompt sizes are those of :data:`PROMPT_BOUNDS`. A kind with too few calls in the window uses those of all prompt
    sizes, then all of the deployment; the three are maintained in parallel, each sorted as calls come and go, so that
    an estimate is a look-up.

    Only complete answers should be observed: the duration of a failure does not predict that of an answer.

    Args:
        window_s: time for which a call counts, seconds.
        most: most calls kept of each kind; the oldest go first.
        least: fewest calls that an estimate may rest on, at least 1.
        clock: seconds, monotonic.
    """

    def __init__(
        self, window_s: float = 60.0, most: int = 512, least: int = 5, *, clock: Clock = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._most = most
        self._least = max(least, 1)
        self._clock = clock
        self._lock = forks.lock()
        self._windows: dict[_Scope, _Window] = {}

    def observe(
        self,
        deployment: str,
        *,
        streaming: bool,
        prompt_tokens: int,
        first_token_s: float | None,
        per_token_s: float | None,
        total_s: float,
        now: float | None = None,
    ) -> None:
        """Record the latency of an answered call.

        Values that are no times (negative, NaN, infinite) are ignored.

        Args:
            deployment: its name.
            streaming: True if the answer was streamed.
            prompt_tokens: length of the prompt.
            first_token_s: time to the first token; None if it was not seen.
            per_token_s: see :func:`seconds_per_token`.
            total_s: time to the complete answer.
            now: time of its end; None reads the clock.
        """
        if not _is_time(total_s):
            return
        first_token_s = first_token_s if _is_time(first_token_s) else None
        per_token_s = per_token_s if _is_time(per_token_s) else None
        with self._lock:
            at = self._clock() if now is None else now
            sample = _Sample(at, first_token_s, per_token_s, total_s)
            for scope in _scopes(deployment, streaming, prompt_tokens):
                if scope not in self._windows:
                    self._windows[scope] = _Window(self._window_s, self._most, self._least)
                self._windows[scope].add(sample)

    def estimate(
        self, deployment: str, *, streaming: bool, prompt_tokens: int, now: float | None = None
    ) -> LatencyEstimate | None:
        """Estimate the latency of such a call; None without recent calls."""
        with self._lock:
            at = self._clock() if now is None else now
            for scope in _scopes(deployment, streaming, prompt_tokens):
                window = self._windows.get(scope)
                found = None if window is None else window.estimate(at)
                if found is not None:
                    return found
        return None

    def snapshot(self, now: float | None = None) -> list[dict[str, object]]:
        """Return the current estimates, ready for JSON.

        There is one for each kind of call with enough samples. ``prompt_tokens`` is the size bucket, such as
        ``257-1024``, ``65537+`` or ``all``; ``streaming`` is None if both kinds are taken together.
        """
        with self._lock:
            at = self._clock() if now is None else now
            rows = [(scope, window.estimate(at)) for scope, window in self._windows.items()]
        return [_described(scope, found) for scope, found in rows if found is not None]


def _scopes(deployment: str, streaming: bool, prompt_tokens: int) -> tuple[_Scope, _Scope, _Scope]:
    bucket = bisect_left(PROMPT_BOUNDS, prompt_tokens)
    return (deployment, streaming, bucket), (deployment, streaming, None), (deployment, None, None)


def _described(scope: _Scope, found: LatencyEstimate) -> dict[str, object]:
    deployment, streaming, bucket = scope
    return {
        "deployment": deployment,
        "streaming": streaming,
        "prompt_tokens": "all" if bucket is None else _sizes(bucket),
        "first_token_p50_s": found.first_token_p50_s,
        "first_token_p95_s": found.first_token_p95_s,
        "per_token_p50_s": found.per_token_p50_s,
        "total_p50_s": found.total_p50_s,
        "samples": found.samples,
    }


def _sizes(bucket: int) -> str:
    smallest = PROMPT_BOUNDS[bucket - 1] + 1 if bucket else 0
    return f"{smallest}-{PROMPT_BOUNDS[bucket]}" if bucket < len(PROMPT_BOUNDS) else f"{smallest}+"


def _is_time(seconds: float | None) -> bool:
    return seconds is not None and math.isfinite(seconds) and seconds >= 0
