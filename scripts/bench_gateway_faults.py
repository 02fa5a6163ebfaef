"""Measure the gateway under load while its services fail.

Compared are answers, charges and the log.

    python scripts/bench_gateway_faults.py --index DIR [--rate 40] [--seconds 8] [--only down,redis,...]

``semroute serve --workers 2`` over three providers (:class:`semroute.testing.FakeProvider`, each a server of its own
port), with admission control and conversations in a Redis and the log of outcomes in a PostgreSQL of this run's own,
which can be killed. Four virtual keys send at a steady rate, every other answer of each is streamed, and in each phase
one thing happens for its middle half:

- ``calm``: nothing;
- ``down``: one provider is gone, its connections cut;
- ``slow``: one provider answers later than the deployment's ``timeout_s``;
- ``cut``: one provider cuts each stream after three pieces, and each whole answer;
- ``redis``, ``postgres``: gone, and back;
- ``worker``: a worker is killed with SIGKILL at the beginning, and replaced;
- ``config``: SIGHUP swaps the configuration, twice, with another order of deployments and prices;
- ``readers``: 50 readers of long streams, each of which pauses for longer than ``timeout_s``.

In the end the accounts of clients, providers and log are compared, request by request, and what each key has spent by
``GET /v1/keys`` with what the log has of it (where neither Redis nor a worker was killed: both take counts along). No
request may be lost that a provider could have answered; none may be answered twice, or charged to another key; each
call, and each cent, must be in the log. A connection that breaks with its worker, and a stream that a provider cuts
after its first piece, are counted apart; so is what the killed worker had not written yet. The exit code is 1 where an
invariant does not hold.

Needs the extras "serve", "redis" and "postgres", a ``redis-server``, a PostgreSQL and Linux; a phase takes
``--seconds``, all of them with start and end about two minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click
from dispatch_bench.workers import Redis
from gateway_faults.accounts import account, agree, cases_of, charge_table, charges, table
from gateway_faults.load import Load
from gateway_faults.services import Gateway, Postgres, Provider, write_config
from harness.report import FOLDER, OUT_JSON, machine, machine_line, publish

from semroute.config import load_config
from semroute.outcomes.log import open_log
from semroute.server.keys import create_key
from semroute.testing import reset_after
from semroute.types import LoggedOutcome

KEYS = ("alpha", "beta", "gamma", "delta")
BUDGET_USD = 1000.0
PRICE = {"input": 1.0, "output": 2.0}
TIMEOUT_S, SLOW_S = 4.0, 10.0
"""Long enough that on a busy machine nothing but the slow provider, which shares this process, is that late."""
READERS, READ_WORDS, PAUSE_S = 50, 400, 6.0
PACKAGES = ("semroute-router", "uvicorn", "httpx", "redis", "psycopg")


@dataclass(slots=True)
class Stage:
    """Everything that a fault may touch.

    Attributes:
        folder: of the gateway.
        providers: in the order of the configuration.
        redis, postgres: services that it leans on.
        seconds: length of a phase.
    """

    folder: Path
    providers: Sequence[Provider]
    redis: Redis
    postgres: Postgres
    seconds: float

    def config(self, *, swapped: bool = False) -> dict[str, Any]:
        """Return the configuration; swapped, in another order and name."""
        providers = self.providers[::-1] if swapped else self.providers
        deployments = [
            {"name": one.name, "model": "bench", "base_url": one.url, "timeout_s": TIMEOUT_S} for one in providers
        ]
        return {
            "models": {"bench": {"price": PRICE}},
            "fallback": {"models": ["bench"]},
            "deployments": deployments,
            "state": f"redis://127.0.0.1:{self.redis.port}/0",
            "log": {"enabled": True, "url": self.postgres.url},
        }


Fault: TypeAlias = Callable[[Stage, Gateway, Load], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def calm(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Do nothing."""
    yield


