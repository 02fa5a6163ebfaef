"""What a contender's process and the benchmark say to each other: a line of JSON each way.

Standard library alone, since it also runs in LiteLLM's own environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TextIO

Action = Callable[..., Awaitable[object]]
"""What a contender does when asked, with the arguments of the question; the result is JSON-ready."""

MODEL = "bench"
"""The logical model that all places serve."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a contender calls, and how; the same for all.

    Attributes:
        places: base URL by name of the place, all serving :data:`MODEL`.
        rpm, tpm: limits of each place; None is no limit.
        redis_port: of the Redis on this machine that several processes share; None is state in process.
        window_s: seconds that a latency counts (semroute); None takes the default.
        strategy: LiteLLM's ``routing_strategy``.
        checks: LiteLLM's ``optional_pre_call_checks``.
        retries: LiteLLM's ``num_retries``.
    """

    places: Mapping[str, str]
    rpm: int | None = None
    tpm: int | None = None
    redis_port: int | None = None
    window_s: float | None = None
    strategy: str = "simple-shuffle"
    checks: tuple[str, ...] = ()
    retries: int = 5

    @classmethod
    def parse(cls, text: str) -> Self:
        """From :meth:`text`."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self))


def answer_channel() -> TextIO:
    """Standard output for answers alone; whatever a library prints goes to standard error from here on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


async def serve(actions: Mapping[str, Action], answers: TextIO) -> None:
    """Say that the contender is ready, then do what each line of standard input asks, until it ends."""
    _say(answers, "ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked: dict[str, Any] = json.loads(line)
        _say(answers, await actions[asked.pop("do")](**asked))


def _say(answers: TextIO, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()
