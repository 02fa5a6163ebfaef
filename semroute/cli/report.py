"""``semroute report``, ``advise`` and ``trial``: figures from the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.console import (
    NumberRange,
    config_option,
    index_option,
    json_option,
    log_option,
    since_option,
    until_option,
)
from semroute.cli.main import SuggestingGroup
from semroute.cli.tables import DataTable, figures, percent, plain_table
from semroute.evaluate.log_report import moment, ms, usd

if TYPE_CHECKING:
    from semroute.evaluate.advice import Advice
    from semroute.evaluate.drift import Compared
    from semroute.evaluate.experiment_report import ComparisonCard, TrialReport
    from semroute.evaluate.log_report import LogReport, Times
    from semroute.evaluate.metrics import Rate
    from semroute.workflows.report import CascadeAdvice


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
    """Report cost, saving, escalation and times from the log.

    Costs are by model, category and key; times are split by escalation.

    The saving is against sending every query to the strongest model: "baseline" in semroute.yaml, else the one that
    costs most. With --policy: whether queries, quality and prices since it was tuned (or --since) are still those that
    it was tuned on, and why it should be tuned again where they are not.
    """
    from semroute.cli.console import print_json, print_note
    from semroute.errors import InputError
    from semroute.workflows.report import report_traffic
    from semroute.workflows.workspace import Workspace

    if policy is not None and category is not None:
        raise click.UsageError("--policy compares all queries with those it was tuned on: leave out --category")
    if html is not None and not html.parent.is_dir():
        raise InputError(f"{html}: there is no folder {html.parent}; make it first")
    made = report_traffic(
        Workspace(index, config_path), since=since, until=until, category=category, policy=policy, log_url=log_url
    )
    if html is not None:
        made.write_page(html)
        print_note(f"wrote {html}")
    if as_json:
        print_json(made.to_dict())
        return
    _print_report(made.report, made.place)
    if made.drift is not None:
        _print_drift(made.drift)


def _print_drift(drift: Compared) -> None:
    from semroute.cli.console import print_note, print_warning, stdout
    from semroute.evaluate.drift import FITS

    stdout().print(drift_table(drift))
    for words in drift.warnings():
        print_warning(words)
    if not drift.found.reasons:
        print_note(FITS)


def drift_table(compared: Compared) -> DataTable:
    """Return a table of the figures at tuning and now."""
    table = plain_table("tuned on", "now", first="drift")
    for row in compared.rows():
        table.add_row(*map(Text, row))  # a model's name is no markup
    return table


def _print_report(made: LogReport, place: str) -> None:
    from semroute.cli.console import print_note, print_warning, stdout
    from semroute.evaluate.log_report import notes, warnings

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


# The tables of ``semroute report``, within 80 columns.

MOST = 20
"""Maximum rows of a table; --json and --html have all."""
NO_CATEGORY = "(no category)"


def whole(report: LogReport) -> Iterator[RenderableType]:
    """Yield every part of a report, in order."""
    yield headline(report)
    yield _titled("time of answers", latency_table(report))
    if report.models:
        yield _titled("models", models_table(report))
        if report.efforts:
            yield _titled("reasoning effort", efforts_table(report))
        yield _titled("categories", categories_table(report))
        yield _titled("what was paid for", purposes_table(report))
    if report.keys:
        yield _titled("keys", keys_table(report))
    if report.checks:
        yield _titled("checks of answers", checks_table(report))
    yield _titled("decided by", counts_table(report.strategies, "strategy"))
    if report.errors:
        yield _titled("failed", counts_table(report.errors, "error"))


def headline(report: LogReport) -> DataTable:
    """Return the bill, the saving, and the escalation rate."""
    saving = report.saving
    rows = {"queries": f"{report.queries:,}, {saving.answered:,} answered{_span(report)}"}
    strongest = ", ".join(saving.baseline_models) or "strongest model"
    rows["paid"] = f"USD {usd(saving.usd)}; costs are known of {saving.compared:,} of {saving.answered:,} answers"
    if report.unanswered:
        rows["without an answer"] = f"USD {usd(report.unanswered_usd)} more, for {report.unanswered:,} queries"
    if saving.share is not None:
        share = saving.share
        rows[f"{strongest} alone"] = f"USD {usd(saving.baseline_usd)}"
        rows["saved"] = f"USD {usd(saving.saved_usd)}, {share.value:.1%}{interval(share.low, share.high)}"
    if saving.monthly_usd is not None and saving.monthly_baseline_usd is not None:
        guess = ", a guess: less than a day was seen" if saving.is_short else ""
        rows["a month"] = f"USD {usd(saving.monthly_usd)} instead of {usd(saving.monthly_baseline_usd)}{guess}"
    if report.escalation.n:
        rows["escalated"] = f"{rate(report.escalation)} of {report.escalation.n:,} that went up a cascade"
    if report.queries:
        rows["to the fallback"] = rate(report.fallbacks)
    return figures(**rows)


def latency_table(report: LogReport) -> DataTable:
    """Return latency quantiles, with escalated queries separate."""
    table = plain_table("queries", "p50, ms", "p90, ms", "p99, ms", first="answers")
    of = report.latency
    for name, times in (
        ("all answers", of.total),
        ("  not escalated", of.not_escalated),
        ("  escalated", of.escalated),
        ("first piece (streamed)", of.first_token),
        ("deciding", of.deciding),
    ):
        cells = (ms(value) for value in (times.p50, times.p90, times.p99))
        table.add_row(name, f"{times.n:,}", *cells)
    return table


def models_table(report: LogReport) -> DataTable:
    """Return cost by model."""
    table = plain_table("calls", "tokens in", "tokens out", "USD", "share of USD", "feedback, 0 to 1", first="model")
    for group in report.models[:MOST]:
        judged = "-" if group.feedback is None else f"{group.feedback.value:.2f} ({group.judged:,})"
        spent = group.spent
        tokens = (f"{count:,}" for count in (spent.calls, spent.input_tokens, spent.output_tokens))
        table.add_row(Text(group.name, style="cyan"), *tokens, usd(spent.usd), percent(group.share), judged)
    return _cut(table, len(report.models))


def efforts_table(report: LogReport) -> DataTable:
    """Return cost by model and reasoning effort."""
    table = plain_table("calls", "mean tokens out", "mean USD", "USD", "share of USD", first="model")
    for group in report.efforts[:MOST]:
        spent = group.spent
        length, price = f"{spent.output_tokens / spent.calls:,.0f}", usd(spent.usd / spent.calls)
        table.add_row(
            Text(group.name, style="cyan"), f"{spent.calls:,}", length, price, usd(spent.usd), percent(group.share)
        )
    return _cut(table, len(report.efforts))


def categories_table(report: LogReport) -> DataTable:
    """Return queries by category."""
    table = plain_table("queries", "USD", "share of USD", "escalated", "95% interval")
    for group in report.categories[:MOST]:
        up = group.escalation
        shown = ("-", "") if up is None else (f"{up.value:.1%}", f"{up.low:.1%} to {up.high:.1%}")
        name = Text(group.name or NO_CATEGORY, style="cyan" if group.name else "dim")
        table.add_row(name, f"{group.queries:,}", usd(group.spent.usd), percent(group.share), *shown)
    return _cut(table, len(report.categories))


def purposes_table(report: LogReport) -> DataTable:
    """Return calls by purpose and result."""
    table = plain_table("calls", "USD", "share of USD", first="paid for")
    for group in report.purposes:
        table.add_row(group.name, f"{group.spent.calls:,}", usd(group.spent.usd), percent(group.share))
    return table


def keys_table(report: LogReport) -> DataTable:
    """Return cost by virtual key of the gateway."""
    table = plain_table("queries", "tokens in", "tokens out", "USD", "share of USD", first="key")
    for group in report.keys[:MOST]:
        spent = group.spent
        counts = (f"{count:,}" for count in (group.queries or 0, spent.input_tokens, spent.output_tokens))
        table.add_row(Text(group.name, style="cyan"), *counts, usd(spent.usd), percent(group.share))
    return _cut(table, len(report.keys))


def checks_table(report: LogReport) -> DataTable:
    """Return the pass rate of each check."""
    table = plain_table("answers", "accepted", "95% interval", first="check")
    for name, of in report.checks.items():
        table.add_row(name, f"{of.n:,}", f"{of.value:.1%}", f"{of.low:.1%} to {of.high:.1%}")
    return table


def counts_table(counts: Mapping[str, int], first: str) -> DataTable:
    """Return a table of names and their counts."""
    table = plain_table("queries", first=first)
    for name, count in counts.items():
        table.add_row(Text(name), f"{count:,}")
    return table


def rate(of: Rate) -> str:
    """Return a share with its interval."""
    return f"{of.value:.1%}{interval(of.low, of.high)}"


def interval(low: float, high: float) -> str:
    """Return an interval in brackets; empty if undefined."""
    return "" if low != low else f" ({low:.1%} to {high:.1%})"


def _span(report: LogReport) -> str:
    if report.first is None or report.last is None:
        return ""
    return f", {moment(report.first)} to {moment(report.last)} UTC"


def _titled(title: str, table: RenderableType) -> Group:
    return Group(Text(title, style="bold"), table)


def _cut(table: DataTable, count: int) -> DataTable:
    if count > MOST:
        table.caption = f"… and {count - MOST:,} more; --html and --json have them all"
    return table


# The tables of ``semroute advise``, within 80 columns.

_STYLES = {"cascade": "green", "straight": "red", "unclear": "yellow", "few": "dim"}
_THOUSAND = 1000


def advice_table(advices: Sequence[Advice]) -> DataTable:
    """Return escalation, break-even and cost by category.

    Costs are those of 1,000 queries.
    """
    table = plain_table("queries", "escalated", "pays below", "cascade*", "last tier*", "advice")
    for advice in advices:
        table.add_row(
            _name(advice),
            f"{advice.queries:,}",
            percent(advice.escalation.value) if advice.queries else "-",
            percent(advice.break_even),
            _usd(advice.usd),
            _usd(advice.tiers[-1].usd),
            Text(advice.verdict, style=_STYLES[advice.verdict]),
        )
    table.caption = "* USD for 1,000 queries"
    return table


def tiers_table(advices: Sequence[Advice]) -> DataTable:
    """Return cost and latency of each tier, next to those of the cascade."""
    table = plain_table(first="category")
    table.add_column("tier", "name")
    for name in ("accepted", "USD for 1,000", "p50, ms", "p99, ms"):
        table.add_column(name, "number")
    for advice in advices:
        category = _name(advice)
        for tier in advice.tiers:
            share = percent(tier.accepted.value) if tier.accepted.n else "-"
            table.add_row(category, Text(tier.name), share, _usd(tier.usd), *_times(tier.latency))
            category = Text("")
        table.add_row("", Text("the cascade", style="bold"), "", _usd(advice.usd), *_times(advice.latency))
    return table


def sentences(advices: Sequence[Advice]) -> Group:
    """Return the advice as sentences."""
    return Group(*(Text.assemble(_name(advice), ": ", sentence(advice)) for advice in advices))


def sentence(advice: Advice) -> str:
    """Return the reason for a category's advice."""
    last = advice.tiers[-1].name
    rest = f" ({advice.others:,} outcomes of other tiers are left out)" if advice.others else ""
    if advice.verdict == "few":
        from semroute.evaluate.advice import MIN_QUERIES

        return f"{advice.queries:,} queries are too few to say; {MIN_QUERIES} are needed at least{rest}"
    if advice.saved is None:
        return f"no price is known of {last}, or of the calls that were made: set models.NAME.price{rest}"
    saved = advice.saved
    span = f"{_usd(saved.low)} to {_usd(saved.high)} USD for 1,000 queries, 95%"
    if advice.verdict == "cascade":
        return f"keep the cascade; it saves {_usd(saved.value)} ({span}) against {last} alone{rest}"
    if advice.verdict == "straight":
        return (
            f"go straight to {last}; the cascade costs {_usd(-saved.value)} more "
            f"({_usd(-saved.high)} to {_usd(-saved.low)} USD for 1,000 queries, 95%){rest}"
        )
    return f"not clear yet whether the cascade saves anything ({span}){rest}"


