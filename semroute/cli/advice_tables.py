"""The tables of ``semroute advise``, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from semroute.cli.report_tables import NO_CATEGORY
from semroute.cli.tables import DataTable, percent, plain_table

if TYPE_CHECKING:
    from semroute.evaluate.advice.advice import Advice
    from semroute.evaluate.report.latency import Times

_STYLES = {"cascade": "green", "straight": "red", "unclear": "yellow", "few": "dim"}
_THOUSAND = 1000


def advice_table(advices: Sequence[Advice]) -> DataTable:
    """A row for each category: how much is escalated, how much may be, and what 1,000 queries cost either way."""
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
    """What each tier costs and how long it takes, beside the cascade."""
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
    """The advice in words."""
    return Group(*(Text.assemble(_name(advice), ": ", sentence(advice)) for advice in advices))


def sentence(advice: Advice) -> str:
    """Why a category is advised as it is."""
    last = advice.tiers[-1].name
    rest = f" ({advice.others:,} outcomes of other tiers are left out)" if advice.others else ""
    if advice.verdict == "few":
        from semroute.evaluate.advice.advice import LEAST

        return f"{advice.queries:,} queries are too few to say; {LEAST} are needed at least{rest}"
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
