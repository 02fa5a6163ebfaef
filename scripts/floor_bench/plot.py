"""Plot of the splits: quality kept, and cost saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semroute.render.plots import BLUE, ORANGE, new_figure, percent_axis, without_frame, write


def plot(ratios: Sequence[float], saved: Sequence[float], floor: float, path: Path) -> None:
    """Draw a point for each split, orange where it is below the floor."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    colours = [BLUE if ratio >= floor else ORANGE for ratio in ratios]
    axes.scatter(saved, ratios, s=18, c=colours, alpha=0.7, linewidths=0)
    axes.axhline(floor, color="black", linewidth=1, linestyle="--")
    axes.text(min(saved), floor, f"floor {floor:.0%}", va="bottom")
    kept = sum(ratio >= floor for ratio in ratios)
    axes.set_title(f"The floor is kept in {kept} of {len(ratios)} unseen halves", loc="left", fontsize=11)
    axes.set_xlabel("cost saved against always the strongest model")
    axes.set_ylabel("quality, of the strongest model's")
    axes.xaxis.set_major_formatter(percent_axis())
    axes.yaxis.set_major_formatter(percent_axis())
    without_frame(axes)
    write(figure, path)
