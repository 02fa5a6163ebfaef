"""``semroute providers``: reachability and status of the deployments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semroute.cli.console import config_option, json_option
from semroute.cli.main import SuggestingGroup

if TYPE_CHECKING:
    from semroute.cli.tables import DataTable
    from semroute.config import Config
    from semroute.dispatch.status import Probe


@click.group(cls=SuggestingGroup)
def providers() -> None:
    """Look at the deployments of semroute.yaml."""


@providers.command()
@config_option
@json_option
@click.pass_context
def check(context: click.Context, config_path: Path | None, as_json: bool) -> None:
    """Call each deployment once, and show latency and capabilities.

    Each key of a deployment is tried. The calls are real, of a few tokens each. Exits with 1 when one does not answer.
    """
    from semroute import _sync
    from semroute.cli.console import print_json
    from semroute.dispatch.status import probe_all

    probes = _sync.run(probe_all(_config(config_path)))
    if as_json:
        print_json([asdict(probe) for probe in probes])
    else:
        _print_probes(probes)
    context.exit(1 if any(probe.error is not None for probe in probes) else 0)


@providers.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """Show breakers, limits, budgets and measured latency of each deployment.

    With a Redis as state that is what all replicas see now; with state in process it is what the last "semroute ask",
    or a service that saves its state, left in .semroute/state.json.
    """
    from semroute import _sync
    from semroute.cli.console import print_json
    from semroute.dispatch.status import read_status

    found = _sync.run(read_status(_config(config_path), os.environ))
    if as_json:
        print_json(found)
    else:
        _print_status(found)


@providers.command()
@click.argument("name")
@config_option
def enable(name: str, config_path: Path | None) -> None:
    """Let the deployment or key NAME be called again at once.

    A key is named by its environment variable.

    Lifts everything that closes it: the breaker, a wait that the provider asked for, a suspended or disabled key.
    Limits and budgets stay. With state in Redis for all replicas; with state in process for the one that saves its
    state in .semroute/state.json, at its next request. A key that was replaced needs no enabling.
    """
    from semroute import _sync
    from semroute.cli.console import print_note
    from semroute.dispatch.status import enable as enable_places

    _sync.run(enable_places(_config(config_path), os.environ, name))
    print_note(f"{name} may be called again")


def _config(path: Path | None) -> Config:
    from semroute.config import load_config
    from semroute.errors import NoDeploymentError

    config = load_config(path)
    if not config.deployments:
        raise NoDeploymentError('no deployments are configured; "semroute init" writes a file to start from')
    return config


def _print_probes(probes: Sequence[Probe]) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.tables import plain_table

    table = plain_table("ms", first="deployment")
    for name in ("model", "answers as"):
        table.add_column(name, "name")
    for name in ("price", "capabilities"):
        table.add_column(name)
    for probe in probes:
        known = "not said" if probe.capabilities is None else ", ".join(probe.capabilities) or "none"
        table.add_row(
            Text(probe.deployment, style="cyan"),
            f"{probe.latency_ms:,.0f}" if probe.latency_ms else "-",
            Text(probe.model),
            Text("no answer", "red") if probe.error else Text(probe.upstream_model or "", "green"),
            "known" if probe.has_price else "not known",
            Text(known),
        )
    console = stdout()
    console.print(table)
    # A reason that several share is printed once.
    reasons: dict[str, list[str]] = {}
    for probe in probes:
        if probe.error is not None:
            reasons.setdefault(probe.error, []).append(probe.deployment)
    for reason, names in reasons.items():
        print_words(console, Text(f"{', '.join(names)}: {reason}", style="red"))


def _print_status(found: Mapping[str, Any]) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.tables import number, percent, plain_table

    console = stdout()
    print_words(console, Text(found["source"], style="dim"))
    table = plain_table("calls", "failed", "running", "room", "USD", first="deployment")
    for name in ("key", "breaker"):
        table.add_column(name, "name")
    for place in found["places"]:
        table.add_row(
            Text(place["deployment"], style="cyan"),
            str(place["calls"]),
            percent(place["failure_share"]),
            str(place["in_flight"]),
            percent(place["headroom"]),
            number(place["spent_usd"], 4),
            Text(place["credential"] or "none"),
            Text(place["breaker"], style="green" if place["breaker"] == "closed" else "red"),
        )
    console.print(table)
    for place in found["places"]:
        if place["wait_s"] != 0:
            until = "until its key is replaced or enabled" if place["breaker"] == "disabled" else "for good"
            how_long = f"closed {until}" if place["wait_s"] is None else f"closed for {place['wait_s']:.1f} s"
            key = f" with {place['credential']}" if place["credential"] else ""
            print_words(console, Text(f"{place['deployment']}{key}: {how_long}: {place['reason']}", "yellow"))
    if found["latencies"]:
        console.print()
        console.print(_latency_table(found["latencies"]))


def milliseconds(seconds: object) -> str:
    """Return seconds as milliseconds; a dash if not measured."""
    from semroute.cli.tables import number

    return number(seconds * 1000 if isinstance(seconds, float | int) else None, 1)


def _latency_table(rows: Sequence[Mapping[str, Any]]) -> DataTable:
    from rich.text import Text

    from semroute.cli.tables import plain_table

    shared = any("replica" in row for row in rows)
    table = plain_table("samples", "first token, ms", "a token, ms", "total, ms", first="deployment")
    for name in ("streamed", "prompt tokens", *(["replica"] if shared else [])):
        table.add_column(name)
    for row in rows:
        table.add_row(
            Text(row["deployment"], style="cyan"),
            str(row["samples"]),
            *(milliseconds(row[key]) for key in ("first_token_p50_s", "per_token_p50_s", "total_p50_s")),
            {True: "yes", False: "no", None: "all"}[row["streaming"]],
            Text(str(row["prompt_tokens"])),
            *([Text(str(row["replica"]))] if shared else []),
        )
    return table
