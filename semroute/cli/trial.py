"""``semroute trial``: how a policy on trial does, and what share of the queries it decides."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.lazy import SuggestingGroup
from semroute.cli.options import NumberRange, config_option, json_option, log_option
from semroute.cli.times import since_option

if TYPE_CHECKING:
    from semroute.cli.tables import DataTable
    from semroute.evaluate.report.trial import TrialReport


@click.group(cls=SuggestingGroup)
def trial() -> None:
    """Work with a policy on trial: "trial" in semroute.yaml."""


@trial.command()
@click.argument("share", type=NumberRange(0, 1))
@config_option
def share(share: float, config_path: Path | None) -> None:
    """Let the policy on trial decide SHARE of the queries, 0 to 1.

    Routers that run take it up within a second: 0 takes everything back at once, 1 hands everything over.
    """
    from semroute.cli.console import print_note
    from semroute.config import load_config
    from semroute.errors import InputError
    from semroute.whole import atomic_write

    section = load_config(config_path).trial
    if section.policy is None:
        raise InputError("no policy is on trial; name one in semroute.yaml: trial: {policy: FILE}")
    try:
        section.state.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(section.state) as part:
            part.write_text(json.dumps({"share": share}) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{section.state}: cannot be written ({error.strerror or error})") from error
    print_note(f"{section.policy} decides {share:.0%} of the queries, from now on")


@trial.command()
@since_option
@log_option
@config_option
@json_option
def status(since: datetime | None, log_url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show the share, and from the log how both policies do, by the shares that this trial has had.

    A trial of other policies, or beside another serving policy, is another trial.
    """
    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.cli.logs import read_log
    from semroute.config import load_config
    from semroute.errors import InputError
    from semroute.evaluate.report.trial import trial_report
    from semroute.router.chance import trial_fingerprint
    from semroute.router.trial import read_share, tried_config

    config = load_config(config_path)
    section, tried = config.trial, tried_config(config)
    if tried is None:
        raise InputError("no policy is on trial; name one in semroute.yaml: trial: {policy: FILE}")
    try:
        now = read_share(section.state, section.share)
    except (OSError, ValueError) as error:
        raise InputError(f"{section.state}: cannot be read ({error}); run: semroute trial share 0") from error
    opened, _ = read_log(log_url, config_path)
    with opened:
        made = trial_report(opened.outcomes(since), trial_fingerprint(config, tried))
    if as_json:
        print_json({"policy": str(section.policy), "share": now, **made.to_dict()})
        return
    print_note(f"{section.policy} decides {now:.0%} of the queries")
    if made.others:
        print_note(f"{made.others:,} queries of trials of other policies are left out")
    if made.failed:
        print_warning(f"the policy on trial failed on {made.failed:,} queries, which are left out")
    stdout().print(_table(made))


def _table(made: TrialReport) -> DataTable:
    from semroute.cli.tables import plain_table

    table = plain_table("queries", "USD for 1,000", "good answers", "escalated", first="share, decided by")
    for one in made.shares:
        for name, arm in (("the policy that serves", one.serving), ("the policy on trial", one.trying)):
            if not arm.queries:
                continue
            cost = "-" if arm.cost is None else f"{1000 * arm.cost.value:.4f}"
            good = "-" if arm.feedback is None else f"{arm.feedback.value:.1%} of {arm.judged:,}"
            climbed = f"{arm.escalated.value:.1%}" if arm.escalated.n else "-"
            table.add_row(f"{one.share:.0%}, {name}", f"{arm.queries:,}", cost, good, climbed)
    agree = made.agreement
    table.caption = (
        f"both name the same model for {agree.value:.1%} ({agree.low:.1%} to {agree.high:.1%}) of {agree.n:,} queries"
        if agree.n
        else "no query was decided by both yet"
    )
    return table
