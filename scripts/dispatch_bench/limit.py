"""Enforcement of a limit shared by four processes through Redis.

The load exceeds the limit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dispatch_bench.doubles import Double
from dispatch_bench.load import ANSWERED, REFUSED
from dispatch_bench.protocol import Setup
from dispatch_bench.windows import MINUTE_S, Admission, Most, by_calendar_minute, fullest, used
from dispatch_bench.workers import Redis, started

RPM, TPM = 600, 60_000
PROCESSES = 4
RATE = 20.0
"""Requests a second of each process: together eight times the limit."""
SECONDS = 130.0
ANSWER_S = 0.02
WARM_UP = 3
"""Calls of each process before the run, which count against the limit: the start of a process is not measured."""
WORDS = {"requests": 12, "tokens": 60}
"""Words of the prompt, and of the answer, by the binding limit: 600 calls of 24 tokens, or 500 calls of 120."""
AWAY = (1 / 3, 2 / 3)
"""Start and end of Redis's absence, as shares of the run."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Answered requests and the use of the limit.

    Attributes:
        binds: the limit that calls reach first, ``requests`` or ``tokens``.
        away_s: start and end of Redis's absence, seconds; None without one.
        offered, answered: requests.
        lost: requests that were neither answered nor rejected, by the name of the error.
        at_double: the fullest 60 s of calls arriving at the provider.
        at_double_less: the fullest window at the provider that is ``GUARD_S`` shorter, which calls overtaking each
            other on their way do not distort.
        at_gate: the fullest 60 s of permitted calls; None for a contender that does not record them.
        calendar_minute: maximum requests at the provider in a minute of the wall clock.
        used_mean, used_least: share of the binding limit in use, over all 60 s windows of the run.
    """

    binds: str
    away_s: tuple[float, float] | None
    offered: int
    answered: int
    lost: dict[str, int]
    at_double: Most
    at_double_less: Most
    at_gate: Most | None
    calendar_minute: int
    used_mean: float
    used_least: float


GUARD_S = 0.25


def limit(
    command: Callable[[Setup], list[str]], setup: Setup, binds: str, seconds: float, *, outage: bool = False
) -> Limited:
    """Load :data:`RPM` and :data:`TPM` from :data:`PROCESSES` processes.

    Args:
        command: command that starts a contender.
        setup: options of the contender; endpoints, limits and Redis are filled in.
        binds: the binding limit, ``requests`` or ``tokens``.
        seconds: length of the run; longer than a minute.
        outage: whether Redis is killed after a third of the run, and restarted, empty, after two thirds.
    """
    words = WORDS[binds]
    with Redis() as redis, Double() as double:
        double.behave(delay_s=ANSWER_S)
        setup = replace(setup, places={"only": double.url}, rpm=RPM, tpm=TPM, redis_port=redis.port)
        with started([command(setup)] * PROCESSES) as workers:
            for worker in workers:
                worker.ask("calls", calls=WARM_UP, words=words, max_tokens=words)
            at = time.monotonic() + 1.0
            for number, worker in enumerate(workers):
                shifted = at + number / (RATE * PROCESSES)
                worker.tell("load", rate=RATE, seconds=seconds, at=shifted, words=words, max_tokens=words)
            if outage:
                _sleep_until(at + seconds * AWAY[0])
                redis.kill()
                _sleep_until(at + seconds * AWAY[1])
                redis.start()
            samples = [sample for worker in workers for sample in worker.answer()]
            gate = [Admission(**row) for worker in workers for row in worker.ask("admissions")]
        seen = double.arrivals()
    endings = Counter(ending for _, _, ending, _ in samples)
    shares = _shares(used(gate or seen, at, at + seconds), binds)
    return Limited(
        binds=binds,
        away_s=(seconds * AWAY[0], seconds * AWAY[1]) if outage else None,
        offered=len(samples),
        answered=endings[ANSWERED],
        lost={name: count for name, count in endings.items() if name not in (ANSWERED, REFUSED)},
        at_double=fullest(seen),
        at_double_less=fullest(seen, MINUTE_S - GUARD_S),
        at_gate=fullest(gate) if gate else None,
        calendar_minute=by_calendar_minute([row.told for row in seen], time.time() - time.monotonic()),
        used_mean=float(np.mean(shares)),
        used_least=float(np.min(shares)),
    )


def _shares(windows: list[Most], binds: str) -> list[float]:
    return [(one.requests / RPM if binds == "requests" else one.tokens / TPM) for one in windows]


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
