"""The tables of ``semroute estimate``, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from semroute.cli.tables import DataTable, figures, percent, plain_table
from semroute.evaluate.report.words import usd

if TYPE_CHECKING:
    from semroute.workflows.estimate import Estimate, ModelShare

MOST = 12
"""Models of a table; --json has all."""


def estimate_parts(estimate: Estimate, source: str) -> Iterator[RenderableType]:
    """Yield every part of an estimate, in order."""
    yield headline(estimate, source)
    if len(estimate.now) > 1:
        yield shares_table(estimate, estimate.now, "now")
    yield shares_table(estimate, estimate.routed, "routed to")
    if estimate.compared > 0:
        yield bills_table(estimate)


def headline(estimate: Estimate, source: str) -> DataTable:
    """Show the requests, their tokens and the share without a category."""
    rows = "" if estimate.rows == estimate.requests else f" in {estimate.rows:,} rows"
    month = "" if estimate.month is None else f"; {estimate.month.requests:,.0f} a month ({estimate.month.source})"
    return figures(
        requests=f"{estimate.requests:,.0f}{rows} of {source}{month}",
        tokens=f"{estimate.input_tokens:,.0f} in, {estimate.output_tokens:,.0f} out a request",
        to_the_fallback=percent(estimate.fallback),
    )


def shares_table(estimate: Estimate, shares: Sequence[ModelShare], first: str) -> DataTable:
    """Show requests, price and cost by model."""
    table = plain_table("share", "requests", "$/M in", "out", _unit(estimate), first=first)
    for share in shares[:MOST]:
        table.add_row(
            Text(share.model, style="cyan"),
            percent(share.share),
            f"{share.requests:,.0f}",
            _price(share.input_price),
            _price(share.output_price),
            _usd(estimate, share.usd) if share.input_price is not None else "-",
        )
    if len(shares) > MOST:
        table.caption = f"… and {len(shares) - MOST:,} more; --json has them all"
    return table


def bills_table(estimate: Estimate) -> DataTable:
    """Show the bill now, routed and with a cascade."""
    table = plain_table(_unit(estimate), "saved", first="bill")
    table.add_row(f"now: {_now(estimate)}", _usd(estimate, estimate.now_usd), "")
    table.add_row("routed", _usd(estimate, estimate.routed_usd), percent(estimate.saved(estimate.routed_usd)))
    cascade = estimate.cascade
    if cascade is None:
        return table
    rates = cascade.escalation
    low, high = cascade.usd(rates.low), cascade.usd(rates.high)
    name = f"cascade: {', then '.join(cascade.tiers)} ({rates.low:.0%} to {rates.high:.0%} go on)"
    bills, saved = [_usd(estimate, low), _usd(estimate, high)], [percent(estimate.saved(x)) for x in (high, low)]
    table.add_row(name, " to ".join(dict.fromkeys(bills)), " to ".join(dict.fromkeys(saved)))
    return table


def sentences(said: Iterable[str]) -> Table:
    """Show what figures rest on, a sentence each."""
    table = Table.grid(padding=(0, 1))
    for sentence in said:
        table.add_row(Text("*", style="dim"), Text(sentence, style="dim"))
    return table


def _now(estimate: Estimate) -> str:
    first, *others = estimate.now
    if not others:
        return f"{first.model} alone"
    return f"{first.model} and {len(others):,} more"


def _unit(estimate: Estimate) -> str:
    return "USD" if estimate.scale is None else "USD a month"


def _usd(estimate: Estimate, value: float) -> str:
    shown = value if estimate.scale is None else estimate.monthly(value)
    # An estimate does not know the cents of a large bill.
    return f"{shown:,.0f}" if shown is not None and shown >= 100 else usd(shown)


def _price(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"
