"""A month's bill over the escalation rate, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semroute.evaluate.bill import Bill
from semroute.evaluate.plots.drawing import BLUE, GREEN, GREY, ORANGE, new_figure, percent_axis, without_frame, write


def plot_bill(bill: Bill, escalated: float, path: Path) -> None:
    """Draw what a cascade costs as more of its queries go on, beside the strong model alone and beside routing.

    Args:
        bill: a month.
        escalated: the share that is marked, 0 to 1.
        path: a PNG or SVG file.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither, or cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    rates = np.linspace(0, 1, 101)
    axes.plot(rates, [bill.cascaded(rate) for rate in rates], color=BLUE, linewidth=2, label="cascade")
    axes.axhline(bill.before, color=ORANGE, linewidth=2, label="strong model alone")
    axes.axhline(bill.routed, color=GREEN, linewidth=2, label="routed without a mistake")
    for rate, at in ((bill.break_even, bill.before), (bill.routing_even, bill.routed)):
        axes.plot(rate, at, "o", color=GREY, markeredgecolor="white", markersize=8, zorder=3)
        axes.annotate(f"{rate:.1%}", (rate, at), xytext=(-4, 7), textcoords="offset points", ha="right")
    axes.plot(escalated, bill.cascaded(escalated), "o", color=BLUE, markersize=8, markeredgecolor="white", zorder=4)
    axes.set(xlabel="queries that go on to the strong model", ylabel="USD a month")
    axes.xaxis.set_major_formatter(percent_axis())
    axes.yaxis.set_major_formatter(lambda usd, _: f"{usd:,.0f}")
    axes.set_ylim(bottom=0, top=bill.before * 1.15 or 1)
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    write(figure, path)
