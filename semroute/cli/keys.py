"""``semroute keys``: who may call the gateway, and what for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import Any

import click

from semroute.cli.console import NumberRange, json_option, print_note
from semroute.cli.main import SuggestingGroup
from semroute.errors import SemrouteError
from semroute.server.keys import DEFAULT_FILE, RIGHTS, USUAL_RIGHTS, Right

file_option = click.option(
    "--file", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True, help="The keys."
)


@click.group(cls=SuggestingGroup)
def keys() -> None:
    """Create, list, disable and revoke the gateway's virtual keys."""


@keys.command()
@click.argument("name")
@file_option
@click.option("--model", "models", multiple=True, metavar="NAME", help="Allow this model, group or auto (repeat).")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens a minute.")
@click.option("--budget", type=NumberRange(0), metavar="USD", help="Spending a calendar month.")
@click.option(
    "--right",
    "rights",
    type=click.Choice(RIGHTS),
    multiple=True,
    help=f"What it may do, and nothing else (repeat). Default: {', '.join(USUAL_RIGHTS)}.",
)
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="Metadata for rules, such as plan=free.")
def create(
    name: str,
    path: Path,
    models: tuple[str, ...],
    rpm: int | None,
    tpm: int | None,
    budget: float | None,
    rights: tuple[Right, ...],
    pairs: tuple[str, ...],
) -> None:
    """Create a key for NAME and print it, this once."""
    from semroute.server.keys import create_key

    metadata = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--meta")
        metadata[key] = value
    made: dict[str, Any] = {"models": models, "rpm": rpm, "tpm": tpm, "budget_usd": budget, "metadata": metadata}
    with _audited(path, "keys.create", {"key": name, "rights": rights or USUAL_RIGHTS}):
        _, secret = create_key(path, name, rights=rights or USUAL_RIGHTS, **made)
    click.echo(secret)
    print_note(f"shown this once; {path} has only its digest")


@keys.command("list")
@file_option
def list_keys(path: Path) -> None:
    """List the keys, without their secrets."""
    from semroute.cli.console import stdout
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable
    from semroute.server.keys import read_keys

    found = read_keys(path)
    if not found:
        print_note(f"{path}: no keys; semroute keys create NAME makes one")
        return
    headers = ("name", "id", "may use", "rights", "a minute", "a month", "state")
    table = DataTable(*(Column(header, "words") for header in headers))
    for key in found:
        limits = [f"{key.rpm} requests"] * (key.rpm is not None) + [f"{key.tpm} tokens"] * (key.tpm is not None)
        budget = "-" if key.budget_usd is None else f"{key.budget_usd:g} USD"
        state = f"since {key.created:%Y-%m-%d}" if key.state == "active" else key.state
        models, rights = ", ".join(key.models) or "all", ", ".join(key.rights)
        table.add_row(key.name, key.id, models, rights, ", ".join(limits) or "-", budget, state)
    stdout().print(table)


@keys.command()
@click.argument("name")
@file_option
def revoke(name: str, path: Path) -> None:
    """Revoke the key NAME, or with that id, for ever.

    Running gateways refuse it at once.
    """
    from semroute.server.keys import revoke_key

    with _audited(path, "keys.revoke", {"key": name}):
        print_note(f"revoked: {revoke_key(path, name).name}")


@keys.command()
@click.argument("name")
@file_option
def disable(name: str, path: Path) -> None:
    """Disable the key NAME, or with that id, until it is enabled.

    Running gateways refuse it at once.
    """
    from semroute.server.keys import disable_key

    with _audited(path, "keys.disable", {"key": name}):
        print_note(f"disabled: {disable_key(path, name).name}")


@keys.command()
@click.argument("name")
@file_option
def enable(name: str, path: Path) -> None:
    """Enable the disabled key NAME, or with that id."""
    from semroute.server.keys import disable_key

    with _audited(path, "keys.enable", {"key": name}):
        print_note(f"enabled: {disable_key(path, name, disabled=False).name}")


@keys.command()
@click.option("-n", "count", type=click.IntRange(0), default=20, show_default=True, help="Last lines to show.")
@file_option
@json_option
def audit(count: int, path: Path, as_json: bool) -> None:
    """Show the end of the audit log, and verify that no line was changed.

    It has who used a right of the gateway, or was refused one, and what was done to keys here. Note the digest that is
    shown: lines that are cut off at the end show in nothing else. The exit code is 1 where the chain is broken.
    """
    from semroute.cli.console import print_json, stdout
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable
    from semroute.server.audit import AuditLog

    log = AuditLog.of_keys(path)
    check = log.verify()
    events = deque(log.events(), maxlen=count)
    if as_json:
        print_json({**check.to_dict(), "events": list(events)})
    else:
        table = DataTable(*(Column(header, "words") for header in ("time, UTC", "who", "what", "result", "from")))
        for event in events:
            table.add_row(*_cells(event))
        stdout().print(table)
    if check.problem is not None:
        raise SemrouteError(f"{check.path}: {check.problem}; {check.lines:,} lines before it are as they were written")
    if not as_json:
        print_note(f"{check.lines:,} lines, unchanged up to {check.head[:16]}")


def _cells(event: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return the cells of an event, empty where a line written by hand is."""
    who, details = event.get("who"), event.get("details")
    name = " ".join(map(str, who.values())) if isinstance(who, dict) else "-"
    values = details.values() if isinstance(details, dict) else ()
    about = " ".join(", ".join(map(str, one)) if isinstance(one, list) else str(one) for one in values)
    result = (
        "refused" if event.get("allowed") is not True else f"failed: {event['failed']}" if "failed" in event else "-"
    )
    at = str(event.get("at", "-")).partition(".")[0].replace("T", " ")
    return at, name, f"{event.get('action', '-')} {about}".strip(), result, str(event.get("from", "-"))


@contextmanager
def _audited(path: Path, action: str, details: Mapping[str, object]) -> Iterator[None]:
    """Log this user's change of the keys before it is made, and a failure."""
    from semroute.server.audit import AuditEvent, AuditLog

    log, who = AuditLog.of_keys(path), {"user": _user()}
    log.append(AuditEvent(action, who, "command line", details=details))
    try:
        yield
    except SemrouteError as error:
        log.append(AuditEvent(action, who, "command line", details=details, failed=type(error).__name__))
        raise


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())
