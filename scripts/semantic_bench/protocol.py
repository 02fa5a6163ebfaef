"""Actions of a contender on texts.

Standard library alone, since it also runs in semantic-router's own environment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

Action = Callable[[list[str]], object]
"""Action of a contender on texts; the result is JSON-ready."""


def one_by_one(route: Callable[[str], object]) -> Action:
    """Return an action that times one call of ``route`` per text.

    Its result is the wall time of every call, milliseconds.
    """

    def timed(texts: list[str]) -> list[float]:
        times = []
        for text in texts:
            start = time.perf_counter()
            route(text)
            times.append((time.perf_counter() - start) * 1000.0)
        return times

    return timed


def at_once(call: Callable[[list[str]], object]) -> Action:
    """Return an action that times one call with all texts, in seconds."""

    def timed(texts: list[str]) -> float:
        start = time.perf_counter()
        call(texts)
        return time.perf_counter() - start

    return timed


def memory_mb(texts: list[str]) -> dict[str, float]:
    """Return current and peak resident memory of this process.

    In MB (10^6 bytes); Linux.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {name: int(status[key].split()[0]) * 1024 / 1e6 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def read_examples(path: Path) -> list[tuple[str, str]]:
    """Return distinct ``(intent, query)`` pairs of a JSON Lines file.

    They are sorted by intent.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(dict.fromkeys((row["intent"], row["query"]) for row in rows), key=lambda pair: pair[0])
