"""A tuned policy on the curve of all that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from semroute.evaluate.plots.drawing import COLOURS, check_format, new_figure, percent_axis, without_frame, write

_THOUSAND = 1000
_MARKERS = "*PsD"
Spot = tuple[float, float]
"""Mean USD a query, and mean quality."""


def plot_tuned(
    curves: Mapping[str, Sequence[Spot]],
    marks: Mapping[str, Spot],
    path: Path,
    *,
    title: str,
    floor: float | None = None,
    budget: float | None = None,
) -> None:
    """Write the picture; all in it is measured on the same rows.

    Args:
        curves: by family, the points that were tried.
        marks: by name, at most four single points: the choice, the strongest model, the point of most quality per
            dollar.
        path: ``.png`` or ``.svg``.
        title: above the picture.
        floor: quality that must be kept; None draws none.
        budget: USD a query that must be kept; None draws none.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    check_format(path)
    figure = new_figure(9, 6)
    axes = figure.subplots()
    axes.set_title(f"{title}: the rows that tested the policies", loc="left")
    for colour, (name, spots) in zip(COLOURS, curves.items(), strict=False):
        ordered = sorted(spots)
        cost, quality = [_THOUSAND * spot[0] for spot in ordered], [spot[1] for spot in ordered]
        axes.scatter(cost, quality, s=14, color=colour, alpha=0.6, linewidths=0, label=name)
    for marker, (name, spot) in zip(_MARKERS, marks.items(), strict=False):
        size = 220 if marker in "*P" else 70
        axes.scatter(
            [_THOUSAND * spot[0]], [spot[1]], s=size, marker=marker, color="black", facecolors="none", linewidths=1.5,
            label=name, zorder=3,
        )  # fmt: skip
    if floor is not None:
        axes.axhline(floor, color="black", linewidth=1, linestyle="--", label="floor")
    if budget is not None:
        axes.axvline(_THOUSAND * budget, color="black", linewidth=1, linestyle="--", label="budget")
    axes.set_xlabel("USD for 1,000 queries")
    axes.set_ylabel("mean quality")
    axes.yaxis.set_major_formatter(percent_axis())
    axes.legend(frameon=False)
    without_frame(axes)
    write(figure, path)
