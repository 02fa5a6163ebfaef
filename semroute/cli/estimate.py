"""``semroute estimate``: a month's bill from requests, before any model was called."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    from semroute.config import Config, Price
    from semroute.errors import SemrouteError
    from semroute.router import Router
    from semroute.workflows.estimate import Escalation, Estimate, EstimateTally, ModelShare
    from semroute.workflows.pool import PricedPool
    from semroute.workflows.requests import RequestRow


SHOWN_ERRORS = 5
"""Rows that are named of those that cannot be read; the rest is counted."""


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
    from semroute.config import load_config
    from semroute.errors import DataError
    from semroute.router import Router
    from semroute.workflows.assumptions import assumptions, gaps
    from semroute.workflows.escalation import parse_escalation
    from semroute.workflows.estimate import EstimateTally, without_calls
    from semroute.workflows.requests import read_requests

    rate = None if escalation is None else parse_escalation(escalation)
    if per_month == math.inf:
        raise click.BadParameter("write a number of requests", param_hint="--per-month")
    if cascade is not None and len(cascade) < 2:
        raise click.UsageError("--cascade needs two tiers at least, cheapest first: --cascade small,large")
    priced, config = _prices(given, prices), load_config(config_path)
    with progress_bars() as progress:
        router = Router.load(index, config=without_calls(config), log=False, progress=progress)
    pool = pool_of(router, config, priced)
    tally = EstimateTally(config, pool, now=now, output_tokens=output_tokens, tiers=cascade or ())
    stdin = sys.stdin.buffer if str(requests) == "-" else io.BytesIO()
    failed = _Failed()
    failed.count_all(tally, router, read_requests(requests, stdin, text=text, encoding=encoding))
    if not tally.rows:
        raise failed.first[0] if failed.first else DataError("holds no requests", path=requests)
    made = tally.estimate(per_month=per_month, escalation=rate or escalation_of(tally, config))
    warnings = [*failed.words(), *_unused(priced, made, pool), *_left_out(config, tally)]
    assumed = list(assumptions(made, pool, now_is_given=now is not None))
    if as_json:
        unreadable = {"rows": failed.rows, "first": [str(error) for error in failed.first]}
        said = {"unreadable": unreadable, "assumed": assumed, "warnings": [*warnings, *gaps(made, pool)]}
        print_json({**made.to_dict(), **said})
        return
    for message in warnings:
        print_warning(message)
    print_bill(stdout(), made, pool, _shown(requests), assumed)


def pool_of(router: Router, config: Config, prices: Mapping[str, Price]) -> PricedPool:
    """Return the models that a router's queries may go to, with their prices."""
    from semroute.workflows.pool import PricedPool

    names = (name for models in router.live.models.values() for name in models)
    return PricedPool(config, prices, (*names, *router.live.fallback))


def print_bill(console: Console, made: Estimate, pool: PricedPool, source: str, assumed: Iterable[str]) -> None:
    """Print the tables, what they rest on, and what is missing."""
    from semroute.cli.console import print_warning
    from semroute.workflows.assumptions import gaps

    for part in estimate_parts(made, source):
        console.print(part)
        console.print()
    console.print(sentences(assumed))
    for sentence in gaps(made, pool):
        print_warning(sentence)


class _Failed:
    """Rows that cannot be read: the first ones, and the number of all."""

    def __init__(self) -> None:
        self.rows = 0
        self.first: list[SemrouteError] = []

    def count_all(self, tally: EstimateTally, router: Router, rows: Iterable[RequestRow | SemrouteError]) -> None:
        """Add all requests to the tally; a bar shows on a terminal that it is at work."""
        from semroute.cli.console import progress_bars
        from semroute.errors import SemrouteError
        from semroute.workflows.estimate import tally_requests

        with progress_bars() as progress:
            for found in tally_requests(tally, router, rows):
                if isinstance(found, SemrouteError):
                    self.rows += 1
                    if len(self.first) < SHOWN_ERRORS:
                        self.first.append(found)
                else:
                    progress("estimate", found, 0)

    def words(self) -> list[str]:
        """Return a line for each of the first rows, and one for the rest."""
        more = self.rows - len(self.first)
        return [*map(str, self.first), *([f"{more:,} more rows cannot be read"] if more else [])]


def _prices(given: Sequence[str], path: Path | None) -> dict[str, Price]:
    """Return the prices of the file, and over them those of the options.

    Raises:
        DataError: the file cannot be used.
    """
    from semroute.outcomes.costs import read_prices

    return {**({} if path is None else read_prices(path)), **dict(map(_price, given))}


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


def escalation_of(tally: EstimateTally, config: Config) -> Escalation:
    """Return the rate of the log, where it has one for these tiers; else the assumption."""
    from semroute.workflows.escalation import ASSUMED, logged_escalation

    if not tally.has_cascade or config.log.enabled is False:
        return ASSUMED
    return logged_escalation(config.log, os.environ, tally.first_tiers) or ASSUMED


def _unused(prices: Mapping[str, Price], made: Estimate, pool: PricedPool) -> list[str]:
    used = {share.model for share in (*made.routed, *made.now)} | set(made.cascade.tiers if made.cascade else ())
    found = []
    for name in prices:
        if name not in used and not pool.knows(name):
            meant = pool.meant(name)
            hint = "" if meant is None else f'; did you mean "{meant}"?'
            found.append(f'--price: no request goes to "{name}"{hint}')
    return found


def _left_out(config: Config, tally: EstimateTally) -> list[str]:
    """Return what of the configuration has no part in the figures."""
    found = [] if config.judge.model is None else ["the judge is not asked, since that calls a model"]
    if config.trial.policy is not None:
        found.append("the policy on trial has no say")
    if config.cascade.tiers and not tally.has_cascade:
        found.append("no request goes up the cascade: the models of its category leave no two tiers; see --cascade")
    return found


def _shown(requests: Path) -> str:
    if str(requests) == "-":
        return "standard input"
    return requests.name if requests.is_file() else str(requests)


# The tables of ``semroute estimate``, within 80 columns.

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
            _shown_price(share.input_price),
            _shown_price(share.output_price),
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


def _shown_price(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"
