"""Endpoints and options of a contender.

Standard library alone, since it also runs in LiteLLM's own environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

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
