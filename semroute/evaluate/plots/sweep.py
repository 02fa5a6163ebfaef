"""The sweep of a threshold, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semroute.evaluate.plots.drawing import BLUE, GREEN, GREY, ORANGE, new_figure, percent_axis, save, without_frame
from semroute.evaluate.sweep import SweepPoint


def plot_sweep(points: Sequence[SweepPoint], recommended: SweepPoint, path: Path, *, title: str) -> None:
    """Draw coverage, accuracy and out-of-scope queries caught over the threshold, the recommended one marked.

    Args:
        points: the sweep, thresholds ascending.
        recommended: one of ``points``.
        path: the PNG file to write.
        title: over the curves.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for name, colour, style in _CURVES:
        _curve(axes, points, recommended, name, colour, style)
    axes.axvline(recommended.threshold, color="black", linewidth=1, linestyle=":")
    on_left = recommended.threshold > (points[0].threshold + points[-1].threshold) / 2
    axes.annotate(
        f"recommended: {recommended.threshold:.2f}",
        (recommended.threshold, 1.03),
        xytext=(-5 if on_left else 5, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        fontweight="bold",
    )
    axes.set(xlabel="fallback threshold (score)", ylabel="share of queries", title=title)
    axes.set_ylim(-0.02, 1.07)
    axes.set_xlim(points[0].threshold, points[-1].threshold)
    axes.yaxis.set_major_formatter(percent_axis())
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    save(figure, path, "png")


_CURVES = (
    ("coverage", BLUE, "-"),
    ("accuracy_accepted", GREEN, "-"),
    ("oos_caught", ORANGE, "-"),
    ("accuracy", GREY, "--"),
)
_LABELS = {
    "coverage": "coverage: in-scope queries accepted",
    "accuracy_accepted": "accuracy on accepted queries",
    "oos_caught": "out-of-scope queries caught",
    "accuracy": "all queries decided rightly",
}


def _curve(
    axes: Any, points: Sequence[SweepPoint], recommended: SweepPoint, name: str, colour: str, style: str
) -> None:
    values = [getattr(point, name) for point in points]
    if values[0] is None:  # no out-of-scope queries
        return
    at = getattr(recommended, name)
    label = f"{_LABELS[name]} ({at:.1%})"
    axes.plot([point.threshold for point in points], values, style, color=colour, linewidth=2, label=label)
    axes.plot(recommended.threshold, at, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
