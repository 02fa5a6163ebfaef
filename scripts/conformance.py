"""Check the gateway for what breaks coding agents, with real clients.

    python scripts/conformance.py [--index DIR] [--python PYTHON] [--agents node_modules/.bin] [--out results.md]

A gateway over the test double (:mod:`semroute.testing`) is asked in each of the three formats, then by the vendors'
own clients, by LangChain's and LiteLLM's, and by coding agents with a scripted task. A row that does not hold is a
``no`` with its reason; a client that is not installed is not run. ``--python`` and ``--agents`` are made so:

    python -m venv peer
    peer/bin/pip install litellm langchain-openai
    npm install @openai/codex @anthropic-ai/claude-code opencode-ai

Needs the extras "serve" and "test"; half a minute, and some more with agents. The first run without ``--index`` builds
the shipped categories. No key is used, and nothing outside this machine is called by the gateway; an agent may try to
reach its vendor, and works without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
from gateway_conformance.agents import agents
from gateway_conformance.clients import clients
from gateway_conformance.rows import FORMATS, ROWS
from gateway_conformance.served import Served, serving
from gateway_conformance.verdicts import MEANINGLESS, Verdict, table, verdict
from harness.report import FOLDER, OUT, publish

UPSTREAMS = {"large": "anthropic", "writer": "responses"}
"""Formats upstream of the models that do not speak Chat Completions."""


@click.command()
@click.option("--index", type=FOLDER, help="Index for auto; by default that of the shipped categories.")
@click.option("--python", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Has LangChain, LiteLLM.")
@click.option("--agents", "programs", type=FOLDER, help="Folder of the agents' programs.")
@OUT
def main(index: Path | None, python: Path | None, programs: Path | None, out: Path | None) -> None:
    """Check, and print Markdown tables."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = stack.enter_context(serving(UPSTREAMS, index, folder))
        rows = [
            (f"{row.letter}. {row.demand}", [_checked(row.checks.get(format), served, format) for format in FORMATS])
            for row in ROWS
        ]
        checks = {**clients(python and python.absolute()), **agents(programs and programs.absolute(), folder)}
        results = [(name, [verdict(partial(_alone, check, served))]) for name, check in checks.items()]
    publish([*table(("row", *FORMATS), rows), "", *table(("client", "works"), results)], out)


def _checked(check: Callable[[Served, str], None] | None, served: Served, format: str) -> Verdict:
    if check is None:
        return Verdict(MEANINGLESS)
    return verdict(partial(_alone, partial(_in_format, check, format), served))


def _in_format(check: Callable[[Served, str], None], format: str, served: Served) -> None:
    check(served, format)


def _alone(check: Callable[[Served], None], served: Served) -> None:
    """Run a check on a double that remembers nothing of the one before."""
    served.provider.reset()
    check(served)


if __name__ == "__main__":
    main()
