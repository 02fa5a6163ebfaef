"""``semroute connect``: point a coding agent at the gateway."""

from __future__ import annotations

import os
from pathlib import Path

import click

from semroute.cli.console import print_note, print_text


@click.command()
@click.argument("agent", type=click.Choice(["codex", "claude-code", "opencode"]))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Address of the gateway.")
@click.option("--undo", is_flag=True, help="Restore the settings of before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def connect(agent: str, url: str, undo: bool, yes: bool) -> None:
    """Point AGENT at the gateway: show the change of its configuration, ask, and write it."""
    from semroute.workflows.connect import AGENTS, disconnect
    from semroute.workflows.connect import connect as connected

    chosen, home = AGENTS[agent], Path.home()
    change = (
        disconnect(chosen, home=home, env=os.environ)
        if undo
        else connected(chosen, url.rstrip("/").removesuffix("/v1"), home=home, env=os.environ)
    )
    if not change.diff:
        print_note(f"{change.path}: nothing to change")
        if undo:
            change.apply()
        return
    print_text(change.diff)
    if yes or click.confirm("Write it?", err=True):
        change.apply()
        print_note(f"{change.path} written; undo: semroute connect {agent} --undo" if not undo else "undone")
