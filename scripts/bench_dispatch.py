"""Measure semroute's dispatch against LiteLLM's Router.

    python scripts/bench_dispatch.py [--only a,b,c,d] [--peer peer/bin/python] [--out results.md]

(a) Failover: two providers, one of which starts to fail at 5 s of 20 s. (b) Shared limits: four processes and a Redis
against one limit, with requests or tokens in short supply, and with Redis killed and restarted during the run. (c)
Overhead: the cost of scheduling and of admission control. (d) Latency shift: one of two providers becomes four times
slower. Providers are :class:`semroute.testing.FakeProvider` in processes of their own, the same for both contenders.
``--peer`` is the interpreter of LiteLLM's environment, for a, b and c, created so:

    python -m venv peer
    peer/bin/pip install "litellm==1.102.0" redis

``scripts/peer_litellm.py`` documents the configuration of its Router; in (b) it is run as usage-based-routing-v2, and
as simple-shuffle with the check ``enforce_model_rate_limits``. Needs the extra "redis", a ``redis-server`` on the path,
Linux, and an idle machine; about 25 minutes on 2 cores, most of them in (b).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from dispatch_bench import limit
from dispatch_bench.cost import ROUNDS, own_work, whole_calls
from dispatch_bench.failover import SECONDS, failover
from dispatch_bench.limit import Limited
from dispatch_bench.protocol import Setup
from dispatch_bench.report import PACKAGES, markdown
from dispatch_bench.shift import WINDOW_S, shift
from dispatch_bench.workers import OURS, PEER, ours, theirs
from harness.report import OUT_JSON, machine, publish

SCENARIOS = ("a", "b", "c", "d")
RUNS = (("requests", "requests", False), ("tokens", "tokens", False), ("Redis away", "requests", True))
"""Variants of (b): title, which limit binds, and whether Redis is killed."""
Command = Callable[[Setup], list[str]]


def _scenarios(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    chosen = tuple(word.strip() for word in value.split(","))
    unknown = [word for word in chosen if word not in SCENARIOS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(SCENARIOS)}")
    return chosen


@click.command()
@click.option("--only", default=",".join(SCENARIOS), show_default=True, callback=_scenarios, help="Scenarios.")
@click.option("--peer", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="LiteLLM's Python.")
@click.option(
    "--seconds",
    type=click.FloatRange(4),
    help="Length of a and of each run of b, and the window of d; by default "
    f"{SECONDS:.0f}, {limit.SECONDS:.0f} and {WINDOW_S:.0f}.",
)
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True, help="Of c.")
@OUT_JSON
def main(only: tuple[str, ...], peer: Path | None, seconds: float | None, rounds: int, out: Path | None) -> None:
    """Measure, and print Markdown tables."""
    commands: dict[str, Command] = {OURS: ours}
    if peer is not None:
        commands[PEER] = partial(theirs, peer.absolute())
    results: dict[str, Any] = {"machine": machine(*PACKAGES)}
    if "a" in only:
        results["a"] = {name: failover(command, seconds or SECONDS) for name, command in commands.items()}
    if "b" in only:
        results["b"] = _limits(commands, seconds or limit.SECONDS)
    if "c" in only:
        results["c"] = {"work": own_work(ours, rounds), "whole": whole_calls(commands, rounds)}
    if "d" in only:
        results["d"] = shift(ours, seconds or WINDOW_S)
    publish([markdown(results)], out, results)


def _limits(commands: dict[str, Command], seconds: float) -> dict[str, Limited]:
    """Run every contender with each limit binding, and with Redis away.

    Requests and tokens are in short supply in turn; Redis is killed for a while with requests in short supply.
    """
    if seconds <= 60:
        raise click.UsageError("b looks at windows of 60 s: --seconds must be above 60")
    setups = {OURS: (OURS, Setup({}))}
    if PEER in commands:
        usage = Setup({}, strategy="usage-based-routing-v2", retries=0)
        checked = Setup({}, checks=("enforce_model_rate_limits",), retries=0)
        setups |= {
            f"{PEER}, usage-based-routing-v2": (PEER, usage),
            f"{PEER}, enforce_model_rate_limits": (PEER, checked),
        }
    found = {}
    for label, (name, setup) in setups.items():
        for what, binds, outage in RUNS:
            run = f"{label}, {what}"
            found[run] = limit.limit(commands[name], setup, binds, seconds, outage=outage)
            click.echo(f"{run}: {json.dumps(asdict(found[run]))}", err=True)
    return found


if __name__ == "__main__":
    main()
