"""``semroute feedback``: say how good an answer was."""

from __future__ import annotations

from pathlib import Path

import click

from semroute.cli.options import config_option, log_option

WORDS = {"good": 1.0, "bad": 0.0}


@click.command()
@click.argument("outcome")
@click.argument("value", metavar="good|bad|0..1")
@click.option("--comment", metavar="TEXT", help="Words to keep with it.")
@log_option
@config_option
def feedback(outcome: str, value: str, comment: str | None, log_url: str | None, config_path: Path | None) -> None:
    """Say how good the answer of OUTCOME was: good, bad, or a number from 0 to 1.

    OUTCOME is its id as "semroute log tail" shows it, a beginning of it that no other has, or "last".
    """
    from semroute.cli.console import print_note
    from semroute.cli.logs import read_log

    quality = _quality(value)
    log, _ = read_log(log_url, config_path)
    with log:
        name = log.judge(outcome, quality, comment)
    print_note(f"noted {quality:g} for {name}")


def _quality(value: str) -> float:
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither good nor bad nor a number from 0 to 1") from None
