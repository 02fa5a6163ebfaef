"""A command: ``semroute greet``."""

from __future__ import annotations

import click

from semroute.errors import InputError


@click.command()
@click.argument("who")
def greet(who: str) -> None:
    """Greet somebody."""
    if who == "nobody":
        raise InputError("there is nobody to greet; name somebody")
    click.echo(f"hello {who}")
