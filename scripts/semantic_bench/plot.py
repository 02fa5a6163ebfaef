"""Plot of a decision's overhead without the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semantic_bench.scale import FIXED_CATEGORIES, FIXED_PROTOTYPES, GOAL_MS, Cost
from semroute._optional import require
from semroute.render.plots import BLUE, GREEN, GREY, ORANGE


def plot_costs(costs: dict[str, list[Cost]], path: Path) -> None:
    """Write a PNG of time over prototypes and over categories.

    Both panels are logarithmic.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    figure_module = require("matplotlib.figure", what="drawing the costs", extra="plot")
    figure = figure_module.Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    exact = [cost for cost in costs["prototypes"] if cost.exact]
    approximate = [cost for cost in costs["prototypes"] if not cost.exact]
    _line(left, exact, "prototypes", "exact", BLUE)
    _line(left, approximate, "prototypes", "inverted file (approximate)", ORANGE)
    _line(right, costs["categories"], "categories", "prototypes alone", BLUE)
    _line(right, costs["categories_head"], "categories", "with the trained head", GREEN)
    _finish(left, "prototypes", f"{FIXED_CATEGORIES} categories, no head")
    _finish(right, "categories", f"{FIXED_PROTOTYPES:,} prototypes")
    left.set_ylabel("milliseconds a decision (median)")
    figure.suptitle("Cost of Router.route beside the encoder, 384 dimensions", fontweight="bold")
    figure.savefig(path, format="png")


def _line(axes: Any, costs: Sequence[Cost], over: str, label: str, colour: str) -> None:
    x, p50, p99 = ([getattr(cost, name) for cost in costs] for name in (over, "p50", "p99"))
    axes.plot(x, p50, "o-", color=colour, linewidth=2, markersize=6, markeredgecolor="white", label=label)
    axes.fill_between(x, p50, p99, color=colour, alpha=0.15, linewidth=0)


def _finish(axes: Any, over: str, title: str) -> None:
    ticker = require("matplotlib.ticker", what="drawing the costs", extra="plot")
    axes.set(xscale="log", yscale="log", xlabel=f"number of {over}", title=title)
    axes.axhline(GOAL_MS, color=GREY, linewidth=1, linestyle="--", zorder=0)
    axes.annotate(
        f"{GOAL_MS} ms", (1, GOAL_MS), xycoords=("axes fraction", "data"), xytext=(-2, 3),
        textcoords="offset points", ha="right", color=GREY, fontsize=9,
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, title="median, shaded to p99", title_fontsize=8, alignment="left")
