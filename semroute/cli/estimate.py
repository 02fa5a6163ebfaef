"""``semroute estimate``: a month's bill, before any model is called."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from semroute.cli.console import NumberRange, config_option, index_option, json_option, names_option, prices_option
from semroute.cli.tables import DataTable, figures, percent, plain_table
from semroute.evaluate.log_report import usd

if TYPE_CHECKING:
    from rich.console import Console

    from semroute.config import Price
    from semroute.workflows.estimate import Estimate, ModelShare


@click.command()
@click.argument("requests", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--now", metavar="MODEL", help="Model of requests that name none (default: the strongest of the pool).")
@click.option("--per-month", type=NumberRange(0, min_open=True), metavar="N", help="Requests a month.")
@click.option(
    "--price", "given", metavar="NAME=IN/OUT", multiple=True, help="USD per million tokens (repeatable): small=0.15/0.6"
)
@prices_option
@click.option(
    "--output-tokens",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    help="Of an answer of unknown length.",
)
@names_option("--cascade", "Tiers that every request goes up (default: those of semroute.yaml).")
@click.option("--escalation", metavar="20%", help="Share of a tier's answers that go on, or a range: 10%-40%.")
@click.option("--text", metavar="KEY", help="Key or column of what is asked.")
@click.option("--encoding", metavar="NAME", help="Of the file (default: UTF-8).")
@index_option
@config_option
@json_option
def estimate(
    requests: Path,
    now: str | None,
    per_month: float | None,
    given: Sequence[str],
    prices: Path | None,
    output_tokens: int,
    cascade: tuple[str, ...] | None,
    escalation: str | None,
    text: str | None,
    encoding: str | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Estimate what a month of REQUESTS costs now, routed, and with a cascade.

    No language model is called. REQUESTS is JSON Lines, JSON, CSV, Parquet or plain text (a query a line), also as .gz,
    or "-" for standard input. A row is a "query", "messages", or a whole request in OpenAI's shape. Its "model" is what
    it uses now; "usage" or a recorded answer give its tokens; "count" says how many requests it stands for. A month is
    --per-month, else measured by timestamps in the rows.
    """
    from semroute.cli.console import print_json, print_warning, progress_bars, stdout
    from semroute.workflows.bill import BillSource, estimate_bill, parse_escalation
    from semroute.workflows.workspace import Workspace

    rate = None if escalation is None else parse_escalation(escalation)
    if per_month == math.inf:
        raise click.BadParameter("write a number of requests", param_hint="--per-month")
    if cascade is not None and len(cascade) < 2:
        raise click.UsageError("--cascade needs two tiers at least, cheapest first: --cascade small,large")
    source = BillSource(
        requests, sys.stdin.buffer if str(requests) == "-" else None, now=now, per_month=per_month,
        given_prices=dict(map(_price, given)), prices=prices, output_tokens=output_tokens, cascade=cascade,
        escalation=rate, text=text, encoding=encoding,
    )  # fmt: skip
    with progress_bars() as progress:
        bill = estimate_bill(source, Workspace(index, config_path), progress)
    if as_json:
        print_json(bill.to_dict())
        return
    for message in bill.warnings:
        print_warning(message)
    print_bill(stdout(), bill.estimate, _shown(requests), bill.assumed, bill.gaps)


def print_bill(console: Console, made: Estimate, source: str, assumed: Iterable[str], missing: Iterable[str]) -> None:
    """Print the tables, their assumptions and their gaps."""
    from semroute.cli.console import print_warning

    for part in estimate_parts(made, source):
        console.print(part)
        console.print()
    console.print(sentences(assumed))
    for sentence in missing:
        print_warning(sentence)


def _price(text: str) -> tuple[str, Price]:
    from pydantic import ValidationError

    from semroute.config import Price

    name, _, pair = text.rpartition("=")
    sent, _, received = pair.partition("/")
    try:
        price = Price(input=float(sent), output=float(received))
    except (ValueError, ValidationError):
        price = None
    if price is None or not name.strip():
        shape = "write NAME=INPUT/OUTPUT in USD per million tokens, such as small=0.15/0.60"
        raise click.BadParameter(f'"{text}" is no price; {shape}', param_hint="--price")
    return name.strip(), price


def _shown(requests: Path) -> str:
    if str(requests) == "-":
        return "standard input"
    return requests.name if requests.is_file() else str(requests)


# The tables of ``semroute estimate``, within 80 columns.

MOST = 12
"""Models shown in a table; --json has all."""


def estimate_parts(estimate: Estimate, source: str) -> Iterator[RenderableType]:
    """Yield every part of an estimate, in order."""
    yield headline(estimate, source)
    if len(estimate.now) > 1:
        yield shares_table(estimate, estimate.now, "now")
    yield shares_table(estimate, estimate.routed, "routed to")
    if estimate.compared > 0:
        yield bills_table(estimate)


def headline(estimate: Estimate, source: str) -> DataTable:
    """Return requests, their tokens, and the share without a category."""
    rows = "" if estimate.rows == estimate.requests else f" in {estimate.rows:,} rows"
    month = "" if estimate.month is None else f"; {estimate.month.requests:,.0f} a month ({estimate.month.source})"
    return figures(
        requests=f"{estimate.requests:,.0f}{rows} of {source}{month}",
        tokens=f"{estimate.input_tokens:,.0f} in, {estimate.output_tokens:,.0f} out a request",
        to_the_fallback=percent(estimate.fallback),
    )


def shares_table(estimate: Estimate, shares: Sequence[ModelShare], first: str) -> DataTable:
    """Return requests, price and cost by model."""
    table = plain_table("share", "requests", "$/M in", "out", _unit(estimate), first=first)
    for share in shares[:MOST]:
        table.add_row(
            Text(share.model, style="cyan"),
            percent(share.share),
            f"{share.requests:,.0f}",
            _shown_price(share.input_price),
            _shown_price(share.output_price),
            _usd(estimate, share.usd) if share.input_price is not None else "-",
        )
    if len(shares) > MOST:
        table.caption = f"… and {len(shares) - MOST:,} more; --json has them all"
    return table


def bills_table(estimate: Estimate) -> DataTable:
    """Return the bill now, routed and with a cascade."""
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
    """Return a table of assumptions, a sentence each."""
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


def _shown_price(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"
