"""The waits of a provider, which a test sees and ends: what is slow by order needs no time to be so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from semroute.testing import FakeProvider


class Pace:
    """Waits that providers were told to make between two pieces, or before an answer.

    Attributes:
        waits: seconds of each wait that has begun, in order.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._ends = threading.Semaphore(0)

    def end(self, count: int = 1) -> None:
        """End so many waits, those to come included."""
        self._ends.release(count)

    async def sleep(self, seconds: float) -> None:
        """What providers call instead of :func:`asyncio.sleep`."""
        self.waits.append(seconds)
        while not self._ends.acquire(blocking=False):
            await asyncio.sleep(0.001)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    made = Pace()
    for module in ("http", "server"):
        monkeypatch.setattr(f"semroute.testing.{module}.sleep", made.sleep)
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[FakeProvider]:
    """A double that lasts for a module, whose key is "right"."""
    with FakeProvider(key="right") as running:
        yield running


@pytest.fixture
def provider(server: FakeProvider) -> FakeProvider:
    """The same one, as if it had just been started."""
    server.reset()
    return server
