"""``semroute log`` and ``semroute feedback``: read, export, prune, rate."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from semroute.cli.console import (
    NameChoice,
    NumberRange,
    config_option,
    json_option,
    log_option,
    since_option,
    until_option,
)
from semroute.cli.main import SuggestingGroup

if TYPE_CHECKING:
    from semroute.cli.tables import RowPrinter
    from semroute.types import LoggedOutcome


SHOWN = 16
"""Digits of an id that are shown: time and counter, which are unique within a process."""


@click.group(cls=SuggestingGroup)
def log() -> None:
    """Look at the log of outcomes, export it, keep it small."""


@log.command()
@click.option("-n", "count", type=click.IntRange(1), default=20, show_default=True, help="Outcomes to show.")
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@log_option
@config_option
@json_option
def tail(count: int, follow: bool, log_url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show the last outcomes, one a row.

    Columns are id, time, category, model and its tier, cost, time taken, feedback and query.

    "small^2" is the model small as the second tier of a cascade. Where the gateway's callers have keys, the name of the
    key stands behind the model.
    """
    from semroute.cli.console import print_json
    from semroute.outcomes.log.reader import as_dict
    from semroute.workflows.outcome_log import later_outcomes
    from semroute.workflows.workspace import Workspace

    with Workspace(None, config_path).open_log(log_url) as opened:
        shown = opened.newest(count)
        later = later_outcomes(opened, shown) if follow else iter(())
        if as_json:
            for outcome in chain(shown, later):
                print_json(as_dict(outcome))
            return
        with_keys = any("key" in outcome.metadata for outcome in shown)
        rows = _rows(with_keys=with_keys)
        rows.print_all([cells(outcome, rows, with_keys=with_keys) for outcome in shown])
        for outcome in later:
            rows.print(*cells(outcome, rows, with_keys=with_keys))


@log.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Where to write.")
@click.option(
    "--format",
    "kind",
    type=NameChoice(["jsonl", "parquet"]),
    help="Default: what the name of FILE ends in.",
)
@click.option(
    "--outcomes", "labelled", is_flag=True, help="Only judged answers, as rows to train and judge policies on."
)
@since_option
@until_option
@log_option
@config_option
def export(
    out: Path,
    kind: Literal["jsonl", "parquet"] | None,
    labelled: bool,
    since: datetime | None,
    until: datetime | None,
    log_url: str | None,
    config_path: Path | None,
) -> None:
    """Write outcomes to a file, which appears whole or not at all."""
    from semroute.cli.console import print_note
    from semroute.workflows.outcome_log import export_format, export_log
    from semroute.workflows.workspace import Workspace

    chosen = kind or export_format(out)
    if labelled and chosen == "parquet":
        raise click.UsageError("--outcomes writes JSONL: name a .jsonl file")
    workspace = Workspace(None, config_path)
    count = export_log(workspace, out, kind=chosen, labelled=labelled, since=since, until=until, log_url=log_url)
    print_note(f"wrote {count:,} {'outcome' if count == 1 else 'outcomes'} to {out}")


@log.command()
@click.option("--keep-days", type=NumberRange(0), metavar="DAYS", help="Default: log.keep_days.")
@log_option
@config_option
def prune(keep_days: float | None, log_url: str | None, config_path: Path | None) -> None:
    """Delete outcomes that are too old.

    A log that is written does so by itself, a portion an hour.
    """
    from semroute.cli.console import print_note
    from semroute.workflows.workspace import Workspace

    with Workspace(None, config_path).open_log(log_url) as opened:
        print_note(f"deleted {opened.prune(keep_days):,} outcomes of {opened.place}")


@log.command()
@log_option
@config_option
@json_option
def info(log_url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show the address, size and redaction of the log."""
    from semroute.cli.console import print_json, stdout
    from semroute.cli.tables import figures
    from semroute.workflows.outcome_log import describe_log
    from semroute.workflows.workspace import Workspace

    facts = describe_log(Workspace(None, config_path), log_url).to_dict()
    if as_json:
        print_json(facts)
    else:
        stdout().print(figures(**{key: "-" if value is None else str(value) for key, value in facts.items()}))


def _rows(*, with_keys: bool = False) -> RowPrinter:
    from semroute.cli.layout import Column
    from semroute.cli.tables import RowPrinter

    return RowPrinter(
        Column("id", "label"),
        Column("time, UTC", "words"),
        Column("category", "name"),
        Column("model", "name"),
        *([Column("key", "name")] if with_keys else []),
        Column("cost, USD"),
        Column("time, ms"),
        Column("feedback"),
        Column("query", "excerpt"),
    )


def cells(outcome: LoggedOutcome, rows: RowPrinter, *, with_keys: bool = False) -> list[str]:
    """Return the cells of an outcome.

    The id is cut, which is enough for a person; --json has the whole.
    """
    what = outcome.error_kind or outcome.model or f"({outcome.candidates[0] if outcome.candidates else '-'})"
    tier = "" if outcome.tier is None else f"^{outcome.tier + 1}"
    return [
        outcome.id[:SHOWN],
        f"{outcome.at:%m-%d %H:%M:%S}",
        outcome.category or "-",
        what + tier,
        *([outcome.metadata.get("key", "-")] if with_keys else []),
        "-" if outcome.cost_usd is None else f"{outcome.cost_usd:.6f}",
        f"{outcome.latency_ms:.0f}",
        "-" if outcome.feedback is None else f"{outcome.feedback:g}",
        rows.excerpt(outcome.query or outcome.query_hash or ""),
    ]


# ``semroute feedback``: quality of an answer.

WORDS = {"good": 1.0, "bad": 0.0}


@click.command()
@click.argument("outcome")
@click.argument("value", metavar="good|bad|0..1")
@click.option("--comment", metavar="TEXT", help="Words to keep with it.")
@log_option
@config_option
def feedback(outcome: str, value: str, comment: str | None, log_url: str | None, config_path: Path | None) -> None:
    """Rate the answer of OUTCOME: good, bad, or a number from 0 to 1.

    OUTCOME is its id as "semroute log tail" shows it, a beginning of it that no other has, or "last".
    """
    from semroute.cli.console import print_note
    from semroute.workflows.workspace import Workspace

    quality = _quality(value)
    with Workspace(None, config_path).open_log(log_url) as log:
        name = log.judge(outcome, quality, comment)
    print_note(f"noted {quality:g} for {name}")


def _quality(value: str) -> float:
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither good nor bad nor a number from 0 to 1") from None
