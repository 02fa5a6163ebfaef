"""Latency, throughput, start and memory of the contenders.

Rounds alternate between the contenders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from harness.processes import Worker

Figures = dict[str, Any]
WARM_UP = 10
ROUTES_BEFORE_MEMORY = 1_000


def latency(workers: Mapping[str, Worker], rounds: Sequence[list[str]], warm_up: list[str]) -> Figures:
    """Measure single-query latency, milliseconds, by contender.

    Figures are medians over the rounds of p50 and p99.

    Args:
        workers: the contenders; the first one is the reference.
        rounds: distinct queries of each round.
        warm_up: queries that are routed before, without being counted.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.ask("route", texts=warm_up)
    for number, queries in enumerate(rounds):
        for name in _rotated(list(workers), number):
            found[name].append(np.percentile(workers[name].ask("route", texts=queries), [50, 99]).tolist())
    first = np.array(found[next(iter(workers))])
    return {
        name: {
            "p50_ms": _median([p50 for p50, _ in values]),
            "p99_ms": _median([p99 for _, p99 in values]),
            "times_as_long_p50": _median((np.array(values)[:, 0] / first[:, 0]).tolist()),
            "rounds": values,
        }
        for name, values in found.items()
    }


def batch(
    ours: Worker, theirs: Worker, action: str, rounds: Sequence[list[str]], warm_up: list[str]
) -> dict[str, float]:
    """Measure queries per second of semroute and of sentence-transformers.

    They are semroute's ``action`` and ``encode`` on the same texts.
    """
    ours.ask("embed", texts=warm_up)
    theirs.ask("embed", texts=warm_up)
    speeds = []
    for number, texts in enumerate(rounds):
        taken = {}
        for name in _rotated(["ours", "theirs"], number):
            taken[name] = ours.ask(action, texts=texts) if name == "ours" else theirs.ask("embed", texts=texts)
        speeds.append([len(texts) / taken["ours"], len(texts) / taken["theirs"]])
    table = np.array(speeds)
    return {
        "semroute_per_s": _median(table[:, 0].tolist()),
        "sentence_transformers_per_s": _median(table[:, 1].tolist()),
        "ratio": _median((table[:, 0] / table[:, 1]).tolist()),
    }


def start(command: Callable[[str], list[str]], queries: list[str], times: int) -> Figures:
    """Measure fresh processes: start and memory, as medians.

    Seconds to the first decision, and memory in MB after a thousand routes.

    Args:
        command: command that starts the contender with its first query.
        queries: distinct queries, more than :data:`ROUTES_BEFORE_MEMORY`.
        times: number of processes, one after the other.
    """
    seconds, now, peak = [], [], []
    for _ in range(times):
        with Worker(command(queries[0])) as worker:
            seconds.append(worker.start_s)
            worker.ask("route", texts=queries[1 : ROUTES_BEFORE_MEMORY + 1])
            memory = worker.ask("memory", texts=[])
            now.append(memory["now"])
            peak.append(memory["peak"])
    return {"start_s": _median(seconds), "resident_mb": _median(now), "peak_mb": _median(peak), "starts_s": seconds}


def once(worker: Worker) -> Figures:
    """Return the same figures of a process that has run already."""
    memory = worker.ask("memory", texts=[])
    return {
        "start_s": worker.start_s,
        "resident_mb": memory["now"],
        "peak_mb": memory["peak"],
        "starts_s": [worker.start_s],
    }


def _rotated(names: list[str], number: int) -> list[str]:
    """Return the names rotated, so that the first changes with each round."""
    place = number % len(names)
    return names[place:] + names[:place]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