@asynccontextmanager
async def down(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Take one provider down."""
    await asyncio.to_thread(stage.providers[0].down)
    yield
    stage.providers[0].up()


@asynccontextmanager
async def slow(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Have one provider answer too late."""
    stage.providers[0].slow(SLOW_S)
    yield
    stage.providers[0].slow(0.02)


@asynccontextmanager
async def cut(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Have one provider cut its answers."""
    stage.providers[0].always(reset_after(3))
    yield
    stage.providers[0].always(None)


@asynccontextmanager
async def redis(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Kill Redis, and start it empty."""
    await asyncio.to_thread(stage.redis.kill)
    yield
    await asyncio.to_thread(stage.redis.start)


@asynccontextmanager
async def postgres(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Stop PostgreSQL at once, and start it."""
    await asyncio.to_thread(stage.postgres.stop)
    yield
    await asyncio.to_thread(stage.postgres.start)


@asynccontextmanager
async def worker(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Kill a worker."""
    gateway.kill_worker()
    yield


@asynccontextmanager
async def config(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Swap the configuration, and swap it back."""
    write_config(stage.folder, stage.config(swapped=True))
    gateway.reload()
    yield
    write_config(stage.folder, stage.config())
    gateway.reload()


@asynccontextmanager
async def readers(stage: Stage, gateway: Gateway, load: Load) -> AsyncIterator[None]:
    """Open streams whose readers pause."""
    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(load.slow_reader(PAUSE_S, READ_WORDS))
        yield


FAULTS: dict[str, Fault] = {
    one.__name__: one for one in (calm, down, slow, cut, redis, postgres, worker, config, readers)
}


async def _measured(stage: Stage, gateway: Gateway, load: Load, phases: Sequence[str]) -> None:
    """Run one phase after the other under the load."""
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        for name in phases:
            click.echo(f"{name}, from request {len(load.asked)} on", err=True)
            load.phase = name
            await asyncio.sleep(stage.seconds / 4)
            async with FAULTS[name](stage, gateway, load):
                await asyncio.sleep(stage.seconds / 2)
            await asyncio.sleep(stage.seconds / 4)
        load.stop()


def _logged(folder: Path) -> list[LoggedOutcome]:
    log = open_log(load_config(folder / "semroute.yaml").log, os.environ)
    try:
        return list(log.outcomes())
    finally:
        log.close()


def _phases(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise click.BadParameter(f"no phase is named {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return names


@click.command()
@click.option("--index", type=FOLDER, required=True, help="Any index, such as that of semroute build-index.")
@click.option("--rate", default=40.0, show_default=True, type=click.FloatRange(1), help="Requests a second.")
@click.option("--seconds", default=8.0, show_default=True, type=click.FloatRange(2), help="Length of a phase.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(2))
@click.option("--only", "phases", default=",".join(FAULTS), show_default=True, callback=_phases, help="Phases.")
@OUT_JSON
def main(index: Path, rate: float, seconds: float, workers: int, phases: tuple[str, ...], out: Path | None) -> None:
    """Measure, compare the accounts, and print a Markdown table."""
    host = machine(*PACKAGES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, database = stack.enter_context(Redis()), stack.enter_context(Postgres(folder))
        providers = [Provider(f"bench-{number}") for number in (1, 2, 3)]
        for provider in providers:
            stack.callback(provider.down)
        stage = Stage(folder, providers, server, database, seconds)
        write_config(folder, stage.config())
        ring = folder / ".semroute" / "keys.json"
        keys = {name: create_key(ring, name, budget_usd=BUDGET_USD)[1] for name in KEYS}
        gateway = Gateway(folder, index, workers, create_key(ring, "admin", rights=["keys"])[1])
        stack.callback(gateway.end)
        load = Load(gateway.url, keys, rate)
        asyncio.run(_measured(stage, gateway, load, phases))
        spent = gateway.spent()
        code = gateway.end()
        logged = _logged(folder)
        warnings, served = gateway.warnings(), gateway.lines()
    calls = [request for provider in providers for request in provider.requests]
    cases = cases_of(load.asked, calls, logged)
    accounts = {
        phase: account(
            [case for case in cases.values() if case.asked.phase == phase], PRICE, may_break=phase in ("down", "cut")
        )
        for phase in dict.fromkeys(phases)
    }
    # A Redis that begins anew has forgotten what was spent, and a killed worker does not charge what it had under way.
    is_counted = not {"redis", "worker"} & set(phases)
    charged = charges(spent, cases.values(), KEYS)
    lines = [
        *table(accounts, frozenset({"worker"})),
        "",
        *charge_table(charged, is_counted=is_counted),
        "",
        f"The gateway ended with {code}.",
        "",
        machine_line(host),
    ]
    publish(lines, out, {"machine": host, "accounts": accounts, "charged": charged, "warnings": warnings})
    broken = {name: one.broken(may_lose=name == "worker") for name, one in accounts.items()}
    for numbers in (numbers for found in broken.values() for numbers in found.values()):
        for number in numbers[:5]:
            case = cases[number]
            said = [(call.status, call.charged, call.disconnected) for call in case.calls]
            click.echo(f"{case.asked}; calls {said}; logged {[one.calls for one in case.logged]}", err=True)
            click.echo(f"  the gateway's line: {served.get(f'case-{number}')}", err=True)
    if any(broken.values()) or (is_counted and not all(map(agree, charged.values()))):
        click.echo(json.dumps(warnings[-20:], indent=1), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
