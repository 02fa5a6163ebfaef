"""Compute a month's bill before and after routing, for given numbers.

    python scripts/bill_example.py [--queries 500000] [--simple 0.75] [--tokens 6000] [--strong-price 5]
                                   [--weak-price 0.15] [--escalated 0.25] [--plot bill.png]

By default the case that semroute began with: half a million queries a month of 6,000 input tokens, three of four
simple, GPT-4o at 5.00 USD per million input tokens against GPT-4o-mini at 0.15.
"""

from __future__ import annotations

from pathlib import Path

import click

from semroute.evaluate.log_report import Bill


@click.command()
@click.option("--queries", type=click.IntRange(1), default=500_000, show_default=True, help="A month.")
@click.option("--simple", type=click.FloatRange(0, 1), default=0.75, show_default=True, help="Share of easy ones.")
@click.option("--tokens", type=click.FloatRange(0), default=6000.0, show_default=True, help="Input tokens of a query.")
@click.option(
    "--strong-price", type=click.FloatRange(0), default=5.0, show_default=True, help="USD per million tokens."
)
@click.option("--weak-price", type=click.FloatRange(0), default=0.15, show_default=True, help="USD per million tokens.")
@click.option("--escalated", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Share that goes on.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the bill over the escalation rate.")
def main(
    queries: int,
    simple: float,
    tokens: float,
    strong_price: float,
    weak_price: float,
    escalated: float,
    plot: Path | None,
) -> None:
    """Print the bills."""
    bill = Bill(queries, tokens, simple, strong_price, weak_price)
    cascaded = bill.cascaded(escalated)
    for name, usd in (("before", bill.before), ("routed", bill.routed), (f"cascaded, {escalated:.0%} go on", cascaded)):
        saved = 1 - usd / bill.before if bill.before else 0.0
        click.echo(f"{name:<26} {usd:>12,.2f} USD a month  {saved:>6.1%} saved")
    click.echo(f"a cascade costs more than routing without mistakes from {bill.routing_even:.1%} escalated on,")
    click.echo(f"and more than the strong model alone from {bill.break_even:.1%} on")
    if plot is not None:
        from semroute.render.plots import plot_bill

        plot_bill(bill, escalated, plot)


if __name__ == "__main__":
    main()
