"""Measure the gateway's overhead beside LiteLLM's and Portkey's.

    python scripts/bench_gateway.py [--index DIR] [--peer peer/bin/python] [--portkey FILE] [--out results.md]
    python scripts/bench_gateway.py --before CHECKOUT  # beside the gateway of another checkout, as of an older commit
    python scripts/bench_gateway.py --soak 100000      # memory over so many requests
    python scripts/bench_gateway.py --streams 1000     # so many slow streams at once

The same client calls the same test double (``python -m semroute.testing``) directly, through ``semroute serve`` and
through the peers, each a process of its own with one worker; they take turns in every round, and figures are
medians over the rounds. What is added is the difference of the percentiles. The gateway logs outcomes in SQLite, as it
does by default. ``--out`` keeps every time of every request as JSON beside the tables. On few cores client, double and
server share them, so that requests a second are a lower bound; the CPU time of the server's process is the figure that
depends least on its neighbours. ``--peer`` is the interpreter of LiteLLM's environment, ``--portkey`` the program of
Portkey's gateway (TypeScript on Node.js), created so:

    python -m venv peer
    peer/bin/pip install "litellm[proxy]"
    npm install --prefix portkey @portkey-ai/gateway        # then --portkey portkey/node_modules/.bin/gateway

Where ``wrk`` is on the path, it loads each server too, whole answers over the same connections, as a second witness of
the requests a second. ``--soak`` and ``--streams`` measure nothing else, on the gateway alone: its memory, sampled each
twentieth of the requests, with the slope over the second half; and whether each of many streams that are open at once
ends whole, within what memory. They raise this process's limit of open files as far as they need and may.

Needs the extra "serve" and Linux. About six minutes on two free cores with LiteLLM's proxy and three without; a soak of
100,000 requests takes as long as 100,000 divided by the requests a second at 64 connections, 1,000 streams half a
minute. The first run without ``--index`` builds the shipped categories.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import click
from gateway_bench.endurance import SAMPLES, open_streams, raise_file_limit, soak
from gateway_bench.figures import Run, tables
from gateway_bench.load import Setting, burst
from gateway_bench.servers import Server, double, gateway, peer, portkey
from gateway_bench.witness import ABSENT, Witnessed, cells, witness
from harness.report import FOLDER, OUT_JSON, head, machine, machine_line, publish, row

DIRECT, OURS, PEER, PORTKEY = "direct", "semroute serve", "LiteLLM's proxy", "Portkey's gateway"
BEFORE = "semroute serve, before"
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
@click.option(
    "--portkey", "program", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Portkey's program."
)
@click.option("--before", type=FOLDER, help="Another checkout, whose gateway takes turns too.")
@click.option("--connections", default="1,16,64,256", show_default=True, callback=_numbers, help="Such as 1,16.")
@click.option("--requests", default=200, show_default=True, type=click.IntRange(10), help="Of each burst.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--long/--no-long", default=True, show_default=True, help="Prompts of 100,000 tokens, one connection.")
@click.option("--witness", "witness_s", default=5, show_default=True, type=click.IntRange(0), help="Seconds of wrk.")
@click.option("--soak", "soaked", type=click.IntRange(SAMPLES), help="Requests over which memory is sampled.")
@click.option("--streams", type=click.IntRange(1), help="Streams that are open at once.")
@click.option("--stream-seconds", default=20.0, show_default=True, type=click.FloatRange(1), help="Length of each.")
@OUT_JSON
def main(
    index: Path | None,
    python: Path | None,
    program: Path | None,
    before: Path | None,
    connections: tuple[int, ...],
    requests: int,
    rounds: int,
    long: bool,
    witness_s: int,
    soaked: int | None,
    streams: int | None,
    stream_seconds: float,
    out: Path | None,
) -> None:
    """Measure, and print Markdown tables."""
    host = machine(*PACKAGES)
    if soaked is not None or streams is not None:
        lines, results = _endured(index, soaked, streams, stream_seconds)
        publish([*lines, "", machine_line(host)], out, {"machine": host, **results})
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(double(folder))
        servers = {DIRECT: upstream, OURS: stack.enter_context(gateway(upstream, index, folder))}
        if before is not None:
            (folder / "before").mkdir()
            servers[BEFORE] = stack.enter_context(gateway(upstream, index, folder / "before", before))
        if python is not None:
            servers[PEER] = stack.enter_context(peer(python, upstream, folder))
        if program is not None:
            servers[PORTKEY] = stack.enter_context(portkey(program, upstream, folder))
        started = {name: server.rss_mb() for name, server in servers.items()}
        runs = _measured(servers, connections, requests, rounds, long=long)
        memory = {name: (started[name], server.rss_mb()) for name, server in servers.items()}
        seen = _witnessed(servers, connections, witness_s, folder) if witness_s else []
    lines = [
        *tables(runs, DIRECT, OURS, [name for name in servers if name not in (DIRECT, OURS)]),
        "",
        *head("server", "RSS before, MB", "after"),
    ]
    lines += [row(name, f"{first:.0f}", f"{last:.0f}") for name, (first, last) in memory.items()]
    if seen:
        lines += ["", *head("server, by wrk", "model", "connections", "requests/s", "p50 ms", "p99", "failed")]
        lines += [row(*cells(one)) for one in seen]
    elif witness_s:
        lines += ["", ABSENT]
    results = {"machine": host, "memory_mb": memory, "runs": runs, "wrk": seen}
    publish([*lines, "", machine_line(host)], out, results)


def _endured(
    index: Path | None, requests: int | None, streams: int | None, seconds: float
) -> tuple[list[str], dict[str, Any]]:
    """Measure one worker over many requests or streams.

    Returned are a table and the figures.
    """
    if streams is not None:
        raise_file_limit(streams)
    lines, results = list[str](), dict[str, Any]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(double(folder))
        server = stack.enter_context(gateway(upstream, index, folder))
        if requests is not None:
            # What is loaded on first use is no growth.
            asyncio.run(burst(server.url, Setting(AUTO, 64, True, 1000, 200), count(10**9), key=server.key))
            soaked = asyncio.run(soak(server, Setting(AUTO, 64, False, 1000, requests)))
            lines += soaked.lines()
            results["soak"] = soaked
        if streams is not None:
            opened = asyncio.run(open_streams(server, upstream, streams, seconds))
            lines += ["", *opened.lines()] if lines else opened.lines()
            results["streams"] = opened
    return lines, results


def _witnessed(
    servers: Mapping[str, Server], connections: tuple[int, ...], seconds: int, folder: Path
) -> list[Witnessed]:
    """Return what wrk sees of each server; nothing where it is not installed."""
    settings = [Setting(FIXED, number, False, 1000, 0) for number in connections]
    found = (
        witness(name, server, asked, seconds, folder, number)
        for number, (name, server, asked) in enumerate(
            one for setting in settings for one in _contenders(servers, setting)
        )
    )
    return [one for one in found if one is not None]


def _measured(
    servers: Mapping[str, Server], connections: tuple[int, ...], requests: int, rounds: int, *, long: bool
) -> list[Run]:
    """Run every setting on every server in turns, after a warm-up."""
    numbers, found = count(), list[Run]()
    settings = [
        Setting(FIXED, number, streaming, 1000, max(requests, 2 * number))
        for number in connections
        for streaming in (False, True)
    ]
    if long:
        most = max(10, requests // 10)
        settings += [Setting(FIXED, 1, streaming, LONG_TOKENS, most) for streaming in (False, True)]
    for turn in range(rounds + 1):
        for setting in settings:
            for name, server, asked in _contenders(servers, setting):
                run = _run(name, server, asked, turn, lambda: next(numbers))
                if turn:
                    found.append(run)
    return found


def _contenders(servers: Mapping[str, Server], setting: Setting) -> list[tuple[str, Server, Setting]]:
    """Return the servers of a setting: ours fixed and auto, and peers."""
    auto = Setting(AUTO, setting.connections, setting.streaming, setting.tokens, setting.requests)
    able = {name: server for name, server in servers.items() if server.streams or not setting.streaming}
    ours = [(name, servers[name], auto) for name in (OURS, BEFORE) if name in servers]
    return [*((name, server, setting) for name, server in able.items()), *ours]


def _run(name: str, server: Server, setting: Setting, turn: int, number: Callable[[], int]) -> Run:
    before = server.cpu_s()
    found = asyncio.run(burst(server.url, setting, iter(number, None), key=server.key, headers=server.headers))
    first, total = ([round(1000 * s, 3) for s in times] for times in (found.first_s, found.total_s))
    return Run(name, setting, turn, first, total, found.wall_s, server.cpu_s() - before)


if __name__ == "__main__":
    main()
