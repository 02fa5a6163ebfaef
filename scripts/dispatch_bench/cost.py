"""Overhead of scheduling and admission control per call.

Measured are the dispatcher's own work alone, and whole calls compared with a bare one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from harness.processes import Worker

from dispatch_bench.doubles import Double
from dispatch_bench.protocol import Setup
from dispatch_bench.workers import OURS, Redis

ROUNDS = 5
OWN_CALLS, CALLS, WARM_UP = 1_000, 200, 30
DEPLOYMENTS = 3
WORDS, MAX_TOKENS = 20, 20
RPM, TPM = 1_000_000, 1_000_000_000
"""Limits that count every call and are never reached."""
BARE = "httpx alone"
WITH_REDIS = f"{OURS}, state in Redis"


@dataclass(frozen=True, slots=True)
class Work:
    """Microseconds of the dispatcher's own work per call.

    Medians over rounds of each part's p50, and of the whole's p99.
    """

    plan: float
    turn: float
    end: float
    whole: float
    whole_p99: float


@dataclass(frozen=True, slots=True)
class Whole:
    """Duration of a whole call over HTTP, in milliseconds.

    Medians over rounds; ``beyond_bare`` are medians of the rounds' differences from the bare call.
    """

    p50_ms: float
    p99_ms: float
    cpu_ms: float
    beyond_bare_ms: float
    beyond_bare_cpu_ms: float


def own_work(command: Callable[[Setup], list[str]], rounds: int) -> dict[str, Work]:
    """Measure in process and with Redis, on three deployments with limits."""
    with Redis() as redis, ExitStack() as stack:
        setup = Setup({f"place-{n}": f"http://127.0.0.1:{n}/v1" for n in range(1, DEPLOYMENTS + 1)}, RPM, TPM)
        workers = {
            "in process": stack.enter_context(Worker(command(setup))),
            "with Redis": stack.enter_context(Worker(command(replace(setup, redis_port=redis.port)))),
        }
        found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                found[name].append(worker.ask("own_work", calls=OWN_CALLS, words=WORDS, max_tokens=MAX_TOKENS))
    return {name: _work(times) for name, times in found.items()}


def _work(rounds: list[dict[str, list[float]]]) -> Work:
    def median_of(part: str, percentile: float) -> float:
        return float(np.median([np.percentile(one[part], percentile) for one in rounds]))

    parts = {part: median_of(part, 50) for part in ("plan", "turn", "end", "whole")}
    return Work(**parts, whole_p99=median_of("whole", 99))


def whole_calls(commands: Mapping[str, Callable[[Setup], list[str]]], rounds: int) -> dict[str, Whole]:
    """Measure sequential calls to a provider that answers at once.

    Rounds alternate between the contenders.

    Args:
        commands: command of each contender, semroute's under :data:`~dispatch_bench.workers.OURS`.
        rounds: rounds of :data:`CALLS` calls each.
    """
    with Redis() as redis, Double() as double, ExitStack() as stack:
        setup = Setup({f"place-{n}": double.url for n in range(DEPLOYMENTS)}, RPM, TPM)
        workers = {name: stack.enter_context(Worker(command(setup))) for name, command in commands.items()}
        shared = Worker(commands[OURS](replace(setup, redis_port=redis.port)))
        asked = {BARE: (workers[OURS], "bare")}
        asked |= {name: (worker, "calls") for name, worker in workers.items()}
        asked[WITH_REDIS] = (stack.enter_context(shared), "calls")
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in asked}
        for number in range(rounds + 1):
            for name, (worker, do) in asked.items():
                calls = CALLS if number else WARM_UP
                figures = worker.ask(do, calls=calls, words=WORDS, max_tokens=MAX_TOKENS)
                if number:
                    found[name].append(_round(figures))
    bare = np.array(found[BARE])
    return {name: _whole(np.array(rows), bare) for name, rows in found.items()}


def _round(figures: dict[str, Any]) -> tuple[float, float, float]:
    p50, p99 = np.percentile(figures["times_ms"], [50, 99])
    return float(p50), float(p99), float(figures["cpu_ms"])


def _whole(rows: Any, bare: Any) -> Whole:
    p50, p99, cpu = np.median(rows, axis=0)
    beyond = np.median(rows - bare, axis=0)
    return Whole(float(p50), float(p99), float(cpu), float(beyond[0]), float(beyond[2]))
