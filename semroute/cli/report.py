"""``semroute report``: what the log says was paid, saved and waited for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, json_option, log_option
from semroute.cli.times import since_option, until_option

if TYPE_CHECKING:
    from semroute.evaluate.report.report import Report


@click.command()
@since_option
@until_option
@click.option("--category", metavar="NAME", help="Only queries of this category.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as one page.")
@log_option
@config_option
@json_option
def report(
    since: datetime | None,
    until: datetime | None,
    category: str | None,
    html: Path | None,
    log_url: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Report from the log: cost by model and category, the saving, escalation, and times split by escalation.

    The saving is against sending every query to the strongest model: "baseline" in semroute.yaml, else the one that
    costs most.
    """
    from semroute.cli.console import print_json, print_note
    from semroute.cli.logs import read_log
    from semroute.errors import InputError
    from semroute.evaluate.report.report import report as report_on

    if html is not None and not html.parent.is_dir():
        raise InputError(f"{html}: there is no folder {html.parent}; make it first")
    opened, _ = read_log(log_url, config_path)
    with opened:
        place = opened.place
        made = report_on(opened.outcomes(since, until, category=category))
    if html is not None:
        from semroute.evaluate.pages.report import write_page

        write_page(made, html, title=category or "all queries")
        print_note(f"wrote {html}")
    if as_json:
        print_json(made.to_dict())
    else:
        _print(made, place)


def _print(made: Report, place: str) -> None:
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
