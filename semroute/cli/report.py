"""``semroute report``: what the log says was paid, saved and waited for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option, log_option
from semroute.cli.times import since_option, until_option

if TYPE_CHECKING:
    from semroute.evaluate.report.drift_words import Compared
    from semroute.evaluate.report.report import LogReport


@click.command()
@since_option
@until_option
@click.option("--category", metavar="NAME", help="Only queries of this category.")
@click.option(
    "--policy", type=click.Path(path_type=Path), metavar="DIR", help="From semroute tune-policy: does it still fit?"
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as one page.")
@index_option
@log_option
@config_option
@json_option
def report(
    since: datetime | None,
    until: datetime | None,
    category: str | None,
    policy: Path | None,
    html: Path | None,
    index: Path | None,
    log_url: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Report from the log: cost by model and category, the saving, escalation, and times split by escalation.

    The saving is against sending every query to the strongest model: "baseline" in semroute.yaml, else the one that
    costs most. With --policy: whether queries, quality and prices since it was tuned (or --since) are still those that
    it was tuned on, and why it should be tuned again where they are not.
    """
    from semroute.cli.console import print_json, print_note
    from semroute.cli.logs import read_log
    from semroute.errors import InputError
    from semroute.evaluate.report.report import report as report_on

    if policy is not None and category is not None:
        raise click.UsageError("--policy compares all queries with those it was tuned on: leave out --category")
    if html is not None and not html.parent.is_dir():
        raise InputError(f"{html}: there is no folder {html.parent}; make it first")
    from semroute.cli.drift import Recent, drift_dict, measure, read_baseline
    from semroute.evaluate.report.drift_words import Compared

    baseline = None if policy is None else read_baseline(policy)
    opened, _ = read_log(log_url, config_path)
    with opened:
        place = opened.place
        after = baseline.at if baseline is not None and since is None else None
        recent, outcomes = Recent(after), opened.outcomes(since, until, category=category)
        made = report_on(outcomes if baseline is None else recent.seen(outcomes))
    drift = None if baseline is None else Compared(baseline, measure(baseline, recent, index, config_path))
    if html is not None:
        from semroute.evaluate.pages.report import write_page

        write_page(made, html, title=category or "all queries", drift=drift)
        print_note(f"wrote {html}")
    if as_json:
        print_json({**made.to_dict(), **({} if drift is None else {"drift": drift_dict(drift.found)})})
        return
    _print(made, place)
    if drift is not None:
        _print_drift(drift)


def _print_drift(drift: Compared) -> None:
    from semroute.cli.console import print_note, print_warning, stdout
    from semroute.cli.drift import drift_table
    from semroute.evaluate.report.drift_words import FITS

    stdout().print(drift_table(drift))
    for words in drift.warnings():
        print_warning(words)
    if not drift.found.reasons:
        print_note(FITS)


def _print(made: LogReport, place: str) -> None:
    from semroute.cli.console import print_note, print_warning, stdout
    from semroute.cli.report_tables import whole
    from semroute.evaluate.report.notes import notes, warnings

    if not made.queries:
        print_note(f"{place} has no outcomes of that time; ask something first: semroute ask QUERY")
        return
    console = stdout()
    for part in whole(made):
        console.print(part)
        console.print()
    for words in warnings(made):
        print_warning(words)
    for words in notes(made):
        print_note(f"* {words}")
