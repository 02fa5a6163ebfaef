"""Measure the CPU time of a call by transport, and by client.

    python scripts/bench_transport.py [--rounds 5] [--out results.md]

httpx's client over its own transport, the same over semroute's on aiohttp, and the lean client over the latter, which
is what ships, call the same test double (``python -m semroute.testing``), a process of its own, in turns: with the
client alone, and through the dispatcher with its adapter. Counted is this process's CPU time, which depends less on its
neighbours than the wall clock; figures are medians over the rounds. Needs the extra "serve" and Linux; about a minute
on an idle machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import click
import httpx
import uvloop
from gateway_bench.servers import double
from harness.report import OUT_JSON, head, machine, machine_line, publish, row

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.providers.transport import AiohttpTransport, LeanClient
from semroute.types import Request

WORD = "alpha "
PACKAGES = ("semroute-router", "httpx", "aiohttp", "uvloop")
Call = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of a load: the request, and how many at once.

    Attributes:
        connections: each sends its next request when the answer to its last one is complete.
        streaming: whether answers are streamed.
        words: of the answer, one piece of a stream each.
        calls: in all.
    """

    connections: int
    streaming: bool
    words: int
    calls: int


SETTINGS = [Setting(number, *shape) for number in (1, 64) for shape in ((False, 20, 256), (True, 200, 128))]


def _httpx() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(trust_env=False, limits=limits), timeout=30.0)


def _aiohttp(kind: type[httpx.AsyncClient] = httpx.AsyncClient) -> httpx.AsyncClient:
    transport = AiohttpTransport(trust_env=False, limits=httpx.Limits(max_connections=None))
    return kind(transport=transport, timeout=30.0)


CLIENTS: Mapping[str, Callable[[], httpx.AsyncClient]] = {
    "httpx": _httpx,
    "httpx over aiohttp": _aiohttp,
    "lean over aiohttp": partial(_aiohttp, LeanClient),
}
"""Clients with the limits that semroute's have over each transport."""


def _client_call(client: httpx.AsyncClient, url: str, setting: Setting) -> Call:
    messages = [{"role": "user", "content": WORD * setting.words}]
    content = json.dumps({"model": "m", "messages": messages, "stream": setting.streaming}).encode()
    headers, address = {"content-type": "application/json"}, httpx.URL(f"{url}/chat/completions")

    async def call() -> None:
        request = client.build_request("POST", address, content=content, headers=headers)
        response = await client.send(request, stream=True)
        async for _ in response.aiter_raw():
            pass

    return call


def _dispatcher_call(client: httpx.AsyncClient, url: str, setting: Setting) -> Call:
    place = {"name": "only", "model": "m", "base_url": url, "price": {"input": 1.0, "output": 2.0}}
    dispatcher = Dispatcher(Config.model_validate({"deployments": [place]}), client=client)
    request = Request(({"role": "user", "content": WORD * setting.words},))

    async def call() -> None:
        if not setting.streaming:
            await dispatcher.complete(request, ("m",))
            return
        async for _ in dispatcher.stream(request, ("m",)):
            pass

    return call


LEVELS = {"client": _client_call, "dispatcher": _dispatcher_call}


async def _cpu_us(client_name: str, level: str, url: str, setting: Setting) -> float:
    """Return the CPU time of a call, microseconds, on open connections."""
    async with CLIENTS[client_name]() as client:
        call = LEVELS[level](client, url, setting)
        await asyncio.gather(*(call() for _ in range(setting.connections)))
        gc.collect()
        left = iter(range(setting.calls))

        async def one_after_another() -> None:
            for _ in left:
                await call()

        before = time.process_time()
        await asyncio.gather(*(one_after_another() for _ in range(setting.connections)))
        return (time.process_time() - before) / setting.calls * 1e6


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@OUT_JSON
def main(rounds: int, out: Path | None) -> None:
    """Measure, and print a Markdown table."""
    host, found = machine(*PACKAGES), dict[str, dict[str, list[float]]]()
    lines = head("CPU µs per call", *CLIENTS, "first over last")
    with tempfile.TemporaryDirectory() as folder, double(Path(folder)) as upstream:
        for level in LEVELS:
            for setting in SETTINGS:
                kind = f"{setting.words} pieces streamed" if setting.streaming else "whole"
                title = f"{level}, {setting.connections} at once, {kind}"
                times = found[title] = {name: [] for name in CLIENTS}
                for _ in range(rounds):
                    for name in CLIENTS:
                        times[name].append(uvloop.run(_cpu_us(name, level, upstream.url, setting)))
                ratio = median(taken[0] / taken[-1] for taken in zip(*times.values(), strict=True))
                lines.append(row(title, *(f"{median(taken):,.0f}" for taken in times.values()), f"{ratio:.1f}"))
    publish([*lines, "", machine_line(host)], out, {"machine": host, "cpu_us": found})


if __name__ == "__main__":
    main()
