"""Adaptation to a latency shift: one of two providers becomes slower.

It becomes four times slower; measured is how its share of the calls changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from harness.processes import Worker

from dispatch_bench.doubles import Double
from dispatch_bench.protocol import Setup

WINDOW_S = 60.0
"""The dispatcher's default latency window."""
RATE = 40.0
ANSWER_S, SLOWER = 0.05, 4.0
BEFORE, AFTER = 0.5, 2.0
"""Length of the run before and after the shift, in windows."""
SMOOTH_S = 5
"""Window of the moving mean, in seconds: the share of one second has only 40 samples."""
WORDS, MAX_TOKENS = 20, 20
SETTLED = 0.1
"""Distance to the final share, relative to the whole change, that counts as settled."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Share of the slower provider over time.

    Attributes:
        window_s: the latency window.
        at_s: when it became slower, seconds after the start.
        shares: its share of the calls in each second.
        before, final: its share before the shift, and in the last half window.
        settled_after_s: seconds from the shift until the moving mean came within :data:`SETTLED` of the way of its
            final value; None if never.
        other_than_answered: requests without an answer.
    """

    window_s: float
    at_s: float
    shares: list[float]
    before: float
    final: float
    settled_after_s: float | None
    other_than_answered: int


def shift(command: Callable[[Setup], list[str]], window_s: float) -> Shift:
    """Run with latency windows of ``window_s``.

    The first provider becomes slower after half a window.
    """
    at_s, seconds = BEFORE * window_s, (BEFORE + AFTER) * window_s
    with Double() as first, Double() as second:
        for double in (first, second):
            double.behave(delay_s=ANSWER_S)
        setup = Setup({"first": first.url, "second": second.url}, window_s=window_s)
        with Worker(command(setup)) as worker:
            at = time.monotonic() + 0.5
            worker.tell("load", rate=RATE, seconds=seconds, at=at, words=WORDS, max_tokens=MAX_TOKENS)
            time.sleep(at + at_s - time.monotonic())
            first.behave(delay_s=ANSWER_S * SLOWER)
            samples = worker.answer()
    drawn = [(due, place == "first") for due, _, _, place in samples if place]
    shares = by_second(drawn, int(seconds))
    before = float(np.mean(shares[: int(at_s)]))
    final = float(np.mean(shares[-int(window_s / 2) :]))
    return Shift(
        window_s=window_s,
        at_s=at_s,
        shares=shares,
        before=before,
        final=final,
        settled_after_s=settled(shares, int(at_s), before, final),
        other_than_answered=len(samples) - len(drawn),
    )


def by_second(drawn: Sequence[tuple[float, bool]], seconds: int) -> list[float]:
    """Return the share of True in each second; NaN for an empty one."""
    moments = np.array([moment for moment, _ in drawn])
    hits = np.array([hit for _, hit in drawn], dtype=float)
    return [float(np.mean(hits[(moments >= n) & (moments < n + 1)])) for n in range(seconds)]


def settled(shares: Sequence[float], at_s: int, before: float, final: float) -> float | None:
    """Return the seconds from ``at_s`` until the share has settled.

    The mean of :data:`SMOOTH_S` seconds is then within :data:`SETTLED` of the way from ``before`` to ``final``, or
    beyond.
    """
    bar = final + SETTLED * (before - final)
    for end in range(at_s + SMOOTH_S, len(shares) + 1):
        mean = float(np.mean(shares[end - SMOOTH_S : end]))
        if (mean - bar) * (before - final) <= 0:
            return float(end - at_s)
    return None
