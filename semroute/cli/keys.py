"""``semroute keys``: who may call the gateway."""

from __future__ import annotations

from pathlib import Path

import click

from semroute.cli.console import NumberRange, print_note
from semroute.cli.main import SuggestingGroup
from semroute.server.keys import DEFAULT_FILE

file_option = click.option(
    "--file", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True, help="The keys."
)


@click.group(cls=SuggestingGroup)
def keys() -> None:
    """Create, list and revoke the keys with which callers use the gateway."""


@keys.command()
@click.argument("name")
@file_option
@click.option("--model", "models", multiple=True, metavar="NAME", help="Allow this model, group or auto (repeat).")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens a minute.")
@click.option("--budget", type=NumberRange(0), metavar="USD", help="Spending a calendar month.")
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="Metadata for rules, such as plan=free.")
def create(
    name: str,
    path: Path,
    models: tuple[str, ...],
    rpm: int | None,
    tpm: int | None,
    budget: float | None,
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
    _, secret = create_key(path, name, models=models, rpm=rpm, tpm=tpm, budget_usd=budget, metadata=metadata)
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
    headers = ("name", "id", "may use", "a minute", "a month", "state")
    table = DataTable(*(Column(header, "words") for header in headers))
    for key in found:
        limits = [f"{key.rpm} requests"] * (key.rpm is not None) + [f"{key.tpm} tokens"] * (key.tpm is not None)
        budget = "-" if key.budget_usd is None else f"{key.budget_usd:g} USD"
        state = "revoked" if key.revoked else f"since {key.created:%Y-%m-%d}"
        table.add_row(key.name, key.id, ", ".join(key.models) or "all", ", ".join(limits) or "-", budget, state)
    stdout().print(table)


@keys.command()
@click.argument("name")
@file_option
def revoke(name: str, path: Path) -> None:
    """Revoke the key NAME, or with that id; running gateways refuse it at once."""
    from semroute.server.keys import revoke_key

    print_note(f"revoked: {revoke_key(path, name).name}")
