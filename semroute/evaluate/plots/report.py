"""The report of a log, as pictures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from semroute.evaluate.plots.drawing import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    new_figure,
    percent_axis,
    svg_element,
    without_frame,
)
from semroute.evaluate.report.report import LogReport

MOST_POINTS = 1000
"""Points of a curve; a page need not carry one for each of a million queries."""
MOST_BARS = 25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def spending(report: LogReport) -> str:
    """What was paid as time went by, against the strongest model alone; an ``<svg>`` element."""
    of = report.columns
    figure = new_figure(9, 3.8)
    axes = figure.subplots()
    at, cost, baseline = of.array("at"), of.array("cost"), of.array("baseline")
    known = np.isfinite(cost) & np.isfinite(baseline)
    order = np.argsort(at[known], kind="stable")
    times = [datetime.fromtimestamp(second, UTC) for second in _thinned(at[known][order])]
    paid, alone = (_thinned(np.cumsum(column[known][order])) for column in (cost, baseline))
    strongest = ", ".join(report.saving.baseline_models) or "strongest model"
    axes.plot(times, alone, color=ORANGE, linewidth=2, label=f"{strongest} alone")
    axes.plot(times, paid, color=BLUE, linewidth=2, label="paid")
    axes.fill_between(times, paid, alone, color=GREEN, alpha=0.12, linewidth=0, label="saved")
    axes.set(ylabel="USD so far")
    axes.set_ylim(bottom=0)
    figure.autofmt_xdate()
    return _finish(figure, axes, columns=3)


def by_day(report: LogReport) -> str | None:
    """USD of each day by model, and what the strongest would have charged; None for less than two days."""
    of = report.columns
    days = sorted({day for day, _ in of.by_day})
    if len(days) < 2:
        return None
    figure = new_figure(9, 3.8)
    axes = figure.subplots()
    span = np.arange(days[0], days[-1] + 1)
    dates = [_EPOCH + timedelta(days=int(day)) for day in span]
    below = np.zeros(len(span))
    for place, group in enumerate(report.models):
        heights = np.array([of.by_day.get((int(day), group.name), 0.0) for day in span])
        axes.bar(dates, heights, bottom=below, width=0.8, color=COLOURS[place % len(COLOURS)], label=group.name)
        below += heights
    baseline = of.array("baseline")
    known = np.isfinite(baseline)
    alone = np.bincount((of.array("at")[known] // 86_400).astype(np.int64) - days[0], baseline[known], len(span))
    axes.plot(dates, alone[: len(span)], "_", color="black", markersize=14, label="strongest model alone")
    axes.set(ylabel="USD a day")
    figure.autofmt_xdate()
    return _finish(figure, axes, columns=3)


def times(report: LogReport) -> str:
    """Share of answers that took at most so long, escalated ones apart; an ``<svg>`` element."""
    of = report.columns
    figure = new_figure(9, 4)
    axes = figure.subplots()
    took, answered, escalated = of.array("latency"), of.array("answered") > 0, of.array("escalated") > 0
    for label, rows, colour in (
        ("not escalated", answered & ~escalated, BLUE),
        ("escalated", answered & escalated, ORANGE),
        ("all", answered, GREY),
    ):
        values = np.sort(took[rows])
        if len(values):
            shares = np.arange(1, len(values) + 1) / len(values)
            style = "--" if label == "all" else "-"
            axes.step(_thinned(values), _thinned(shares), style, where="post", color=colour, linewidth=2, label=label)
    for level in (0.5, 0.99):
        axes.axhline(level, color="black", linewidth=0.6, alpha=0.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda ms, _: f"{ms:,.0f}" if ms >= 1 else f"{ms:g}")
    axes.set(xlabel="milliseconds to the whole answer", ylabel="share of answers")
    axes.yaxis.set_major_formatter(percent_axis())
    return _finish(figure, axes, columns=3)


def escalation(report: LogReport) -> str | None:
    """Share of escalated queries by category with its interval; None where nothing went up a cascade."""
    rows = [(group.name or "(no category)", group.escalation) for group in report.categories if group.escalation]
    if not rows:
        return None
    rows = rows[:MOST_BARS][::-1]
    figure = new_figure(9, 1.2 + 0.38 * len(rows))
    axes = figure.subplots()
    places = np.arange(len(rows))
    rates = [rate for _, rate in rows if rate is not None]
    values = np.array([rate.value for rate in rates])
    errors = np.abs(np.array([[rate.low for rate in rates], [rate.high for rate in rates]]) - values)
    axes.barh(places, values, color=BLUE, height=0.6)
    axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set_yticks(places, [name for name, _ in rows])
    axes.xaxis.set_major_formatter(percent_axis())
    axes.set(xlabel="escalated, of the queries that went up a cascade")
    axes.set_xlim(left=0)
    without_frame(axes)
    return svg_element(figure)


def _finish(figure: Any, axes: Any, *, columns: int) -> str:
    without_frame(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)
    return svg_element(figure)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most so many of the values, the first and the last among them."""
    if len(values) <= MOST_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(np.int64)]
