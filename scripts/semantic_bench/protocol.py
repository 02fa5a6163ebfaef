"""What a contender's process and the benchmark say to each other: a line of JSON each way.

Standard library alone, since it also runs in semantic-router's own environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

Action = Callable[[list[str]], object]
"""What a contender does with texts; the result is JSON-ready."""


def answer_channel() -> TextIO:
    """Standard output for answers alone; whatever a library prints goes to standard error from here on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def serve(actions: Mapping[str, Action], answers: TextIO) -> None:
    """Say that the first decision is made, then do what each line of standard input asks, until it ends."""
    asked = {**actions, "memory": memory_mb}
    _say(answers, "ready")
    for line in sys.stdin:
        request = json.loads(line)
        _say(answers, asked[request["do"]](request["texts"]))


def one_by_one(route: Callable[[str], object]) -> Action:
    """Call ``route`` for each text; the wall time of every call, milliseconds."""

    def timed(texts: list[str]) -> list[float]:
        times = []
        for text in texts:
            start = time.perf_counter()
            route(text)
            times.append((time.perf_counter() - start) * 1000.0)
        return times

    return timed


def at_once(call: Callable[[list[str]], object]) -> Action:
    """Give all texts to one call; its wall time, seconds."""

    def timed(texts: list[str]) -> float:
        start = time.perf_counter()
        call(texts)
        return time.perf_counter() - start

    return timed


def memory_mb(texts: list[str]) -> dict[str, float]:
    """Resident memory of this process now and at its highest, MB (10^6 bytes); Linux."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {name: int(status[key].split()[0]) * 1024 / 1e6 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def read_examples(path: Path) -> list[tuple[str, str]]:
    """Different ``(intent, query)`` pairs of a JSON Lines file, sorted by intent."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(dict.fromkeys((row["intent"], row["query"]) for row in rows), key=lambda pair: pair[0])


def _say(answers: TextIO, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()
