"""The tables of ``semroute report``, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.tables import DataTable, figures, percent, plain_table
from semroute.evaluate.report.words import moment, ms, usd

if TYPE_CHECKING:
    from semroute.evaluate.rate import Rate
    from semroute.evaluate.report.report import LogReport

MOST = 20
"""Rows of a table; --json and --html have all."""
NO_CATEGORY = "(no category)"


def whole(report: LogReport) -> Iterator[RenderableType]:
    """Every part of what is shown, in order."""
    yield headline(report)
    yield _titled("time of answers", latency_table(report))
    if report.models:
        yield _titled("models", models_table(report))
        yield _titled("categories", categories_table(report))
        yield _titled("what was paid for", purposes_table(report))
    if report.checks:
        yield _titled("checks of answers", checks_table(report))
    yield _titled("decided by", counts_table(report.strategies, "strategy"))
    if report.errors:
        yield _titled("failed", counts_table(report.errors, "error"))


def headline(report: LogReport) -> DataTable:
    """The bill, the saving, and how much escalated."""
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
    """Quantiles, with the escalated apart from the others."""
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
    """Who was paid."""
    table = plain_table("calls", "tokens in", "tokens out", "USD", "share of USD", "feedback, 0 to 1", first="model")
    for group in report.models[:MOST]:
        judged = "-" if group.feedback is None else f"{group.feedback.value:.2f} ({group.judged:,})"
        spent = group.spent
        tokens = (f"{count:,}" for count in (spent.calls, spent.input_tokens, spent.output_tokens))
        table.add_row(Text(group.name, style="cyan"), *tokens, usd(spent.usd), percent(group.share), judged)
    return _cut(table, len(report.models))


def categories_table(report: LogReport) -> DataTable:
    """Where the queries went."""
    table = plain_table("queries", "USD", "share of USD", "escalated", "95% interval")
    for group in report.categories[:MOST]:
        up = group.escalation
        shown = ("-", "") if up is None else (f"{up.value:.1%}", f"{up.low:.1%} to {up.high:.1%}")
        name = Text(group.name or NO_CATEGORY, style="cyan" if group.name else "dim")
        table.add_row(name, f"{group.queries:,}", usd(group.spent.usd), percent(group.share), *shown)
    return _cut(table, len(report.categories))


def purposes_table(report: LogReport) -> DataTable:
    """What calls were for, and what became of them."""
    table = plain_table("calls", "USD", "share of USD", first="paid for")
    for group in report.purposes:
        table.add_row(group.name, f"{group.spent.calls:,}", usd(group.spent.usd), percent(group.share))
    return table


def checks_table(report: LogReport) -> DataTable:
    """How often each check let an answer through."""
    table = plain_table("answers", "accepted", "95% interval", first="check")
    for name, of in report.checks.items():
        table.add_row(name, f"{of.n:,}", f"{of.value:.1%}", f"{of.low:.1%} to {of.high:.1%}")
    return table


def counts_table(counts: Mapping[str, int], first: str) -> DataTable:
    """Names and how often each was there."""
    table = plain_table("queries", first=first)
    for name, count in counts.items():
        table.add_row(Text(name), f"{count:,}")
    return table


def rate(of: Rate) -> str:
    """A share with its interval."""
    return f"{of.value:.1%}{interval(of.low, of.high)}"


def interval(low: float, high: float) -> str:
    """An interval in brackets; nothing where there is none."""
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
