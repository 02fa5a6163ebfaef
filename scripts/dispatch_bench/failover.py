"""Failover: one of two providers starts to fail during the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from harness.processes import Worker

from dispatch_bench.doubles import Double
from dispatch_bench.load import ANSWERED
from dispatch_bench.protocol import Setup

RATE, SECONDS = 50.0, 20.0
FAILS_AFTER = 0.25
"""Start of the failures, as a share of the run: 5 s of 20 s."""
ANSWER_S = 0.05
WORDS, MAX_TOKENS = 20, 20


@dataclass(frozen=True, slots=True)
class Failover:
    """Answered requests and extra calls of a contender.

    ``extra_calls`` are provider calls beyond one per request; latencies are of answered requests, in milliseconds from
    their due time; ``endings`` counts the results of requests.
    """

    requests: int
    answered: int
    extra_calls: int
    p50_ms: float
    p99_ms: float
    p50_failing_ms: float
    p99_failing_ms: float
    slowest_ms: float
    endings: dict[str, int]


def failover(command: Callable[[Setup], list[str]], seconds: float) -> Failover:
    """Run two equal providers at :data:`RATE` requests a second.

    After a quarter of the time one answers 500 at once.
    """
    with Double() as first, Double() as second:
        doubles = (first, second)
        for double in doubles:
            double.behave(delay_s=ANSWER_S)
        with Worker(command(Setup({"first": first.url, "second": second.url}))) as worker:
            worker.ask("calls", calls=30, words=WORDS, max_tokens=MAX_TOKENS)
            before = sum(len(double.arrivals()) for double in doubles)
            at = time.monotonic() + 0.5
            worker.tell("load", rate=RATE, seconds=seconds, at=at, words=WORDS, max_tokens=MAX_TOKENS)
            time.sleep(at + seconds * FAILS_AFTER - time.monotonic())
            first.behave(status=500)
            samples = worker.answer()
            calls = sum(len(double.arrivals()) for double in doubles) - before
    answered = [(due, took) for due, took, ending, _ in samples if ending == ANSWERED]
    failing = [took for due, took in answered if due >= seconds * FAILS_AFTER]
    times = [took for _, took in answered]
    return Failover(
        requests=len(samples),
        answered=len(answered),
        extra_calls=calls - len(samples),
        p50_ms=float(np.percentile(times, 50)),
        p99_ms=float(np.percentile(times, 99)),
        p50_failing_ms=float(np.percentile(failing, 50)),
        p99_failing_ms=float(np.percentile(failing, 99)),
        slowest_ms=max(times),
        endings=dict(Counter(ending for _, _, ending, _ in samples)),
    )
