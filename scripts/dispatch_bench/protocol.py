"""Protocol between a contender's process and the benchmark: JSON lines.

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
"""Action of a contender, with its arguments; the result is JSON-ready."""

MODEL = "bench"
"""The logical model that all endpoints serve."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Endpoints and options of a contender; the same for all.

    Attributes:
        places: base URL by name of the endpoint, all serving :data:`MODEL`.
        rpm, tpm: limits of each endpoint; None is no limit.
        redis_port: of the Redis on this machine that several processes share; None keeps state in process.
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
        """Parse the result of :meth:`text`."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """Return the setup as one argument of a command line."""
        return json.dumps(asdict(self))


def answer_channel() -> TextIO:
    """Return the original standard output, reserved for answers.

    From here on, text that a library prints goes to standard error.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


async def serve(actions: Mapping[str, Action], answers: TextIO) -> None:
    """Run the contender's action for each line of standard input.

    It announces first that the contender is ready, and ends with the input.
    """
    _say(answers, "ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked: dict[str, Any] = json.loads(line)
        _say(answers, await actions[asked.pop("do")](**asked))


def _say(answers: TextIO, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()
