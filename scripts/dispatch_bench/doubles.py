"""A provider of the benchmark: the test double in a process of its own, ``python -m dispatch_bench.doubles``.

It is steered over standard input and output and not by ``/_control``, because that does not tell when calls arrived.
"""

from __future__ import annotations

import asyncio
import sys
import time
from types import TracebackType
from typing import Self

from dispatch_bench.protocol import answer_channel, serve
from dispatch_bench.windows import Admission
from dispatch_bench.workers import Worker
from semroute.testing import FakeProvider, fail


class Double:
    """A provider's process as a context manager; it answers with the prompt, cut to the longest answer, at once."""

    def __enter__(self) -> Self:
        self._worker = Worker([sys.executable, "-m", "dispatch_bench.doubles"])
        self.url: str = self._worker.ask("url")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.__exit__(kind, error, trace)

    def behave(self, *, delay_s: float = 0.0, status: int | None = None) -> None:
        """From the next call on: answer after ``delay_s``; with an error ``status`` fail instead, at once."""
        self._worker.ask("behave", delay_s=delay_s, status=status)

    def arrivals(self) -> list[Admission]:
        """Every call so far: when it arrived, by ``time.monotonic``, and its tokens where it was answered."""
        return [Admission(at, at, tokens) for at, tokens in self._worker.ask("arrivals")]


class _Steered:
    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self._to_monotonic = time.monotonic() - time.time()

    async def url(self) -> str:
        return self._provider.base_url

    async def behave(self, delay_s: float, status: int | None) -> None:
        self._provider.set_speed(latency_s=delay_s)
        self._provider.always(None if status is None else fail(status))

    async def arrivals(self) -> list[tuple[float, int]]:
        return [(request.at + self._to_monotonic, _tokens(request.body)) for request in self._provider.requests]


def _tokens(body: object) -> int:
    """What the double counts for a call of this benchmark: the words of the prompt, and of its echo."""
    assert isinstance(body, dict)
    words = sum(len(message["content"].split()) for message in body["messages"])
    return words + min(words, int(body["max_tokens"]))


async def main() -> None:
    """Serve until standard input ends."""
    answers = answer_channel()
    with FakeProvider() as provider:
        steered = _Steered(provider)
        actions = {name: getattr(steered, name) for name in ("url", "behave", "arrivals")}
        await serve(actions, answers)


if __name__ == "__main__":
    asyncio.run(main())
