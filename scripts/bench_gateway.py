"""Measure what the gateway adds to a call, beside LiteLLM's proxy.

    python scripts/bench_gateway.py [--index DIR] [--peer peer/bin/python] [--out results.md]

The same client calls the same test double (``python -m semroute.testing``) directly, through ``semroute serve`` and
through LiteLLM's proxy, each a process of its own with one worker; they take turns in every round, and figures are
medians over the rounds. What is added is the difference of the percentiles. The gateway logs outcomes in SQLite, as it
does by default. ``--out`` keeps every time of every request as JSON beside the tables. On few cores client, double and
server share them, so that requests a second are a lower bound; the CPU time of the server's process is the figure that
depends least on its neighbours. ``--peer`` is the interpreter of LiteLLM's environment, created so:

    python -m venv peer
    peer/bin/pip install "litellm[proxy]"

Needs the extra "serve" and Linux; about three minutes. The first run without ``--index`` builds the shipped categories.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import click
from gateway_bench.figures import Run, tables
from gateway_bench.load import Setting, burst
from gateway_bench.servers import Server, double, gateway, peer
from harness.report import FOLDER, OUT_JSON, head, machine, machine_line, publish, row

DIRECT, OURS, PEER = "direct", "semroute serve", "LiteLLM's proxy"
LONG_TOKENS = 100_000
FIXED, AUTO = "small", "auto"
PACKAGES = ("semroute-router", "uvicorn", "httpx")


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter("numbers, separated by commas") from None
    if min(numbers) < 1:
        raise click.BadParameter("at least 1")
    return numbers


@click.command()
@click.option("--index", type=FOLDER, help="Index for auto; by default that of the shipped categories.")
@click.option(
    "--peer", "python", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="LiteLLM's Python."
)
@click.option("--connections", default="1,16,64", show_default=True, callback=_numbers, help="Such as 1,16,64,256.")
@click.option("--requests", default=200, show_default=True, type=click.IntRange(10), help="Of each burst.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--long/--no-long", default=True, show_default=True, help="Prompts of 100,000 tokens, one connection.")
@OUT_JSON
def main(
    index: Path | None,
    python: Path | None,
    connections: tuple[int, ...],
    requests: int,
    rounds: int,
    long: bool,
    out: Path | None,
) -> None:
    """Measure, and print Markdown tables."""
    host = machine(*PACKAGES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(double(folder))
        servers = {DIRECT: upstream, OURS: stack.enter_context(gateway(upstream, index, folder))}
        if python is not None:
            servers[PEER] = stack.enter_context(peer(python, upstream, folder))
        before = {name: server.rss_mb() for name, server in servers.items()}
        runs = _measured(servers, connections, requests, rounds, long=long)
        memory = {name: (before[name], server.rss_mb()) for name, server in servers.items()}
    lines = [
        *tables(runs, DIRECT, OURS, None if python is None else PEER),
        "",
        *head("server", "RSS before, MB", "after"),
    ]
    lines += [row(name, f"{first:.0f}", f"{last:.0f}") for name, (first, last) in memory.items()]
    publish([*lines, "", machine_line(host)], out, {"machine": host, "memory_mb": memory, "runs": runs})


def _measured(
    servers: Mapping[str, Server], connections: tuple[int, ...], requests: int, rounds: int, *, long: bool
) -> list[Run]:
    """Run every setting on every server, in turns, after a burst that does not count."""
    numbers, found = count(), list[Run]()
    settings = [
        Setting(FIXED, number, streaming, 1000, max(requests, 2 * number))
        for number in connections
        for streaming in (False, True)
    ]
    if long:
        settings.append(Setting(FIXED, 1, False, LONG_TOKENS, max(10, requests // 10)))
    for turn in range(rounds + 1):
        for setting in settings:
            for name, server, asked in _contenders(servers, setting):
                run = _run(name, server, asked, turn, lambda: next(numbers))
                if turn:
                    found.append(run)
    return found


def _contenders(servers: Mapping[str, Server], setting: Setting) -> list[tuple[str, Server, Setting]]:
    """Return who takes a turn in a setting: the gateway twice, with the fixed model and with auto."""
    auto = Setting(AUTO, setting.connections, setting.streaming, setting.tokens, setting.requests)
    return [*((name, server, setting) for name, server in servers.items()), (OURS, servers[OURS], auto)]


def _run(name: str, server: Server, setting: Setting, turn: int, number: Callable[[], int]) -> Run:
    before = server.cpu_s()
    found = asyncio.run(burst(server.url, setting, iter(number, None), key=server.key))
    first, total = ([round(1000 * s, 3) for s in times] for times in (found.first_s, found.total_s))
    return Run(name, setting, turn, first, total, found.wall_s, server.cpu_s() - before)


if __name__ == "__main__":
    main()
