"""500 streams at the same time through one process, against a provider in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.types import BreakerState, Completion, Delta, Endpoint, EndpointStatus, Request

STREAMS = 500
WORDS = 10
TOKEN_MS = 40
LONG, LEAVES_AFTER = 250, 3
MARGIN_MB = 8.0
"""What a second round may leave behind in memory: 16 kB a stream. What a stream holds while it runs is more."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads memory and open files from /proc")


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A provider that sends a word every :data:`TOKEN_MS`."""
    command = [sys.executable, "-m", "semroute.testing", "--port", "0", "--token-ms", str(TOKEN_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()


@asynccontextmanager
async def dispatching(base_url: str) -> AsyncIterator[Dispatcher]:
    deployment = {"name": "only", "model": "m", "base_url": base_url, "limits": {"parallel": STREAMS}}
    dispatcher = Dispatcher(Config.model_validate({"deployments": [deployment]}))
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


def text_of(number: int, words: int = WORDS) -> str:
    """A text that no other stream has a word of."""
    return " ".join(f"stream{number}word{place}" for place in range(words))


async def read(dispatcher: Dispatcher, number: int, all_open: asyncio.Barrier | None = None) -> str:
    """The whole stream; its pieces must be the completion's text. It is held open at ``all_open``, if given."""
    request = Request(({"role": "user", "content": text_of(number)},), max_tokens=2 * WORDS)
    pieces, completion = [], None
    async with aclosing(dispatcher.stream(request, ["m"])) as events:
        async for event in events:
            if isinstance(event, Delta):
                pieces.append(event.text)
                if all_open is not None and len(pieces) == 1:
                    await all_open.wait()  # every stream has begun
                    await all_open.wait()  # and the test has looked at them
            else:
                completion = event
    assert isinstance(completion, Completion)
    assert completion.text == "".join(pieces)
    return completion.text


async def leave(dispatcher: Dispatcher, number: int) -> str:
    """The first pieces of a stream that would take very much longer."""
    request = Request(({"role": "user", "content": text_of(number, LONG)},), max_tokens=2 * LONG)
    pieces: list[str] = []
    async with aclosing(dispatcher.stream(request, ["m"])) as events:
        async for event in events:
            assert isinstance(event, Delta)
            pieces.append(event.text)
            if len(pieces) == LEAVES_AFTER:
                break
    return "".join(pieces)


async def all_at_once(dispatcher: Dispatcher) -> None:
    all_open = asyncio.Barrier(STREAMS + 1)
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(read(dispatcher, number, all_open)) for number in range(STREAMS)]
        await all_open.wait()
        assert (await status(dispatcher)).in_flight == STREAMS
        await all_open.wait()
    assert [await task for task in reads] == [text_of(number) for number in range(STREAMS)]


async def status(dispatcher: Dispatcher) -> EndpointStatus:
    (found,) = await dispatcher.gates.statuses([Endpoint("only", parallel=STREAMS)])
    return found


async def stats_at_rest(base_url: str) -> dict[str, Any]:
    """What the provider counted once it has noticed that nobody listens any more."""
    address = base_url.removesuffix("/v1") + "/_stats"
    async with httpx.AsyncClient() as client:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            stats: dict[str, Any] = (await client.get(address)).json()
            if stats["in_flight"] == 0 or time.monotonic() > give_up:
                return stats
            await asyncio.sleep(0.05)


def memory_mb() -> float:
    """Resident memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
@linux
def test_500_streams_at_once_are_not_mixed_up_and_leave_nothing_behind(base_url: str) -> None:
    async def rounds() -> list[float]:
        memory = []
        async with dispatching(base_url) as dispatcher:
            for _ in range(2):
                await all_at_once(dispatcher)
                memory.append(memory_mb())
            at_rest = await status(dispatcher)
            assert (at_rest.in_flight, at_rest.failure_share) == (0, 0.0)
        stats = await stats_at_rest(base_url)
        assert stats["in_flight"] == 0
        return memory

    before = open_files()
    first, last = asyncio.run(rounds())
    assert open_files() <= before
    assert last - first < MARGIN_MB


@pytest.mark.slow
@linux
def test_of_500_streams_half_are_left_and_the_others_do_not_notice(base_url: str) -> None:
    async def halves() -> None:
        async with dispatching(base_url) as dispatcher:
            left_before = (await stats_at_rest(base_url))["disconnected"]
            kept = asyncio.gather(*(read(dispatcher, number) for number in range(0, STREAMS, 2)))
            gone = asyncio.gather(*(leave(dispatcher, number) for number in range(1, STREAMS, 2)))
            assert await kept == [text_of(number) for number in range(0, STREAMS, 2)]
            wholes = [text_of(number, LONG) for number in range(1, STREAMS, 2)]
            assert all(whole.startswith(part) for whole, part in zip(wholes, await gone, strict=True))
            at_rest = await status(dispatcher)
            assert (at_rest.in_flight, at_rest.failure_share) == (0, 0.0)
            assert at_rest.breaker is BreakerState.CLOSED
        stats = await stats_at_rest(base_url)
        assert stats["in_flight"] == 0
        assert stats["disconnected"] - left_before == STREAMS // 2

    before = open_files()
    asyncio.run(halves())
    assert open_files() <= before