def _name(advice: Advice) -> Text:
    return Text(advice.category or NO_CATEGORY, style="cyan" if advice.category else "dim")


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value * _THOUSAND:,.3f}"


def _times(times: Times) -> Iterator[str]:
    return ("-" if value is None else f"{value:,.0f}" for value in (times.p50, times.p99))


# ``semroute advise``: where a cascade pays, and where it wastes money.


@click.command()
@since_option
@until_option
@log_option
@config_option
@json_option
def advise(
    since: datetime | None, until: datetime | None, log_url: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Advise for each category if its cascade pays, or the last tier alone.

    A cascade whose first tiers are rejected too often costs more than the last tier alone. Cost and time are those of
    the log; what a query would have cost elsewhere is estimated from the tokens of its answer. Tiers are taken as
    semroute.yaml has them now.
    """
    from semroute.cli.console import print_json
    from semroute.workflows.report import advise_on_cascades
    from semroute.workflows.workspace import Workspace

    made = advise_on_cascades(Workspace(None, config_path), since=since, until=until, log_url=log_url)
    if as_json:
        print_json(made.to_dict())
    else:
        _print_advice(made)


def _print_advice(made: CascadeAdvice) -> None:
    import yaml

    from semroute.cli.console import print_line, print_note, stdout

    if not made.categories:
        print_note("no outcome in the log went up a cascade that semroute.yaml has now: nothing to advise on")
        return
    console = stdout()
    for part in (advice_table(made.categories), tiers_table(made.categories), sentences(made.categories)):
        console.print(part)
        console.print()
    if made.overrides:
        print_note("to follow this, in semroute.yaml:")
        print_line(yaml.safe_dump({"categories": made.overrides}, sort_keys=False, allow_unicode=True).rstrip())


# ``semroute trial``: results of a policy under test, and its share of the queries.


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
    from semroute.workflows.experiment import set_share
    from semroute.workflows.workspace import Workspace

    policy = set_share(Workspace(None, config_path), share)
    print_note(f"{policy} decides {share:.0%} of the queries, from now on")


@trial.command()
@since_option
@log_option
@config_option
@json_option
def status(since: datetime | None, log_url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show the traffic share, and both policies' results from the log.

    Results are split by the shares that this trial has had.

    A trial of other policies, or beside another serving policy, is another trial.
    """
    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.workflows.experiment import experiment_status
    from semroute.workflows.workspace import Workspace

    found = experiment_status(Workspace(None, config_path), since=since, log_url=log_url)
    if as_json:
        print_json(found.to_dict())
        return
    made = found.report
    print_note(f"{found.policy} decides {found.share:.0%} of the queries")
    if made.others:
        print_note(f"{made.others:,} queries of trials of other policies are left out")
    if made.failed:
        print_warning(f"the policy on trial failed on {made.failed:,} queries, which are left out")
    stdout().print(_table(made))
    if found.max_usd is not None or found.compared.usd:
        stdout().print(comparison_table(found.compared, found.max_usd))
        print_note(found.compared.sentence)


def comparison_table(card: ComparisonCard, max_usd: float | None) -> DataTable:
    """Return the card of the blind comparisons: wins, ties, losses, costs."""
    rows = {"won": f"{card.won:,}", "tied": f"{card.tied:,}", "lost": f"{card.lost:,}"}
    if card.no_worse.n:
        rows["no worse"] = rate(card.no_worse)
    if card.lead is not None:
        rows["won minus lost"] = f"{card.lead.value:+.1%}{interval(card.lead.low, card.lead.high)}"
    if card.failed:
        rows["without a result"] = f"{card.failed:,}"
    rows["paid"] = f"USD {usd(card.usd)}" + ("" if max_usd is None else f" of {usd(max_usd)}")
    return figures(**rows)


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
