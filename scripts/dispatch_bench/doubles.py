"""Provider of the benchmark: the test double in a separate process.

``python -m dispatch_bench.doubles`` starts it.

It is controlled over standard input and output and not by ``/_control``, which does not report when calls arrived.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from harness.processes import Worker, answer_channel, module, serve

from dispatch_bench.windows import Admission
from semroute.testing import FakeProvider, fail


class Double:
    """Provider's process as a context manager.

    It answers at once with the prompt, cut to the maximum length.
    """

    def __enter__(self) -> Self:
        self._worker = Worker(module("dispatch_bench.doubles"))
        self.url: str = self._worker.ask("url")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.__exit__(kind, error, trace)

    def behave(self, *, delay_s: float = 0.0, status: int | None = None) -> None:
        """Set the behaviour of later calls.

        They are answered after ``delay_s``, or fail at once with ``status``.
        """
        self._worker.ask("behave", delay_s=delay_s, status=status)

    def arrivals(self) -> list[Admission]:
        """Return the calls so far.

        Each has its arrival, by ``time.monotonic``, and its tokens if it was answered.
        """
        return [Admission(at, at, tokens) for at, tokens in self._worker.ask("arrivals")]


class _Steered:
    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self._to_monotonic = time.monotonic() - time.time()

    def url(self) -> str:
        return self._provider.base_url

    def behave(self, delay_s: float, status: int | None) -> None:
        self._provider.set_speed(latency_s=delay_s)
        self._provider.always(None if status is None else fail(status))

    def arrivals(self) -> list[tuple[float, int]]:
        return [(request.at + self._to_monotonic, _tokens(request.body)) for request in self._provider.requests]


def _tokens(body: object) -> int:
    """Return the double's token count for a call of this benchmark.

    It is the words of the prompt, and of its echo.
    """
    assert isinstance(body, dict)
    words = sum(len(message["content"].split()) for message in body["messages"])
    return words + min(words, int(body["max_tokens"]))


def main() -> None:
    """Serve until standard input ends."""
    answers = answer_channel()
    with FakeProvider() as provider:
        steered = _Steered(provider)
        actions = {name: getattr(steered, name) for name in ("url", "behave", "arrivals")}
        serve(actions, answers)


if __name__ == "__main__":
    main()
