"""Endurance of a worker: memory over requests and open streams."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

import httpx
from harness.report import head, row

from gateway_bench.load import Setting, burst
from gateway_bench.servers import Server

SAMPLES = 20
RESERVED_FILES = 200
"""Open files of this process beside its streams."""
SAMPLE_S = 0.5
WORDS = 9
"""Of an answer that is streamed slowly, about: the double repeats the question."""
_OPEN = re.compile(r"^semroute_open_streams(?:\{[^}]*\})? ([0-9.e+]+)$", re.M)


@dataclass(frozen=True, slots=True)
class Soak:
    """Memory of a worker over many requests.

    Attributes:
        requests: number of requests before each sample.
        rss_mb: the samples.
        wall_s: seconds in all.
    """

    requests: Sequence[int]
    rss_mb: Sequence[float]
    wall_s: float

    @property
    def slope_kb(self) -> float:
        """Return the growth over the second half, kB for 1,000 requests.

        It is the least-squares slope of the samples.
        """
        half = len(self.requests) // 2
        xs, ys = self.requests[half:], self.rss_mb[half:]
        x, y = sum(xs) / len(xs), sum(ys) / len(ys)
        spread = sum((one - x) ** 2 for one in xs)
        return sum((one - x) * (two - y) for one, two in zip(xs, ys, strict=True)) / spread * 1e6 if spread else 0.0

    def lines(self) -> Iterator[str]:
        """Yield a table of the samples, and the slope."""
        yield from head("requests", *(f"{number:,}" for number in self.requests))
        yield row("RSS, MB", *(f"{mb:.1f}" for mb in self.rss_mb))
        yield ""
        rate = self.requests[-1] / self.wall_s
        yield f"Growth over the second half: {self.slope_kb:+.1f} kB for 1,000 requests, at {rate:.0f} requests/s."


async def soak(server: Server, setting: Setting) -> Soak:
    """Send a setting's requests, and sample the memory of the server 20 times."""
    numbers, start = count(), time.perf_counter()
    requests, rss = [0], [server.rss_mb()]
    part = max(1, setting.requests // SAMPLES)
    while (done := requests[-1]) < setting.requests:
        size = min(part, setting.requests - done)
        await burst(server.url, replace(setting, requests=size), islice(numbers, size), key=server.key)
        requests.append(done + size)
        rss.append(server.rss_mb())
    return Soak(requests, rss, time.perf_counter() - start)


@dataclass(slots=True)
class OpenStreams:
    """Many slow streams at once on one worker.

    Attributes:
        streams: that were opened.
        failed: errors of those that did not end whole.
        ended_s: of each whole one, seconds from the start of all to its end.
        rss_mb: samples of the worker's memory: before, under way, after.
        open: samples of the streams that were open, by the worker's own count.
    """

    streams: int
    failed: list[str] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    def sample(self, server: Server, metrics: str = "") -> None:
        """Note the memory of a worker, and the open streams in its metrics."""
        self.rss_mb.append(server.rss_mb())
        if (shown := _OPEN.search(metrics)) is not None:
            self.open.append(round(float(shown[1])))

    def lines(self) -> Iterator[str]:
        """Yield a table of one row, and the first errors."""
        yield from head("streams", "whole", "most at once", "RSS before, MB", "most", "after", "first end, s", "last")
        ends = [min(self.ended_s, default=0.0), max(self.ended_s, default=0.0)]
        rss = (self.rss_mb[0], max(self.rss_mb), self.rss_mb[-1])
        shown = (*(f"{mb:.0f}" for mb in rss), *(f"{end:.1f}" for end in ends))
        yield row(self.streams, len(self.ended_s), max(self.open, default=0), *shown)
        yield from self.failed[:5]


def raise_file_limit(streams: int) -> int:
    """Allow this process and its children so many files; return the limit.

    A worker has two connections for each stream.

    Raises:
        SystemExit: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * streams + RESERVED_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{streams} streams need {needed} open files, and the hard limit is {hard}: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return needed
    return soft


async def open_streams(server: Server, upstream: Server, streams: int, seconds: float) -> OpenStreams:
    """Open streams at once, and check that each ends whole.

    Args:
        server: the gateway, of one worker.
        upstream: the double behind it, which is slowed down.
        streams: number of connections, each with one stream.
        seconds: length of a stream, about.
    """
    found, ended = OpenStreams(streams), list[float]()
    found.sample(server)
    await _control(upstream, {"speed": {"token_s": seconds / WORDS}})
    start = time.perf_counter()

    async def one(number: int) -> None:
        await burst(server.url, Setting("small", 1, True, 100, 1), iter([number]), key=server.key)
        ended.append(time.perf_counter() - start)

    async def sample() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60.0) as client:
            while True:
                metrics = await client.get(f"{server.url.removesuffix('/v1')}/metrics")
                found.sample(server, metrics.text)
                await asyncio.sleep(SAMPLE_S)

    sampling = asyncio.create_task(sample())
    results = await asyncio.gather(*map(one, range(streams)), return_exceptions=True)
    sampling.cancel()
    await asyncio.wait({sampling})
    await _control(upstream, {"speed": {"token_s": 0.0}})
    found.sample(server)
    found.failed = [repr(result) for result in results if result is not None]
    found.ended_s = ended
    return found


async def _control(upstream: Server, switches: Mapping[str, object]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.post(f"{upstream.url.removesuffix('/v1')}/_control", json=switches)).raise_for_status()
